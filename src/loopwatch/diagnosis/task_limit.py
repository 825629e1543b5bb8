"""When to tell of too many tasks: once, again if it gets much worse or lasts, and when it is over.

Pure: numbers and moments in, yes or no out.
"""

from __future__ import annotations

from typing import Final

from loopwatch.clock import NS_PER_S

__all__ = ["TaskLimit"]

_AGAIN_NS: Final = 600 * NS_PER_S
_WORSE: Final = 2
# Over is over when it is well below the limit, and for a while: a number that dances around the
# limit is told once.
_WELL_BELOW: Final = 0.8
_FOR_NS: Final = 60 * NS_PER_S


class TaskLimit:
    """One loop's number of pending tasks against the limit."""

    def __init__(self) -> None:
        self._told: tuple[int, int] | None = None
        self._below_ns: int | None = None

    def is_due(self, now_ns: int, tasks: int, limit: int) -> bool:
        """Return whether something is to be told of so many tasks."""
        if self._told is None:
            return tasks > limit
        told_ns, told_tasks = self._told
        if tasks > limit * _WELL_BELOW:
            self._below_ns = None
            worse = tasks >= told_tasks * _WORSE
            return tasks > limit and (worse or now_ns - told_ns >= _AGAIN_NS)
        if self._below_ns is None:
            self._below_ns = now_ns
        return now_ns - self._below_ns >= _FOR_NS

    def tell(self, now_ns: int, tasks: int, limit: int) -> bool:
        """Return whether to tell of so many tasks now, and take it for told."""
        if not self.is_due(now_ns, tasks, limit):
            return False
        self._told = (now_ns, tasks) if tasks > limit else None
        self._below_ns = None
        return True
