"""Objects of the host that must end on the loop's thread, whoever of us used them last.

A copy of a task's context holds what the host bound there: a database session, say, which may be
finalized on the thread that made it alone, and for as long as its finalizer takes.
"""

from __future__ import annotations

import sys
import threading
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Keeper"]


class Keeper:
    """Holds each object until nobody else does, and lets go of it on the loop's thread."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._ident = threading.get_ident()
        self._held: deque[object] = deque()

    def keep(self, thing: object) -> None:
        """Hold an object. Any thread."""
        self._held.append(thing)

    def release(self) -> None:
        """Let go of what nobody else has. Runs on the loop's thread."""
        self._ident = threading.get_ident()
        for _ in range(len(self._held)):
            thing, references = _next(self._held)
            if references > _ALONE:
                self._held.append(thing)

    def close(self) -> None:
        """Let go of everything: on the loop's thread if it still runs. Any thread."""
        if threading.get_ident() == self._ident or not self._loop.is_running():
            self._held.clear()
            return
        try:
            self._loop.call_soon_threadsafe(self._held.clear)
        except RuntimeError:
            self._held.clear()  # closed in this very moment


def _next(held: deque[object]) -> tuple[object, int]:
    thing = held.popleft()
    return thing, sys.getrefcount(thing)


# What `_next` counts of an object that nobody else has; interpreters differ in what they borrow.
_ALONE: Final = _next(deque([object()]))[1]
