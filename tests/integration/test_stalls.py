"""Real loops, really blocked: one record, the true duration, the right line."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from tests.conftest import FACTORIES, SENSORS, Run, Told, settle

# Wider than the figures of the benchmarks: these machines are shared, and a test is no benchmark.
TOLERANCE_S = 0.03


def block(seconds: float) -> float:
    """Block like a synchronous call several frames down; return how long it really took."""
    began = time.monotonic()
    time.sleep(seconds)
    return time.monotonic() - began


def spin(seconds: float) -> float:
    """Burn CPU in Python."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        sum(range(100))
    return time.monotonic() - began


async def handler(how: Callable[[float], float], seconds: float) -> float:
    return how(seconds)


@pytest.mark.parametrize("how", [block, spin])
def test_a_stall_is_told_once_while_it_lasts_and_once_after(
    run_exact: Run, exact_loop: str, told: Told, how: Callable[[float], float]
) -> None:
    """Same id, the culprit's function, the task, and the true duration at the end."""

    async def main() -> float:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.sleep(0.2)
            took = await asyncio.create_task(handler(how, 0.3), name="the task")
            await settle(told)
            assert [s.id for s in agent.stalls] == [told.final[0].id]
            return took

    took = run_exact(main())
    assert [s.phase for s in told.records] == ["ongoing", "final"]
    ongoing, final = told.records
    assert ongoing.id == final.id
    assert ongoing.started_at_s == final.started_at_s
    assert final.sensor == SENSORS[exact_loop]
    assert final.loop_impl == exact_loop
    assert final.duration_s == pytest.approx(took, abs=TOLERANCE_S)
    assert 0.1 <= ongoing.duration_s < 0.3
    for record in told.records:
        assert record.culprit is not None
        assert record.culprit.function == f"{__name__}.{how.__name__}"
        assert record.culprit.file.endswith("test_stalls.py")
        assert record.culprit.in_app
        assert record.task is not None
        assert (record.task.name, record.task.coro) == ("the task", f"{__name__}.handler")
        assert record.entry is not None
        assert record.entry.function == f"{__name__}.handler"
    assert final.culprit is not None
    assert final.culprit.source is not None
    assert final.evidence.samples >= 3
    assert sum(sample.count for sample in final.samples) == final.evidence.samples
    # Half the threshold at the earliest; nine tenths at the latest, plus what the machine adds.
    assert 0.045 < final.samples[0].at_s < 0.12


def test_the_tick_sensor_works_on_any_loop(told: Told) -> None:
    """A loop without a selector to wrap: told to one tick interval, with the right line."""

    async def main() -> float:
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.1)
            took = await handler(block, 0.4)
            await settle(told)
            return took

    with asyncio.Runner(loop_factory=FACTORIES["opaque"]) as runner:
        took = runner.run(main())
    (final,) = told.final
    assert final.sensor == "tick"
    assert took - 0.05 <= final.duration_s <= took + TOLERANCE_S
    assert final.culprit is not None
    assert final.culprit.function == f"{__name__}.block"


def test_a_stall_under_the_gil_is_not_missed(run_exact: Run, told: Told) -> None:
    """The watchdog could not run; the stall is told all the same, with its duration."""
    payload = "a" * 26 + "b"

    def backtrack() -> float:
        began = time.monotonic()
        re.match(r"(a+)+$", payload)
        return time.monotonic() - began

    async def main() -> float:
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.2)
            took = backtrack()
            await settle(told)
            return took

    took = run_exact(main())
    assert took > 0.15, "the machine is too fast for this pattern: make it longer"
    assert len(told.final) == 1
    assert told.final[0].duration_s == pytest.approx(took, abs=TOLERANCE_S)


def test_a_stall_in_a_protocol_callback_is_told(run_exact: Run, told: Told) -> None:
    """`data_received` runs on the loop without any task."""

    class Blocking(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            block(0.25)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, loopwatch.install(on_stall=told):
            transport, _ = await loop.create_connection(Blocking, sock=theirs)
            await asyncio.sleep(0.1)
            ours.send(b"x")
            await settle(told)
            transport.close()
            await asyncio.sleep(0)

    run_exact(main())
    (final,) = told.final
    assert final.duration_s == pytest.approx(0.25, abs=TOLERANCE_S)
    assert final.task is None
    assert final.culprit is not None
    assert final.culprit.function == f"{__name__}.block"
    assert final.entry is not None
    assert final.entry.function.endswith("Blocking.data_received")


def test_a_callback_that_raises_after_blocking_is_told(run_exact: Run, told: Told) -> None:
    """The exception goes where it went before; the stall is told."""
    seen: list[dict[str, Any]] = []

    def bad() -> None:
        block(0.2)
        raise RuntimeError("the host's own")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: seen.append(context))
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.05)
            loop.call_soon(bad)
            await settle(told)

    run_exact(main())
    assert len(told.final) == 1
    assert [str(context["exception"]) for context in seen] == ["the host's own"]


