"""What is not the loop's doing: other threads hold the GIL, the CPU is gone, the process stops.

No line of the loop is to blame here, so culprit, call and task are not judged, only the cause.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.accuracy import ways
from tests.accuracy.label import NOT_PRODUCED, NotHereError, Scene, Setup, stall
from tests.accuracy.native import comment
from tests.accuracy.scenes import sized

blameless = partial(stall, culprits=None, calls=None, tasks=None)
hogged = partial(blameless, causes=("gil_contention",), other_thread="hog")
paused = partial(blameless, causes=("process_paused",))
starved = partial(blameless, causes=("cpu_starved",))

# Short of the threshold: without what comes from outside it is no stall.
_OWN_WORK_S: Final = 0.06
_STARVED_S: Final = 0.35
_PRODUCED_S: Final = 0.15
_HOGS: Final = 60


def work(work_s: float) -> None:
    """Use the CPU for so long, as this thread's own clock tells."""
    until_s = time.thread_time() + work_s
    while time.thread_time() < until_s:
        pass


# Threads that hold the GIL.


def backtrack(text: str) -> None:
    """A thread in `re.sub`, while the loop waits."""
    re.sub(r"\s+$", "", text)


hogged(name="backtrack", way=ways.beside, truth="tick", setup=sized(comment, backtrack, 2))(
    backtrack
)


hogged(
    name="hog_that_ends",
    how="a thread in `re.sub` that ends right after it, while the loop waits",
    way=partial(ways.beside, lives_on_s=0.0),
    truth="tick",
    setup=sized(comment, backtrack, 2),
)(backtrack)


def spin(work_s: float) -> None:
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        pass


@contextlib.contextmanager
def long_turns(asked_s: float) -> Iterator[Scene]:
    """Have an interpreter that lets threads keep the GIL for long."""
    before_s = sys.getswitchinterval()
    yield Scene((asked_s,), lambda: sys.setswitchinterval(1.0))
    sys.setswitchinterval(before_s)


hogged(
    name="hog_with_long_turns",
    how="a thread in a loop in Python, with a switch interval of 1 s",
    way=ways.beside,
    truth="tick",
    setup=long_turns,
)(spin)


def many_hogs(work_s: float) -> None:
    """Run a crowd of threads that all want the GIL."""
    go = threading.Event()

    def run() -> None:
        go.wait()
        spin(work_s)
        time.sleep(0.3)

    hogs = [threading.Thread(target=run, name="hog") for _ in range(_HOGS)]
    for hog in hogs:
        hog.start()
    go.set()
    for hog in hogs:
        hog.join()


hogged(
    name="many_hogs",
    how=f"{_HOGS} threads in loops in Python",
    asked_s=0.8,
    way=ways.beside,
    truth="tick",
    several=True,
    honest_unknown=True,
)(many_hogs)


@contextlib.contextmanager
def hog_that_waits(asked_s: float) -> Iterator[Scene]:
    """Have a thread that takes the GIL as soon as the loop's thread lets it go."""
    go = threading.Event()
    with sized(comment, backtrack, 2)(asked_s) as (args, _):

        def hog() -> None:
            go.wait()
            backtrack(*args)
            time.sleep(0.3)

        thread = threading.Thread(target=hog, name="hog")
        thread.start()
        yield Scene((), go.set)
        thread.join()


@hogged(setup=hog_that_waits, honest_unknown=True)
def write_lines() -> None:
    """A thread in `re.sub`, while a handler makes system calls."""
    with Path(os.devnull).open("wb", buffering=0) as file:
        work_until_s = time.thread_time() + _OWN_WORK_S / 2
        while time.thread_time() < work_until_s:
            file.write(b"x")


# A process that stands still.


def _stops(pause_s: float) -> subprocess.Popen[bytes]:
    script = 'read go || exit; kill -STOP "$0"; sleep "$1"; kill -CONT "$0"'
    return subprocess.Popen(
        ["sh", "-c", script, str(os.getpid()), str(pause_s)], stdin=subprocess.PIPE
    )


def _stopped(*args: Any) -> Setup:
    @contextlib.contextmanager
    def setup(asked_s: float) -> Iterator[Scene]:
        with _stops(asked_s) as stopper:
            assert stopper.stdin is not None
            stdin = stopper.stdin
            yield Scene(args, lambda: (stdin.write(b"\n"), stdin.flush()))

    return setup


