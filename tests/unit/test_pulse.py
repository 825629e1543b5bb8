"""A thread of an exporter, and how long anybody waits for one."""

from __future__ import annotations

import threading
import time

import pytest

from loopwatch import patience
from loopwatch.config import Config
from loopwatch.exporters.base import Source
from loopwatch.exporters.pulse import Pulse
from loopwatch.forklock import ForkLock, renew_all
from tests.unit.factories import ledger


class Interrupted(threading.Event):
    """An event that is set by another thread in the moment before it is cleared."""

    def __init__(self) -> None:
        super().__init__()
        self.before_clear = lambda: None

    def clear(self) -> None:
        self.before_clear()
        super().clear()


def test_a_stop_in_the_worst_moment_is_not_missed() -> None:
    """The wake-up that is cleared away has left its flag, and the flag is looked at."""
    beats: list[float] = []

    def beat() -> float:
        beats.append(time.monotonic())
        return 30.0

    pulse = Pulse("test", Source(Config(), ledger().snapshot), beat)
    wake = Interrupted()
    pulse._wake = wake
    pulse.start()
    while not beats:
        time.sleep(0.001)
    wake.before_clear = pulse.forget  # sets the flag, and wakes nobody
    pulse.soon()
    pulse._thread.join(5)
    assert not pulse.running
    assert len(beats) == 1


def test_at_exit_all_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it everybody has their own time; then what is left of one."""
    monkeypatch.setattr(patience, "_until_s", None)
    assert patience.patience_s(5.0) == 5.0
    patience.exit_within(2.0)
    assert 1.0 < patience.patience_s(5.0) <= 2.0
    assert patience.patience_s(0.1) == 0.1
    patience.exit_within(-1.0)
    assert patience.patience_s(5.0) == 0.0


def test_a_lock_that_another_thread_holds_is_free_after_a_fork() -> None:
    """A child has no thread that could give it back."""
    lock = ForkLock()
    old = lock._lock
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with old:
            held.set()
            done.wait(5)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    assert not old.acquire(blocking=False)
    renew_all()
    with lock:
        done.set()
    thread.join(5)
