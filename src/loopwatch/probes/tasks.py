"""How many tasks are pending, and weak references to them, at a bounded cost whatever their number.

`asyncio.all_tasks()` costs 30 ms per 100,000 tasks with the GIL held: called at a fixed rate it
is the stall. So:

- CPython 3.11 to 3.13 keep tasks in a weak set. Up to twice `SAMPLE` tasks it is walked: an exact
  count. Beyond, its length (O(1)) is multiplied by the share of pending tasks of this loop among
  `SAMPLE` of its members.
- CPython 3.14 and later keep them in C lists without a length, but every task holds a reference
  to its type: the type's reference count is the number of live tasks plus a constant, which an
  exact count takes out while the number is small.
- Elsewhere (a free-threaded build, a changed interpreter): `all_tasks()`, ever more rarely as it
  gets slower.

References to look at the tasks themselves come from the same places: up to `MOST` of that weak set,
or what `all_tasks()` gives where it takes less than a millisecond. Beyond that 3.14 has nothing
cheap but the references we keep ourselves (`task_sites`). Free-threaded builds: none.

Private API, checked on CPython 3.11 to 3.15: `asyncio.tasks._all_tasks` (3.11),
`asyncio.tasks._scheduled_tasks` and `._eager_tasks` (3.12, 3.13), the heap type `_asyncio.Task`.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
import sysconfig
import time
import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.clock import monotonic_ns

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = [
    "CLUMP",
    "MOST",
    "SAMPLE",
    "Listed",
    "TaskCount",
    "TaskLister",
    "is_done",
    "loop_of",
    "task_counter",
]

# Tasks looked at in one go: 0.2 ms on 3.11 to 3.13.
SAMPLE: Final = 1500
# Up to so many all of them: a few that ended and are still held would count as pending otherwise.
_EXACT: Final = 2 * SAMPLE
# all_tasks() is C on 3.14+: 0.1 µs a task, so this many cost 0.5 ms.
_EXACT_IN_C: Final = 4000
# Where nothing cheap exists: at most this share of the time goes into counting.
_SHARE_OF_TIME: Final = 0.001
_RETRIES: Final = 3

# Tasks that are looked at for one census: 40 ms of CPU time, in slices.
MOST: Final = 10_000
# Of a larger set, those looked at are spread over so many members: copying 100,000 pointers out
# of a cold set is 2 ms.
_REACH: Final = 3 * MOST
# Beyond that reach, so many of those looked at stand for one that was chosen by chance: a group of
# 10,000 of 100,000 was told as 2,300 to 13,000 in trials, where such numbers scatter by 4,800.
CLUMP: Final = 256
_LISTED_IN_NS: Final = 1_000_000
# all_tasks() and a reference each, from cold: until it was measured here.
_LISTING_NS: Final = 250


# The methods of the C type, whatever a subclass of the host makes of them.
is_done: Final[Any] = asyncio.Task.done
loop_of: Final[Any] = asyncio.Task.get_loop


class TaskCount(NamedTuple):
    """Pending tasks of one loop; `exact` is false for an estimate."""

    pending: int
    exact: bool


def task_counter(loop: AbstractEventLoop, own: set[Any] | None = None) -> Callable[[], TaskCount]:
    """Return the cheapest function that counts the pending tasks of `loop`, from any thread.

    `own` is our own set of references to the tasks of this loop, if there is one.
    """
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return _Rarely(loop).count
    if sys.version_info >= (3, 14):
        return _ByTypeReferences(loop).count
    known = _tasks_of_process()
    if known is None or not hasattr(known, "data"):
        return _Rarely(loop).count
    return _ByWeakSet(loop, known.data, own).count


def _tasks_of_process() -> Any:
    """Return the weak set of tasks, under the name it has here; `None` if it has none."""
    known = getattr(asyncio.tasks, "_scheduled_tasks", None)
    return getattr(asyncio.tasks, "_all_tasks", None) if known is None else known


class _ByWeakSet:
    """3.11 to 3.13: the set of weak references to all tasks of the process."""

    def __init__(self, loop: AbstractEventLoop, references: set[Any], own: set[Any] | None) -> None:
        self._loop = loop
        self._references = references
        self._own = own
        self._eager: set[Any] = getattr(asyncio.tasks, "_eager_tasks", set())
        self._last = TaskCount(0, exact=False)

    def count(self) -> TaskCount:
        references = self._references
        if self._own and len(references) > SAMPLE:
            # Of this loop alone: a sample of the process's says little about a small loop.
            references = self._own
        for _ in range(_RETRIES):
            try:
                # One C call under the GIL: no task can come or go while it runs.
                size = _EXACT if len(references) <= _EXACT else SAMPLE
                sample = list(islice(references, size))
                eager = list(islice(self._eager, SAMPLE))
                break
            except RuntimeError:
                continue  # a finalizer run by the collector changed the set: look again
        else:
            return self._last
        known = len(references)
        pending = 0
        for reference in sample:
            pending += self._is_mine(reference())
        exact = known <= len(sample)
        if not exact:
            pending = round(known * pending / len(sample))
        pending += sum(self._is_mine(task) for task in eager)
        self._last = TaskCount(pending, exact)
        return self._last

    def _is_mine(self, task: Any) -> bool:
        try:
            # The methods of the C type: a class of the host's may have code of its own there.
            return not is_done(task) and loop_of(task) is self._loop
        except TypeError:
            return False  # gone, or a task class that is not made from asyncio's


class _ByTypeReferences:
    """3.14 and later: every live task holds one reference to its type."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        # References to the type that no pending task of this loop holds, seen at the last exact
        # count; finished tasks that somebody still keeps are among them.
        self._others = 0

    def count(self) -> TaskCount:
        live = sys.getrefcount(asyncio.Task) - self._others
        if live <= _EXACT_IN_C:
            pending = len(asyncio.all_tasks(self._loop))
            self._others = sys.getrefcount(asyncio.Task) - pending
            return TaskCount(pending, exact=True)
        return TaskCount(max(0, live), exact=False)


