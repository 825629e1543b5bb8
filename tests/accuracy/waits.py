"""Waits in the kernel: sleeping, files, databases."""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.accuracy.label import Scene, seconds, stall
from tests.accuracy.scenes import after, folder

wait = partial(stall, causes=("blocking_call",), light=True)
nap = time.sleep


@wait(calls=("time.sleep",), waits=("sleep",))
def sleep(pause_s: float) -> None:
    """`time.sleep`."""
    time.sleep(pause_s)


for _pause_s in (0.11, 0.25, 1.0, 2.0, 5.0):
    wait(
        name=f"sleep_{_pause_s:g}_s",
        asked_s=_pause_s,
        how=f"`time.sleep` for {_pause_s:g} s",
        calls=("time.sleep",),
        waits=("sleep",),
    )(sleep)
wait(
    name="sleep_after_install",
    how="`time.sleep` right after loopwatch was installed",
    calls=("time.sleep",),
    waits=("sleep",),
    lead_s=0.0,
)(sleep)
wait(
    name="sleep_in_idle_loop",
    how="`time.sleep` on a loop that did nothing before",
    calls=("time.sleep",),
    waits=("sleep",),
    tick_s=5.0,
)(sleep)


@wait(calls=("time.sleep",), waits=("sleep",))
def sleep_by_alias(pause_s: float) -> None:
    """`nap = time.sleep`, `nap()`."""
    nap(pause_s)


@contextlib.contextmanager
def seconds_of_payments(asked_s: float) -> Iterator[Scene]:
    """Give an object whose method sleeps."""
    yield Scene((Payments(asked_s),))


class Payments:
    """Asks for a payment again and again."""

    def __init__(self, pause_s: float) -> None:
        self.pause_s = pause_s

    @wait(calls=("time.sleep",), waits=("sleep",), setup=seconds_of_payments)
    def pause(self) -> None:
        """`time.sleep` in a method."""
        time.sleep(self.pause_s)


@contextlib.contextmanager
def slow_module(asked_s: float) -> Iterator[Scene]:
    """Give the name of a module that sleeps when it is imported."""
    with folder() as path:
        name = "accuracy_slow_settings"
        Path(path, f"{name}.py").write_text(f"import time\n\ntime.sleep({asked_s})\n")
        sys.path.insert(0, str(path))
        yield Scene((name,))
        sys.path.remove(str(path))


@wait(
    setup=slow_module,
    # In its first 30 seconds an app may import what it likes: see the quiet cases.
    settings=(("warm_up_s", 0.0),),
    culprits=("accuracy_slow_settings.<module>",),
    calls=("time.sleep",),
    waits=("sleep",),
)
def import_slow_module(name: str) -> None:
    """`time.sleep` at the top of a module that is imported."""
    importlib.import_module(name)


class SlowHandler(logging.Handler):
    """Has a slow disk."""

    def emit(self, record: logging.LogRecord) -> None:
        time.sleep(float(record.getMessage()))


@contextlib.contextmanager
def slow_logger(asked_s: float) -> Iterator[Scene]:
    """Give a logger whose handler is slow."""
    logger = logging.getLogger("accuracy")
    logger.addHandler(SlowHandler())
    yield Scene((logger, asked_s))


@wait(
    setup=slow_logger,
    culprits=("waits.SlowHandler.emit",),
    calls=("time.sleep",),
    waits=("sleep",),
)
def log_to_slow_handler(logger: logging.Logger, pause_s: float) -> None:
    """A logging handler of the app that sleeps in `emit`."""
    logger.warning("%s", pause_s)


# Files.


@contextlib.contextmanager
def slow_pipe(asked_s: float) -> Iterator[Scene]:
    """Give the reading end of a pipe."""
    near, far = os.pipe()
    yield Scene((near,), lambda: after(asked_s, os.write, far, b"x"))
    os.close(near)
    os.close(far)


@wait(setup=slow_pipe, calls=("os.read",), waits=("pipe", "file"))
def read_pipe(fd: int) -> None:
    """`os.read` on a pipe."""
    os.read(fd, 1)


@contextlib.contextmanager
def fifo_to_open(asked_s: float) -> Iterator[Scene]:
    """Give a FIFO that somebody opens late for writing."""
    with folder() as path:
        fifo = Path(path, "fifo")
        os.mkfifo(fifo)
        yield Scene((fifo,), lambda: after(asked_s, lambda: os.close(os.open(fifo, os.O_WRONLY))))


@wait(setup=fifo_to_open, calls=("open", "builtins.open", "io.open"), waits=("file", "pipe"))
def open_fifo(fifo: Path) -> None:
    """`open()` of a FIFO nobody writes to yet."""
    open(fifo).close()  # noqa: PTH123 - the call is the point


@contextlib.contextmanager
def fifo_to_read(asked_s: float) -> Iterator[Scene]:
    """Give a FIFO whose writer is open and says nothing yet."""
    with folder() as path:
        fifo = Path(path, "fifo")
        os.mkfifo(fifo)
        writer = os.open(fifo, os.O_RDWR)
        yield Scene((fifo,), lambda: after(asked_s, os.close, writer))


@wait(setup=fifo_to_read, calls=("io.TextIOWrapper.read", "open().read"), waits=("pipe", "file"))
def read_fifo(fifo: Path) -> None:
    """`open().read()` of a FIFO."""
    open(fifo).read()  # noqa: PTH123, SIM115 - the call is the point


@contextlib.contextmanager
def locked_file(asked_s: float) -> Iterator[Scene]:
    """Give a file that somebody else has locked."""
    with folder() as path, Path(path, "lock").open("w") as theirs, Path(theirs.name).open() as ours:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        yield Scene((ours.fileno(),), lambda: after(asked_s, fcntl.flock, theirs, fcntl.LOCK_UN))


@wait(setup=locked_file, calls=("fcntl.flock",), waits=("lock", "file"))
def lock_file(fd: int) -> None:
    """`fcntl.flock` of a file that is locked."""
    fcntl.flock(fd, fcntl.LOCK_EX)


@contextlib.contextmanager
def locked_database(asked_s: float) -> Iterator[Scene]:
    """Give a database that somebody else writes to."""
    with folder() as path:
        file = Path(path, "orders.db")
        theirs = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        ours = sqlite3.connect(file, timeout=10, isolation_level=None)
        with contextlib.closing(theirs), contextlib.closing(ours):
            theirs.execute("CREATE TABLE orders (id)")
            theirs.execute("BEGIN EXCLUSIVE")
            yield Scene((Orders(ours),), lambda: after(asked_s, theirs.execute, "COMMIT"))


class Orders:
    """A table of a database."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self.conn = conn

    @wait(
        setup=locked_database,
        calls=("sqlite3.Connection.execute",),
        waits=("sleep", "lock"),
    )
    def insert(self) -> None:
        """sqlite3: another connection holds the lock (it sleeps in between)."""
        self.conn.execute("INSERT INTO orders VALUES (1)")


# Near the threshold.


for _name, _range_s in (("just_over", (0.105, 0.12)), ("just_under", (0.08, 0.095))):
    wait(
        name=f"sleep_{_name}",
        how=f"`time.sleep` {_name.replace('_', ' ')} the threshold",
        asked_s=_range_s,
        setup=seconds,
        calls=("time.sleep",),
        waits=("sleep",),
    )(sleep)
wait(
    name="endless_sleep",
    how="`time.sleep` that does not end; the process is killed after 1.5 s",
    asked_s=60.0,
    endless=True,
    calls=("time.sleep",),
    waits=("sleep",),
)(sleep)
