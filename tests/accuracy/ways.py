"""Ways on which a helper gets onto the loop."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import loopwatch

if TYPE_CHECKING:
    from tests.accuracy.stage import Stage


async def handler(stage: Stage) -> None:
    """Stand for a request handler that calls something synchronous."""
    stage.perform()


async def in_task(stage: Stage) -> None:
    """Block in a task."""
    await asyncio.create_task(handler(stage))


async def in_callback(stage: Stage) -> None:
    """Block in a plain callback; one that raises is the loop's own business."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    loop.call_soon(stage.perform)
    await stage.performed()


async def in_timer(stage: Stage) -> None:
    """Block in a callback that a timer calls."""
    asyncio.get_running_loop().call_later(0.01, stage.perform)
    await stage.performed()


async def in_signal_handler(stage: Stage) -> None:
    """Block in a signal handler of the loop."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, stage.perform)
    os.kill(os.getpid(), signal.SIGUSR1)
    await stage.performed()
    loop.remove_signal_handler(signal.SIGUSR1)


class Blocking(asyncio.Protocol):
    """Blocks when it is connected, or when data arrives."""

    def __init__(
        self, connected: Callable[[], object] = int, received: Callable[[], object] = int
    ) -> None:
        self._connected = connected
        self._received = received

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._connected()

    def data_received(self, data: bytes) -> None:
        self._received()


async def in_data_received(stage: Stage) -> None:
    """Block in a protocol when data arrives."""
    await _connect(stage, Blocking(received=stage.perform))


async def in_connection_made(stage: Stage) -> None:
    """Block in a protocol when it is connected."""
    await _connect(stage, Blocking(connected=stage.perform))


async def _connect(stage: Stage, protocol: Blocking) -> None:
    near, far = socket.socketpair()
    with far:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(lambda: protocol, sock=near)
        await asyncio.sleep(0.05)
        far.send(b"x")
        await stage.performed()
        transport.close()
        await asyncio.sleep(0.01)


async def pages(stage: Stage) -> AsyncIterator[int]:
    """Block between two pages."""
    yield 1
    stage.perform()
    yield 2


async def read_pages(stage: Stage) -> None:
    """Read an asynchronous generator."""
    async for _ in pages(stage):
        await asyncio.sleep(0.01)


async def in_async_generator(stage: Stage) -> None:
    """Block in an asynchronous generator."""
    await asyncio.create_task(read_pages(stage))


async def in_second_loop(stage: Stage) -> None:
    """Block another loop, on a thread of its own."""

    async def main() -> None:
        with loopwatch.install(on_stall=stage.told, exporters=[], loop_name="second"):
            ticking = asyncio.create_task(stage.tick())
            await asyncio.sleep(0.2)
            await in_task(stage)
            await asyncio.sleep(0.3)
            ticking.cancel()

    thread = threading.Thread(target=stage.run, args=(main(),), name="second-loop")
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)


async def beside(stage: Stage, lives_on_s: float = 0.3) -> None:
    """Run the helper on a thread beside a loop that only ticks."""

    def later() -> None:
        # By then the loop waits in its selector and not for this thread to start.
        time.sleep(0.03)
        stage.case.helper(*stage.scene.args)
        # The worker of a pool lives on; a thread that has ended cannot be asked for its CPU time.
        time.sleep(lives_on_s)

    stage.scene.begin()
    thread = threading.Thread(target=later, name="hog")
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0.01)


async def from_outside(stage: Stage) -> None:
    """Only tick while what `begin` started does something to this process."""
    stage.scene.begin()
    await asyncio.sleep(stage.asked_s + 0.3)
