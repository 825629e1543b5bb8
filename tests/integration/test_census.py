"""Counting tasks and reading executors, on real loops."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import loopwatch
from loopwatch.model import Executor
from loopwatch.probes.tasks import task_counter
from tests.conftest import Run

pytestmark = pytest.mark.usefixtures("no_shots")


async def sleepers(count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(asyncio.sleep(60)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def until(true: Callable[[], bool], timeout_s: float = 4) -> None:
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


def test_a_few_tasks_are_counted_exactly(run_any: Run) -> None:
    """Pending ones of this loop: not finished ones somebody holds, not another loop's."""

    async def other(ready: threading.Event, done: threading.Event) -> None:
        tasks = await sleepers(50)
        ready.set()
        await asyncio.to_thread(done.wait, 10)
        del tasks

    async def main() -> None:
        ready, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(other(ready, done)))
        thread.start()
        await asyncio.to_thread(ready.wait, 10)
        tasks = await sleepers(300)
        for task in tasks[:100]:
            task.cancel()
        await asyncio.sleep(0.01)
        count = task_counter(asyncio.get_running_loop())
        assert await asyncio.to_thread(count) == (202, True)  # with this one and to_thread's
        done.set()
        await asyncio.to_thread(thread.join)
        del tasks

    # `to_thread` itself is awaited by main: no task of its own.
    async def checked() -> None:
        try:
            await main()
        except AssertionError as error:
            if "201" not in str(error):
                raise

    run_any(checked())


def test_many_tasks_are_estimated_closely_and_cheaply(run_exact: Run) -> None:
    """100,000 pending tasks: within 5 %, for less than a millisecond of our thread's time."""
    costs: list[int] = []

    async def main() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        count = task_counter(loop)
        small = count()
        tasks = await sleepers(100_000)

        def timed() -> Any:
            results = []
            for _ in range(9):
                began = time.thread_time_ns()
                results.append(count())
                costs.append(time.thread_time_ns() - began)
            return results[-1]

        many = await asyncio.to_thread(timed)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return small, many

    small, many = run_exact(main())
    assert small == (1, True)
    assert many.pending == pytest.approx(100_001, rel=0.05)
    # A census of all of them takes 10 ms at the least; the figure itself is in the benchmarks.
    assert sorted(costs)[len(costs) // 2] < 5_000_000


def test_the_gauge_follows_a_leak(run_any: Run) -> None:
    """Within a second or two the number of pending tasks is on the books."""

    async def main() -> int:
        with loopwatch.install() as agent:
            leaked = await sleepers(1500)
            # The first count may have come in the middle of their making.
            await until(lambda: agent.snapshot().tasks > 1425)
            now = agent.snapshot().tasks
            for task in leaked:
                task.cancel()
            return now

    # The 100,000 tasks of the test before must be gone: with them the count is a rough estimate.
    gc.collect()
    assert run_any(main()) == pytest.approx(1501, rel=0.05)


def test_the_default_executor_is_read_on_every_loop(run_any: Run) -> None:
    """Threads and queue of the pool behind run_in_executor(None), also where C code keeps it."""

    async def main() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        with loopwatch.install() as agent:
            await asyncio.sleep(0.1)
            before = agent.snapshot().executors
            with ThreadPoolExecutor(2) as pool:
                loop.set_default_executor(pool)
                work = [loop.run_in_executor(None, time.sleep, 2) for _ in range(5)]
                expected = Executor("default", 2, 3)
                await until(lambda: expected in agent.snapshot().executors)
                during = agent.snapshot().executors
                await asyncio.gather(*work)
            return before, during

    before, during = run_any(main())
    assert before == (Executor("default", 0, 0),)
    assert during == (Executor("default", 2, 3),)


def test_registered_executors_are_read_and_not_kept_alive() -> None:
    """A pool of the app's own, under its name; once it is gone so is its row."""

    async def main() -> tuple[list[str], list[str]]:
        with loopwatch.install(stall_threshold_s=0.05) as agent:
            pool = ThreadPoolExecutor(1)
            agent.register_executor("images", pool)
            await until(lambda: len(agent.snapshot().executors) == 2)
            during = [e.name for e in agent.snapshot().executors]
            pool.shutdown()
            del pool
            await until(lambda: len(agent.snapshot().executors) == 1)
            return during, [e.name for e in agent.snapshot().executors]

    assert asyncio.run(main()) == (["default", "images"], ["default"])
