"""From readings around a stall to what happened in it: bounds, and the best guess in between."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from loopwatch.diagnosis.evidence import Mark, Step, gained_ns, longest_step_ns, overlap_ns

MS = 1_000_000


def cpu(at: int, value: int, idle: int | None = None) -> Mark:
    return Mark(at * MS, cpu_ns=value * MS, idle_ns=None if idle is None else idle * MS)


def gained(marks: Sequence[Mark], start: int, end: int) -> float | None:
    found = gained_ns(marks, "cpu_ns", start * MS, end * MS)
    return None if found is None else found / MS


def test_marks_on_the_borders_are_exact() -> None:
    """Read at start and end, the gain is the difference."""
    assert gained([cpu(100, 7), cpu(200, 37)], 100, 200) == 30


@pytest.mark.parametrize(
    "marks",
    [
        [],
        [cpu(0, 7)],
        [cpu(300, 7)],
        [cpu(150, 7)],
        [cpu(0, 3), cpu(50, 7)],
        [cpu(250, 3), cpu(300, 7)],
        [cpu(150, 3), cpu(300, 7)],
        [Mark(0), Mark(100 * MS), Mark(200 * MS), Mark(300 * MS)],
    ],
    ids=[
        "none",
        "one before",
        "one after",
        "one inside",
        "only before",
        "only after",
        "nothing before, one inside",
        "of another counter",
    ],
)
def test_too_little_to_tell(marks: list[Mark]) -> None:
    """Where no two readings bound the stall nothing is known."""
    assert gained(marks, 100, 200) is None


def test_marks_of_other_counters_are_passed_over() -> None:
    """A mark that does not know this counter neither helps nor hurts."""
    marks = [cpu(100, 0), Mark(150 * MS, process_ns=5), cpu(200, 30), Mark(201 * MS)]
    assert gained(marks, 100, 200) == 30


def test_the_rate_inside_goes_on_to_the_borders() -> None:
    """Two marks inside of a stall tell what happened between them and its borders."""
    assert gained([cpu(110, 0), cpu(160, 25)], 100, 200) == 50


def test_a_thread_that_stood_still_before_did_not_compute_then() -> None:
    """What was gained around a stall is at most what was gained in it."""
    assert gained([cpu(50, 0), cpu(110, 0), cpu(160, 0), cpu(260, 0)], 100, 200) == 0


def test_no_gain_is_more_than_the_clock_allows() -> None:
    """A thread that computed all the time computed for the whole stall and no longer."""
    assert gained([cpu(0, 0), cpu(300, 300)], 100, 200) == 100
    assert gained([cpu(0, 0), cpu(150, 150), cpu(300, 300)], 100, 200) == 100


def test_between_two_far_marks_the_middle_of_the_bounds_is_told() -> None:
    """40 ms of CPU in 160 ms around 100 ms: 0 to 40 in the stall, so 20."""
    assert gained([cpu(70, 0), cpu(230, 40)], 100, 200) == 20


def test_bounds_that_are_far_apart_say_nothing() -> None:
    """60 ms of CPU in 160 ms: 0 to 60 % in the stall, which no rule should build on."""
    assert gained([cpu(70, 0), cpu(230, 60)], 100, 200) is None


def test_idle_time_narrows_the_bounds() -> None:
    """The loop waited all the time around the stall, so all CPU time was used in it."""
    assert gained([cpu(70, 0, idle=0), cpu(230, 60, idle=60)], 100, 200) == 60


def test_the_mark_beyond_the_nearest_may_know_the_idle_time() -> None:
    """A beat's mark without idle time does not hide the look before it that had it."""
    marks = [cpu(60, 0, idle=0), cpu(70, 0), cpu(230, 60), cpu(240, 60, idle=80)]
    assert gained(marks, 100, 200) == 60


def test_a_stall_in_progress_ends_at_its_last_mark() -> None:
    """Nothing has been read after the end yet: what is missing lies between the bounds."""
    assert gained([cpu(100, 0), cpu(190, 90)], 100, 200) == 100
    assert gained([cpu(100, 0), cpu(200, 0)], 100, 200) == 0


