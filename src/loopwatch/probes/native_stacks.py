"""The stack of a thread in the middle of a C call that keeps the GIL.

The watchdog cannot run during such a call, so the kernel does its work: a timer, put off whenever
the watchdog or the loop itself gets to it, sends the loop thread a signal, and `faulthandler`'s C
handler writes that thread's own stack into a pipe. No GIL is needed, and the handler takes about
20 µs.

The timer runs on the CPU clock of the loop thread, not on the wall clock: it can only fire while
that thread computes. A thread that sleeps in a system call never gets the signal, so none of the
host's system calls can fail with EINTR because of us (decision 0010).

Linux `timer_create` with SIGEV_THREAD_ID through ctypes and `faulthandler.register`, checked on
CPython 3.11 to 3.15. Elsewhere `NativeSampler` raises `NativeSamplerError` and nothing is sampled.
"""

from __future__ import annotations

import ctypes
import faulthandler
import os
import re
import signal
import sys
import threading
from typing import Any, Final, NamedTuple

from loopwatch.clock import NS_PER_S
from loopwatch.probes.cpu import thread_clock

__all__ = [
    "NativeFrame",
    "NativeSampler",
    "NativeSamplerError",
    "Shot",
    "parse_dumps",
    "why_not",
]

# The timer fires this much CPU time after the watchdog should have run; it needs 5 ms for the GIL.
_GRACE_NS: Final = 8_000_000
_LONGEST_GRACE_NS: Final = 3_200_000_000
# And again at this interval, until somebody puts it off.
_INTERVAL_NS: Final = 20_000_000
# What a pipe holds; a dump of a deep stack is 10 kB. What does not fit is not written.
_PIPE_BYTES: Final = 65_536
_SIGEV_THREAD_ID: Final = 4
_SIG_DFL: Final = 0
_SIG_IGN: Final = 1
# faulthandler ends its list with "..." after so many frames.
_DEEPEST: Final = 100
_HEAD: Final = re.compile(r"(Stack|Thread 0x|Current thread).* \(most recent call first\):$")
_FRAME: Final = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d+) in (?P<name>.*)')


class NativeSamplerError(Exception):
    """Native stacks cannot be had here; the message says why. Never reaches the host."""


class NativeFrame(NamedTuple):
    """One line of faulthandler's: file, line, and the name of the function without its module."""

    file: str
    line: int
    name: str


class Shot(NamedTuple):
    """One stack, innermost first: `cpu_ns` is CPU time of the thread since the timer was armed.

    `whole` says that no outer frames were cut off.
    """

    cpu_ns: int
    frames: tuple[NativeFrame, ...]
    whole: bool


def why_not(*, accept_risk: bool = False) -> str | None:
    """Return why no stack may be asked for in the middle of a C call here; `None` if it may.

    Before 3.13.1 `faulthandler` can crash when it interrupts Python code that makes or ends frames;
    3.13.0 does so for certain while locals are freed (cpython #123967; decision 0017).
    """
    version = sys.version_info[:3]
    if version == (3, 13, 0):
        return "faulthandler crashes on CPython 3.13.0 (gh-123967): update to 3.13.1 or later"
    if version < (3, 13, 1) and not accept_risk:
        return (
            "faulthandler may crash the process before CPython 3.13.1: update, or accept that with "
            "native_sampler='on'"
        )
    return None


class _SigEvent(ctypes.Structure):
    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("thread_id", ctypes.c_int),
        ("padding", ctypes.c_char * 44),
    )


