"""Locks that are free in a forked child, whoever held them in the parent."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ForkLock", "renew_all"]

_ALL: Final[weakref.WeakSet[ForkLock]] = weakref.WeakSet()


class ForkLock:
    """A reentrant lock, as a context manager."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _ALL.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Be free: the thread that held it does not exist in this process."""
        self._lock = threading.RLock()


def renew_all() -> None:
    """Free all of them, in a forked child; the registry sees to that."""
    for lock in _ALL:
        lock.renew()
