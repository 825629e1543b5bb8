"""CPU time of one thread, read from any thread."""

from __future__ import annotations

import time

__all__ = ["ThreadCpu"]


class ThreadCpu:
    """The CPU clock of the thread `ident`, which must be alive when this is made."""

    def __init__(self, ident: int) -> None:
        self._clock: int | None = None
        if hasattr(time, "pthread_getcpuclockid"):  # not on Windows; from macOS it is missing too
            try:
                self._clock = time.pthread_getcpuclockid(ident)
            except OSError:
                self._clock = None
        self._start_ns = self._now_ns() or 0

    def read_ns(self) -> int | None:
        """Return the CPU time since this was made; `None` if unknown or the thread has ended."""
        now_ns = self._now_ns()
        return None if now_ns is None else now_ns - self._start_ns

    def _now_ns(self) -> int | None:
        if self._clock is None:
            return None
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError:
            return None
