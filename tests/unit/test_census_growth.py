"""Which groups of tasks are listed, and how fast they grow: told, not measured."""

from __future__ import annotations

import pytest

from loopwatch.clock import NS_PER_S
from loopwatch.diagnosis.task_groups import GrowthWatch, Look, listed


def look(at_s: float, tasks: int | None = None, **counts: int) -> Look:
    seen = sum(counts.values())
    return Look(round(at_s * NS_PER_S), seen if tasks is None else tasks, seen, counts)


@pytest.mark.parametrize(
    ("before", "now", "growth"),
    [
        ([], look(0, poll=5), None),
        ([look(0, poll=5)], look(59, poll=500), None),
        ([look(0, poll=5)], look(90, poll=305), 200.0),
        ([look(0, poll=105)], look(60, poll=5), -100.0),
        ([look(0, poll=5)], look(60, poll=5), 0.0),
        ([look(0, other=1)], look(60, other=1, poll=25), 25.0),
        ([look(0, poll=0), look(150, poll=50), look(300, poll=100)], look(310, poll=100), 18.8),
        ([look(0, poll=0), look(10, poll=1500)], look(75, poll=1500), 0.0),
        ([look(0, poll=0), look(300, poll=100), look(600, poll=100)], look(610, poll=100), 0.0),
    ],
    ids=["first", "too-soon", "grows", "shrinks", "steady", "new", "window", "burst", "long-ago"],
)
def test_growth_is_per_minute_over_the_last_minutes(
    before: list[Look], now: Look, growth: float | None
) -> None:
    """From the oldest look of five minutes, or from a minute ago; unknown before that."""
    watch = GrowthWatch()
    for then in before:
        watch.add(then)
    assert watch.per_minute(now, "poll") == growth


def test_growth_within_the_error_of_an_estimate_is_not_known() -> None:
    """10,000 of 300,000 tasks looked at: 1,000 more are noise, 100,000 more are growth."""
    watch = GrowthWatch()
    watch.add(look(0, 300_000, poll=5000, other=5000))
    assert watch.per_minute(look(60, 300_000, poll=5033, other=4967), "poll") is None
    assert watch.per_minute(look(60, 400_000, poll=6250, other=3750), "poll") == 100_000


def test_many_looks_keep_the_span_of_the_window() -> None:
    """A look a second for ten minutes: growth is still over five of them, from few looks."""
    watch = GrowthWatch()
    for second in range(600):
        watch.add(look(second, poll=second))
    assert watch.per_minute(look(600, poll=600), "poll") == 60.0
    assert len(watch._looks) < 40


def test_counts_of_a_part_are_scaled_to_the_whole() -> None:
    """Half of those looked at is half of all."""
    assert look(0, 100_000, poll=500, other=500).estimate("poll") == 50_000
    assert look(0, poll=500, other=500).estimate("poll") == 500
    assert Look(0, 7, 0, {}).estimate("poll") == 0


def test_the_largest_groups_and_the_fastest_are_listed() -> None:
    """Ten: a small one that grows has its place among them, larger ones that do not lose theirs."""
    counts = {f"g{n}": 100 - n for n in range(15)}
    growth: dict[str, float | None] = {"g14": 50.0, "g13": -1.0, "g12": None, "g0": 9.0}
    chosen = listed(counts, growth)
    assert chosen == [f"g{n}" for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 14)]
    assert listed({"a": 1, "b": 2}, {}) == ["b", "a"]
