"""How long the garbage collector held the loop thread."""

from __future__ import annotations

import gc
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Final

from loopwatch.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GcProbe"]


# Pauses at least this long are remembered one by one; shorter ones make no stall.
_LONG_NS: Final = 100_000
_KEPT: Final = 256


class GcProbe:
    """Adds up the pauses of collections that ran on the thread `ident`.

    `long_pauses` are (start, end) of the latest longer ones, oldest first. The callback runs
    inside the collector: no lock, closure variables, and an allocation only for a long pause.
    """

    def __init__(self, ident: int) -> None:
        self.long_pauses: deque[tuple[int, int]] = deque(maxlen=_KEPT)
        self._callback, self.read_ns, self.follow = _pauses(ident, self.long_pauses.append)

    def start(self) -> None:
        """Register with the collector."""
        gc.callbacks.append(self._callback)

    def stop(self) -> None:
        """Unregister. Idempotent."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)


def _pauses(
    ident: int, keep: Callable[[tuple[int, int]], None]
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
            ended_ns = clock()
            pause_ns += ended_ns - began_ns
            if ended_ns - began_ns >= _LONG_NS:
                keep((began_ns, ended_ns))

    def read_ns() -> int:
        return pause_ns

    def follow(other: int) -> None:
        nonlocal ident
        ident = other

    return on_collection, read_ns, follow
