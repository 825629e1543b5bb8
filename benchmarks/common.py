"""Shared by all benchmarks: figures, child processes, event loops, statistics.

Only the standard library is imported here, because some children measure what imports cost.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence

ROOT: Final = Path(__file__).resolve().parent.parent
LOOPS: Final = ("asyncio", "uvloop")
# Settings for those who want every stall told, however like the one before.
ALL_TOLD: Final = {"like_stalls_per_minute": 1_000_000, "stalls_per_minute": 1_000_000}


class NotMeasuredError(Exception):
    """A figure could not be measured here; the message says why."""


@dataclass(frozen=True)
class Figure:
    """One row of the table; `ok` is `None` where nothing is wanted. `data` goes to the JSON."""

    name: str
    measured: str
    wanted: str = ""
    ok: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Return `ok`, `over`, or a dash for what is only told."""
        return {True: "ok", False: "over", None: "-"}[self.ok]


def not_measured(name: str, why: object, wanted: str = "") -> Figure:
    """Return the row of a figure that could not be had."""
    return Figure(name, f"not measured: {why}", wanted)


def per_loop(figures: Callable[[str], Iterable[Figure]], name: str) -> list[Figure]:
    """Return the figures of every event loop; one that does not work here says so."""
    rows: list[Figure] = []
    for loop in LOOPS:
        try:
            need_loop(loop)
            rows += figures(loop)
        except NotMeasuredError as error:
            rows.append(not_measured(f"{name}, {loop}", error))
    return rows


# Children.


def child_command(target: str, **arguments: Any) -> list[str]:
    """Return the command that calls `module:function` in a fresh interpreter."""
    return [sys.executable, "-m", "benchmarks.child", target, json.dumps(arguments)]


def child_env() -> dict[str, str]:
    """Return our environment without what would change loopwatch's or Python's defaults."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOOPWATCH_") and name != "PYTHONDONTWRITEBYTECODE"
    }


def start_child(target: str, *, quiet: bool = False, **arguments: Any) -> subprocess.Popen[str]:
    """Start `module:function` in a fresh interpreter; see `result_of`.

    A child whose stderr nobody reads must be `quiet`, or a full pipe would block it.
    """
    return subprocess.Popen(
        child_command(target, **arguments),
        cwd=ROOT,
        env=child_env(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else subprocess.PIPE,
        text=True,
    )


def result_of(process: subprocess.Popen[str], timeout_s: float) -> Any:
    """Wait for a child and return what its function returned."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise NotMeasuredError(f"the child took longer than {timeout_s:.0f} s") from None
    if process.returncode:
        reason = (err.strip().splitlines() or ["no message"])[-1]
        raise NotMeasuredError(f"the child failed: {reason}")
    return json.loads(out.splitlines()[-1])


def in_child(target: str, *, timeout_s: float = 120.0, **arguments: Any) -> Any:
    """Call `module:function` in a fresh interpreter and return what it returned."""
    return result_of(start_child(target, **arguments), timeout_s)


# Loops.


def need(*modules: str) -> None:
    """Raise `NotMeasuredError` if one of these is not installed."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise NotMeasuredError(f"{module} is not installed")


def need_loop(loop: str) -> None:
    """Raise `NotMeasuredError` if this kind of event loop is not installed."""
    if loop != "asyncio":
        need(loop)


def run(loop: str, main: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a new loop of that kind."""
    factory = None
    if loop == "uvloop":
        import uvloop  # noqa: PLC0415 - optional

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


# Numbers.


def rss_bytes() -> int:
    """Return the resident memory of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError as error:
        raise NotMeasuredError(f"no /proc: {error.strerror}") from None
    return pages * os.sysconf("SC_PAGE_SIZE")


def switches_by_thread() -> dict[str, int]:
    """Return the voluntary context switches of every thread so far, by its name."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    switches = {}
    for task in Path("/proc/self/task").glob("*"):
        fields = dict(
            line.split(":\t", 1)
            for line in (task / "status").read_text(encoding="ascii").splitlines()
            if ":\t" in line
        )
        switches[names.get(int(task.name), task.name)] = int(fields["voluntary_ctxt_switches"])
    if not switches:
        raise NotMeasuredError("no /proc/self/task")
    return switches


def quantile(values: Sequence[float], q: float) -> float:
    """Return a quantile by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def interval_of_median(values: Sequence[float], share: float = 0.9) -> tuple[float, float]:
    """Return the bootstrap interval that holds the median with probability `share`."""
    rng = random.Random(1)
    medians = [statistics.median(rng.choices(values, k=len(values))) for _ in range(4000)]
    return quantile(medians, (1 - share) / 2), quantile(medians, (1 + share) / 2)


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Return the first and the third quartile: the spread that is printed."""
    return quantile(values, 0.25), quantile(values, 0.75)


def in_quads(count: int, rng: random.Random) -> list[bool]:
    """Return an order of on and off windows: quads of ABBA, each begun by a coin.

    Neighbours are pairs of one on and one off window with both orders equally often, so drift
    cancels; the two in the middle of a quad are alike and show the noise.
    """
    order: list[bool] = []
    while len(order) < count:
        first = rng.random() < 0.5
        order += [first, not first, not first, first]
    return order


def ratios_of(order: Sequence[bool], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return on/off of each pair in quads, and the ratio of the two alike windows of each quad."""
    pairs, alike = [], []
    for at in range(0, len(order), 4):
        for i in (at, at + 2):
            on, off = (i, i + 1) if order[i] else (i + 1, i)
            pairs.append(values[on] / values[off])
        alike.append(values[at + 1] / values[at + 2])
    return pairs, alike
