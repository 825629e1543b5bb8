"""Stalls added up by fingerprint, each once."""

from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterable
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.model import Advice, Culprit, Phase, Request, TaskInfo
from loopwatch.report import data, table
from loopwatch.report.group import Group
from loopwatch.report.pairs import Pairs
from loopwatch.report.reading import Line, LogFile
from loopwatch.report.record import told
from loopwatch.report.summary import Choice, Summary
from tests.unit.factories import stall

START_S = 1795255200.0


def line(log: str = "/log", **changes: Any) -> Line:
    """Return a line of a stall that began `at` seconds after the start."""
    changes["started_at_s"] = START_S + changes.pop("at", 0.0)
    record = told(stall(**changes).to_dict())
    file = LogFile(log, log=log)
    return Line(record.key, record, json.dumps(record.data).encode(), file, 1)


def summed(lines: Iterable[Line], choice: Choice | None = None, **options: Any) -> Summary:
    summary = Summary(choice, **options)
    for each in lines:
        summary.add(each)
    summary.finish()
    return summary


def only(summary: Summary) -> Group:
    (group,) = summary.groups()
    return group


def pair(identity: str, first_s: float, last_s: float, **changes: Any) -> list[Line]:
    return [
        line(id=identity, phase=Phase.ONGOING, duration_s=first_s, **changes),
        line(id=identity, phase=Phase.FINAL, duration_s=last_s, **changes),
    ]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_two_records_of_a_stall_are_one_stall(reverse: bool) -> None:
    """The final one counts, in whatever order and from whatever file they come, copies included."""
    lines = [*pair("a", 0.1, 0.5), *pair("b", 0.1, 0.25), *pair("a", 0.1, 0.5)]
    group = only(summed(reversed(lines) if reverse else lines))
    assert (group.count, group.total_us, group.worst_us) == (2, 750_000, 500_000)
    assert group.unfinished == 0


def test_a_stall_without_an_end_counts_as_far_as_it_was_told() -> None:
    """With its longest duration, its stack, and marked."""
    lines = [line(id="a", phase=Phase.ONGOING, duration_s=d) for d in (0.1, 0.7, 0.3)]
    group = only(summed(lines))
    assert (group.count, group.total_us, group.unfinished) == (1, 700_000, 1)
    assert group.worst is not None
    assert not group.worst.finished
    assert group.flame is not None
    assert group.flame.to_dict()["children"][0]["value"] == 700_000


def test_the_final_record_decides_about_the_cause() -> None:
    """Nothing is left of what the ongoing one had thought."""
    lines = [
        line(id="a", phase=Phase.ONGOING, cause=Cause.CPU, fingerprint="1"),
        line(id="a", phase=Phase.FINAL, cause=Cause.GC, fingerprint="2"),
    ]
    assert only(summed(lines)).cause == "gc"
    assert only(summed(reversed(lines))).cause == "gc"


def test_like_ids_of_two_processes_are_two_stalls() -> None:
    """And a process is a worker: of one log by its pid, of two logs apart."""
    same = {"id": "a", "duration_s": 0.5}
    group = only(summed([line(pid=1, **same), line(pid=2, **same), line(pid=1, **same)]))
    assert (group.count, group.workers) == (2, 2)
    lines = [line("/a", id="a", pid=1), line("/b", id="b", pid=1), line("/b", id="c", pid=1)]
    assert only(summed(lines)).workers == 2


def test_a_group_tells_its_newest_and_its_worst_stall() -> None:
    """Lines move from release to release: the newest is where to look; the worst is an example."""
    old = Culprit("app.f", "app.py", 3, "time.sleep", "sleep(1)", in_app=True)
    new = Culprit("app.f", "app.py", 9, "time.sleep", "sleep(2)", in_app=True)
    lines = [
        line(id="a", at=5, duration_s=0.2, culprit=new, advice=Advice("s", "await it")),
        line(
            id="b",
            at=1,
            duration_s=0.9,
            culprit=old,
            request=Request("GET", "/x/{id}", "t1"),
            task=TaskInfo("Task-1", "app.f"),
        ),
    ]
    for order in (lines, lines[::-1]):
        group = only(summed(order))
        assert group.culprit is not None
        assert (group.culprit.line, group.advice) == (9, "await it")
        assert (group.first_s, group.last_s) == (START_S + 1, START_S + 5)
        assert group.worst is not None
        assert (group.worst.id, group.worst.request) == ("b", "GET /x/{id}")
        assert (group.worst.trace_id, group.worst.task) == ("t1", "Task-1")


