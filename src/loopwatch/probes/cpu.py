"""CPU time of one thread, read from any thread."""

from __future__ import annotations

import time

__all__ = ["ThreadCpu"]


class ThreadCpu:
    """The CPU time spent on the loop, in the thread `ident` or, later, in others."""

    def __init__(self, ident: int) -> None:
        self._clock: int | None = None
        self._before_ns = 0
        self._start_ns = 0
        self._last_ns = 0
        self.follow(ident)

    def follow(self, ident: int) -> None:
        """Read the clock of the thread `ident` from now on; it must be alive."""
        self.ident = ident
        self._before_ns += self._last_ns - self._start_ns
        self._clock = None
        if hasattr(time, "pthread_getcpuclockid"):  # missing on Windows and macOS
            try:
                self._clock = time.pthread_getcpuclockid(ident)
            except OSError:
                self._clock = None
        self._start_ns = self._last_ns = self._now_ns() or 0

    def read_ns(self) -> int | None:
        """Return the CPU time since this was made; `None` if unknown or the thread has ended."""
        now_ns = self._now_ns()
        if now_ns is None:
            return None
        self._last_ns = now_ns
        return self._before_ns + now_ns - self._start_ns

    def since_start_ns(self, thread_time_ns: int) -> int:
        """Return what `read_ns` would have said when the thread's own clock stood there."""
        return self._before_ns + thread_time_ns - self._start_ns

    def _now_ns(self) -> int | None:
        if self._clock is None:
            return None
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError:
            return None
