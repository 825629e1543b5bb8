"""How long the garbage collector held the loop thread."""

from __future__ import annotations

import gc
from threading import get_ident
from typing import TYPE_CHECKING

from loopwatch.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GcProbe"]


class GcProbe:
    """Adds up the pauses of collections that ran on the thread `ident`.

    The callback runs inside the collector: no lock, no allocation that could start another
    collection, closure variables.
    """

    def __init__(self, ident: int) -> None:
        self._callback, self.read_ns, self.follow = _pauses(ident)

    def start(self) -> None:
        """Register with the collector."""
        gc.callbacks.append(self._callback)

    def stop(self) -> None:
        """Unregister. Idempotent."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)


def _pauses(
    ident: int,
) -> tuple[Callable[[str, dict[str, int]], None], Callable[[], int], Callable[[int], None]]:
    """Return the callback, what reads the pauses so far in ns, and what sets another thread."""
    clock, this_thread = monotonic_ns, get_ident
    began_ns = 0
    pause_ns = 0

    def on_collection(phase: str, _info: dict[str, int]) -> None:
        # Collections do not overlap: a stop belongs to the start before it, on the same thread.
        nonlocal began_ns, pause_ns
        if phase == "start":
            began_ns = clock()
        elif this_thread() == ident and began_ns:
            pause_ns += clock() - began_ns

    def read_ns() -> int:
        return pause_ns

    def follow(other: int) -> None:
        nonlocal ident
        ident = other

    return on_collection, read_ns, follow
