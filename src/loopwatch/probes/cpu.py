"""CPU time of one thread, read from any thread.

The clock is the kernel's own of a thread id (Linux: `MAKE_THREAD_CPUCLOCK`), not the one of
`time.pthread_getcpuclockid`: the C library would crash on a thread that has ended, the kernel just
says so. On other systems CPU time is not known.
"""

from __future__ import annotations

import sys
import time
from typing import Final

__all__ = ["ThreadCpu", "thread_clock"]

_CPUCLOCK_PERTHREAD_SCHED: Final = 6


def thread_clock(native_id: int) -> int | None:
    """Return the clock id of a thread's CPU time; `None` where there is no such clock."""
    if sys.platform != "linux":
        return None
    return (~native_id << 3) | _CPUCLOCK_PERTHREAD_SCHED


class ThreadCpu:
    """The CPU time spent on the loop, in the thread `native_id` or, later, in others."""

    def __init__(self, native_id: int) -> None:
        self._clock: int | None = None
        self._before_ns = 0
        self._start_ns = 0
        self._last_ns = 0
        self.follow(native_id)

    def follow(self, native_id: int) -> None:
        """Read the clock of another thread from now on."""
        self.native_id = native_id
        self._before_ns += self._last_ns - self._start_ns
        self._clock = thread_clock(native_id)
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