def test_many_small_callbacks_are_a_stall_too(run_exact: Run, told: Told) -> None:
    """None is long by itself; the loop did not serve all the same."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.05)
            for _ in range(30):
                loop.call_soon(block, 0.01)
            await settle(told)

    run_exact(main())
    (final,) = told.final
    assert final.duration_s == pytest.approx(0.31, abs=0.06)


def test_two_stalls_are_two_records(run_exact: Run, told: Told) -> None:
    """Each has its own id and duration."""

    async def main() -> None:
        with loopwatch.install(on_stall=told):
            for seconds in (0.15, 0.25):
                await asyncio.sleep(0.06)
                block(seconds)
            await settle(told, 2)

    run_exact(main())
    assert len({s.id for s in told.final}) == 2
    assert [s.duration_s for s in told.final] == [
        pytest.approx(0.15, abs=TOLERANCE_S),
        pytest.approx(0.25, abs=TOLERANCE_S),
    ]


def test_asyncio_debug_mode_changes_nothing(told: Told) -> None:
    """The same record under `debug=True`, and asyncio's own slow-callback warning beside it."""

    async def main() -> None:
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.05)
            await handler(block, 0.2)
            await settle(told)

    asyncio.run(main(), debug=True)
    (final,) = told.final
    assert final.culprit is not None
    assert final.culprit.function == f"{__name__}.block"
    assert final.entry is not None
    assert (
        final.entry.function == f"{__name__}.test_asyncio_debug_mode_changes_nothing.<locals>.main"
    )


def test_numbers_move_during_the_stall(run_any: Run) -> None:
    """Another thread sees the stall in a snapshot while the loop is blocked."""
    seen: list[tuple[float, Any]] = []

    def look(agent: Agent) -> None:
        time.sleep(0.35)
        seen.append((time.monotonic(), agent.snapshot()))

    async def main() -> Any:
        with loopwatch.install() as agent:
            await asyncio.sleep(0.1)
            thread = threading.Thread(target=look, args=(agent,))
            thread.start()
            block(0.6)
            thread.join()
            await asyncio.sleep(0.2)
            return agent.snapshot()

    after = run_any(main())
    ((_, during),) = seen
    assert during.active_stall is not None
    assert during.active_stall.phase == "ongoing"
    assert 0.2 < during.active_s < 0.4
    assert during.lag_max_s >= during.active_s
    assert sum(during.stalls_total.values()) == 1
    assert sum(during.stall_s_total.values()) == pytest.approx(during.active_s)
    assert after.active_stall is None
    assert after.active_s == 0
    assert sum(after.stall_s_total.values()) == pytest.approx(0.6, abs=0.08)
    assert after.lag_max_s == pytest.approx(0.6, abs=0.08)


def test_utilization_and_cpu_tell_waiting_from_burning(run_exact: Run) -> None:
    """A loop that sleeps synchronously is busy without CPU; one that spins is both."""

    async def work(how: Callable[[float], float]) -> Any:
        with loopwatch.install(stall_threshold_s=0.4) as agent:
            for _ in range(12):
                how(0.06)
                await asyncio.sleep(0.04)
            return agent.snapshot()

    blocked, spun = run_exact(work(block)), run_exact(work(spin))
    for now in (blocked, spun):
        assert now.utilization == pytest.approx(0.6, abs=0.15)
        # Counters are at most half a second old on a loop whose beats are on time.
        assert 0.6 < now.busy_s_total + now.idle_s_total < 1.4
        assert now.iterations_total > 10
    assert blocked.cpu_ratio < 0.15
    assert spun.cpu_ratio == pytest.approx(0.6, abs=0.15)


def test_garbage_collections_on_the_loop_are_counted(run_exact: Run) -> None:
    """Pause time grows with a collection on the loop thread, not with one elsewhere."""

    async def main() -> tuple[float, float, float]:
        with loopwatch.install() as agent:
            await asyncio.sleep(0.6)
            before = agent.snapshot().gc_pause_s_total
            elsewhere = threading.Thread(target=gc.collect)
            elsewhere.start()
            elsewhere.join()
            await asyncio.sleep(0.6)
            between = agent.snapshot().gc_pause_s_total
            gc.collect()
            await asyncio.sleep(0.6)
            return before, between, agent.snapshot().gc_pause_s_total

    before, between, after = run_exact(main())
    assert between - before < after - between
    assert after > between


def test_recursion_is_cut_not_followed(run_exact: Run, told: Told) -> None:
    """A stack of 900 frames is sampled; the innermost ones are kept."""

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            block(0.2)

    async def main() -> None:
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.05)
            deep(min(800, sys.getrecursionlimit() - 150))
            await settle(told)

    run_exact(main())
    (final,) = told.final
    assert final.culprit is not None
    assert final.culprit.function == f"{__name__}.block"
    assert len(final.samples[0].frames) == 128
