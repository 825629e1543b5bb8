"""A healthy app: not one report."""

from __future__ import annotations

import asyncio
import time

import loopwatch
from tests.conftest import Run, Told


def test_an_idle_app_is_quiet(run_any: Run, told: Told) -> None:
    """Nothing happens, nothing is told, the ticks are on time."""

    async def main() -> loopwatch.Snapshot:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.sleep(2)
            return agent.snapshot()

    now = run_any(main())
    assert told.records == []
    assert sum(now.stalls_total.values()) == 0
    assert sum(now.errors_total.values()) == 0
    assert now.lag_max_s < 0.1


def test_healthy_load_at_60_percent_is_quiet(run_any: Run, told: Told) -> None:
    """Many short pieces of work, none near the threshold."""

    async def worker() -> None:
        until = time.monotonic() + 3
        while time.monotonic() < until:
            end = time.monotonic() + 0.003
            while time.monotonic() < end:
                pass
            await asyncio.sleep(0.017)

    async def main() -> loopwatch.Snapshot:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.gather(*(worker() for _ in range(4)))
            return agent.snapshot()

    now = run_any(main())
    assert told.records == []
    assert now.utilization is None or 0.4 < now.utilization < 0.85


def test_work_in_an_executor_is_quiet(run_any: Run, told: Told) -> None:
    """Blocking where it belongs is not reported."""

    async def main() -> None:
        with loopwatch.install(on_stall=told):
            await asyncio.gather(*(asyncio.to_thread(time.sleep, 0.3) for _ in range(4)))

    run_any(main())
    assert told.records == []
