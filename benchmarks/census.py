"""What the census of 300,000 tasks does to the loop, and what `task_sites` costs a task.

The census: a child holds 300,000 pending tasks. A thread walks through them as the watchdog does,
a slice every 20 ms, but census after census without the rest in between, while the loop does a bit
of work every millisecond and notes how late it comes to it. Windows with and without it alternate
in one run. From 3.14 on the tasks are made with `task_sites`, as they could not be listed without.

The sites: batches of tasks are made and run to their end, bare and with the factory, in turns.
"""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import (
    Figure,
    in_child,
    in_quads,
    interval_of_median,
    per_loop,
    quantile,
    quartiles,
    ratios_of,
    run,
)

if TYPE_CHECKING:
    from loopwatch.census import TaskCensus

_WANTED_HOLD_S: Final = 0.001
_WANTED_SHARE: Final = 0.0005
_WANTED_SITE_S: Final = 1.5e-6
_PENDING: Final = 300_000
_WINDOWS: Final = 24
_WINDOW_S: Final = 0.5
_WORK_EVERY_S: Final = 0.001
_BETWEEN_S: Final = 0.02
_BATCH: Final = 100
_BATCHES: Final = 40
_ROUNDS: Final = 40


def measure() -> list[Figure]:
    """Return five figures."""
    return [*_of_census(in_child("benchmarks.census:walk")), *per_loop(_of_sites, "task site")]


def _of_census(got: dict[str, Any]) -> list[Figure]:
    holds_s, order, lag_s = got["holds_s"], got["order"], got["lag_s"]
    pairs, alike = ratios_of(order, lag_s)
    low, high = interval_of_median(pairs)
    return [
        Figure(
            f"census of {_PENDING:,} tasks, one slice of the GIL",
            f"median {statistics.median(holds_s) * 1e3:.2f} ms, 99 % below "
            f"{quantile(holds_s, 0.99) * 1e3:.2f}, longest {max(holds_s) * 1e3:.2f} "
            f"({len(holds_s)} slices)",
            f"<= {_WANTED_HOLD_S * 1e3:.0f} ms",
            quantile(holds_s, 0.99) <= _WANTED_HOLD_S,
            got,
        ),
        Figure(
            "same, loop lag with / without, while it walks",
            f"{statistics.median(pairs):.2f} ({low:.2f} to {high:.2f}; two alike "
            f"{statistics.median(alike):.2f}); worst lag {max(got['worst_on_s']) * 1e3:.1f} ms, "
            f"without {max(got['worst_off_s']) * 1e3:.1f}",
        ),
        Figure(
            "same, share of a core with the rest in between",
            f"{got['share'] * 100:.3f} % ({got['spent_s'] * 1e3:.0f} ms every "
            f"{got['every_s']:.0f} s, {got['looked_at']:,} tasks looked at)",
            f"<= {_WANTED_SHARE * 100:.2f} %",
            got["share"] <= _WANTED_SHARE,
        ),
    ]


def _of_sites(loop: str) -> list[Figure]:
    got = in_child("benchmarks.census:sites", loop=loop)
    added = got["added_s"]
    low, high = quartiles(added)
    median = statistics.median(added)
    return [
        Figure(
            f"task_sites per task, {loop}",
            f"{median * 1e6:.2f} µs (half of {_ROUNDS} rounds: {low * 1e6:.2f} to "
            f"{high * 1e6:.2f}; a task without {statistics.median(got['bare_s']) * 1e6:.2f})",
            f"<= {_WANTED_SITE_S * 1e6} µs",
            median <= _WANTED_SITE_S,
            got,
        )
    ]


def walk() -> dict[str, Any]:
    """Walk through many tasks from a thread while the loop works. Child."""
    result: dict[str, Any] = run("asyncio", _walk())
    return result


