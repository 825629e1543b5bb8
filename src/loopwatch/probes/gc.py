"""How long the garbage collector held the loop thread."""

from __future__ import annotations

import gc
from threading import get_ident
from typing import Any

from loopwatch.clock import monotonic_ns

__all__ = ["GcProbe"]


class GcProbe:
    """Adds up the pauses of collections that ran on the thread `ident`.

    The callback runs inside the collector: no lock, no allocation that could start another
    collection, two plain stores.
    """

    def __init__(self, ident: int) -> None:
        self._ident = ident
        self._began_ns = 0
        self.pause_ns = 0

    def start(self) -> None:
        """Register with the collector."""
        gc.callbacks.append(self._callback)

    def stop(self) -> None:
        """Unregister. Idempotent."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def _callback(self, phase: str, _info: dict[str, Any]) -> None:
        if get_ident() != self._ident:
            return
        if phase == "start":
            self._began_ns = monotonic_ns()
        elif self._began_ns:
            self.pause_ns += monotonic_ns() - self._began_ns
            self._began_ns = 0
