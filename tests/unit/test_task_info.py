"""The name of a task's coroutine, also when something has wrapped it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from loopwatch.model import TaskInfo
from loopwatch.probes.stacks import task_info


async def work() -> None:
    """Stands for the host's coroutine."""
    await asyncio.sleep(0)


class Instrumentor:
    """Wraps as opentelemetry-instrumentation-asyncio and aiomonitor do."""

    async def trace_coroutine(self, coro: Coroutine[Any, Any, None]) -> None:
        await coro

    async def _coro_wrapper(self, coro: Coroutine[Any, Any, None]) -> None:
        await coro


async def named(coro: Coroutine[Any, Any, None], *, started: bool) -> TaskInfo:
    task = asyncio.create_task(coro, name="mine")
    if started:
        await asyncio.sleep(0)
    info = task_info(task)
    await task
    return info


@pytest.mark.parametrize("started", [False, True])
def test_a_task_is_named_by_its_coroutine(started: bool) -> None:
    """Module and qualified name of the function, and the task's own name."""
    assert asyncio.run(named(work(), started=started)) == TaskInfo("mine", f"{__name__}.work")


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("wrapper", ["trace_coroutine", "_coro_wrapper"])
def test_wrapped_coroutines_are_unwrapped(wrapper: str, started: bool) -> None:
    """The wrapper's name says nothing to the host's people, however often it was applied."""

    async def main() -> TaskInfo:
        wrap = getattr(Instrumentor(), wrapper)
        return await named(wrap(wrap(work())), started=started)

    assert asyncio.run(main()) == TaskInfo("mine", f"{__name__}.work")


def test_a_function_of_the_host_with_such_a_name_is_itself() -> None:
    """Without a coroutine in its variable `coro` it wraps nothing."""

    async def trace_coroutine() -> None:
        await asyncio.sleep(0)

    info = asyncio.run(named(trace_coroutine(), started=True))
    assert info.coro.endswith("trace_coroutine")
