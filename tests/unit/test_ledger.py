"""The ledger: totals, ages and rates as plain numbers."""

from __future__ import annotations

import time

import pytest

from loopwatch import Cause
from loopwatch.model import Phase
from tests.unit.factories import ledger, stall

S = 1_000_000_000


def test_every_child_exists_at_zero() -> None:
    """A counter born at 1 is invisible to `increase()`: all labels are there from the start."""
    now = ledger().snapshot()
    assert set(now.stalls_total) == set(now.stall_s_total) == set(Cause)
    assert not any(now.stalls_total.values())
    assert not any(now.dropped_total.values())
    assert not any(now.errors_total.values())
    assert now.last_stall_at_s == 0


def test_a_stall_in_progress_is_counted_and_grows() -> None:
    """Counter, seconds, age and maximum move while it lasts; reading changes nothing."""
    book = ledger()
    since_ns = time.monotonic_ns() - 2 * S
    book.opened(since_ns, stall(phase=Phase.ONGOING, started_at_s=1795246203.25))
    first, second = book.snapshot(), book.snapshot()
    assert first.stalls_total[Cause.UNKNOWN] == second.stalls_total[Cause.UNKNOWN] == 1
    assert first.active_s == pytest.approx(2, abs=0.2)
    assert second.active_s > first.active_s
    assert second.stall_s_total[Cause.UNKNOWN] == pytest.approx(second.active_s)
    assert second.lag_max_s == pytest.approx(second.active_s)
    assert second.active_stall is not None
    assert first.last_stall_at_s == second.last_stall_at_s == 1795246203.25


def test_the_end_replaces_the_ongoing_record_and_fixes_the_seconds() -> None:
    """One stall is one count and one record in the history, with its final duration."""
    book = ledger()
    book.opened(10 * S, stall(phase=Phase.ONGOING, duration_s=0.1))
    book.closed(10 * S, 13 * S, stall(duration_s=3.0))
    now = book.snapshot()
    assert (now.stalls_total[Cause.UNKNOWN], now.stall_s_total[Cause.UNKNOWN]) == (1, 3.0)
    assert [s.duration_s for s in book.stalls] == [3.0]
    assert now.active_s == 0
    assert now.active_stall is None


def test_a_stall_keeps_the_cause_it_was_counted_under() -> None:
    """A final record may correct the cause; a counter must never run backwards."""
    book = ledger()
    book.opened(10 * S, stall(phase=Phase.ONGOING))
    book.closed(10 * S, 13 * S, stall(cause=Cause.CPU))
    now = book.snapshot()
    assert now.stalls_total[Cause.UNKNOWN] == 1
    assert now.stall_s_total[Cause.UNKNOWN] == 3
    assert now.stall_s_total[Cause.CPU] == 0


def test_a_stall_that_was_never_opened_is_counted_at_its_end() -> None:
    """Nobody could look while it lasted; the totals know of it all the same."""
    book = ledger()
    book.closed(10 * S, 11 * S, stall())
    assert book.snapshot().stalls_total[Cause.UNKNOWN] == 1


def test_seconds_in_stalls_never_run_backwards() -> None:
    """A reader saw the stall grow until its look; its true end lies a moment before that."""
    book = ledger()
    since_ns = time.monotonic_ns() - S
    book.opened(since_ns, stall(phase=Phase.ONGOING))
    before = book.snapshot().stall_s_total[Cause.UNKNOWN]
    book.closed(since_ns, since_ns + S - 50_000_000, stall())
    assert book.snapshot().stall_s_total[Cause.UNKNOWN] == before


def test_another_stall_does_not_end_the_one_in_progress() -> None:
    """Records are matched by id, in progress and in the history."""
    book = ledger()
    book.opened(10 * S, stall(id="a", phase=Phase.ONGOING))
    book.closed(11 * S, 12 * S, stall(id="b"))
    assert book.active is not None
    book.closed(10 * S, 13 * S, stall(id="a"))
    assert [(s.id, s.phase) for s in book.stalls] == [("a", "final"), ("b", "final")]
    assert book.snapshot().stalls_total[Cause.UNKNOWN] == 2


def test_the_history_is_bounded() -> None:
    """Only the newest stalls are kept, newest last."""
    book = ledger(history=3)
    for number in range(10):
        book.closed(number * S, number * S + S // 2, stall(id=str(number)))
    assert [s.id for s in book.stalls] == ["7", "8", "9"]


def test_busy_is_what_is_not_idle_while_the_loop_runs() -> None:
    """Time in which the loop does not run at all is neither."""
    book = ledger()
    book.looked(1 * S, 0, running=True)
    book.settled(1 * S)
    book.looked(5 * S, 3 * S, running=False)
    book.settled(5 * S)
    book.looked(6 * S, 3 * S + S // 2, running=True)
    book.settled(6 * S)
    now = book.snapshot()
    assert (now.busy_s_total, now.idle_s_total) == (1.5, 0.5)


def test_ratios_cover_the_last_ten_seconds() -> None:
    """A busy past does not hide an idle present."""
    book = ledger()
    idle_ns, book.cpu_ns = 0, 0
    for second in range(1, 40):
        if second > 20:
            idle_ns += S
        else:
            book.cpu_ns += S
        book.looked(second * S, idle_ns, running=True)
        book.settled(second * S)
    now = book.snapshot()
    assert now.utilization == pytest.approx(0, abs=0.01)
    assert now.cpu_ratio == pytest.approx(0, abs=0.01)


def test_what_the_sensor_cannot_know_is_none() -> None:
    """The tick sensor has no idle time: no utilization, no loop time, never a guess."""
    book = ledger()
    book.looked(S, None, running=True)
    book.settled(S)
    book.looked(2 * S, None, running=True)
    book.settled(2 * S)
    now = book.snapshot()
    assert now.utilization is None
    assert now.busy_s_total is None
    assert now.idle_s_total is None
    assert now.iterations_total is None


def test_a_time_without_looks_is_one_point_with_its_lag() -> None:
    """Nobody could look for 15 s: that is one long point, and the window is all of it."""
    book = ledger()
    for second in (1, 2, 17):
        book.looked(second * S, second * S if second < 3 else 2 * S, running=True)
        if second == 17:
            book.lag.stretch(15 * S, 17 * S)
        book.settled(second * S)
    (first, held) = book.points
    assert (first.wall_s, first.lag_s, first.utilization) == (1.0, 0.0, 0.0)
    assert (held.wall_s, held.lag_s, held.utilization) == (15.0, 15.0, 1.0)
    book.looked(22 * S, 7 * S, running=True)
    book.settled(22 * S)
    assert book.snapshot().utilization == pytest.approx(0.75)


def test_an_excused_stall_is_final_when_it_is_over() -> None:
    """Also one that a debugger made: nobody was kept waiting, but it did end."""
    book = ledger()
    book.excused("debugger", stall(id="a", phase=Phase.ONGOING))
    book.excused_closed(3 * S, stall(id="a"), 0)
    assert [(s.id, s.phase) for s in book.stalls] == [("a", Phase.FINAL)]
    assert book.lag.take_max_ns() == 0
