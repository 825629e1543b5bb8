"""Waits for other threads."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

from tests.accuracy.label import Scene, Setup, stall
from tests.accuracy.scenes import after

wait = partial(stall, causes=("blocking_call",), waits=("lock",), light=True)


@contextlib.contextmanager
def held_lock(asked_s: float) -> Iterator[Scene]:
    """Give a lock that is released late."""
    lock = threading.Lock()
    lock.acquire()
    yield Scene((lock,), lambda: after(asked_s, lock.release))


@wait(setup=held_lock, calls=("threading.Lock.acquire", "_thread.lock.acquire"))
def take_lock(lock: threading.Lock) -> None:
    """`Lock.acquire`."""
    lock.acquire()


@contextlib.contextmanager
def held_for_good(asked_s: float) -> Iterator[Scene]:
    """Give a lock that is not released."""
    lock = threading.Lock()
    with lock:
        yield Scene((Account(lock, asked_s),))


class Account:
    """A balance several threads change."""

    def __init__(self, lock: threading.Lock, patience_s: float) -> None:
        self._lock = lock
        self._patience_s = patience_s

    @wait(
        setup=held_for_good,
        calls=("threading.Lock.acquire", "_thread.lock.acquire"),
    )
    def try_lock(self) -> None:
        """`Lock.acquire` with a timeout."""
        self._lock.acquire(timeout=self._patience_s)


@contextlib.contextmanager
def held_rlock(asked_s: float) -> Iterator[Scene]:
    """Give a reentrant lock that another thread holds."""
    lock, held, begun = threading.RLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            begun.wait()
            time.sleep(asked_s)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    yield Scene((lock,), begun.set)
    holder.join()


@wait(setup=held_rlock, calls=None)
def enter_lock(lock: threading.RLock) -> None:
    """`with` an `RLock` that another thread holds."""
    with lock:
        pass


def _thread(work: Callable[[float], object]) -> Setup:
    @contextlib.contextmanager
    def setup(asked_s: float) -> Iterator[Scene]:
        worker = threading.Thread(target=work, args=(asked_s,), name="worker")
        yield Scene((worker,), worker.start)
        worker.join()

    return setup


def spin(work_s: float) -> None:
    """Burn CPU in Python, polite as far as the interpreter makes it."""
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        pass


@wait(setup=_thread(time.sleep), calls=("threading.Thread.join",))
def join_sleeper(worker: threading.Thread) -> None:
    """`Thread.join` of a thread that sleeps."""
    worker.join()


@wait(setup=_thread(spin), calls=("threading.Thread.join",), light=False)
def join_worker(worker: threading.Thread) -> None:
    """`Thread.join` of a thread that burns CPU in Python."""
    worker.join()


@contextlib.contextmanager
def late_event(asked_s: float) -> Iterator[Scene]:
    """Give an event that is set late."""
    event = threading.Event()
    yield Scene((event,), lambda: after(asked_s, event.set))


@wait(setup=late_event, calls=("threading.Event.wait",))
def wait_for_event(event: threading.Event) -> None:
    """`Event.wait`."""
    event.wait()


@contextlib.contextmanager
def unmet_condition(asked_s: float) -> Iterator[Scene]:
    """Give a condition nobody notifies in time."""
    yield Scene((threading.Condition(), asked_s))


@wait(setup=unmet_condition, calls=("threading.Condition.wait",))
def wait_for_condition(condition: threading.Condition, patience_s: float) -> None:
    """`Condition.wait` with a timeout."""
    with condition:
        condition.wait(patience_s)


@contextlib.contextmanager
def late_message(asked_s: float) -> Iterator[Scene]:
    """Give an inbox that stays empty for a while."""
    inbox = Inbox()
    yield Scene((inbox,), lambda: after(asked_s, inbox.messages.put, "late"))


class Inbox:
    """Messages of another thread."""

    def __init__(self) -> None:
        self.messages: queue.Queue[str] = queue.Queue()

    @wait(setup=late_message, calls=("queue.Queue.get",))
    def read(self) -> None:
        """`Queue.get`."""
        self.messages.get()


@contextlib.contextmanager
def late_result(asked_s: float) -> Iterator[Scene]:
    """Give a future another thread works for."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(int).result()
        futures: list[Future[None]] = []
        yield Scene((futures,), lambda: futures.append(pool.submit(time.sleep, asked_s)))


@wait(
    setup=late_result,
    calls=("concurrent.futures.Future.result", "concurrent.futures._base.Future.result"),
)
def wait_for_result(futures: list[Future[None]]) -> None:
    """`Future.result` of a thread pool."""
    (future,) = futures
    future.result()


@contextlib.contextmanager
def busy_pool(asked_s: float) -> Iterator[Scene]:
    """Give a pool that has something to do yet."""
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    yield Scene((pool,), lambda: pool.submit(time.sleep, asked_s))


@wait(
    setup=busy_pool,
    calls=(
        "concurrent.futures.ThreadPoolExecutor.shutdown",
        "concurrent.futures.thread.ThreadPoolExecutor.shutdown",
    ),
)
def shut_down_pool(pool: ThreadPoolExecutor) -> None:
    """`ThreadPoolExecutor.shutdown` that waits for the work."""
    pool.shutdown()
