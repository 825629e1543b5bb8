"""The client side: server children, and connections that keep one of them busy."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.common import NotMeasuredError, start_child

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

_CONNECTIONS: Final = 16


@contextmanager
def serving(target: str, loop: str, count: int = 1) -> Iterator[list[int]]:
    """Run server children, which print their port on a line; give the ports."""
    processes = [start_child(target, quiet=True, loop=loop) for _ in range(count)]
    try:
        yield [_port_of(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _port_of(process: subprocess.Popen[str]) -> int:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line.strip():
        raise NotMeasuredError("the server did not start")
    return int(line)


class Slice(NamedTuple):
    """What one server did for a while."""

    cpu_per_request_s: float
    requests_per_s: float


class Target:
    """One server process, seen from the client. It must answer /used with its CPU time."""

    def __init__(self, connections: list[_Connection]) -> None:
        self._connections = connections

    @classmethod
    async def connect(cls, port: int) -> Target:
        """Open all connections."""
        loop = asyncio.get_running_loop()
        pairs = [
            await loop.create_connection(_Connection, "127.0.0.1", port)
            for _ in range(_CONNECTIONS)
        ]
        return cls([connection for _, connection in pairs])

    async def get(self, path: str) -> Any:
        """Return the JSON of one answer."""
        return json.loads(await self._connections[0].get(path))

    async def load(self, length_s: float) -> Slice:
        """Keep all connections busy for a while; return what that cost."""
        cpu_before_s = await self.get("/used")
        began_s = time.monotonic()
        until_s = began_s + length_s
        done = await asyncio.gather(*(c.repeat(until_s) for c in self._connections))
        took_s = time.monotonic() - began_s
        cpu_s = await self.get("/used")
        requests = sum(done)
        return Slice((cpu_s - cpu_before_s) / requests, requests / took_s)


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._data = b""
        self._until_s = 0.0
        self._answered = 0

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(exc or ConnectionResetError("the server is gone"))

    async def get(self, path: str) -> bytes:
        """Return the body of the answer."""
        await self._ask(path, 0.0)
        return self._body

    async def repeat(self, until_s: float) -> int:
        """Ask again and again until then; return how many answers came."""
        before = self._answered
        await self._ask("/items/7?q=x", until_s)
        return self._answered - before

    async def _ask(self, path: str, until_s: float) -> None:
        self._until_s = until_s
        self._request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(self._request)
        await self._done

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(b"\r\n\r\n")
        length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not end or len(body) < int(length):
            return
        self._body, self._data = body, b""
        self._answered += 1
        if time.monotonic() < self._until_s:
            self._transport.write(self._request)
        else:
            self._done.set_result(None)
