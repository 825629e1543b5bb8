"""The tracker: when to look, when a stall begins and ends. It is told the time."""

from __future__ import annotations

from itertools import pairwise

from loopwatch.diagnosis.tracker import Decision, Tracker
from loopwatch.sensors.base import Period

MS = 1_000_000


def tracker(max_samples: int = 32) -> Tracker[str]:
    return Tracker(100 * MS, 25 * MS, max_samples)


def observe(
    t: Tracker[str], now: int, iteration: int, since: int | None, *ended: Period
) -> Decision[str]:
    return t.observe(now * MS, iteration, None if since is None else since * MS, ended)


def period(iteration: int, start: int, end: int) -> Period:
    return Period(iteration, start * MS, end * MS)


def test_an_idle_loop_is_looked_at_every_half_threshold() -> None:
    """A stall that begins right after a look is seen at half the threshold."""
    decision = observe(tracker(), 1000, 7, None)
    assert decision == Decision(1050 * MS)


def test_a_busy_loop_is_looked_at_when_it_could_matter() -> None:
    """The next look is due when this busy period reaches half the threshold."""
    assert observe(tracker(), 1010, 7, 1000) == Decision(1050 * MS)


def test_half_way_takes_one_speculative_sample() -> None:
    """One sample at half the threshold, and none again before the threshold."""
    t = tracker()
    first = observe(t, 1050, 7, 1000)
    assert first.sample is not None
    assert first.opened is None
    assert first.next_ns == 1100 * MS
    t.add(first.sample, 1050 * MS, "stack")
    assert observe(t, 1060, 7, 1000).sample is None


def test_the_threshold_opens_the_stall_with_a_sample() -> None:
    """At the threshold the stall opens, exactly once, and keeps the speculative sample."""
    t = tracker()
    half = observe(t, 1050, 7, 1000)
    assert half.sample is not None
    t.add(half.sample, 1050 * MS, "stack")
    opened = observe(t, 1100, 7, 1000)
    assert opened.opened is not None
    assert opened.sample is opened.opened
    assert opened.opened.samples == [(1050 * MS, "stack")]
    assert observe(t, 1110, 7, 1000).opened is None
    assert t.tracking


