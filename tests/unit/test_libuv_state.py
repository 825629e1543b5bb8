"""How looks at libuv become busy periods. Pure arithmetic on constructed looks."""

from __future__ import annotations

from loopwatch.sensors.libuv import LibuvState, Raw

MS = 1_000_000
LIMIT = 50 * MS


def raw(now: float, idle: float, cached: int, polls: int, *, waiting: bool) -> Raw:
    return Raw(round(now * MS), round(idle * MS), cached * MS, polls, waiting)


def ends(state: LibuvState, look: Raw, served: float | None = None) -> list[tuple[float, float]]:
    periods = state.advance(look, None if served is None else round(served * MS))
    return [(p.start_ns / MS, p.end_ns / MS) for p in periods]


def test_the_start_is_exact_when_the_wait_before_it_was_seen() -> None:
    """Waiting at 1000 and 20.25 ms more idle since: busy since 1020.25."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    assert ends(state, raw(1050, 520.25, 1020, 5, waiting=False)) == []
    assert state.since_ns == round(1020.25 * MS)


def test_a_period_that_goes_on_keeps_its_start() -> None:
    """libuv moves its cached time within an iteration; the period does not begin anew."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(state, raw(1050, 520, 1020, 5, waiting=False))
    assert ends(state, raw(1100, 520, 1080, 5, waiting=False)) == []
    assert state.since_ns == 1020 * MS


def test_the_end_follows_from_the_idle_time() -> None:
    """Busy from 1020, waiting since: what is not idle time was busy."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(state, raw(1120, 520, 1020, 5, waiting=False))
    assert ends(state, raw(1320, 620, 1220, 6, waiting=True)) == [(1020, 1220)]
    assert state.since_ns is None


def test_the_loops_own_word_bounds_the_end() -> None:
    """Short iterations after the stall do not lengthen it once the loop has said it serves."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(state, raw(1120, 520, 1020, 5, waiting=False))
    look = raw(1320, 600, 1230, 9, waiting=True)
    assert ends(state, look, served=1221) == [(1020, 1221)]


def test_a_stall_between_two_looks_is_found() -> None:
    """The GIL was held all through: 500 ms of busy time at one poll is one period."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    assert ends(state, raw(1550, 550, 1030, 6, waiting=True)) == [(1030.5, 1530.5)]


def test_busy_time_over_many_polls_is_no_stall() -> None:
    """A loop at work between two looks of a delayed watchdog did poll: nobody is blamed."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    assert ends(state, raw(1550, 550, 1545, 60, waiting=True)) == []


def test_busy_time_over_many_polls_does_not_lengthen_a_period() -> None:
    """Seen busy, then the watchdog was kept from looking while the loop polled a thousand times."""
    state = LibuvState(raw(1000, 500, 1000, 5, waiting=False), LIMIT)
    assert ends(state, raw(1640, 500, 1639, 1005, waiting=False)) == []
    assert state.since_ns == round(1639.5 * MS)
    opened = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(opened, raw(1120, 520, 1020, 5, waiting=False))
    assert ends(opened, raw(1900, 520, 1899, 900, waiting=False)) == [(1020, 1120)]


def test_short_periods_are_not_kept() -> None:
    """What stays below the limit is not handed out."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(state, raw(1030, 520, 1020, 5, waiting=False))
    assert ends(state, raw(1080, 560, 1040, 6, waiting=True)) == []


def test_a_period_that_follows_another_starts_at_the_cached_time() -> None:
    """No wait in between: libuv's own milliseconds tell where one ended and the next began."""
    state = LibuvState(raw(1000, 500, 990, 5, waiting=True), LIMIT)
    ends(state, raw(1100, 520, 1020, 5, waiting=False))
    assert ends(state, raw(1150, 520, 1110, 6, waiting=False)) == [(1020, 1110.5)]
    assert state.since_ns == round(1110.5 * MS)
