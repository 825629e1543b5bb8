"""The verdicts as tables: one row a case, and the totals. Formats only."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.accuracy.judge import Mark, Verdict
from tests.accuracy.label import Case

HEADINGS: Final = (
    "case",
    "how it blocks",
    "detected",
    "culprit",
    "call",
    "cause",
    "task",
    "evidence",
    "error, ms",
    "first, ms",
    "false",
)
_MARKED: Final = ("culprit", "call", "cause", "task", "evidence")
_WANTED: Final = {"detected": 1.0, "culprit": 0.98, "cause": 0.95}


def case_rows(cases: Iterable[Case], verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return a row for each case that was played: cells are asyncio's, then uvloop's."""
    rows = []
    for case in cases:
        by_loop: dict[str, list[Verdict]] = {}
        for verdict in verdicts:
            if verdict.case == case.name:
                by_loop.setdefault(verdict.loop, []).append(verdict)
        if by_loop:
            cells = [_cells(runs) for runs in by_loop.values()]
            merged = [_merge(column) for column in zip(*cells, strict=True)]
            name = f"{case.name} °" if case.honest_unknown else case.name
            rows.append((name, case.how, *merged))
    return rows


def _merge(column: Sequence[str]) -> str:
    return column[0] if len(set(column)) == 1 else " · ".join(cell or "-" for cell in column)


def _cells(runs: Sequence[Verdict]) -> tuple[str, ...]:
    played = [run for run in runs if not run.skipped]
    if not played:
        return (runs[0].skipped, *[""] * (len(HEADINGS) - 3))
    false = sum(run.false_alarms for run in played)
    machine = sum(run.machine for run in played)
    due = [run for run in played if run.detected is not None]
    return (
        _share([run.detected for run in due]) if due else f"quiet x{len(played)}",
        *(_marks([getattr(run, name) for run in due]) for name in _MARKED),
        _worst([run.error_s for run in due]),
        _worst([run.first_s for run in due]),
        f"{false}" + (f" (+{machine} machine)" if machine else ""),
    )


def _share(found: Sequence[bool | None]) -> str:
    if len(found) == 1:
        return "yes" if found[0] else "**no**"
    return f"{sum(map(bool, found))} of {len(found)}"


def _marks(marks: Sequence[Mark | None]) -> str:
    judged = [mark for mark in marks if mark is not None]
    if not judged:
        return ""
    if len(judged) == 1:
        return judged[0].value if judged[0] is Mark.OK else f"**{judged[0].value}**"
    right = judged.count(Mark.OK)
    wrong = judged.count(Mark.WRONG)
    return f"{right} of {len(judged)}" + (f", **{wrong} wrong**" if wrong else "")


def _worst(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{max(known, key=abs) * 1e3:+.1f}" if known else ""


def total_rows(loops: Iterable[str], verdicts: Sequence[Verdict]) -> list[tuple[str, ...]]:
    """Return one row a figure: what, what is wanted, and what was measured on each loop."""
    columns = [_totals([v for v in verdicts if v.loop == loop]) for loop in loops]
    return [
        (name, columns[0][name][0], *(column[name][1] for column in columns)) for name in columns[0]
    ]


def _totals(verdicts: Sequence[Verdict]) -> dict[str, tuple[str, str]]:
    played = [verdict for verdict in verdicts if not verdict.skipped]
    due = [verdict for verdict in played if verdict.detected is not None]
    rows = {
        "cases that stall, runs": ("", f"{len({v.case for v in due})}, {len(due)}"),
        "detected": ("100 %", _percent([bool(v.detected) for v in due])),
    }
    for name in _MARKED:
        marks = [mark for v in due if (mark := getattr(v, name)) is not None]
        wanted = f">= {_WANTED[name] * 100:.0f} %" if name in _WANTED else ""
        unknown, wrong = marks.count(Mark.UNKNOWN), marks.count(Mark.WRONG)
        text = f"{_percent([m is Mark.OK for m in marks])}, {unknown} unknown, {wrong} wrong"
        rows[name] = (wanted, text)
    still = [v for v in played if v.detected is None]
    rows["duration error, ms"] = ("", _spread([v.error_s for v in due]))
    rows["threshold to first report, ms"] = ("", _spread([v.first_s for v in due]))
    rows["runs that must say nothing"] = ("", str(len(still)))
    rows["false alarms in these"] = ("0", str(sum(v.false_alarms for v in still)))
    rows["false alarms beside stalls"] = ("0", str(sum(v.false_alarms for v in due)))
    rows["stalls of the machine itself"] = ("", str(sum(v.machine for v in played)))
    skipped = {v.case for v in verdicts if v.skipped}
    rows["not run here, or not produced"] = ("", str(len(skipped)))
    return rows


def _percent(found: Sequence[bool]) -> str:
    return f"{sum(found) / len(found) * 100:.1f} % of {len(found)}" if found else "-"


def _spread(values: Sequence[float | None]) -> str:
    sizes = [abs(value) * 1e3 for value in values if value is not None]
    return f"median {statistics.median(sizes):.1f}, worst {max(sizes):.1f}" if sizes else "-"


def misses(verdicts: Iterable[Verdict]) -> list[str]:
    """Return a line for each run that did not go as it should, or did not come about."""
    lines = []
    for verdict in verdicts:
        why = "; ".join(verdict.said) or verdict.skipped
        if why:
            lines.append(f"{verdict.case}, {verdict.loop}: {why}")
    return lines


def as_text(rows: Sequence[Sequence[str]]) -> str:
    """Return rows in columns."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def as_markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    line: Callable[[Sequence[str]], str] = lambda cells: f"| {' | '.join(cells)} |"  # noqa: E731
    return "\n".join([line(headings), line(["---"] * len(headings)), *map(line, rows)])
