"""The census of one loop: what its pending tasks do, kept up to date at a bounded cost.

The watchdog goes on with it at its full looks, for a fraction of a millisecond of the GIL each, and
rests so long after each census that all of them together take `SHARE` of a core. Whoever wants one
at once (`now`) pays for it on a thread of their own.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from loopwatch.clock import NS_PER_S, monotonic_ns, ns_to_s, unix_s
from loopwatch.diagnosis.task_groups import GrowthWatch, Look, listed
from loopwatch.diagnosis.task_limit import TaskLimit
from loopwatch.model import Census, TaskGroup
from loopwatch.probes.census import Group, Groups, TaskReader, Walk, group_of
from loopwatch.probes.tasks import CLUMP, TaskLister

if TYPE_CHECKING:
    import weakref
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence

    from loopwatch.ledger import Ledger
    from loopwatch.probes.stacks import FrameNamer
    from loopwatch.probes.task_sites import TaskSites

    # A task and when it was seen first (monotonic ns); and the group it is in now.
    Seen = tuple[weakref.ref[Any], int]
    Placed = tuple[weakref.ref[Any], int, Group]

__all__ = ["SHARE", "TaskCensus"]

# Of a core, on average; the wake-ups between slices come on top of it.
SHARE: Final = 0.0004
_INTERVAL_NS: Final = 10 * NS_PER_S
# A walk stops at the first look at the clock beyond this: far below the millisecond that nobody
# may hold the GIL for, because caches are cold after half a second's nap.
_SLICE_NS: Final = 400_000
# Listing more than that takes a tenth of a millisecond at least.
_MANY: Final = 1000
# On a thread of somebody's own: others get the GIL for as long.
_PAUSE_S: Final = 0.001
# Tasks remembered of a group, to know how long they have been there.
_REMEMBERED: Final = 4


class TaskCensus:
    """Walks through the tasks of one loop. `look` is the watchdog's, `now` anybody's."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        namer: FrameNamer,
        ledger: Ledger,
        sites: TaskSites | None,
        tell: Callable[[Census], None],
        keep: Callable[[object], None],
        fault: Callable[[str, BaseException], None],
    ) -> None:
        """Put each census into the ledger, and `tell` of those over the limit.

        A task that turns out to be ours alone is given to `keep`, to end on the loop's thread.
        """
        self._loop = loop
        self._sites = sites
        self._fault = fault
        self._ledger = ledger
        self._tell = tell
        self._keep = keep
        self._lister = TaskLister(loop, sites.references if sites is not None else None)
        self._reader = TaskReader(loop, namer, with_sites=sites is not None)
        self._limit = TaskLimit()
        self._growth = GrowthWatch()
        # Some tasks and when they were seen first. Replaced as a whole: anybody may read it.
        self._seen: Sequence[Seen] = ()
        self._walk: Walk | None = None
        self._spent_ns = 0
        self._next_ns = 0
        self._rested_ns = 0
        self._in_advance = False

    @property
    def is_walking(self) -> bool:
        """Whether a census was begun and wants to be gone on with soon."""
        return self._walk is not None

    def look(self, now_ns: int) -> None:
        """Begin a census if it is time, or go on with it, for less than a millisecond.

        Watchdog thread. A census that fails is given up: the next one is made after a while.
        """
        if self._sites is not None and self._sites.error is not None:
            error, self._sites.error = self._sites.error, None
            self._fault("noting where a task was made", error)
        if self._walk is None and not self._is_time(now_ns):
            return
        began_ns = time.thread_time_ns()
        walk, self._walk = self._walk, None
        try:
            self._walk = self._go_on(now_ns, walk)
        finally:
            self._spent_ns += time.thread_time_ns() - began_ns
            if self._walk is None:
                self._rested_ns = max(now_ns, self._rested_ns) + round(self._spent_ns / SHARE)
                self._next_ns = max(now_ns + _INTERVAL_NS, self._rested_ns)
                self._spent_ns = 0

    def _is_time(self, now_ns: int) -> bool:
        ledger = self._ledger
        due = self._limit.is_due(now_ns, ledger.tasks, ledger.thresholds.tasks)
        if now_ns >= self._next_ns or (due and now_ns >= self._rested_ns):
            self._in_advance = False
            return True
        # What is to be told may cost more than the share once, and is rested for afterwards.
        if due and not self._in_advance:
            self._in_advance = True
            return True
        return False

    def _go_on(self, now_ns: int, walk: Walk | None) -> Walk | None:
        """Return the walk as long as it is not over; then put its census in the ledger."""
        if walk is None:
            taken = self._lister.take(self._ledger.tasks)
            if taken is None:
                self._finish(now_ns, None)
                return None
            walk = Walk(self._reader, taken, self._keep)
            if len(taken.references) > _MANY:
                return walk  # listing them was a slice of its own
        if not walk.go_on(_SLICE_NS):
            return walk
        self._finish(now_ns, walk.groups())
        return None

    def _finish(self, now_ns: int, found: Groups | None) -> None:
        ledger = self._ledger
        if found is None:
            census = self._kept(now_ns)
        else:
            placed = self._placed()
            census, look, groups = self._census(now_ns, found, placed)
            self._growth.add(look)
            self._remember(now_ns, found, groups, placed)
        ledger.census = census
        if self._limit.tell(now_ns, census.tasks, ledger.thresholds.tasks):
            self._tell(census)

    def now(self) -> Census:
        """Return a census made now, in slices, on the calling thread. Any thread."""
        on_loop = asyncio._get_running_loop() is self._loop  # noqa: SLF001 - public since 3.5.3
        taken = self._lister.take(self._ledger.tasks)
        if taken is None:
            return self._kept(monotonic_ns())
        walk = Walk(self._reader, taken, self._keep)
        while not walk.go_on(_SLICE_NS):
            if not on_loop:  # nobody on the loop could use the pause
                time.sleep(_PAUSE_S)
        return self._census(monotonic_ns(), walk.groups(), self._placed())[0]

    def _census(
        self, now_ns: int, found: Groups, placed: Sequence[Placed]
    ) -> tuple[Census, Look, list[Group]]:
        tasks = found.tasks
        clump = 1 if found.complete or tasks == found.looked_at else CLUMP
        look = Look(now_ns, tasks, found.looked_at, found.counts, clump)
        growth = {group: self._growth.per_minute(look, group) for group in found.counts}
        groups = listed(found.counts, growth)
        since_ns = dict(found.born_ns)
        for _, seen_ns, group in placed:
            since_ns[group] = min(seen_ns, since_ns.get(group, seen_ns))
        rows = tuple(
            TaskGroup(
                coro=group.coro,
                waits_at=group.waits_at,
                count=look.estimate(group),
                growth_per_min=growth[group],
                oldest_s=ns_to_s(max(0, now_ns - since_ns.get(group, now_ns))),
                created_at=group.created_at,
            )
            for group in groups
        )
        census = Census(
            at_s=unix_s(now_ns),
            tasks=tasks,
            threshold=self._ledger.thresholds.tasks,
            looked_at=found.looked_at,
            groups=rows,
            others=max(0, tasks - sum(row.count for row in rows)),
        )
        return census, look, groups

    def _kept(self, now_ns: int) -> Census:
        """Return the census before, where there are too many tasks for another one.

        Its groups stay as they were seen, at the time when they were; the rest are `others`.
        """
        before, tasks = self._ledger.census, self._ledger.tasks
        rows = before.groups if before is not None else ()
        return Census(
            at_s=before.at_s if before is not None else unix_s(now_ns),
            tasks=tasks,
            threshold=self._ledger.thresholds.tasks,
            looked_at=min(tasks, before.looked_at) if before is not None else 0,
            groups=rows,
            others=max(0, tasks - sum(row.count for row in rows)),
        )

    def _placed(self) -> list[Placed]:
        """Return the remembered tasks with the groups they are in now."""
        placed = []
        for reference, seen_ns in self._seen:
            group = group_of(self._reader, reference, self._keep)
            if group is not None:
                placed.append((reference, seen_ns, group))
        return placed

    def _remember(
        self, now_ns: int, found: Groups, groups: list[Group], placed: Sequence[Placed]
    ) -> None:
        """Keep references to a few tasks of the listed groups; those seen first, first."""
        # By identity: a reference hashes what it refers to, and that may be the host's code.
        seen: dict[int, Seen] = {}
        free = dict.fromkeys(groups, _REMEMBERED)
        for reference, seen_ns, group in sorted(placed, key=lambda row: row[1]):
            if free.get(group):
                free[group] -= 1
                seen[id(reference)] = (reference, seen_ns)
        for group in groups:
            for reference in found.references[group][: free[group]]:
                seen.setdefault(id(reference), (reference, now_ns))
        self._seen = tuple(seen.values())