def test_samples_thin_out_and_end() -> None:
    """Gaps grow, the number is bounded, and the counters still move four times a second."""
    t = tracker(max_samples=4)
    now, taken = 1100, []
    while now < 5000:
        decision = observe(t, now, 7, 1000)
        if decision.sample is not None:
            t.add(decision.sample, now * MS, "stack")
            taken.append(now)
        assert 0 < decision.next_ns - now * MS <= 250 * MS
        now = -(-decision.next_ns // MS)
    gaps = [b - a for a, b in pairwise(taken)]
    assert len(taken) == 4
    assert gaps == sorted(gaps)
    assert gaps[-1] > gaps[0]


def test_the_sensors_end_closes_with_the_exact_duration() -> None:
    """The end is the sensor's, not the moment somebody looked."""
    t = tracker()
    observe(t, 1100, 7, 1000)
    closed = observe(t, 1700, 8, None, period(7, 1000, 1512)).closed
    assert [(c.start_ns, c.end_ns, c.opened) for c in closed] == [(1000 * MS, 1512 * MS, True)]
    assert not t.tracking
    assert observe(t, 1750, 8, None).closed == ()


def test_a_stall_that_was_over_before_anybody_looked_is_told_once() -> None:
    """With the GIL held all through, the period alone tells of it."""
    t = tracker()
    closed = observe(t, 1700, 8, None, period(7, 1000, 1500)).closed
    assert [(c.opened, c.samples) for c in closed] == [(False, [])]


def test_a_stall_just_over_the_threshold_keeps_its_speculative_sample() -> None:
    """It ended before the watchdog came back, and still has a stack."""
    t = tracker()
    half = observe(t, 1050, 7, 1000)
    assert half.sample is not None
    t.add(half.sample, 1050 * MS, "stack")
    closed = observe(t, 1103, 9, None, period(7, 1000, 1101)).closed
    assert [c.samples for c in closed] == [[(1050 * MS, "stack")]]


def test_a_period_below_the_threshold_is_no_stall() -> None:
    """Its speculative sample goes with it."""
    t = tracker()
    half = observe(t, 1050, 7, 1000)
    assert half.sample is not None
    t.add(half.sample, 1050 * MS, "stack")
    assert observe(t, 1100, 8, 1099, period(7, 1000, 1099)).closed == ()
    later = observe(t, 1200, 8, 1099)
    assert later.opened is not None
    assert later.opened.samples == []


def test_two_stalls_between_two_looks_are_two() -> None:
    """Each long period is told by itself."""
    closed = observe(tracker(), 2000, 9, None, period(7, 1000, 1200), period(8, 1300, 1500)).closed
    assert [c.iteration for c in closed] == [7, 8]


def test_an_end_nobody_told_closes_at_the_look() -> None:
    """A sensor that lost the end cannot keep a stall open."""
    t = tracker()
    observe(t, 1100, 7, 1000)
    closed = observe(t, 1300, 8, None).closed
    assert [c.end_ns for c in closed] == [1300 * MS]


def test_a_late_beat_that_a_period_explains_is_not_a_second_stall() -> None:
    """The tick is late because of the stall, not beside it."""
    t = tracker()
    late = (period(3, 1100, 1500),)
    decision = t.observe(1600 * MS, 8, None, (period(7, 1000, 1499),), late)
    assert len(decision.closed) == 1


def test_a_late_beat_without_a_period_is_a_stall() -> None:
    """The sensor saw an idle loop, yet what was due did not run: another thread had the GIL."""
    t = tracker()
    decision = t.observe(1600 * MS, 8, None, (), (period(3, 1100, 1500),))
    assert [(c.start_ns, c.end_ns) for c in decision.closed] == [(1100 * MS, 1500 * MS)]


def test_a_beat_that_runs_within_a_long_iteration_is_no_second_stall() -> None:
    """Two blocking callbacks and the late beat between them are one stretch."""
    t = tracker()
    t.observe(1100 * MS, 7, 1000 * MS)
    decision = t.observe(1300 * MS, 7, 1000 * MS, (), (period(3, 1050, 1250),))
    assert decision.closed == ()
    assert t.tracking


def test_an_overdue_beat_and_the_block_it_waits_for_are_one_stall() -> None:
    """Another thread had the GIL, then the loop itself blocked before the beat could run."""
    t = tracker()
    assert t.observe(1110 * MS, 7, None, (), (), (3, 1000 * MS)).opened is not None
    late = (period(3, 1000, 1501),)
    closed = t.observe(1600 * MS, 9, None, (period(8, 1150, 1500),), late).closed
    assert [(c.start_ns, c.end_ns) for c in closed] == [(1000 * MS, 1500 * MS)]


def test_a_beat_that_a_told_stall_made_late_is_not_overdue_at_once() -> None:
    """The look falls between the end of the stall and the beat, as the loop polls in between."""
    t = tracker()
    observe(t, 1100, 7, 1000)
    decision = t.observe(1276 * MS, 8, None, (period(7, 1000, 1275),), (), (3, 1105 * MS))
    assert len(decision.closed) == 1
    assert decision.opened is None
    assert not t.tracking


def test_an_overdue_beat_opens_and_its_run_closes() -> None:
    """A loop that does not wake up is reported while it does not, and once."""
    t = tracker()
    assert t.observe(1060 * MS, 8, None, (), (), (3, 1000 * MS)).sample is not None
    opened = t.observe(1101 * MS, 8, None, (), (), (3, 1000 * MS)).opened
    assert opened is not None
    # The loop is busy again, the beat has not run yet: still the same stall.
    assert t.observe(1200 * MS, 9, 1199 * MS, (), (), (3, 1000 * MS)).closed == ()
    closed = t.observe(1300 * MS, 10, None, (), (period(3, 1000, 1201),)).closed
    assert [(c.end_ns, c.opened) for c in closed] == [(1201 * MS, True)]
    assert t.observe(1400 * MS, 11, None).closed == ()


def test_a_loop_that_does_not_run_has_no_stall() -> None:
    """Between two `run_until_complete` the loop owes nobody anything."""
    t = tracker()
    t.stopped(1500 * MS)
    assert observe(t, 1510, 7, 1000) == Decision(1550 * MS)
    assert observe(t, 1600, 8, None, period(7, 1000, 1590)).closed == ()
    assert len(observe(t, 3000, 9, None, period(8, 2100, 2900)).closed) == 1


def test_a_block_right_after_the_loop_runs_again_counts_from_there() -> None:
    """uvloop does not poll before its first callback: the period seems to begin in the pause."""
    t = tracker()
    t.stopped(1500 * MS)
    assert observe(t, 1600, 7, 1000).opened is not None
    closed = observe(t, 1800, 8, None, period(7, 1000, 1700)).closed
    assert [(c.start_ns, c.end_ns) for c in closed] == [(1500 * MS, 1700 * MS)]


def test_what_was_before_the_watch_is_no_stall() -> None:
    """Installing takes time on a busy machine; the stall right after it counts from then on."""
    t = tracker()
    t.begin(1200 * MS)
    assert observe(t, 1210, 7, 1000) == Decision(1250 * MS)
    closed = observe(t, 1400, 8, None, period(7, 1000, 1390)).closed
    assert [(c.start_ns, c.end_ns) for c in closed] == [(1200 * MS, 1390 * MS)]


def test_stopping_ends_the_stall_in_progress() -> None:
    """Whoever watched until now says how long it was so far."""
    t = tracker()
    observe(t, 1100, 7, 1000)
    closed = t.stopped(1700 * MS, for_good=True).closed
    assert [c.end_ns for c in closed] == [1700 * MS]
