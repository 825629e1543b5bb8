"""One open live page: at most 0.2 % of a core, and no answer that keeps the GIL for long.

A child with one idle loop is asked for `/api/live` once a second over one connection, as an open
page does, for half of the time: CPU of the process with questions minus without. Its history is
full: a hundred stalls with thirty samples of thirty frames each. The other figures are the CPU
time of one answer, which has the GIL for most of it: to a page that has just been opened, and to
one that has been open for a while, in the middle of a stall.
"""

from __future__ import annotations

import asyncio
import http.client
import os
import statistics
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Figure, in_child, quantile, result_of, start_child

if TYPE_CHECKING:
    from collections.abc import Callable

    import loopwatch

WANTED_CPU: Final = 0.002
WANTED_S: Final = 0.02
WANTED_NEWS_S: Final = 0.002
_WINDOW_S: Final = 20.0
_STALLS: Final = 100
_SAMPLES: Final = 30
_FRAMES: Final = 30
_GROUPS: Final = 20
_TIMES: Final = 100


def measure() -> list[Figure]:
    """Return a figure for an open page, and one for each kind of answer."""
    steady = start_child("benchmarks.live_page:asked", quiet=True)
    cpu = result_of(steady, 4 * _WINDOW_S)
    cost = cpu["asked"] - cpu["alone"]
    answers = in_child("benchmarks.live_page:answers")
    return [
        Figure(
            "one live page open, one loop",
            f"{cost * 100:.3f} % of a core: {cost * 1e3:.2f} ms a second "
            f"(alone: {cpu['alone'] * 100:.3f} %)",
            f"<= {WANTED_CPU * 100} %",
            cost <= WANTED_CPU,
            cpu,
        ),
        _answer("live page, first answer", answers["first"], WANTED_S),
        _answer("live page, news of a stall", answers["news"], WANTED_NEWS_S),
    ]


def _answer(name: str, measured: dict[str, Any], wanted_s: float) -> Figure:
    taken_s = measured["taken_s"]
    return Figure(
        name,
        f"median {statistics.median(taken_s) * 1e3:.2f} ms, "
        f"95 % {quantile(taken_s, 0.95) * 1e3:.2f} ms, {measured['bytes'] / 1000:.1f} kB",
        f"<= {wanted_s * 1e3:.0f} ms",
        statistics.median(taken_s) <= wanted_s,
        measured,
    )


def _fill(agent: loopwatch.Agent) -> None:
    """Put a full history into the ledger, ended long ago, and a census."""
    from loopwatch import Cause, Frame, Sample, Stall  # noqa: PLC0415 - only in the child
    from loopwatch.model import Census, Evidence, Location, Phase, TaskGroup  # noqa: PLC0415

    frames = tuple(
        Frame(f"shop.views.handlers.function_{n}", f"shop/views/module_{n}.py", n, in_app=n < 5)
        for n in range(_FRAMES)
    )
    samples = tuple(Sample(0.01 * n, 1, "watchdog", frames) for n in range(_SAMPLES))
    now_s = time.time()
    book = agent._ledger
    book.stalls.extend(
        Stall(
            id=f"{n:016x}", phase=Phase.FINAL, started_at_s=now_s - 3600 + n, duration_s=0.3,
            loop="main", loop_impl="asyncio", pid=1, thread="MainThread", sensor="selector",
            cause=Cause.CPU, confidence=0.9, evidence=Evidence(0.3), fingerprint="f" * 16,
            samples=samples,
        )
        for n in range(_STALLS)
    )  # fmt: skip
    group = TaskGroup(
        coro="shop.feed.listen",
        waits_at=Location("shop.feed.listen", "shop/feed.py", 12),
        count=70,
        growth_per_min=2.5,
        oldest_s=600.0,
    )
    book.census = Census(
        at_s=now_s, tasks=1400, threshold=1000, looked_at=1400, groups=(group,) * _GROUPS, others=0
    )


def answers() -> dict[str, Any]:
    """Time the two kinds of answers in a process of their own. Child."""
    import loopwatch  # noqa: PLC0415 - only in the child
    from loopwatch.server.answers import answer  # noqa: PLC0415

    async def main() -> dict[str, Any]:
        async with loopwatch.install(http_port=0, exporters=[]) as agent:
            await asyncio.sleep(3)
            _fill(agent)
            assert agent._view is not None
            stall = replace(agent.stalls[-1], started_at_s=time.time())
            in_progress = replace(
                agent._view,
                snapshot=lambda: replace(agent.snapshot(), active_stall=stall, active_s=0.3),
                stalls=lambda: (*agent.stalls, stall),
            )
            since = time.time() - 3
            return {
                "first": _times(lambda: answer((agent._view,), "/api/live?since=0", "").body),
                "news": _times(lambda: answer((in_progress,), f"/api/live?since={since}", "").body),
            }

    result: dict[str, Any] = asyncio.run(main())
    return result


def _times(ask: Callable[[], bytes]) -> dict[str, Any]:
    taken_s, body = [], b""
    for _ in range(_TIMES):
        time.sleep(0.01)  # caches are as cold as between two real questions, or nearly so
        began_s = time.thread_time()
        body = ask()
        taken_s.append(time.thread_time() - began_s)
    return {"taken_s": taken_s, "bytes": len(body)}


def asked() -> dict[str, float]:
    """Be asked once a second for one window, and not for another. Child."""
    import loopwatch  # noqa: PLC0415 - only in the child

    async def main() -> dict[str, float]:
        async with loopwatch.install(http_port=0) as agent:
            _fill(agent)
            await asyncio.sleep(2)
            windows = {"alone": 0.0, "asked": 0.0}
            for name in ("alone", "asked", "asked", "alone"):
                port = agent.http_port if name == "asked" else None
                windows[name] += await _window(port) / 2
        return windows

    return asyncio.run(main())


async def _window(port: int | None) -> float:
    """Return the CPU seconds per second of this process, without the reader's."""
    reader = _start_reader(port)
    # The first answer is a figure of its own.
    await asyncio.sleep(1.5)
    cpu_s, began_s = time.process_time(), time.monotonic()
    await asyncio.sleep(_WINDOW_S / 2)
    used = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    os.kill(reader, 9)
    os.waitpid(reader, 0)
    return used


def _start_reader(port: int | None) -> int:
    child = os.fork()
    if child == 0:
        connection = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=5)
        since_s = 0.0
        while True:
            if port is not None:
                connection.request("GET", f"/api/live?since={since_s}")
                connection.getresponse().read()
                since_s = time.time() - 2  # as the page does
            time.sleep(1)
    return child
