"""A saturated but healthy server: no stall may be told, and the watchdog should stay cheap.

16 connections keep a FastAPI app under uvicorn busy for 10 s; it is always working, yet no request
waits for long. A timer of 1 ms on the loop notes the longest gap between two of its turns: that
is the truth. Wanted: not one stall told more than there were gaps of the threshold. Told besides:
the CPU of loopwatch's own threads, and how often the watchdog went to sleep (each wait for the
GIL that was broken off counts as one).
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from benchmarks.common import Figure, in_child, need, per_loop, run, switches_by_thread
from benchmarks.load import Target, serving
from benchmarks.web_app import make_app, start_server

_LOAD_S: Final = 10.0
_WARM_UP_S: Final = 1.0
_TURN_S: Final = 0.001
_THRESHOLD_S: Final = 0.1
# The busy period around a gap is a little longer: other work runs before and after the timer.
_NEAR_S: Final = 0.09


def measure() -> list[Figure]:
    """Return two figures for each loop."""
    need("fastapi", "uvicorn")
    return per_loop(_figures, "saturated server")


def _figures(loop: str) -> list[Figure]:
    got = in_child("benchmarks.saturation:drive", loop=loop)
    false = max(0, got["told"] - got["true"])
    return [
        Figure(
            f"stalls told that were none, saturated, {loop}",
            f"{false} of {got['told']} (longest true gap {got['longest_gap_s'] * 1e3:.1f} ms)",
            "0",
            false == 0,
            got,
        ),
        Figure(
            f"loopwatch's threads, saturated, {loop}",
            f"{got['own_ratio'] * 100:.2f} % of a core, watchdog slept "
            f"{got['watchdog_sleeps_per_s']:.0f} times/s",
        ),
    ]


def drive(loop: str) -> dict[str, Any]:
    """Load the server for a while and ask it what it saw. Child."""
    with serving("benchmarks.saturation:serve", loop) as ports:
        result: dict[str, Any] = asyncio.run(_drive(ports[0]))
    return result


async def _drive(port: int) -> dict[str, Any]:
    target = await Target.connect(port)
    await target.load(_WARM_UP_S)
    await target.get("/begin")
    load = await target.load(_LOAD_S)
    report: dict[str, Any] = await target.get("/end")
    return {**report, **load._asdict()}


def serve(loop: str) -> None:
    """Print the port and serve until killed. Child."""
    run(loop, _serve())


async def _serve() -> None:
    import loopwatch  # noqa: PLC0415 - only in the child

    app = make_app()
    turns = _Turns()
    before: dict[str, float] = {}

    @app.get("/used")
    async def used() -> float:
        return time.process_time()

    @app.get("/begin")
    async def begin() -> None:
        loopwatch.install(stall_threshold_s=_THRESHOLD_S)
        turns.start()
        before["at_s"] = time.monotonic()
        before["sleeps"] = switches_by_thread().get("loopwatch-watchdog", 0)

    @app.get("/end")
    async def end() -> dict[str, Any]:
        agent = loopwatch.current()
        if agent is None:
            return {}
        sleeps = switches_by_thread()["loopwatch-watchdog"] - before["sleeps"]
        took_s = time.monotonic() - before["at_s"]
        snapshot = agent.snapshot()
        agent.stop()
        return {
            "told": sum(snapshot.stalls_total.values()),
            "told_s": [stall.duration_s for stall in agent.stalls],
            "true": sum(gap_s >= _NEAR_S for gap_s in turns.gaps_s),
            "longest_gap_s": max(turns.gaps_s),
            "own_ratio": snapshot.self_cpu_s_total / took_s,
            "watchdog_sleeps_per_s": sleeps / took_s,
        }

    _, task, port = await start_server(app)
    print(port, flush=True)
    await task


class _Turns:
    """Notes how long each turn of a timer had to wait for its next."""

    def __init__(self) -> None:
        self.gaps_s: list[float] = []
        self._last_s = 0.0

    def start(self) -> None:
        self._last_s = time.monotonic()
        self._turn()

    def _turn(self) -> None:
        now_s = time.monotonic()
        self.gaps_s.append(now_s - self._last_s)
        self._last_s = now_s
        asyncio.get_running_loop().call_later(_TURN_S, self._turn)
