"""When too many tasks are told: decided from numbers and moments alone."""

from __future__ import annotations

import pytest

from loopwatch.clock import NS_PER_S
from loopwatch.diagnosis.task_limit import TaskLimit

LIMIT = 1000


@pytest.mark.parametrize(
    ("course", "told"),
    [
        ([(0, 1000), (60, 900)], []),
        ([(0, 1001)], [0]),
        ([(0, 1001), (1, 1002), (300, 1900), (599, 1999)], [0]),
        ([(0, 1001), (10, 2002), (20, 2500), (30, 4004)], [0, 10, 30]),
        ([(0, 1500), (600, 1501), (1199, 1502), (1200, 1502)], [0, 600, 1200]),
        ([(0, 1500), (10, 700), (69, 700), (70, 700), (80, 700)], [0, 70]),
        ([(t, 1100 if t % 20 else 700) for t in range(0, 590, 10)], [10]),
        ([(0, 1500), (10, 900), (100, 900), (200, 900)], [0]),
        ([(0, 1500), (10, 500), (75, 500), (80, 1001)], [0, 75, 80]),
        ([(0, 1500), (700, 900), (800, 1100)], [0, 800]),
    ],
    ids=[
        "below", "over", "stays", "doubles", "lasts", "ends", "dances", "between", "again",
        "back-after-long",
    ],
)  # fmt: skip
def test_what_is_told_of_a_course(course: list[tuple[int, int]], told: list[int]) -> None:
    """Once over, again when doubled or after ten minutes, and when well below for a while."""
    limit = TaskLimit()
    assert [at_s for at_s, tasks in course if limit.tell(at_s * NS_PER_S, tasks, LIMIT)] == told


def test_asking_whether_something_is_due_tells_nothing() -> None:
    """Only `tell` takes it for told: a census that finds fewer tasks leaves it untold."""
    limit = TaskLimit()
    assert limit.is_due(0, 1200, LIMIT)
    assert not limit.tell(0, 980, LIMIT)
    assert limit.is_due(NS_PER_S, 1200, LIMIT)
    assert limit.tell(NS_PER_S, 1200, LIMIT)
    assert not limit.is_due(2 * NS_PER_S, 1200, LIMIT)