def test_the_order_of_lines_does_not_matter() -> None:
    """Equal logs give equal reports, to the last digit."""
    rng = random.Random(7)
    lines = []
    for number in range(300):
        fingerprint = str(rng.randrange(7))
        times = {"at": rng.random() * 100, "fingerprint": fingerprint, "pid": rng.randrange(1, 4)}
        lines += pair(f"{number}", 0.1, 0.1 + rng.random() / 3, **times)[: rng.randrange(1, 3)]
    reports = set()
    for _ in range(3):
        rng.shuffle(lines)
        summary = summed(lines)
        reports.add("".join(data.as_json(summary, summary.groups(), [], 0.2)))
    assert len(reports) == 1


def test_allowed_stalls_are_counted_apart() -> None:
    """By reason, in no other figure, and over no limit."""
    lines = [
        line(id="a", duration_s=5.0, allowed="reading the model"),
        line(id="b", duration_s=0.2),
    ]
    summary = summed(lines, Choice(limit_s=0.1))
    assert only(summary).total_us == 200_000
    assert only(summary).over == 1
    (allowed,) = summary.allowed
    assert (allowed.allowed, allowed.count, allowed.total_us) == ("reading the model", 1, 5_000_000)


def test_reasons_take_no_place_of_culprits() -> None:
    """Thousands of reasons, as those made of ids: the stall that nobody allowed is still told."""
    lines = [line(id=f"a{n}", duration_s=5.0, allowed=f"export {n}") for n in range(5003)]
    summary = summed([*lines, line(id="b", duration_s=0.2)], Choice(limit_s=0.1))
    assert (only(summary).fingerprint, only(summary).over) == ("ff", 1)
    rest = summary.allowed[0]
    assert (rest.allowed, rest.count) == ("(all further reasons)", 4003)
    assert sum(group.count for group in summary.allowed) == 5003


def test_all_further_fingerprints_have_nothing_in_common() -> None:
    """Their row counts them; it shows no cause, call and advice that only one of them had."""
    culprit = Culprit("app.f", "app.py", 3, "time.sleep", "sleep(1)", in_app=True)
    like = {"cause": Cause.CPU, "culprit": culprit, "advice": Advice("s", "await it")}
    summary = summed(line(id=str(n), fingerprint=str(n), **like) for n in range(5002))
    (rest,) = (group for group in summary.groups() if not group.fingerprint)
    told_of = table.row(rest)
    assert (told_of.stalls, told_of.culprit) == ("2", "(all further fingerprints)")
    assert (told_of.cause, told_of.call, told_of.advice) == ("-", "", "")
    written = data.group_dict(rest, 0.1)
    assert (written["cause"], written["culprit"], written["advice"]) == (None, None, None)


def test_long_texts_take_no_memory() -> None:
    """Whoever writes a megabyte into each field of each record does not fill ours."""

    def long(number: int) -> Line:
        def text() -> str:
            return "x" * 1_000_000 + str(number)

        damaged = {
            **stall(started_at_s=START_S + number).to_dict(),
            "id": text(),
            "fingerprint": text(),
            "cause": text(),
            "culprit": {"function": text(), "file": "f", "line": 1, "call": text(), "more": text()},
            "advice": {"text": text()},
            "request": {"method": text(), "route": text(), "more": [text()]},
            "task": {"name": text(), "coro": text()},
        }
        record = told(damaged)
        return Line(record.key, record, b"", LogFile("/log", log="/log"), 1)

    tracemalloc.start()
    try:
        summary = summed((long(number) for number in range(20)), flames=False)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(summary.groups()) == 20, "told apart by their last letters"
    assert kept < 1_000_000


