"""CPU per request of a FastAPI app under uvicorn, watched against not watched: at most 1.01.

Two equal server processes, and a client that keeps 16 connections of one of them busy (each sends
its next request when the last is answered) for slices of 0.1 s, now the one, now the other:
neighbours see the same machine, which one server with long windows would not. For a while
loopwatch is installed in the first server, then as long in the second, so what differs between
two processes cancels: a ratio is the geometric mean of both halves, and a half is the median of
its slice pairs. A slice's figure is the CPU time of the whole server process, loopwatch's threads
included, over the requests it answered. Told: the median of 16 ratios and its 90 % bootstrap
interval; and the same of slices that are alike, which is what noise alone does.

libuv cannot switch its idle-time metric off again, so on uvloop the server that is not watched
has it on: its cost (two clock reads a poll) shows in the ping-pong figures.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import (
    Figure,
    in_child,
    interval_of_median,
    need,
    per_loop,
    run,
)
from benchmarks.load import Target, serving
from benchmarks.web_app import make_app, start_server

if TYPE_CHECKING:
    from benchmarks.load import Slice

WANTED: Final = 1.01
_RATIOS: Final = 16
_PAIRS: Final = 8
_SLICE_S: Final = 0.1
_SETTLE_S: Final = 0.1
_WARM_UP_S: Final = 2.0


def measure() -> list[Figure]:
    """Return two figures for each loop."""
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
    async def used() -> float:
        return time.process_time()

    _, task, port = await start_server(app)
    print(port, flush=True)
    await task


# The client.


def drive(loop: str) -> dict[str, Any]:
    """Start both servers, drive them in turn, and compare. Child."""
    with serving("benchmarks.requests_cpu:serve", loop, 2) as ports:
        result: dict[str, Any] = asyncio.run(_drive(ports))
    return result


async def _drive(ports: list[int]) -> dict[str, Any]:
    first, second = [await Target.connect(port) for port in ports]
    for target in (first, second):
        await target.load(_WARM_UP_S)
    ratios, alike = [], []
    off_slices: list[Slice] = []
    for _ in range(_RATIOS):
        halves, noise = [], []
        for on, off in ((first, second), (second, first)):
            on_off = await _half(on, off, on_first=on is first)
            halves.append(statistics.median(_ratio(a, b) for a, b in on_off))
            noise.append(statistics.median(_alike(on_off)))
            off_slices += [b for _, b in on_off]
        ratios.append(statistics.geometric_mean(halves))
        alike.append(statistics.geometric_mean(noise))
    return {
        "ratios": ratios,
        "alike": alike,
        "off_s": statistics.median(s.cpu_per_request_s for s in off_slices),
        "requests_per_s": statistics.median(s.requests_per_s for s in off_slices),
    }


async def _half(on: Target, off: Target, *, on_first: bool) -> list[tuple[Slice, Slice]]:
    """Watch one of the targets for a while; return pairs of slices on and off."""
    await on.get("/watch?on=true")
    await asyncio.sleep(_SETTLE_S)
    pairs = []
    for _ in range(_PAIRS):
        if on_first:
            pairs.append((await on.load(_SLICE_S), await off.load(_SLICE_S)))
        else:
            after = await off.load(_SLICE_S)
            pairs.append((await on.load(_SLICE_S), after))
    await on.get("/watch?on=false")
    return pairs


def _alike(pairs: list[tuple[Slice, Slice]]) -> list[float]:
    return [
        _ratio(one, other)
        for at in range(0, len(pairs), 2)
        for one, other in zip(pairs[at], pairs[at + 1], strict=True)
    ]


def _ratio(one: Slice, other: Slice) -> float:
    return one.cpu_per_request_s / other.cpu_per_request_s