def test_a_mark_inside_bounds_what_lies_before_it() -> None:
    """One look near the end says what was used up to it, however late the next one came."""
    found = gained([cpu(99, 0), cpu(199, 99), cpu(700, 400)], 100, 200)
    assert found is not None
    assert 98 <= found <= 100


def test_several_lanes() -> None:
    """A process on four CPUs can use 400 ms in 100 ms, and others compute only meanwhile."""
    marks = [Mark(0, process_ns=0), Mark(300 * MS, process_ns=900 * MS)]
    assert gained_ns(marks, "process_ns", 100 * MS, 200 * MS, lanes=4) == 400 * MS
    assert gained_ns(marks, "process_ns", 0, 300 * MS, lanes=4) == 900 * MS
    little = [Mark(0, process_ns=0), Mark(300 * MS, process_ns=90 * MS)]
    assert gained_ns(little, "process_ns", 100 * MS, 200 * MS, lanes=4) == 90 * MS


def test_lanes_inside() -> None:
    """The rate inside decides on several lanes too."""
    marks = [Mark(110 * MS, process_ns=0), Mark(160 * MS, process_ns=100 * MS)]
    assert gained_ns(marks, "process_ns", 100 * MS, 200 * MS, lanes=4) == 200 * MS


def test_throttling_of_others_while_the_loop_waits_is_not_the_stalls() -> None:
    """The quota is the whole cgroup's: it may run out while this loop waits."""
    before = Mark(0, idle_ns=0, throttled_ns=0)
    after = Mark(600 * MS, idle_ns=500 * MS, throttled_ns=400 * MS)
    found = gained_ns([before, after], "throttled_ns", 500 * MS, 600 * MS)
    assert found is None
    # Had it been noticed when the stall began, nothing would be left.
    marks = [before, Mark(499 * MS, idle_ns=499 * MS, throttled_ns=400 * MS), after]
    assert gained_ns(marks, "throttled_ns", 500 * MS, 600 * MS) == 0


class Counter:
    """A counter that grows by 0 to `lanes` a nanosecond, in stretches of constant rate."""

    def __init__(self, dice: random.Random, length: int, lanes: int) -> None:
        self.values = [0]
        while len(self.values) <= length:
            rate = dice.choice((0, 0, lanes, lanes, *range(lanes + 1)))
            for _ in range(dice.randrange(1, 40)):
                self.values.append(self.values[-1] + rate)


def bounds(marks: Sequence[Mark], start: int, end: int, lanes: int) -> tuple[int, int]:
    """Return the least and the most that any counter through these marks can gain, by search.

    Written another way than the code: the value at each border is bounded by its neighbours.
    """
    points = [(mark.at_ns, mark.cpu_ns or 0) for mark in marks]

    def at(moment: int, known: list[tuple[int, int]]) -> tuple[int, int]:
        low = max((v - lanes * max(0, t - moment) for t, v in known), default=-(10**9))
        low = max([low, *(v for t, v in known if t <= moment)])
        high = min((v + lanes * max(0, moment - t) for t, v in known), default=10**9)
        high = min([high, *(v for t, v in known if t >= moment)])
        return low, high

    gains = []
    low, high = at(start, points)
    for first in range(low, high + 1):
        lower, upper = at(end, sorted([*points, (start, first)]))
        gains += [lower - first, upper - first]
    return min(gains), max(gains)


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_estimate_is_always_possible(lanes: int) -> None:
    """Whatever is read, the answer is one that some counter through those readings can give."""
    dice = random.Random(lanes)
    known = 0
    for _ in range(1500):
        counter = Counter(dice, 200, lanes)
        start = dice.randrange(0, 150)
        end = dice.randrange(start + 10, 200)
        moments = sorted(dice.sample(range(201), dice.randrange(2, 7)))
        if dice.random() < 0.3:
            moments = sorted({*moments, start})
        marks = [Mark(moment, cpu_ns=counter.values[moment]) for moment in moments]
        found = gained_ns(marks, "cpu_ns", start, end, lanes)
        if found is None:
            continue
        known += 1
        assert 0 <= found <= lanes * (end - start)
        if moments[0] <= start:
            lower, upper = bounds(marks, start, end, lanes)
            assert lower <= found <= upper, (marks, start, end)
    assert known > 500