paused(
    name="stopped_while_idle",
    how="SIGSTOP, and SIGCONT after 0.4 s, while the loop waits",
    asked_s=0.4,
    way=ways.from_outside,
    truth="tick",
    setup=_stopped(),
    light=True,
)(work)
paused(
    name="stopped_at_work",
    how="SIGSTOP, and SIGCONT after 0.4 s, in the middle of 60 ms of work",
    asked_s=0.4,
    setup=_stopped(_OWN_WORK_S),
)(work)


# A CPU that others have.


@contextlib.contextmanager
def neighbours(count: int, asked_s: float, *, realtime: bool = False) -> Iterator[Any]:
    """Fork processes that spin on this process's only core for so long when they are told to."""
    core = {min(os.sched_getaffinity(0))}
    near, far = os.pipe()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            try:
                os.close(far)
                os.sched_setaffinity(0, core)
                if realtime:
                    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
                if os.read(near, 1):
                    spin(asked_s)
            finally:
                os._exit(0)
        pids.append(pid)
    os.close(near)
    # As `taskset` does: threads that are started later inherit it.
    os.sched_setaffinity(0, core)
    try:
        yield lambda: os.write(far, b"x" * count)
    finally:
        os.close(far)
        for pid in pids:
            os.waitpid(pid, 0)


def _neighbours(count: int, *, realtime: bool = False, idle: bool = False) -> Setup:
    @contextlib.contextmanager
    def setup(asked_s: float) -> Iterator[Scene]:
        with neighbours(count, asked_s, realtime=realtime) as begin:
            if idle:
                os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            yield Scene((begin, _OWN_WORK_S))

    return setup


@contextlib.contextmanager
def _realtime_neighbour(asked_s: float) -> Iterator[Scene]:
    with neighbours(1, asked_s, realtime=True) as begin:
        yield Scene((), begin)


def work_and_be_starved(begin: Callable[[], object], work_s: float) -> None:
    """Work, and look whether that took longer than it should."""
    began_s = time.monotonic()
    # The others may take over before this returns.
    begin()
    work(work_s)
    if time.monotonic() - began_s < work_s + _PRODUCED_S:
        raise NotHereError(f"{NOT_PRODUCED}: the CPU was there all the time")


starved(
    name="busy_neighbours",
    how="60 ms of work beside 8 busy processes on the same core",
    asked_s=0.8,
    setup=_neighbours(8),
)(work_and_be_starved)
starved(
    name="realtime_neighbour",
    how="60 ms of work beside a real-time process on the same core",
    asked_s=_STARVED_S,
    setup=_neighbours(1, realtime=True),
    needs=("root",),
)(work_and_be_starved)
starved(
    name="realtime_neighbour_while_idle",
    how="a loop that waits beside a real-time process on the same core",
    asked_s=_STARVED_S,
    way=ways.from_outside,
    truth="tick",
    setup=_realtime_neighbour,
    needs=("root",),
)(work)
starved(
    name="least_important",
    how="60 ms of work as SCHED_IDLE beside a busy process on the same core",
    asked_s=_STARVED_S,
    setup=_neighbours(1, idle=True),
)(work_and_be_starved)

_CGROUP: Final = Path("/sys/fs/cgroup/cpu")
_PERIOD_US, _QUOTA_US = 400_000, 20_000


@contextlib.contextmanager
def small_quota(asked_s: float) -> Iterator[Scene]:
    """Have a cgroup that gets 20 ms of CPU every 400 ms, and join it when the helper begins."""
    lines = Path("/proc/self/cgroup").read_text(encoding="ascii").splitlines()
    ours = [line.split(":", 2)[2] for line in lines if "cpu" in line.split(":", 2)[1].split(",")]
    if not ours or not os.access(_CGROUP, os.W_OK):
        raise NotHereError("no writable cgroup v1 hierarchy for cpu")
    home = _CGROUP / ours[0].lstrip("/")
    group = home / f"loopwatch-accuracy-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpu.cfs_period_us").write_text(str(_PERIOD_US))
        (group / "cpu.cfs_quota_us").write_text(str(_QUOTA_US))
        procs, pid = group / "cgroup.procs", str(os.getpid())
        yield Scene((lambda: procs.write_text(pid), _OWN_WORK_S))
    finally:
        (home / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


starved(
    name="throttled_by_cgroup",
    how="60 ms of work in a cgroup that gets 20 ms of CPU every 400 ms",
    asked_s=_STARVED_S,
    setup=small_quota,
    needs=("root",),
)(work_and_be_starved)
