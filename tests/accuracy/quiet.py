"""Healthy loops, on which every record is a false alarm."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import multiprocessing
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from tests.accuracy.label import Scene, quiet
from tests.accuracy.waits import slow_module

if TYPE_CHECKING:
    from tests.accuracy.stage import Stage

_TASKS: Final = 20_000
_BATCH: Final = 100


def spin(work_s: float) -> None:
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        pass


@quiet(light=True, tick_s=0.5)
async def idle(stage: Stage) -> None:
    """A loop that does nothing but two ticks a second."""
    await asyncio.sleep(stage.asked_s)


@quiet()
async def healthy_load(stage: Stage) -> None:
    """Callbacks of 5 ms at 60 % load."""
    until_s = time.monotonic() + stage.asked_s
    while time.monotonic() < until_s:
        spin(0.005)
        await asyncio.sleep(0.003)


@quiet(light=True)
async def short_blocks(stage: Stage) -> None:
    """`time.sleep` of 20 to 60 ms, again and again."""
    rng = random.Random(1)
    until_s = time.monotonic() + stage.asked_s
    while time.monotonic() < until_s:
        time.sleep(rng.uniform(0.02, 0.06))
        await asyncio.sleep(0.01)


@quiet(setup=lambda _: slow_module(0.3), light=True)
async def import_in_warm_up(stage: Stage, name: str) -> None:
    """A module that blocks when it is imported, right after the start of the app."""
    importlib.import_module(name)


@contextlib.contextmanager
def process_pool(_: float) -> Iterator[Scene]:
    """Give a pool whose process has started."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(spin, 0).result()
        yield Scene((pool,))


@quiet(setup=process_pool)
async def executor_work(stage: Stage, pool: ProcessPoolExecutor) -> None:
    """Sleeping in threads and burning CPU in another process."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(
        *(asyncio.to_thread(time.sleep, stage.asked_s / 4 * n) for n in range(1, 5)),
        *(loop.run_in_executor(pool, spin, stage.asked_s / 8) for _ in range(4)),
    )


@quiet()
async def many_tasks(stage: Stage) -> None:
    """20,000 tasks that sleep, made in small batches."""
    rng = random.Random(1)
    tasks = []
    for n in range(_TASKS):
        tasks.append(asyncio.create_task(asyncio.sleep(rng.uniform(0.5, stage.asked_s))))
        if n % _BATCH == 0:
            await asyncio.sleep(0)
    for task in tasks:
        await task


@quiet()
async def garbage(stage: Stage) -> None:
    """Cyclic garbage without end, collected in short pauses."""
    until_s = time.monotonic() + stage.asked_s
    while time.monotonic() < until_s:
        for _ in range(500):
            knot: list[Any] = []
            knot.append(knot)
        gc.collect()
        await asyncio.sleep(0.005)


def _threads(count: int, work_s: float, pause_s: float, until_s: float) -> list[threading.Thread]:
    def work() -> None:
        while time.monotonic() < until_s:
            spin(work_s)
            time.sleep(pause_s)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


@quiet()
async def polite_threads(stage: Stage) -> None:
    """Four threads that work for 2 ms and then sleep for 10."""
    threads = _threads(4, 0.002, 0.01, time.monotonic() + stage.asked_s)
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0.01)


@quiet()
async def one_greedy_thread(stage: Stage) -> None:
    """A thread in a loop in Python, which has to give the GIL up every 5 ms."""
    threads = _threads(1, stage.asked_s, 0, time.monotonic() + stage.asked_s)
    while any(thread.is_alive() for thread in threads):
        await asyncio.sleep(0.01)


@quiet(light=True)
async def echo(stage: Stage) -> None:
    """A server that answers ten clients over TCP."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    async def ask(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        until_s = time.monotonic() + stage.asked_s
        while time.monotonic() < until_s:
            writer.write(b"x")
            await reader.read(1)
            await asyncio.sleep(0.01)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await asyncio.gather(*(ask(port) for _ in range(10)))
    server.close()
