"""Forks wait while a console's thread imports aiomonitor.

The import takes half a second. A child that is forked meanwhile has the locks of the modules that
are half imported, held by a thread that it does not have: its first import of one of them never
ends. Here and not in the registry, so that a process without a console has no such hook.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["IMPORTING"]

# In the end the fork takes place: the thread that forks may itself be what the import waits for.
_PATIENCE_S: Final = 2.0


class _Gate:
    """Held while a thread imports, and while one forks."""

    def __init__(self) -> None:
        self.renew()

    def __enter__(self) -> None:
        self._lock.acquire()
        self._holder = threading.get_ident()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._holder = 0
        self._lock.release()

    def before_fork(self) -> None:
        """Wait for the import to end, and keep another one from beginning."""
        mine = threading.get_ident()
        if self._holder != mine and self._lock.acquire(timeout=_PATIENCE_S):
            self._holder = self._forking = mine

    def after_fork(self) -> None:
        """Let imports begin again, in the parent."""
        if self._forking == threading.get_ident():
            self._holder = self._forking = 0
            self._lock.release()

    def renew(self) -> None:
        """Be free: in a child nobody imports."""
        self._lock = threading.Lock()
        self._holder = self._forking = 0


IMPORTING: Final = _Gate()

# Once per process: it cannot be taken back, and without a console that starts it costs nothing.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=IMPORTING.before_fork,
        after_in_parent=IMPORTING.after_fork,
        after_in_child=IMPORTING.renew,
    )
