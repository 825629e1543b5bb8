"""What loopwatch tells, put into words: a line while it runs, a table at the end.

The view is an exporter like any other: it gets the records, and a way to read what is true now.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.exporters import Exporter, Source
from loopwatch.model import Phase

if TYPE_CHECKING:
    from loopwatch.demo.load import Tally
    from loopwatch.model import Culprit, Snapshot, Stall

__all__ = ["Group", "View", "progress", "summary", "table"]

_HEADER: Final = ("stalls", "first at", "longest", "total", "cause", "culprit", "called by", "task")
_NUMBERS: Final = 4  # the columns before the first that is text
_GAP: Final = "  "
# Fits the demo's longest, so that what follows stands still.
_STATE_WIDTH: Final = 32


class _Place(NamedTuple):
    """What is told of a stall beside its numbers."""

    culprit: Culprit | None
    cause: str
    caller: str
    task: str
    advice: str


class Group:
    """All stalls with one culprit."""

    def __init__(self, first: Stall) -> None:
        self.first_at_s = first.started_at_s
        self.count = 0
        self.longest_s = 0.0
        self.total_s = 0.0
        # Stalls of one function differ in their line, and requests in their task.
        self._places: Counter[_Place] = Counter()

    def add(self, stall: Stall) -> None:
        """Count one more."""
        self.first_at_s = min(self.first_at_s, stall.started_at_s)
        self.count += 1
        self.longest_s = max(self.longest_s, stall.duration_s)
        self.total_s += stall.duration_s
        caller = _bare(stall.entry.function, stall.entry.file) if stall.entry else "-"
        task = stall.task.name if stall.task else "-"
        advice = stall.advice.text if stall.advice else ""
        self._places[_Place(stall.culprit, stall.cause.value, caller, task, advice)] += 1

    @property
    def place(self) -> _Place:
        """The commonest culprit with its line, the cause, what called it, the task, and advice."""
        return self._places.most_common(1)[0][0]


class View(Exporter):
    """Collects stalls by culprit. `changed` is set when there is news."""

    name = "demo"

    def __init__(self) -> None:
        self.began_at_s = time.time()
        self.changed = threading.Event()
        self.last: Stall | None = None
        self._groups: dict[tuple[str, str] | None, Group] = {}
        self._source: Source | None = None

    def start(self, source: Source) -> None:
        """Take what there is to read."""
        self._source = source
        self.began_at_s = time.time()

    def export(self, stall: Stall) -> None:
        """Take one record."""
        if stall.phase is Phase.FINAL:
            key = (stall.culprit.function, stall.culprit.file) if stall.culprit else None
            self._groups.setdefault(key, Group(stall)).add(stall)
            self.last = stall
        self.changed.set()

    def snapshot(self) -> Snapshot | None:
        """Return what is true now; `None` before the loop is watched."""
        return self._source.snapshot() if self._source is not None else None

    @property
    def groups(self) -> list[Group]:
        """The groups, in the order in which they were first seen."""
        return sorted(self._groups.values(), key=lambda group: group.first_at_s)


def progress(snapshot: Snapshot, last: Stall | None, elapsed_s: float, requests: int) -> str:
    """Return what is true now as one line."""
    active = snapshot.active_stall
    if active is not None:
        state = f"STALLED {snapshot.active_s:.1f} s: {_named(active.culprit)}"
    elif last is not None:
        state = f"last {last.duration_s:.2f} s: {_named(last.culprit)}"
    else:
        state = "no stall yet"
    stalls = _counted(sum(snapshot.stalls_total.values()), "stall")
    # The state stands before the less urgent, which a narrow terminal cuts off.
    return (
        f"{elapsed_s:5.1f} s | {stalls} | lag max {snapshot.lag_max_s:.2f} s | "
        f"{state:<{_STATE_WIDTH}} | {_counted(snapshot.tasks, 'task')} | "
        f"{_counted(requests, 'request')}"
    )


def table(groups: list[Group], began_at_s: float) -> str:
    """Return the stalls by culprit: the numbers, the blamed line itself, what to do instead."""
    rows = [_HEADER]
    lines: list[list[str]] = [[]]
    for group in groups:
        place = group.place
        rows.append(
            (
                str(group.count),
                f"{max(0.0, group.first_at_s - began_at_s):.1f} s",
                f"{group.longest_s:.3f} s",
                f"{group.total_s:.3f} s",
                place.cause,
                _named(place.culprit),
                place.caller,
                place.task,
            )
        )
        lines.append(_below(place))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = " " * (widths[0] + len(_GAP))
    text = []
    for row, line in zip(rows, lines, strict=True):
        cells = [
            cell.rjust(width) if number < _NUMBERS else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        text.append(_GAP.join(cells).rstrip())
        text += [f"{indent}{below}" for below in line]
    return "\n".join(text)


def _below(place: _Place) -> list[str]:
    blamed = place.culprit
    lines = [f"{blamed.file}:{blamed.line}: {blamed.source or '?'}"] if blamed else []
    return [*lines, f"-> {place.advice}"] if place.advice else lines


def summary(snapshot: Snapshot, elapsed_s: float, healthy: Tally) -> list[str]:
    """Return the totals as sentences."""
    stalls = sum(snapshot.stalls_total.values())
    stalled_s = sum(snapshot.stall_s_total.values())
    # Ctrl-C may come before the first second, or before the first moment.
    share = min(1.0, stalled_s / elapsed_s) if elapsed_s else 0.0
    limits = snapshot.thresholds
    told = f"{_counted(stalls, 'stall')} of {limits.stall_s:g} s or more, {stalled_s:.2f} s in all"
    felt = f"{_counted(healthy.served, 'healthy request')}, the slowest {healthy.slowest_s:.2f} s"
    said = [
        f"{told}: {share:.0%} of the time the app served nobody.",
        f"{felt}: all wait while one blocks.",
    ]
    if healthy.failed:
        said.append(f"{_counted(healthy.failed, 'healthy request')} got no answer at all.")
    over = snapshot.tasks > limits.tasks
    verdict = "more than {:,}, suspect a task leak" if over else "below the threshold of {:,}"
    said.append(
        f"{_counted(snapshot.tasks, 'pending task')} at the end: {verdict.format(limits.tasks)}."
    )
    return said


def _named(culprit: Culprit | None) -> str:
    return _bare(culprit.function, culprit.file) if culprit is not None else "(not known)"


def _bare(function: str, file: str) -> str:
    """Return the function without its module, where the file says that already."""
    module = file.removesuffix(".py").replace("\\", "/").replace("/", ".")
    return function.removeprefix(f"{module}.")


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"