def test_over_the_limit_is_longer_than_it() -> None:
    """A stall of exactly the limit is within it; unfinished ones count."""
    lines = [
        line(id="a", duration_s=0.2),
        line(id="b", duration_s=0.200001),
        line(id="c", duration_s=0.5, phase=Phase.ONGOING),
    ]
    assert only(summed(lines, Choice(limit_s=0.2))).over == 2


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (Choice(since_s=START_S + 1), "bcd"),
        (Choice(until_s=START_S + 1), "a"),
        (Choice(causes=frozenset({"gc", "cpu"})), "bc"),
        (Choice(loops=frozenset({"other"})), "d"),
        (Choice(since_s=START_S + 1, causes=frozenset({"gc"})), "c"),
    ],
)
def test_only_chosen_stalls_count(choice: Choice, kept: str) -> None:
    """By start, cause and loop; the others are counted as left out."""
    lines = [
        line(id="a", at=0, fingerprint="a"),
        line(id="b", at=1, fingerprint="b", cause=Cause.CPU),
        line(id="c", at=2, fingerprint="c", cause=Cause.GC),
        line(id="d", at=3, fingerprint="d", loop="other", phase=Phase.ONGOING),
    ]
    summary = summed(lines, choice)
    assert "".join(sorted(group.fingerprint for group in summary.groups())) == kept
    assert summary.left_out == 4 - len(kept)


@pytest.mark.parametrize(
    ("sort", "order"),
    [("total", "bac"), ("worst", "abc"), ("count", "bac"), ("last", "cba"), ("first", "abc")],
)
def test_groups_are_sorted(sort: str, order: str) -> None:
    """What is worst by that measure comes first."""
    lines = [line(id="1", at=0, duration_s=1.0, fingerprint="a")]
    lines += [line(id=f"2{n}", at=1, duration_s=0.6, fingerprint="b") for n in range(3)]
    lines += [line(id="3", at=2, duration_s=0.5, fingerprint="c")]
    groups = summed(lines).groups(sort)
    assert "".join(group.fingerprint for group in groups) == order


def test_fingerprints_without_end_are_bounded() -> None:
    """Beyond 5,000 they are one group; no stall is lost from the totals."""
    summary = summed(
        (line(id=str(n), fingerprint=str(n), duration_s=0.1) for n in range(5010)), flames=False
    )
    groups = summary.groups("count")
    assert len(groups) == 5001
    assert (groups[0].fingerprint, groups[0].count) == ("", 10)
    assert data.Totals.of(groups).stalls == 5010


def test_stalls_that_stay_open_are_bounded() -> None:
    """The oldest of very many are counted as they are; a late end does not count them again."""
    summary = Summary(pairs=Pairs(over=1000, still_open=10, waiting_bytes=1))
    for number in range(50):
        summary.add(line(id=str(number), phase=Phase.ONGOING, duration_s=0.1))
    for number in range(50):
        summary.add(line(id=str(number), phase=Phase.FINAL, duration_s=0.3))
    summary.finish()
    group = only(summary)
    assert group.count == 50
    assert 30 <= group.unfinished < 50


def test_the_ends_of_stalls_are_remembered_for_long() -> None:
    """At least as many as one generation holds, and no more than two."""
    pairs = Pairs(over=100)
    for key in range(1000):
        assert pairs.close(key)
    assert not any(pairs.close(key) for key in range(900, 1000))
    assert pairs.close(700)


def test_lines_that_wait_are_bounded() -> None:
    """The newest wait with their stacks; of the others the figures are kept, and all count."""
    summary = Summary(pairs=Pairs(waiting_bytes=10_000))
    for number in range(100):
        duration_s = 0.1 + number / 1000
        summary.add(line(id=str(number), phase=Phase.ONGOING, duration_s=duration_s))
    summary.add(line(id="3", phase=Phase.ONGOING, duration_s=9.0))
    summary.add(line(id="4", phase=Phase.ONGOING, duration_s=0.01))
    for number in range(0, 100, 2):
        summary.add(line(id=str(number), phase=Phase.FINAL, duration_s=1.0))
    summary.finish()
    group = only(summary)
    assert (group.count, group.unfinished, group.worst_us) == (100, 50, 9_000_000)
    others_us = sum(100_000 + number * 1000 for number in range(1, 100, 2) if number != 3)
    assert group.total_us == 50_000_000 + 9_000_000 + others_us
    assert group.flame is not None
    with_stack = group.flame.to_dict()["children"][0]["value"]
    assert 59_000_000 < with_stack < group.total_us
