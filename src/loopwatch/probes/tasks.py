"""How many tasks are pending, at a bounded cost whatever their number.

`asyncio.all_tasks()` costs 30 ms per 100,000 tasks with the GIL held: called at a fixed rate it
is the stall. So:

- CPython 3.11 to 3.13 keep tasks in a weak set. Up to `SAMPLE` tasks it is walked: an exact
  count. Beyond, its length (O(1)) is multiplied by the share of pending tasks of this loop among
  `SAMPLE` of its members.
- CPython 3.14 and later keep them in C lists without a length, but every task holds a reference
  to its type: the type's reference count is the number of live tasks plus a constant, which an
  exact count takes out while the number is small.
- Elsewhere (a free-threaded build, a changed interpreter): `all_tasks()`, ever more rarely as it
  gets slower.

Private API, checked on CPython 3.11 to 3.15: `asyncio.tasks._all_tasks` (3.11),
`asyncio.tasks._scheduled_tasks` and `._eager_tasks` (3.12, 3.13), the heap type `_asyncio.Task`.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import sys
import sysconfig
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.clock import monotonic_ns

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = ["SAMPLE", "TaskCount", "task_counter"]

# Tasks looked at in one go: 0.2 ms on 3.11 to 3.13.
SAMPLE: Final = 1500
# all_tasks() is C on 3.14+: 0.1 µs a task, so this many cost 0.5 ms.
_EXACT_IN_C: Final = 4000
# Where nothing cheap exists: at most this share of the time goes into counting.
_SHARE_OF_TIME: Final = 0.001
_RETRIES: Final = 3


class TaskCount(NamedTuple):
    """Pending tasks of one loop; `exact` is false for an estimate."""

    pending: int
    exact: bool


def task_counter(loop: AbstractEventLoop) -> Callable[[], TaskCount]:
    """Return the cheapest function that counts the pending tasks of `loop`, from any thread."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return _Rarely(loop).count
    if sys.version_info >= (3, 14):
        return _ByTypeReferences(loop).count
    known = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if known is None:
        known = getattr(asyncio.tasks, "_all_tasks", None)
    if known is None or not hasattr(known, "data"):
        return _Rarely(loop).count
    return _ByWeakSet(loop, known.data).count


class _ByWeakSet:
    """3.11 to 3.13: the set of weak references to all tasks of the process."""

    def __init__(self, loop: AbstractEventLoop, references: set[Any]) -> None:
        self._loop = loop
        self._references = references
        self._eager: set[Any] = getattr(asyncio.tasks, "_eager_tasks", set())
        self._last = TaskCount(0, exact=False)

    def count(self) -> TaskCount:
        for _ in range(_RETRIES):
            try:
                # One C call under the GIL: no task can come or go while it runs.
                sample = list(islice(self._references, SAMPLE))
                eager = list(islice(self._eager, SAMPLE))
                break
            except RuntimeError:
                continue  # a finalizer run by the collector changed the set: look again
        else:
            return self._last
        known = len(self._references)
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
        # Python-level tasks may compute done(); get_loop() of a foreign class may be missing.
        return (
            task is not None
            and not task.done()
            and getattr(task, "get_loop", self._nothing)() is self._loop
        )

    @staticmethod
    def _nothing() -> None:
        return None


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
