"""Compares what was told with what is true. Pure: it is told everything.

All moments are on the monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from tests.accuracy.label import NOT_PRODUCED, THRESHOLD_S, Case, Names

__all__ = ["Mark", "Verdict", "judge"]

# A truth this little below the threshold may be told or not: the callbacks around it count too.
_GREY_S: Final = 0.005
# A loop that was late for this long when a record says so really was: not our case, no error.
_REALLY_LATE_S: Final = 0.09


class Mark(StrEnum):
    """What a record is worth in one respect. `UNKNOWN` is a miss, but no wrong blame."""

    OK = "ok"
    UNKNOWN = "unknown"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one run of a case went; `None` is not judged.

    `error_s` is reported minus true, `first_s` the time from the threshold to the first record.
    `machine` counts records of moments at which the loop really was late, though not by us.
    `said` tells what was said instead of what is true.
    """

    case: str
    loop: str
    skipped: str = ""
    detected: bool | None = None
    culprit: Mark | None = None
    call: Mark | None = None
    cause: Mark | None = None
    task: Mark | None = None
    evidence: Mark | None = None
    error_s: float | None = None
    first_s: float | None = None
    false_alarms: int = 0
    machine: int = 0
    said: tuple[str, ...] = ()


def judge(case: Case, loop: str, result: dict[str, Any]) -> Verdict:
    """Return the verdict of one run."""
    if "skipped" in result:
        return Verdict(case=case.name, loop=loop, skipped=result["skipped"])
    truth = [(start_s, end_s) for start_s, end_s in result["truth"]]
    true_s = sum(end_s - start_s for start_s, end_s in truth)
    asked_for_a_stall = not case.quiet and case.asked_s[0] >= THRESHOLD_S
    if asked_for_a_stall and true_s < THRESHOLD_S:
        why = f"{NOT_PRODUCED}: it took {true_s * 1e3:.0f} ms"
        return Verdict(case=case.name, loop=loop, skipped=why)
    mine, others = _sorted_out(case, truth, result["records"])
    false_alarms, machine, said = _false_alarms(others, result["gaps"])
    due = true_s >= THRESHOLD_S
    if not due:
        if true_s < THRESHOLD_S - _GREY_S:
            false_alarms += len(_ids(mine))
            said += [_summary(told) for told in mine]
        return Verdict(
            case=case.name,
            loop=loop,
            false_alarms=false_alarms,
            machine=machine,
            said=tuple(said),
        )
    marks, more = _marks(case, mine)
    told = [t for t in mine if t["record"]["phase"] == _counting_phase(case)]
    detected = _detected(case, mine)
    if not detected:
        said.append(f"told {len(told)} times" if told else "not told")
    first_s = min((t["arrived_s"] for t in mine), default=None)
    reported_s = sum(t["record"]["duration_s"] for t in told)
    exact = detected and not (case.endless or case.several)
    return Verdict(
        case=case.name,
        loop=loop,
        detected=detected,
        error_s=reported_s - true_s if exact else None,
        first_s=first_s - truth[0][0] - THRESHOLD_S if first_s is not None else None,
        false_alarms=false_alarms,
        machine=machine,
        said=(*said, *more),
        **marks,
    )


def _counting_phase(case: Case) -> str:
    return "ongoing" if case.endless else "final"


def _sorted_out(
    case: Case, truth: list[tuple[float, float]], records: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the records of what the case did, and those of anything else."""
    mine, others = [], []
    for told in records:
        start_s = told["began_s"]
        end_s = start_s + told["record"]["duration_s"]
        overlaps = any(start_s < until_s and end_s > since_s for since_s, until_s in truth)
        ours = overlaps and told["record"]["loop"] == case.loop
        (mine if ours else others).append(told)
    return mine, others


def _ids(records: list[dict[str, Any]]) -> set[str]:
    return {told["record"]["id"] for told in records}


def _detected(case: Case, mine: list[dict[str, Any]]) -> bool:
    """Whether it was told exactly once, or at all where several records are right."""
    counting = [t for t in mine if t["record"]["phase"] == _counting_phase(case)]
    if case.several:
        return bool(counting)
    return len(counting) == 1 and _ids(mine) == _ids(counting)


def _false_alarms(
    others: list[dict[str, Any]], gaps: list[list[float]]
) -> tuple[int, int, list[str]]:
    """Return how many stalls were told that were none, how many were the machine's, and which."""
    false, machine, said = set(), set(), []
    for told in others:
        start_s = told["began_s"]
        end_s = start_s + told["record"]["duration_s"]
        late = any(
            ran_s - due_s >= _REALLY_LATE_S and start_s < ran_s and end_s > due_s
            for due_s, ran_s in gaps
        )
        (machine if late else false).add(told["record"]["id"])
        if told["record"]["phase"] == "final":
            said.append(f"{'machine' if late else 'false alarm'}: {_summary(told)}")
    return len(false), len(machine - false), said


def _marks(case: Case, mine: list[dict[str, Any]]) -> tuple[dict[str, Mark | None], list[str]]:
    """Return the mark of each respect, the worst of several records, and what was said instead."""
    counting = [t["record"] for t in mine if t["record"]["phase"] == _counting_phase(case)]
    respects: tuple[tuple[str, Names | None, Any], ...] = (
        ("culprit", case.culprits, lambda r: (r["culprit"] or {}).get("function")),
        ("call", case.calls, lambda r: (r["culprit"] or {}).get("call")),
        ("cause", case.causes, lambda r: None if r["cause"] == "unknown" else r["cause"]),
        ("task", case.tasks, lambda r: (r["task"] or {}).get("coro")),
        ("evidence", *_evidence(case)),
    )
    marks: dict[str, Mark | None] = {}
    said = []
    for name, right, read in respects:
        if right is None:
            marks[name] = None
            continue
        got = [read(record) for record in counting] or [None]
        dotted = name in ("culprit", "task")
        found = [_mark(right, value, dotted=dotted, nobody=not counting) for value in got]
        marks[name] = max(found, key=list(Mark).index)
        said += [
            f"{name} {value}" for value, mark in zip(got, found, strict=True) if mark == Mark.WRONG
        ]
    return marks, said


def _evidence(case: Case) -> tuple[Names | None, Any]:
    if case.other_thread is not None:
        return (case.other_thread,), lambda r: (r["other_thread"] or {}).get("name")
    return case.waits, lambda r: r["evidence"]["wait"]


def _mark(right: Names, value: str | None, *, dotted: bool, nobody: bool) -> Mark:
    if value is None:
        # An empty tuple asks for null; a stall nobody told is a miss in every respect.
        return Mark.OK if not right and not nobody else Mark.UNKNOWN
    if value in right or (dotted and value.endswith(tuple(f".{name}" for name in right))):
        return Mark.OK
    return Mark.WRONG


def _summary(told: dict[str, Any]) -> str:
    record = told["record"]
    culprit = (record["culprit"] or {}).get("function")
    return f"{record['duration_s']:.3f} s {record['cause']} in {culprit}"
