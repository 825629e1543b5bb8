"""The watchdog's alarm: a sleep that somebody else can put off without waking the sleeper.

A thread that wakes up on a saturated loop waits for the GIL, and every release of the GIL meanwhile
wakes it in vain: milliseconds of the host's CPU for each look (decision 0009). With a timerfd the
loop itself moves the deadline while it is well, a system call of about a microsecond, and the
watchdog sleeps on in the kernel.

Linux `timerfd` through ctypes (`os.timerfd_create` is 3.13+), checked on CPython 3.11 to 3.15.
Elsewhere the alarm is a lock with a timeout: it cannot be put off, and the watchdog polls.
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import TYPE_CHECKING, Final

from loopwatch.clock import NS_PER_S, monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Alarm"]

_CLOCK_MONOTONIC: Final = 1
_TIMER_ABSTIME: Final = 1


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Alarm:
    """One sleeper. `sleep_until` is the sleeper's; the rest may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._fd = -1
        try:
            libc = ctypes.PyDLL(None)
            self._set = libc.timerfd_settime
            self._fd = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_CLOEXEC)
        except (AttributeError, OSError, TypeError):
            pass  # not Linux
        # A buffer each: the sleeper and the loop may set the time at the same moment.
        self._own = _TimerSpec()
        self._others = _TimerSpec()
        # What the alarm was set to last: waking up later than this means waiting for the GIL.
        self.at_ns = monotonic_ns()
        self._woken = False
        # Told whenever the alarm is set: for how long from now, and whether the loop put it off.
        # What it does must take microseconds.
        self.on_set: Callable[[int, bool], None] | None = None
        # When the sleeper should have woken up, and when the loop, there first, put it off again.
        self.missed: tuple[int, int] | None = None

    @property
    def can_be_put_off(self) -> bool:
        """Whether `put_off` works here."""
        return self._fd >= 0

    def sleep_until(self, at_ns: int) -> None:
        """Sleep until that moment of the monotonic clock, until put off, or until `wake`."""
        self.at_ns = at_ns
        on_set = self.on_set
        if on_set is not None:
            on_set(at_ns - monotonic_ns(), False)
        if self._fd < 0:
            timeout_s = max(0, at_ns - monotonic_ns()) / NS_PER_S
            self._lock.acquire(timeout=timeout_s)
            return
        self._arm(self._own, at_ns)
        if self._woken:
            self._arm(self._own, 1)
        os.read(self._fd, 8)
        self._woken = False

    def put_off(self, now_ns: int, at_ns: int) -> None:
        """Let the sleeper sleep until that moment instead. Never waits."""
        if self._fd < 0:
            return
        if now_ns > self.at_ns:
            self.missed = (self.at_ns, now_ns)
        self.at_ns = at_ns
        self._arm(self._others, at_ns)
        if self._woken:
            self._arm(self._others, 1)
        on_set = self.on_set
        if on_set is not None:
            on_set(at_ns - now_ns, True)

    def wake(self) -> None:
        """Wake the sleeper, or cut its next sleep short. Never waits."""
        self.at_ns = monotonic_ns()
        if self._fd >= 0:
            self._woken = True  # whoever sets the time in this moment must not undo it
            self._arm(_TimerSpec(), 1)
            return
        try:
            self._lock.release()
        except RuntimeError:
            pass  # already woken and not asleep again yet

    def close(self) -> None:
        """Give the file descriptor back; by the sleeper, or by a forked child."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _arm(self, spec: _TimerSpec, at_ns: int) -> None:
        spec.value_s, spec.value_ns = divmod(at_ns, NS_PER_S)
        self._set(self._fd, _TIMER_ABSTIME, ctypes.byref(spec), None)
