"""Waits for other processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from tests.accuracy.label import Scene, stall
from tests.accuracy.scenes import after

wait = partial(stall, causes=("blocking_call",), waits=("process",), light=True)


@wait(calls=("subprocess.run",))
def run_program(pause_s: float) -> None:
    """`subprocess.run`."""
    subprocess.run(["sleep", str(pause_s)], check=True)


@wait(calls=("os.system", "posix.system"))
def run_in_shell(pause_s: float) -> None:
    """`os.system`."""
    os.system(f"sleep {pause_s}")


@contextlib.contextmanager
def program(asked_s: float) -> Iterator[Scene]:
    """Give a program that runs on."""
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE) as process:
        try:
            yield Scene((process,), lambda: after(asked_s, process.terminate))
        finally:
            process.kill()


@wait(setup=program, calls=("subprocess.Popen.communicate",), waits=("process", "pipe"))
def read_from_program(process: subprocess.Popen[bytes]) -> None:
    """`Popen.communicate`."""
    process.communicate()


@wait(setup=program, calls=("subprocess.Popen.wait",))
def wait_for_program(process: subprocess.Popen[bytes]) -> None:
    """`Popen.wait`."""
    process.wait()


@contextlib.contextmanager
def converter(asked_s: float) -> Iterator[Scene]:
    """Give an object that waits for a program."""
    with program(asked_s) as (args, begin):
        yield Scene((Converter(args[0]),), begin)


class Converter:
    """Has another program do the work."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process

    @wait(setup=converter, calls=("subprocess.Popen.wait",), waits=("process", "sleep"))
    def finish(self) -> None:
        """`Popen.wait` with a timeout, which asks again and again."""
        self.process.wait(timeout=10)


@contextlib.contextmanager
def forked(asked_s: float) -> Iterator[Scene]:
    """Give the id of a child process that ends late."""
    near, far = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(far)
            if os.read(near, 1):
                time.sleep(asked_s)
        finally:
            os._exit(0)
    yield Scene((pid,), lambda: os.write(far, b"x"))
    os.close(near)
    os.close(far)


@wait(setup=forked, calls=("os.waitpid", "posix.waitpid"))
def wait_for_pid(pid: int) -> None:
    """`os.waitpid`."""
    os.waitpid(pid, 0)


def sleep_when_told(pipe: Connection, pause_s: float) -> None:
    """Stand for the work of a process of `multiprocessing`."""
    pipe.recv()
    time.sleep(pause_s)
    pipe.send("done")


@contextlib.contextmanager
def worker_process(asked_s: float) -> Iterator[tuple[BaseProcess, Connection]]:
    """Start a process that works for so long when it is told to."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=sleep_when_told, args=(far, asked_s))
    process.start()
    far.close()
    yield process, near
    near.close()
    process.join()


@contextlib.contextmanager
def process_to_join(asked_s: float) -> Iterator[Scene]:
    """Give a process that ends late."""
    with worker_process(asked_s) as (process, pipe):
        yield Scene((process,), lambda: pipe.send("go"))


@contextlib.contextmanager
def process_to_hear(asked_s: float) -> Iterator[Scene]:
    """Give a pipe whose other end is a process that answers late."""
    with worker_process(asked_s) as (_, pipe):
        yield Scene((pipe,), lambda: pipe.send("go"))


@wait(
    setup=process_to_join,
    calls=(
        "multiprocessing.Process.join",
        "multiprocessing.process.BaseProcess.join",
        "multiprocessing.context.SpawnProcess.join",
    ),
)
def join_process(process: BaseProcess) -> None:
    """`multiprocessing.Process.join`."""
    process.join()


@wait(
    setup=process_to_hear,
    calls=(
        "multiprocessing.connection.Connection.recv",
        "multiprocessing.connection._ConnectionBase.recv",
    ),
    waits=("process", "socket", "pipe"),
)
def hear_from_process(pipe: Connection) -> None:
    """`recv` from a pipe of `multiprocessing`."""
    pipe.recv()