async def _walk() -> dict[str, Any]:
    # Only in the child: the parent measures nothing of loopwatch's imports.
    from loopwatch import Config  # noqa: PLC0415
    from loopwatch.census import TaskCensus  # noqa: PLC0415
    from loopwatch.clock import monotonic_ns  # noqa: PLC0415
    from loopwatch.diagnosis.culprit import in_app_rule  # noqa: PLC0415
    from loopwatch.ledger import Identity, Ledger  # noqa: PLC0415
    from loopwatch.probes.stacks import FrameNamer  # noqa: PLC0415
    from loopwatch.probes.task_sites import TaskSites  # noqa: PLC0415
    from loopwatch.probes.tasks import task_counter  # noqa: PLC0415

    loop = asyncio.get_running_loop()
    namer = FrameNamer(in_app_rule())
    sites = TaskSites(loop, namer.is_in_app) if sys.version_info >= (3, 14) else None
    if sites is not None:
        sites.start()
    who = Identity("main", "asyncio", 1, "MainThread", "selector", "1", "3", "on")
    ledger = Ledger(who, Config(), monotonic_ns())
    never = loop.create_future()
    tasks = [loop.create_task(_leaked(never, n % 3)) for n in range(_PENDING)]
    await asyncio.sleep(0.1)
    # A collection of millions of objects is not what is measured.
    gc.collect()
    gc.freeze()
    ledger.tasks = task_counter(loop)().pending
    walker = _Walker(TaskCensus(loop, namer, ledger, sites, _ignore, _ignore, _ignore))
    order = in_quads(_WINDOWS, random.Random(1))
    windows = []
    walker.start()
    for on in order:
        walker.walking = on
        windows.append(await _window())
    walker.stopping = True
    walker.join()
    census = ledger.census
    assert census is not None
    never.set_result(None)
    await asyncio.gather(*tasks)
    return {
        **walker.costs(),
        "order": order,
        "lag_s": [statistics.fmean(lags) for lags in windows],
        "worst_on_s": [max(lags) for on, lags in zip(order, windows, strict=True) if on],
        "worst_off_s": [max(lags) for on, lags in zip(order, windows, strict=True) if not on],
        "looked_at": census.looked_at,
    }


async def _window() -> list[float]:
    """Return how late the loop came to its work, each time."""
    lags = []
    end_s = time.perf_counter() + _WINDOW_S
    while (now_s := time.perf_counter()) < end_s:
        await asyncio.sleep(_WORK_EVERY_S)
        lags.append(time.perf_counter() - now_s - _WORK_EVERY_S)
    return lags


async def _leaked(never: asyncio.Future[None], kind: int) -> None:
    await (_wait(never) if kind else never)


async def _wait(never: asyncio.Future[None]) -> None:
    await never


def _ignore(*_: object) -> None:
    pass


class _Walker(threading.Thread):
    """Does what the watchdog does between two naps, and never rests."""

    def __init__(self, census: TaskCensus) -> None:
        super().__init__()
        self._census = census
        self.walking = self.stopping = False
        self.holds_s: list[float] = []
        self._spent_s: list[float] = []
        self._every_s: list[float] = []

    def run(self) -> None:
        spent_s = 0.0
        while not self.stopping:
            time.sleep(_BETWEEN_S)
            if not self.walking:
                continue
            if not self._census.is_walking:
                self._census._next_ns = self._census._rested_ns = 0
            began_s, now_ns = time.thread_time(), time.monotonic_ns()
            self._census.look(now_ns)
            self.holds_s.append(time.thread_time() - began_s)
            spent_s += self.holds_s[-1]
            if not self._census.is_walking:
                self._every_s.append((self._census._next_ns - now_ns) / 1e9)
                self._spent_s.append(spent_s)
                spent_s = 0.0

    def costs(self) -> dict[str, Any]:
        spent_s, every_s = statistics.median(self._spent_s), statistics.median(self._every_s)
        share = statistics.median(
            spent / every for spent, every in zip(self._spent_s, self._every_s, strict=True)
        )
        return {"holds_s": self.holds_s, "spent_s": spent_s, "every_s": every_s, "share": share}


def sites(loop: str) -> dict[str, Any]:
    """Make tasks with and without the factory. Child."""
    result: dict[str, Any] = run(loop, _sites())
    return result


async def _sites() -> dict[str, Any]:
    from loopwatch.diagnosis.culprit import in_app_rule  # noqa: PLC0415 - only in the child
    from loopwatch.probes.stacks import FrameNamer  # noqa: PLC0415
    from loopwatch.probes.task_sites import TaskSites  # noqa: PLC0415

    factory = TaskSites(asyncio.get_running_loop(), FrameNamer(in_app_rule()).is_in_app)
    bare_s, added_s = [], []
    for number in range(_ROUNDS):
        pair = {}
        for on in (True, False) if number % 2 else (False, True):
            if on:
                factory.start()
            pair[on] = await _per_task_s()
            factory.stop()
        bare_s.append(pair[False])
        added_s.append(pair[True] - pair[False])
    return {"bare_s": bare_s, "added_s": added_s}


async def _per_task_s() -> float:
    # Of the thread: neighbours on the machine take their time from both.
    began_s = time.thread_time()
    for _ in range(_BATCHES):
        for _ in range(_BATCH):
            task = asyncio.create_task(_nothing())
        await task
    return (time.thread_time() - began_s) / (_BATCH * _BATCHES)


async def _nothing() -> None:
    pass