class _TimerSpec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class NativeSampler:
    """Samples one thread. `arm` may be called from any thread, the rest from the watchdog's."""

    def __init__(
        self, native_id: int, *, grace_ns: int = _GRACE_NS, interval_ns: int = _INTERVAL_NS
    ) -> None:
        """Sample the thread `native_id`; other times than the usual are for trials."""
        self._grace_ns = grace_ns
        self._interval_ns = interval_ns
        if sys.platform != "linux":
            raise NativeSamplerError("needs Linux timers")
        # PyDLL keeps the GIL: the calls take a microsecond.
        self._libc = ctypes.PyDLL(None, use_errno=True)
        for name in ("timer_create", "timer_settime", "timer_delete", "signal", "sigaction"):
            if not hasattr(self._libc, name):
                raise NativeSamplerError(f"the C library has no {name}")
        self._libc.signal.restype = ctypes.c_void_p
        self._libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
        self._settime = self._libc.timer_settime
        self._lock = threading.Lock()
        self._timer: ctypes.c_void_p | None = None
        self._read_fd = self._write_fd = -1
        self.signum = self._free_signal()
        self._specs = {True: self._spec(), False: self._spec()}
        # The CPU time it was armed with last: shots are counted from there.
        self.after_ns = 0
        try:
            self._open()
            self.follow(native_id)
        except BaseException:
            self.stop()
            raise

    def follow(self, native_id: int) -> None:
        """Sample the thread `native_id` from now on."""
        with self._lock:
            self._delete()
            event = _SigEvent(None, self.signum, _SIGEV_THREAD_ID, native_id)
            timer = ctypes.c_void_p()
            clock = thread_clock(native_id)
            if clock is None:
                raise NativeSamplerError("threads have no CPU clock")
            if self._libc.timer_create(
                ctypes.c_int(clock), ctypes.byref(event), ctypes.byref(timer)
            ):
                raise NativeSamplerError(f"timer_create: {os.strerror(ctypes.get_errno())}")
            self._timer = timer

    def arm(self, after_ns: int, on_loop: bool = False) -> None:
        """Fire once the thread has used that much CPU time from now on, and some grace.

        `on_loop` says who calls: the loop and the watchdog each have a buffer of their own.
        """
        self.after_ns = after_ns = max(after_ns, 0) + self._grace_ns
        spec = self._specs[on_loop]
        spec.value_s, spec.value_ns = divmod(after_ns, NS_PER_S)
        reference = ctypes.byref(spec)
        # Last of all, as `stop` may be deleting it.
        timer = self._timer
        if timer is not None:
            self._settime(timer, 0, reference, None)

    def back_off(self) -> None:
        """Wait twice as long from now on: a shot met a thread that had not kept the GIL."""
        self._grace_ns = min(_LONGEST_GRACE_NS, 2 * self._grace_ns)

    def collect(self) -> list[Shot]:
        """Return the shots since the last call, oldest first."""
        text = self._drain()
        if not text:
            return []
        # Those who armed it meanwhile did so after the last shot: any earlier time is as good.
        return [
            Shot(self.after_ns + number * self._interval_ns, frames, whole)
            for number, (frames, whole) in enumerate(parse_dumps(text))
        ]

    def stop(self) -> None:
        """Delete the timer and put the signal back. Idempotent, any thread."""
        with self._lock:
            self._delete()
            if self._write_fd < 0:
                return
            self._restore()
            self._close()

    def forget(self) -> None:
        """Let go in a forked child: it has inherited the pipe and the handler, but no timer."""
        self._timer = None
        if self._write_fd >= 0:
            self._restore()
            self._close()

    def _restore(self) -> None:
        action = self._action()
        if action is None or action[0] != self._handler:
            # The host has taken the signal meanwhile: faulthandler forgets it, the host keeps it.
            faulthandler.unregister(self.signum)
            if action is not None:
                self._libc.sigaction(self.signum, ctypes.byref(action), None)
            return
        # A signal on its way would end the process once its action is the default again.
        # Linux throws pending signals away when they become ignored.
        self._libc.signal(self.signum, _SIG_IGN)
        faulthandler.unregister(self.signum)
        self._libc.signal(self.signum, _SIG_DFL)

    def _action(self) -> Any:
        """Return what is done about our signal: an array whose first field is the handler."""
        action = (ctypes.c_void_p * 32)()
        failed = self._libc.sigaction(self.signum, None, ctypes.byref(action))
        return None if failed else action

    def _open(self) -> None:
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            faulthandler.register(self.signum, file=self._write_fd, all_threads=False, chain=False)
        except (AttributeError, OSError, RuntimeError, ValueError) as error:
            os.close(self._read_fd)
            os.close(self._write_fd)
            self._read_fd = self._write_fd = -1
            raise NativeSamplerError(f"faulthandler.register: {error}") from None
        action = self._action()
        self._handler = action[0] if action is not None else None

    def _close(self) -> None:
        fds = (self._read_fd, self._write_fd)
        self._read_fd = self._write_fd = -1
        for fd in fds:
            os.close(fd)

    def _delete(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self._libc.timer_delete(timer)

    def _drain(self) -> bytes:
        parts = []
        with self._lock:
            while self._read_fd >= 0:
                try:
                    part = os.read(self._read_fd, _PIPE_BYTES)
                except BlockingIOError:
                    break
                parts.append(part)
        return b"".join(parts)

    def _free_signal(self) -> int:
        """Return a real-time signal nobody handles: the host keeps what it uses."""
        action = (ctypes.c_void_p * 32)()
        # From the top: programs that count theirs from SIGRTMIN do not meet us.
        for signum in range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1):
            known: Any = self._libc.sigaction(signum, None, ctypes.byref(action))
            if known == 0 and not action[0]:
                return signum
        raise NativeSamplerError("every real-time signal is taken")

    def _spec(self) -> _TimerSpec:
        return _TimerSpec(*divmod(self._interval_ns, NS_PER_S), 0, 0)


def parse_dumps(text: bytes) -> list[tuple[tuple[NativeFrame, ...], bool]]:
    """Return the stacks in faulthandler's text, and whether each is whole.

    A dump that was cut off, because the pipe was full, loses its last line.
    """
    stacks: list[list[NativeFrame]] = []
    cut = set()
    lines = text.decode("ascii", "backslashreplace").split("\n")
    in_python = False
    for line in lines[:-1]:  # what follows the last newline is empty, or half a line
        head = _HEAD.search(line)
        match = _FRAME.fullmatch(line)
        if in_python and (head.start() if head else line and not match):
            cut.add(len(stacks) - 1)  # "...", or pieces of lines: what a full pipe had room for
        if head is not None:
            in_python = "C stack" not in line
            if in_python:
                stacks.append([])
        elif match is not None and in_python:
            stacks[-1].append(NativeFrame(match["file"], int(match["line"]), match["name"]))
    if lines[-1] and in_python:
        cut.add(len(stacks) - 1)
    return [
        (tuple(frames), number not in cut and len(frames) < _DEEPEST)
        for number, frames in enumerate(stacks)
        if frames
    ]
