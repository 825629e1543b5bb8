"""CPU per request of a FastAPI app under uvicorn, watched against not watched: at most 1.01.

Two equal server processes, and a client that keeps 16 connections of one of them busy (each sends
its next request when the last is answered) for slices of 0.1 s, now the one, now the other, in
ABBA order: neighbours see the same machine, which one server with long windows would not. For 2 s
loopwatch is installed in the first server, then for 2 s in the second, so what differs between
two processes cancels: a ratio is the geometric mean of both halves, and a half is the median of
its slice pairs. A slice's figure is the CPU time of the whole server process, loopwatch's threads
included, over the requests it answered. Told: the median of 16 ratios and its 90 % bootstrap
interval; and the same of neighbouring slices that are alike, which is what noise alone does.

libuv cannot switch its idle-time metric off again, so on uvloop the server that is not watched
has it on: its cost (two clock reads a poll) shows in the ping-pong figures.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import time
from typing import Any, Final, NamedTuple

from benchmarks.common import (
    Figure,
    NotMeasuredError,
    in_child,
    interval_of_median,
    need,
    per_loop,
    run,
    start_child,
)
from benchmarks.web_app import make_app, start_server

WANTED: Final = 1.01
_RATIOS: Final = 16
_QUADS: Final = 5
_SLICE_S: Final = 0.1
_SETTLE_S: Final = 0.1
_WARM_UP_S: Final = 2.0
_CONNECTIONS: Final = 16


def measure() -> list[Figure]:
    """Return three figures for each loop."""
    need("fastapi", "uvicorn")
    return per_loop(_figures, "CPU per request, on/off")


def _figures(loop: str) -> list[Figure]:
    got = in_child("benchmarks.requests_cpu:drive", loop=loop, timeout_s=180)
    median = statistics.median(got["ratios"])
    return [
        Figure(
            f"CPU per request, on/off, {loop}",
            f"{_with_interval(got['ratios'])}; {got['off_s'] * 1e6:.0f} µs a request, "
            f"{got['requests_per_s']:.0f}/s",
            f"<= {WANTED}",
            median <= WANTED,
            got,
        ),
        Figure(f"same, alike slices, {loop}", _with_interval(got["alike"])),
        Figure(
            f"loopwatch's threads under load, {loop}",
            f"{got['own_ratio'] * 100:.2f} % of a core",
        ),
    ]


def _with_interval(ratios: list[float]) -> str:
    low, high = interval_of_median(ratios)
    return f"{statistics.median(ratios):.4f} (90 %: {low:.4f} to {high:.4f})"


# The server.


def serve(loop: str) -> None:
    """Print the port and serve until killed. Child."""
    run(loop, _serve())


async def _serve() -> None:
    import loopwatch  # noqa: PLC0415 - only in the child

    app = make_app()

    @app.get("/watch")
    async def watch(on: bool) -> None:
        agent = loopwatch.current()
        if on:
            loopwatch.install()
        elif agent is not None:
            agent.stop()

    @app.get("/used")
    async def used() -> list[float]:
        agent = loopwatch.current()
        own_s = agent.snapshot().self_cpu_s_total if agent is not None else 0.0
        return [time.process_time(), own_s]

    _, task, port = await start_server(app)
    print(port, flush=True)
    await task


# The client.


class Slice(NamedTuple):
    """What one server did in one slice."""

    cpu_per_request_s: float
    requests_per_s: float
    own_ratio: float


def drive(loop: str) -> dict[str, Any]:
    """Start both servers, drive them in turn, and compare. Child."""
    processes = [start_child("benchmarks.requests_cpu:serve", loop=loop) for _ in range(2)]
    try:
        result: dict[str, Any] = asyncio.run(_drive([_port_of(process) for process in processes]))
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return result


def _port_of(process: subprocess.Popen[str]) -> int:
    line = process.stdout.readline() if process.stdout is not None else ""
    if not line.strip():
        raise NotMeasuredError("the server did not start")
    return int(line)


async def _drive(ports: list[int]) -> dict[str, Any]:
    first, second = [await _Server.connect(port) for port in ports]
    for server in (first, second):
        await server.slice(_WARM_UP_S)
    ratios, alike = [], []
    on_slices: list[Slice] = []
    off_slices: list[Slice] = []
    for _ in range(_RATIOS):
        halves, noise = [], []
        for on, off in ((first, second), (second, first)):
            quads = await _half(on, off)
            halves.append(statistics.median(_ratios(quads)))
            noise.append(statistics.median(_ratio(q[1], q[2]) for q in quads))
            on_slices += [s for q in quads for s in (q[0], q[3])]
            off_slices += [s for q in quads for s in (q[1], q[2])]
        ratios.append(statistics.geometric_mean(halves))
        alike.append(statistics.geometric_mean(noise))
    return {
        "ratios": ratios,
        "alike": alike,
        "off_s": statistics.median(s.cpu_per_request_s for s in off_slices),
        "requests_per_s": statistics.median(s.requests_per_s for s in off_slices),
        "own_ratio": statistics.mean(s.own_ratio for s in on_slices),
    }


async def _half(on: _Server, off: _Server) -> list[list[Slice]]:
    """Watch one of the servers for a while; return its slices in quads: on, off, off, on."""
    await on.get("/watch?on=true")
    await asyncio.sleep(_SETTLE_S)
    quads = [[await server.slice(_SLICE_S) for server in (on, off, off, on)] for _ in range(_QUADS)]
    await on.get("/watch?on=false")
    return quads


def _ratios(quads: list[list[Slice]]) -> list[float]:
    return [_ratio(on, off) for q in quads for on, off in ((q[0], q[1]), (q[3], q[2]))]


def _ratio(one: Slice, other: Slice) -> float:
    return one.cpu_per_request_s / other.cpu_per_request_s


class _Server:
    """One of the servers, seen from the client."""

    def __init__(self, connections: list[_Connection]) -> None:
        self._connections = connections

    @classmethod
    async def connect(cls, port: int) -> _Server:
        loop = asyncio.get_running_loop()
        pairs = [
            await loop.create_connection(_Connection, "127.0.0.1", port)
            for _ in range(_CONNECTIONS)
        ]
        return cls([connection for _, connection in pairs])

    async def get(self, path: str) -> Any:
        """Return the JSON of one answer."""
        return json.loads(await self._connections[0].get(path))

    async def slice(self, length_s: float) -> Slice:
        """Keep all connections busy for a while; return what that cost."""
        cpu_before_s, own_before_s = await self.get("/used")
        began_s = time.monotonic()
        until_s = began_s + length_s
        done = await asyncio.gather(*(c.repeat(until_s) for c in self._connections))
        took_s = time.monotonic() - began_s
        cpu_s, own_s = await self.get("/used")
        requests = sum(done)
        return Slice(
            (cpu_s - cpu_before_s) / requests, requests / took_s, (own_s - own_before_s) / took_s
        )


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
