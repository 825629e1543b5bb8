"""The alarm, and the beats that put it off."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

import loopwatch
from loopwatch.sensors import Alarm
from tests.conftest import Run, Told, settle

MS = 1_000_000


@pytest.fixture(params=["timerfd", "lock"])
def alarm(request: pytest.FixtureRequest) -> Alarm:
    """Both kinds; the second is what other systems have."""
    made = Alarm()
    if request.param == "lock":
        made.close()
    elif not made.can_be_put_off:
        pytest.skip("no timerfd on this system")
    return made


def test_it_sleeps_until_then(alarm: Alarm) -> None:
    """Not before that moment, and not at all if it has passed."""
    at_ns = time.monotonic_ns() + 50 * MS
    alarm.sleep_until(at_ns)
    assert time.monotonic_ns() >= at_ns
    alarm.sleep_until(at_ns)
    assert time.monotonic_ns() < at_ns + 1000 * MS
    alarm.close()


def test_it_can_be_woken_before_and_while_it_sleeps(alarm: Alarm) -> None:
    """By any thread; a wake in good time is not lost while it sleeps."""
    threading.Timer(0.1, alarm.wake).start()
    began = time.monotonic()
    alarm.sleep_until(time.monotonic_ns() + 5000 * MS)
    assert time.monotonic() - began < 2
    alarm.close()


def test_it_can_be_put_off() -> None:
    """The sleeper sleeps on, without having been woken."""
    alarm = Alarm()
    if not alarm.can_be_put_off:
        pytest.skip("no timerfd on this system")
    began = time.monotonic_ns()
    threading.Timer(0.05, lambda: alarm.put_off(began, began + 300 * MS)).start()
    alarm.sleep_until(began + 100 * MS)
    assert time.monotonic_ns() - began >= 300 * MS
    alarm.close()
    alarm.close()


def test_no_file_descriptor_is_left(run_exact: Run) -> None:
    """A hundred agents, one after the other, cost none."""

    async def main() -> None:
        for _ in range(100):
            loopwatch.install().stop()

    run_exact(main())  # what the loop itself opens once and keeps
    before = len(list(Path("/proc/self/fd").iterdir()))
    run_exact(main())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_refused_install_keeps_no_file_descriptor() -> None:
    """An exporter that cannot start ends the agent before its watchdog ever ran."""

    async def main() -> None:
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(loopwatch.ConfigError):
            loopwatch.install(exporters=["jsonl"])
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    asyncio.run(main())


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux's /proc")
def test_a_loop_at_work_is_hardly_ever_looked_at(run_exact: Run, told: Told) -> None:
    """While its beats are on time the watchdog sleeps on; a stall is told as promptly as ever."""

    async def work(until: float) -> None:
        while time.monotonic() < until:
            await asyncio.sleep(0.002)

    async def main() -> tuple[int, float]:
        with loopwatch.install(on_stall=told):
            (thread,) = [t for t in threading.enumerate() if t.name == "loopwatch-watchdog"]
            status = Path(f"/proc/self/task/{thread.native_id}/status")

            def sleeps() -> int:
                lines = status.read_text().splitlines()
                return next(int(x.split()[1]) for x in lines if x.startswith("voluntary"))

            await work(time.monotonic() + 0.6)
            before = sleeps()
            await work(time.monotonic() + 1.0)
            slept = sleeps() - before
            worker = asyncio.create_task(work(time.monotonic() + 1.0))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            time.sleep(0.3)
            took = time.monotonic() - began
            await worker
            await settle(told)
            return slept, took

    slept, took = run_exact(main())
    assert slept < 15
    (final,) = told.final
    assert final.duration_s == pytest.approx(took, abs=0.03)
    (ongoing,) = told.ongoing
    assert ongoing.duration_s < 0.14
    assert final.samples[0].at_s < 0.095


def test_a_wake_up_before_the_sleep_is_not_lost() -> None:
    """Whoever wants to stop the sleeper does not have to wait until it has slept once more."""
    alarm = Alarm()
    try:
        alarm.wake()
        began = time.monotonic_ns()
        alarm.sleep_until(began + 2000 * MS)
        assert time.monotonic_ns() - began < 1000 * MS
    finally:
        alarm.close()
