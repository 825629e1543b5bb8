"""Where on the loop it happens: callbacks, protocols, generators, other loops, many at once."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.accuracy import ways
from tests.accuracy.label import stall
from tests.accuracy.waits import sleep

if TYPE_CHECKING:
    from tests.accuracy.stage import Stage

sleeping = partial(
    stall, causes=("blocking_call",), calls=("time.sleep",), waits=("sleep",), light=True
)

for _name, _how, _way in (
    ("call_soon", "`time.sleep` in a plain callback", ways.in_callback),
    ("call_later", "`time.sleep` in a timer's callback", ways.in_timer),
    ("data_received", "`time.sleep` in a protocol's `data_received`", ways.in_data_received),
    ("connection_made", "`time.sleep` in a protocol's `connection_made`", ways.in_connection_made),
    ("signal_handler", "`time.sleep` in a signal handler of the loop", ways.in_signal_handler),
):
    sleeping(name=_name, family="schedule", how=_how, way=_way, tasks=())(sleep)

sleeping(
    name="async_generator",
    family="schedule",
    how="`time.sleep` in an asynchronous generator",
    way=ways.in_async_generator,
    tasks=("ways.read_pages",),
)(sleep)
sleeping(
    name="second_loop",
    family="schedule",
    how="`time.sleep` on a second loop, on another thread",
    way=ways.in_second_loop,
    loop="second",
)(sleep)


@sleeping(way=ways.in_callback, tasks=())
def sleep_and_raise(pause_s: float) -> None:
    """`time.sleep` in a callback that raises."""
    time.sleep(pause_s)
    raise ValueError("after it has blocked")


@stall(causes=("cpu",), way=ways.in_data_received, tasks=(), calls=None)
def parse_slowly(work_s: float) -> None:
    """A loop in Python in a protocol's `data_received`."""
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        pass


# Many at once.

_CALLBACKS: Final = 3000


def small(work_s: float) -> None:
    """Be a callback that is not long by itself."""
    until_s = time.perf_counter() + work_s
    while time.perf_counter() < until_s:
        pass


async def _burst_of_callbacks(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    each_s = stage.asked_s / _CALLBACKS
    began: list[float] = []
    loop.call_soon(lambda: began.append(time.monotonic()))
    for _ in range(_CALLBACKS):
        loop.call_soon(small, each_s)
    loop.call_soon(lambda: stage.truth.append((began[0], time.monotonic())))
    await stage.performed()


async def _small_task(work_s: float) -> None:
    small(work_s)


async def _burst_of_tasks(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    each_s = stage.asked_s / _CALLBACKS
    began: list[float] = []
    loop.call_soon(lambda: began.append(time.monotonic()))
    tasks = [asyncio.create_task(_small_task(each_s)) for _ in range(_CALLBACKS)]
    loop.call_soon(lambda: stage.truth.append((began[0], time.monotonic())))
    await asyncio.gather(*tasks)
    await stage.performed()


async def _burst_with_a_long_one(stage: Stage) -> None:
    loop = asyncio.get_running_loop()
    began: list[float] = []
    loop.call_soon(lambda: began.append(time.monotonic()))
    for n in range(_CALLBACKS):
        loop.call_soon(small, 0.06 / _CALLBACKS)
        if n == _CALLBACKS // 2:
            loop.call_soon(stage.perform)
    ended = asyncio.Event()
    loop.call_soon(ended.set)
    loop.call_soon(lambda: began.append(time.monotonic()))
    await ended.wait()
    stage.truth[:] = [(began[0], began[1])]


congestion = partial(stall, causes=("congestion",), culprits=None, tasks=None, honest_unknown=True)
congestion(
    name="burst_of_callbacks", how="3000 callbacks of 0.1 ms at once", way=_burst_of_callbacks
)(small)
congestion(name="burst_of_tasks", how="3000 tasks of 0.1 ms at once", way=_burst_of_tasks)(small)
sleeping(
    name="long_one_in_a_burst",
    family="schedule",
    how="`time.sleep` in one of 3000 small callbacks",
    way=_burst_with_a_long_one,
    tasks=(),
)(sleep)
