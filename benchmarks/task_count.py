"""Counting 100,000 pending tasks: at most 1 ms of the GIL in any second.

The watchdog counts once a second, so one count is what it takes of a second. A child holds
100,000 pending tasks and 30,000 finished ones that somebody keeps; a thread counts 40 times and
reads its own CPU time around each count. The loop spins meanwhile: the longest gap between two of
its turns while a count ran is compared with as long a stretch without one.
"""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Figure, in_child, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.probes.tasks import TaskCount

WANTED_S: Final = 0.001
_PENDING: Final = 100_000
_FINISHED: Final = 30_000
_COUNTS: Final = 40
_PAUSE_S: Final = 0.1


def measure() -> list[Figure]:
    """Return three figures."""
    got = in_child("benchmarks.task_count:count")
    cost_s, lag_s, quiet_s = got["cost_s"], got["lag_s"], got["quiet_s"]
    errors = [n / got["true"] - 1 for n in got["counted"]]
    return [
        Figure(
            f"one count of {_PENDING:,} tasks, GIL",
            f"median {statistics.median(cost_s) * 1e3:.3f} ms, worst {max(cost_s) * 1e3:.3f} ms",
            f"<= {WANTED_S * 1e3:.0f} ms a second",
            max(cost_s) <= WANTED_S,
            got,
        ),
        Figure(
            f"error of the count ({_FINISHED:,} finished ones kept)",
            f"{min(errors) * 100:+.2f} to {max(errors) * 100:+.2f} % "
            f"({'exact' if all(got['exact']) else 'said to be an estimate'}); "
            f"of 1,000: {got['few'][0] - got['few_true']:+d} "
            f"({'exact' if got['few'][1] else 'said to be an estimate'})",
        ),
        Figure(
            "loop gap while counting",
            f"median {statistics.median(lag_s) * 1e3:.2f} ms, worst {max(lag_s) * 1e3:.2f} ms "
            f"(not counting: {statistics.median(quiet_s) * 1e3:.2f}, {max(quiet_s) * 1e3:.2f})",
        ),
    ]


def count() -> dict[str, Any]:
    """Count many tasks from a thread while the loop spins. Child."""
    result: dict[str, Any] = run("asyncio", _count())
    return result


async def _count() -> dict[str, Any]:
    from loopwatch.probes.tasks import task_counter  # noqa: PLC0415 - only in the child

    counter = task_counter(asyncio.get_running_loop())
    never = asyncio.get_running_loop().create_future()
    few = [asyncio.create_task(_wait_for(never)) for _ in range(1_000)]
    await asyncio.sleep(0.1)
    few_true, few_counted = len(asyncio.all_tasks()), counter()
    tasks = [asyncio.create_task(_wait_for(never)) for _ in range(_PENDING - len(few))]
    finished = [asyncio.create_task(asyncio.sleep(0)) for _ in range(_FINISHED)]
    await asyncio.gather(*finished)
    counts = _Counts(counter)
    turns = await _spin(counts)
    true = len(asyncio.all_tasks())
    never.set_result(None)
    await asyncio.gather(*few, *tasks)
    return {
        "true": true,
        "few": list(few_counted),
        "few_true": few_true,
        "cost_s": counts.cost_s,
        "counted": [counted.pending for counted in counts.results],
        "exact": [counted.exact for counted in counts.results],
        "lag_s": _longest_gaps(turns, counts.spans),
        "quiet_s": _longest_gaps(turns, counts.quiet),
    }


async def _wait_for(future: asyncio.Future[None]) -> None:
    await future


class _Counts(threading.Thread):
    """Counts now and then; keeps when, what it cost and what came out."""

    def __init__(self, counter: Callable[[], TaskCount]) -> None:
        super().__init__()
        self._counter = counter
        self.cost_s: list[float] = []
        self.results: list[TaskCount] = []
        self.spans: list[tuple[float, float]] = []
        self.quiet: list[tuple[float, float]] = []

    def run(self) -> None:
        for _ in range(_COUNTS):
            time.sleep(_PAUSE_S)
            began_s, cpu_s = time.perf_counter(), time.thread_time()
            self.results.append(self._counter())
            self.cost_s.append(time.thread_time() - cpu_s)
            ended_s = time.perf_counter()
            self.spans.append((began_s, ended_s))
            half_s = _PAUSE_S / 2
            self.quiet.append((began_s - half_s, ended_s - half_s))


async def _spin(counts: _Counts) -> list[float]:
    """Turn the loop until the counts are done; return when each turn was."""
    turns: list[float] = []
    counts.start()
    while counts.is_alive():
        turns.append(time.perf_counter())
        await asyncio.sleep(0)
    return turns


def _longest_gaps(turns: list[float], spans: list[tuple[float, float]]) -> list[float]:
    """Return the longest gap between two turns that touches each span."""
    longest = [0.0] * len(spans)
    at = 0
    for before, after in pairwise(turns):
        while at < len(spans) and spans[at][1] < before:
            at += 1
        if at < len(spans) and after > spans[at][0]:
            longest[at] = max(longest[at], after - before)
    return longest
