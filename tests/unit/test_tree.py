"""Samples as a tree of text."""

from __future__ import annotations

from typing import Any

from loopwatch.views.flame import flame_tree
from loopwatch.views.tree import branches


def sample(count: int, *functions: str) -> dict[str, Any]:
    """Return a sample; functions from outermost to innermost, each at the line 1 of its file."""
    frames = [
        {"function": name, "file": f"{name}.py", "line": 1, "in_app": name.isupper()}
        for name in reversed(functions)
    ]
    return {"at_s": 0.0, "count": count, "source": "watchdog", "frames": frames}


def drawn(*samples: dict[str, Any], whole: float | None = None) -> list[str]:
    return [
        f"{branch.share:.0%} {branch.guide}{branch.name}"
        for branch in branches(flame_tree(samples), whole)
    ]


def test_a_straight_stack_stays_at_the_left() -> None:
    """However deep it is, there is no step without a fork."""
    assert drawn(sample(3, "a", "b", "c")) == ["100% a", "100% b", "100% c"]


def test_a_fork_is_a_step_and_the_larger_branch_comes_first() -> None:
    """What a branch calls stands below it, at the same step."""
    assert drawn(sample(1, "a", "b", "c"), sample(3, "a", "d", "e")) == [
        "100% a",
        "75% ├─ d",
        "75% │  e",
        "25% └─ b",
        "25%    c",
    ]


def test_a_function_that_works_itself_is_a_fork() -> None:
    """One callee that has only part of its caller's looks is a branch of it."""
    assert drawn(sample(1, "a"), sample(3, "a", "b")) == ["100% a", "75% └─ b"]


def test_small_branches_are_one_line() -> None:
    """What has less than one in a hundred is counted, not drawn."""
    rows = drawn(sample(198, "a"), sample(1, "b"), sample(1, "c"))
    assert rows == ["99% ├─ a", "1% └─ (2 more, each below 1 %)"]


def test_shares_may_be_of_more_than_the_tree() -> None:
    """With 10 looks in all, one stack seen 4 times has 40 %."""
    assert drawn(sample(4, "a"), whole=10) == ["40% a"]


def test_nothing_seen_is_nothing_drawn() -> None:
    """A tree without children has no lines, whatever the whole is."""
    assert drawn() == drawn(whole=10) == []


def test_a_branch_says_where_it_is_and_whose_code() -> None:
    """File and line, and whether it is the host's code."""
    (branch,) = branches(flame_tree([sample(1, "A")]))
    assert (branch.place, branch.in_app) == ("A.py:1", True)
