"""CPU per request of a FastAPI app under uvicorn, watched against not watched: at most 1.01.

One server process; in windows of 2 s loopwatch is installed and stopped in its running loop, in
random ABBA order, while a client process keeps 16 connections busy (each sends its next request
when the last is answered, so the server is saturated). A window's figure is the CPU time of the
whole server process, loopwatch's threads included, over the requests it answered. Told: the
median of the on/off ratios of neighbouring windows and its 90 % bootstrap interval; beside it
the spread of neighbouring windows that are alike, which is what noise alone does.

libuv cannot switch its idle-time metric off again, so on uvloop the off windows have it on: its
cost (two clock reads a poll) is seen in the ping-pong figures, which take a new loop each time.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import subprocess
import time
from typing import Any, Final

from benchmarks.common import (
    ROOT,
    Figure,
    child_command,
    child_env,
    in_child,
    in_quads,
    interval_of_median,
    need,
    per_loop,
    quartiles,
    ratios_of,
    run,
)

WANTED: Final = 1.01
_PAIRS: Final = 16
_WINDOW_S: Final = 2.0
_SETTLE_S: Final = 0.2
_WARM_UP_S: Final = 3.0
_CONNECTIONS: Final = 16
_REQUEST: Final = b"GET /items/7?q=x HTTP/1.1\r\nHost: localhost\r\n\r\n"


def measure() -> list[Figure]:
    """Return two figures for each loop."""
    need("fastapi", "uvicorn")
    return per_loop(_figures, "CPU per request, on/off")


def _figures(loop: str) -> list[Figure]:
    got = in_child("benchmarks.requests_cpu:serve", loop=loop, pairs=_PAIRS)
    ratios, alike = ratios_of(got["order"], got["cpu_per_request_s"])
    low, high = interval_of_median(ratios)
    median = statistics.median(ratios)
    noise = quartiles(alike)
    off_s = [c for c, on in zip(got["cpu_per_request_s"], got["order"], strict=True) if not on]
    data = {**got, "ratios": ratios, "alike": alike, "median": median, "interval_90": [low, high]}
    return [
        Figure(
            f"CPU per request, on/off, {loop}",
            f"{median:.4f} (90 %: {low:.4f} to {high:.4f}; {statistics.median(off_s) * 1e6:.0f} µs "
            f"a request, {statistics.median(got['requests_per_s']):.0f}/s)",
            f"<= {WANTED}",
            median <= WANTED,
            data,
        ),
        Figure(
            f"same, alike windows, {loop}",
            f"{statistics.median(alike):.4f} (half of them: {noise[0]:.4f} to {noise[1]:.4f})",
        ),
        Figure(
            f"loopwatch's threads under load, {loop}",
            f"{statistics.median(got['self_cpu_ratio']) * 100:.2f} % of a core",
        ),
    ]


def serve(loop: str, pairs: int) -> dict[str, Any]:
    """Run the server and all windows. Child."""
    result: dict[str, Any] = run(loop, _serve(pairs))
    return result


def load(port: int) -> None:
    """Keep the server busy until killed. Grandchild."""
    asyncio.run(_load(port))


class _Counted:
    """Counts the requests that reach an ASGI app."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)
        self.requests += 1


def make_app() -> Any:
    """Return a small FastAPI app with one typed route."""
    from fastapi import FastAPI  # noqa: PLC0415 - optional

    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int, q: str = "") -> dict[str, Any]:
        return {"item": item_id, "q": q, "tags": ["a", "b", "c"]}

    return app


async def start_server(app: Any) -> tuple[Any, asyncio.Task[None], int]:
    """Serve an app with uvicorn on the running loop; return server, its task and the port."""
    import uvicorn  # noqa: PLC0415 - optional

    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return server, task, server.servers[0].sockets[0].getsockname()[1]


async def _serve(pairs: int) -> dict[str, Any]:
    app = _Counted(make_app())
    server, task, port = await start_server(app)
    client = subprocess.Popen(
        child_command("benchmarks.requests_cpu:load", port=port), cwd=ROOT, env=child_env()
    )
    try:
        await asyncio.sleep(_WARM_UP_S)
        order = in_quads(2 * pairs, random.Random())
        windows = [await _window(app, on=on) for on in order]
    finally:
        client.kill()
        client.wait()
    server.should_exit = True
    await task
    return {
        "order": order,
        "cpu_per_request_s": [cpu_s / requests for cpu_s, requests, _, _ in windows],
        "requests_per_s": [requests / wall_s for _, requests, wall_s, _ in windows],
        "self_cpu_ratio": [own for *_, own in windows if own is not None],
    }


async def _window(app: _Counted, *, on: bool) -> tuple[float, int, float, float | None]:
    import loopwatch  # noqa: PLC0415 - only in the child

    agent = loopwatch.install() if on else None
    await asyncio.sleep(_SETTLE_S)
    own_s = agent.snapshot().self_cpu_s_total if agent else 0.0
    wall_s, cpu_s, requests = time.monotonic(), time.process_time(), app.requests
    await asyncio.sleep(_WINDOW_S)
    cpu_s, requests = time.process_time() - cpu_s, app.requests - requests
    wall_s = time.monotonic() - wall_s
    if agent is None:
        return cpu_s, requests, wall_s, None
    own_s = agent.snapshot().self_cpu_s_total - own_s
    agent.stop()
    return cpu_s, requests, wall_s, own_s / wall_s


class _Client(asyncio.Protocol):
    """One connection: the next request as soon as the last is answered.

    All answers have one length, learnt from the first, so that a response costs the client next
    to nothing.
    """

    def __init__(self) -> None:
        self._head = b""
        self._length = 0
        self._seen = 0

    def connection_made(self, transport: Any) -> None:
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._transport = transport
        transport.write(_REQUEST)

    def data_received(self, data: bytes) -> None:
        if not self._length:
            self._learn(data)
        self._seen += len(data)
        if self._length and self._seen >= self._length:
            self._seen -= self._length
            self._transport.write(_REQUEST)

    def _learn(self, data: bytes) -> None:
        self._head += data
        head, end, _ = self._head.lower().partition(b"\r\n\r\n")
        if end:
            body = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            self._length = len(head) + len(end) + body


async def _load(port: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(_CONNECTIONS):
        await loop.create_connection(_Client, "127.0.0.1", port)
    await asyncio.Event().wait()