@pytest.mark.parametrize("lanes", [1, 3])
def test_the_estimate_is_exact_where_the_borders_were_read(lanes: int) -> None:
    """With a mark on each border it is the truth, whatever else was read."""
    dice = random.Random(10 + lanes)
    for _ in range(500):
        counter = Counter(dice, 200, lanes)
        start = dice.randrange(0, 150)
        end = dice.randrange(start + 1, 200)
        moments = sorted({start, end, *dice.sample(range(201), dice.randrange(0, 5))})
        marks = [Mark(moment, cpu_ns=counter.values[moment]) for moment in moments]
        truth = counter.values[end] - counter.values[start]
        assert gained_ns(marks, "cpu_ns", start, end, lanes) == truth


def test_a_loop_that_waits_around_the_stall_is_exact() -> None:
    """If it only waited between the marks and the stall, idle time makes the answer the truth."""
    dice = random.Random(5)
    for _ in range(500):
        start, wall = dice.randrange(1, 100), dice.randrange(1, 100)
        end = start + wall
        used = dice.randrange(0, wall + 1)
        last = end + dice.randrange(1, 100)
        marks = [Mark(0, cpu_ns=0, idle_ns=0), Mark(last, cpu_ns=used, idle_ns=last - wall)]
        assert gained_ns(marks, "cpu_ns", start, end) == used


STEPS = {
    "nobody looked": ([], (100, 0)),
    "one look": ([(50, "a", 1)], (100, 0)),
    "the same throughout": ([(20, "a", 1), (50, "a", 1), (80, "a", 1)], (100, 0)),
    "nothing waits behind it": ([(20, None, 1), (80, None, 1)], (100, 0)),
    "something arrives behind it": ([(20, None, 1), (80, "a", 1)], (100, 0)),
    "the next one is taken": ([(20, "a", 1), (80, "b", 1)], (20, 1)),
    "the last one is taken": ([(20, "a", 1), (80, None, 1)], (20, 1)),
    "another task, nothing behind it": ([(20, None, 1), (80, None, 2)], (20, 1)),
    "many": ([(at, at, at) for at in range(10, 100, 10)], (10, 8)),
    "a long one among many": (
        [(10, "a", 1), (20, "b", 2), (30, "b", 2), (70, "b", 2), (80, "c", 3), (90, "d", 4)],
        (50, 3),
    ),
    "a long one at the start": ([(60, "a", 1), (80, "b", 1), (90, "c", 1)], (60, 2)),
    "a long one at the end": ([(10, "a", 1), (20, "b", 1), (95, "b", 1)], (75, 1)),
}


@pytest.mark.parametrize(("looks", "expected"), STEPS.values(), ids=STEPS)
def test_the_longest_callback(
    looks: list[tuple[int, object, int]], expected: tuple[int, int]
) -> None:
    """How long the longest callback took at least, and how many were seen to follow another."""
    steps = [Step(at, front, task) for at, front, task in looks]  # type: ignore[arg-type]
    assert longest_step_ns(steps, 0, 100) == expected


OVERLAPS = {
    "nothing": ([], 0),
    "inside": ([(120, 150)], 30),
    "all of it": ([(0, 900)], 100),
    "exactly": ([(100, 200)], 100),
    "across the start": ([(50, 130)], 30),
    "across the end": ([(180, 250)], 20),
    "before and after": ([(0, 100), (200, 300)], 0),
    "several": ([(50, 110), (120, 130), (190, 400)], 30),
}


@pytest.mark.parametrize(("spans", "expected"), OVERLAPS.values(), ids=OVERLAPS)
def test_what_spans_cover(spans: list[tuple[int, int]], expected: int) -> None:
    """Only what lies in the stretch counts."""
    assert overlap_ns(100, 200, spans) == expected