class _Rarely:
    """Counts exactly, and then waits a thousand times as long as that took."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._next_ns = 0
        self._pending = 0

    def count(self) -> TaskCount:
        now_ns = monotonic_ns()
        if now_ns < self._next_ns:
            return TaskCount(self._pending, exact=False)
        self._pending = len(asyncio.all_tasks(self._loop))
        done_ns = monotonic_ns()
        self._next_ns = done_ns + round((done_ns - now_ns) / _SHARE_OF_TIME)
        return TaskCount(self._pending, exact=True)


class Listed(NamedTuple):
    """Weak references to tasks: all that are known (`complete`), or some of `known` in all.

    Finished tasks and those of other loops may be among them.
    """

    references: list[weakref.ref[Any]]
    known: int
    complete: bool


class TaskLister:
    """Lists tasks of the process in one go of about a millisecond at most. Any thread.

    `own` is our own set of references to the tasks of this loop, if there is one.
    """

    def __init__(self, loop: AbstractEventLoop, own: set[Any] | None = None) -> None:
        self._loop = loop
        self._own = own
        self._listing_ns: float = _LISTING_NS
        known = _tasks_of_process()
        # From 3.14 on the weak set has only tasks of other classes.
        old = sys.version_info < (3, 14) and hasattr(known, "data")
        self._known: set[Any] | None = known.data if known is not None and old else None
        self._free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

    def take(self, pending: int) -> Listed | None:
        """Return references to look at; `None` where that would take too long.

        `pending` is about how many tasks there are, 0 if that is not known yet.
        """
        if self._free_threaded:
            return None
        if self._known is not None:
            if self._own and len(self._known) > MOST:
                return self._spread_of_own()
            return _spread(self._known)
        if sys.version_info < (3, 14):
            return None
        # Every live task holds a reference to its type: never fewer than there are.
        if (pending or sys.getrefcount(asyncio.Task)) * self._listing_ns <= _LISTED_IN_NS:
            return self._from_c()
        return self._spread_of_own()

    def _spread_of_own(self) -> Listed | None:
        listed = _spread(self._own) if self._own else None
        # Tasks from before the factory was set are not among them.
        return listed._replace(complete=False) if listed is not None else None

    def _from_c(self) -> Listed:
        began_ns = time.thread_time_ns()
        # Strong references exist within this line only. A task whose last other reference is
        # dropped meanwhile would be finalized here, with the `finally` blocks of its coroutine;
        # the GIL would have to be taken from us in the middle of less than a millisecond.
        references = list(map(weakref.ref, asyncio.all_tasks(self._loop)))
        took_ns = time.thread_time_ns() - began_ns
        if len(references) >= SAMPLE:
            self._listing_ns = max(_LISTING_NS / 4, took_ns / len(references))
        return Listed(references, len(references), complete=True)


def _spread(known: set[Any]) -> Listed | None:
    """Return all members of a set, or `MOST` of them spread over as many as can be reached.

    A set has no other way to a member than past those before it. Their order follows the
    addresses of the tasks, some megabytes after some megabytes folded into one, so tasks that were
    made one after the other are in or out of reach together: see `CLUMP`.
    """
    for _ in range(_RETRIES):
        members = len(known)
        reach = min(members, _REACH)
        step = max(1, -(-reach // MOST))
        try:
            # One C call under the GIL, as above.
            references = list(islice(known, 0, reach, step))
        except RuntimeError:
            continue  # a finalizer run by the collector changed the set: look again
        return Listed(references, members, complete=step == 1)
    return None
