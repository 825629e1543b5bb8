"""The kinds of stall: one row each in `TRIALS`, and the functions that make them.

These functions stand in for the host's code: the child's agent takes this module for it.
"""

from __future__ import annotations

import gc
import hashlib
import math
import re
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Self

from loopwatch.doctor.checks import NATIVE, PROC_MEM, SCHEDSTAT, STACKS, SYSCALL, THREAD_CPU
from loopwatch.model import Cause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["HEALTHY_S", "HOG", "STALL_S", "TRIALS", "Sizes", "Trial", "Way"]

# Well over the default threshold, so that a stall is also told while it lasts.
STALL_S: Final = 0.25
HEALTHY_S: Final = 1.0
HOG: Final = "doctor-hog"
# What calculations aim at: a machine may be twice as fast a moment later.
_WORK_S: Final = 0.3
_CALLBACK_S: Final = 0.001
_CALLBACKS: Final = round(STALL_S / _CALLBACK_S)
_OBJECTS: Final = 200_000
# From a beat that was due, which is when such a stall begins for loopwatch, to a tick of the trial.
_BETWEEN_BEATS_S: Final = 0.08


class Way(StrEnum):
    """How a stall comes about."""

    CALL = "call"  # a function that is called on the loop
    BURST = "burst"  # many callbacks at once
    THREAD = "thread"  # a thread beside the loop
    PAUSE = "pause"  # the process is stopped from outside
    NONE = "none"  # it does not


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work each calculation gets, so that it takes about `_WORK_S` here."""

    blanks: int
    rounds: int

    @classmethod
    def measure(cls) -> Self:
        """Try the calculations out; takes a fraction of a second."""
        return cls(
            blanks=_size(lambda blanks: backtrack(comment(blanks)), 2), rounds=_size(hash_password)
        )


def _size(work: Callable[[int], object], power: int = 1) -> int:
    """Return the size at which `work` takes about `_WORK_S`; its time grows with size**power."""
    size = 1000
    while True:
        # CPU time: the load of other processes must not make the work look longer than it is.
        began_s = time.thread_time()
        work(size)
        took_s = time.thread_time() - began_s
        if took_s >= _WORK_S / 6:
            return math.ceil(size * math.pow(_WORK_S / took_s, 1 / power))
        size *= 2


def sleep() -> None:
    """Sleep."""
    time.sleep(STALL_S)


def wait_for_socket() -> None:
    """Wait for an answer that does not come."""
    near, far = socket.socketpair()
    with near, far:
        near.settimeout(STALL_S)
        try:
            near.recv(1)
        except TimeoutError:
            pass


def wait_for_lock() -> None:
    """Wait for a lock nobody releases."""
    lock = threading.Lock()
    with lock:
        lock.acquire(timeout=STALL_S)


def run_process() -> None:
    """Run another program and wait for it."""
    script = f"import time; time.sleep({STALL_S})"
    subprocess.run([sys.executable, "-I", "-S", "-c", script], check=False)  # noqa: S603 - our own


def calculate() -> int:
    """Calculate in Python."""
    total = 0
    until_s = time.monotonic() + STALL_S
    while time.monotonic() < until_s:
        for number in range(10_000):
            total += number * number % 97
    return total


def comment(blanks: int) -> str:
    """Return a comment whose white space is not at the end."""
    return " " * blanks + "!"


def backtrack(text: str) -> None:
    r"""Cut off white space at the end, with a pattern that takes n² steps over a run of n.

    `re` keeps the GIL for all of it.
    """
    re.sub(r"\s+$", "", text)


def hash_password(rounds: int) -> None:
    """Hash without the GIL."""
    hashlib.pbkdf2_hmac("sha256", b"doctor", b"salt", rounds)


def collect_garbage() -> None:
    """Have the collector go over a heap, again and again: a huge heap would take the memory."""
    kept: list[Any] = [[] for _ in range(_OBJECTS)]
    until_s = time.monotonic() + STALL_S
    while time.monotonic() < until_s:
        gc.collect()
    kept.clear()


def answer() -> None:
    """Be a short callback."""
    until_s = time.monotonic() + _CALLBACK_S
    while time.monotonic() < until_s:
        pass


def nothing() -> None:
    """Do nothing: the stall comes from outside, or not at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One row: how a stall is made, and what a true record says about it.

    `needs` are parts this depends on (names of checks), each with the causes that are accepted
    where that part is missing; culprit, call and wait need not be known there. `calls` are the
    right names of the call, of which none is needed if it is empty. `blamed` says that `block` must
    be the culprit, `meanwhile` that it has to be told while it lasts.
    """

    name: str
    how: str
    block: Callable[..., object] = nothing
    args: Callable[[Sizes], tuple[Any, ...]] = lambda _sizes: ()
    way: Way = Way.CALL
    times: int = 1
    cause: Cause | None = None
    calls: tuple[str, ...] = ()
    wait: str | None = None
    other_thread: str | None = None
    blamed: bool = True
    meanwhile: bool = True
    within_s: float = 0.04
    needs: Mapping[str, tuple[Cause, ...]] = field(default_factory=dict)


# Where a part is missing, the honest answer is mostly that nobody knows.
_UNKNOWN: Final = (Cause.UNKNOWN,)
_MAYBE_CPU: Final = (Cause.CPU, Cause.UNKNOWN)
_WAITS: Final = {SYSCALL: _UNKNOWN, STACKS: _UNKNOWN}
_TIMED_WAITS: Final = {**_WAITS, PROC_MEM: _UNKNOWN}
_COMPUTES: Final = {STACKS: _UNKNOWN, THREAD_CPU: _UNKNOWN}

TRIALS: Final[tuple[Trial, ...]] = (
    # First, so that loopwatch has seen the loop at work by the time of the next.
    Trial(name="healthy second", how="10 ms timers and nothing else", way=Way.NONE, blamed=False),
    Trial(
        name="process stopped",
        how="SIGSTOP, then SIGCONT",
        way=Way.PAUSE,
        cause=Cause.PROCESS_PAUSED,
        blamed=False,
        meanwhile=False,
        within_s=_BETWEEN_BEATS_S,
    ),
    Trial(
        name="sleep",
        how="time.sleep",
        block=sleep,
        cause=Cause.BLOCKING_CALL,
        calls=("time.sleep",),
        wait="sleep",
        needs=_WAITS,
    ),
    Trial(
        name="socket",
        how="recv on a socket that stays silent",
        block=wait_for_socket,
        cause=Cause.BLOCKING_CALL,
        calls=("socket.socket.recv", "_socket.socket.recv"),
        wait="socket",
        needs=_TIMED_WAITS,
    ),
    Trial(
        name="lock",
        how="a lock that somebody else holds",
        block=wait_for_lock,
        cause=Cause.BLOCKING_CALL,
        calls=("threading.Lock.acquire", "_thread.lock.acquire"),
        wait="lock",
        needs=_TIMED_WAITS,
    ),
    Trial(
        name="subprocess",
        how="subprocess.run",
        block=run_process,
        cause=Cause.BLOCKING_CALL,
        calls=("subprocess.run",),
        wait="process",
        within_s=0.06,
        needs=_TIMED_WAITS,
    ),
    Trial(
        name="Python code",
        how="a loop in Python",
        block=calculate,
        cause=Cause.CPU,
        needs=_COMPUTES,
    ),
    Trial(
        name="C call with the GIL",
        how="re.sub that backtracks",
        block=backtrack,
        args=lambda sizes: (comment(sizes.blanks),),
        cause=Cause.NATIVE_CALL,
        calls=("re.sub",),
        meanwhile=False,
        needs={NATIVE: _MAYBE_CPU, **_COMPUTES},
    ),
    Trial(
        name="C call without the GIL",
        how="hashlib.pbkdf2_hmac",
        block=hash_password,
        args=lambda sizes: (sizes.rounds,),
        cause=Cause.NATIVE_CALL,
        calls=("hashlib.pbkdf2_hmac", "_hashlib.pbkdf2_hmac"),
        needs={SYSCALL: _MAYBE_CPU, **_COMPUTES},
    ),
    Trial(
        name="garbage collection",
        how="gc.collect on a heap of 200,000 objects",
        block=collect_garbage,
        cause=Cause.GC,
        calls=("gc.collect",),
        needs={STACKS: _UNKNOWN},
    ),
    Trial(
        name="GIL in another thread",
        how="re.sub on a thread, while the loop waits",
        block=backtrack,
        args=lambda sizes: (comment(sizes.blanks),),
        way=Way.THREAD,
        cause=Cause.GIL_CONTENTION,
        other_thread=HOG,
        blamed=False,
        meanwhile=False,
        within_s=_BETWEEN_BEATS_S,
        needs={STACKS: _UNKNOWN, SCHEDSTAT: _UNKNOWN, THREAD_CPU: _UNKNOWN},
    ),
    Trial(
        name="many callbacks",
        how=f"{_CALLBACKS} callbacks of 1 ms at once",
        block=answer,
        way=Way.BURST,
        times=_CALLBACKS,
        cause=Cause.CONGESTION,
        needs={STACKS: _UNKNOWN},
    ),
)
