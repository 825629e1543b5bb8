"""Adds stalls up by fingerprint. Pure: it is told records, and keeps as little as it can of them.

Nothing in it depends on the order in which the records come: durations are added up as whole
microseconds, and what is shown of a group is taken from its newest and from its worst stall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loopwatch.report.group import Group
from loopwatch.report.pairs import Open, Pairs
from loopwatch.views.flame import Room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loopwatch.report.reading import Line
    from loopwatch.report.record import Told

__all__ = ["SORTS", "Choice", "Summary"]

_US_PER_S: Final = 1_000_000
# Fingerprints that are told apart; a service has some hundred. Those beyond are one group.
_MAX_GROUPS: Final = 5_000
# Of what was allowed; apart, so that reasons made of ids cannot take the place of culprits.
_MAX_REASONS: Final = 1_000
_FURTHER_REASONS: Final = "(all further reasons)"
# Of all trees together: some 80 MB.
_MAX_NODES: Final = 200_000
_MAX_WORKERS: Final = 100_000

SORTS: Final[dict[str, Callable[[Group], float]]] = {
    "total": lambda group: -group.total_us,
    "worst": lambda group: -group.worst_us,
    "count": lambda group: -group.count,
    "last": lambda group: -group.last_s,
    "first": lambda group: group.first_s,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which stalls are counted: started since and before (unix time), causes, loops; empty is all.

    A stall that lasted longer than `limit_s` is over the limit.
    """

    since_s: float | None = None
    until_s: float | None = None
    causes: frozenset[str] = frozenset()
    loops: frozenset[str] = frozenset()
    limit_s: float | None = None

    def __contains__(self, record: Told) -> bool:
        """Return whether the stall is chosen."""
        return (
            (self.since_s is None or record.started_at_s >= self.since_s)
            and (self.until_s is None or record.started_at_s < self.until_s)
            and (not self.causes or record.cause in self.causes)
            and (not self.loops or record.loop in self.loops)
        )


class Summary:
    """All stalls of some logs: `add` every line, `finish`, then read.

    Without `flames` no samples are merged, which is faster.
    """

    def __init__(
        self, choice: Choice | None = None, *, flames: bool = True, pairs: Pairs | None = None
    ) -> None:
        self._choice = choice or Choice()
        limit_s = self._choice.limit_s
        self._limit_us = math.inf if limit_s is None else round(limit_s * _US_PER_S)
        self._pairs = pairs or Pairs()
        self._room = Room(_MAX_NODES) if flames else None
        self._left_out = Group(0, "", None)
        self._beyond = Group(1, "", self._room)
        self._allowed_beyond = Group(2, "", None, _FURTHER_REASONS)
        self._by_index = [self._left_out, self._beyond, self._allowed_beyond]
        self._groups: dict[str, Group] = {}
        self._allowed: dict[str, Group] = {}
        self._workers: dict[tuple[str, int], int] = {}

    def add(self, line: Line) -> None:
        """Count one record."""
        record = line.told
        if record is None or not record.final:
            self._wait(line)
        elif self._pairs.close(line.key):
            self._count(line, record)

    def finish(self) -> None:
        """Count the stalls of which no final record came, with their duration so far."""
        for line in self._pairs.waiting():
            record = line.read()
            if record is not None:
                known = self._pairs.take(line.key)
                if known is not None and known.duration_us > record.duration_us:
                    self._count_bare((known,))
                else:
                    self._count(line, record)
        self._count_bare(self._pairs.still_open())
        self._pairs = Pairs()

    def groups(self, sort: str = "total") -> list[Group]:
        """Return the groups by `sort`, one of `SORTS`, without those that were allowed.

        Stalls of fingerprints there was no room for are one group whose fingerprint is empty.
        """
        counted = [g for g in self._by_index[1:] if g.count and g.allowed is None]
        return sorted(counted, key=lambda group: (SORTS[sort](group), group.fingerprint))

    @property
    def allowed(self) -> list[Group]:
        """Groups of stalls that the app had allowed, by reason."""
        counted = [g for g in self._by_index[1:] if g.count and g.allowed is not None]
        return sorted(counted, key=lambda group: (-group.total_us, group.allowed or ""))

    @property
    def left_out(self) -> int:
        """How many stalls were not chosen."""
        return self._left_out.count

    def _wait(self, line: Line) -> None:
        """Keep an ongoing record until it is clear whether a final one comes."""
        if self._pairs.is_over(line.key):
            return
        other = self._pairs.stop_waiting(line.key)
        if other is not None:
            longer = _longer(line, other)
            if longer is None:
                return
            line = longer
        # What is read already is read once more should it count: kept so it would take much room.
        for late in self._pairs.wait(line._replace(told=None)):
            record = late.read()
            if record is not None:
                stall = Open(
                    self._group(record).index,
                    self._worker(late.file.log, record.pid),
                    record.started_at_s,
                    record.duration_us,
                )
                self._count_bare(self._pairs.open(late.key, stall))

    def _count(self, line: Line, record: Told) -> None:
        worker = self._worker(line.file.log, record.pid)
        self._group(record).add(record, worker, over=record.duration_us > self._limit_us)

    def _count_bare(self, stalls: Iterable[Open]) -> None:
        for stall in stalls:
            over = stall.duration_us > self._limit_us
            self._by_index[stall.group].add_bare(stall, over=over)

    def _group(self, record: Told) -> Group:
        if record not in self._choice:
            return self._left_out
        reason = record.allowed
        if reason is not None:
            group = self._allowed.get(reason)
            if group is None:
                if len(self._allowed) >= _MAX_REASONS:
                    return self._allowed_beyond
                group = self._allowed[reason] = Group(len(self._by_index), "", None, reason)
                self._by_index.append(group)
            return group
        group = self._groups.get(record.fingerprint)
        if group is None:
            if len(self._groups) >= _MAX_GROUPS:
                return self._beyond
            group = Group(len(self._by_index), record.fingerprint, self._room)
            group.describe(record)
            self._by_index.append(group)
            self._groups[record.fingerprint] = group
        return group

    def _worker(self, log: str, pid: int | None) -> int:
        """Return a number for the process, 0 if it is not known or there are too many."""
        if pid is None:
            return 0
        number = self._workers.get((log, pid))
        if number is None:
            number = len(self._workers) + 1
            if number > _MAX_WORKERS:
                return 0
            self._workers[log, pid] = number
        return number


def _longer(line: Line, other: Line) -> Line | None:
    """Return which of two ongoing records of one stall tells the longer duration."""
    here, there = line.read(), other.read()
    if here is None or there is None:
        return line if here is not None else other if there is not None else None
    return other if there.duration_us > here.duration_us else line
