"""A report in words: cells of a table and sentences. Prints nothing itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.report.data import US_PER_S, Totals
from loopwatch.report.group import MAX_WORKERS
from loopwatch.views.text import clean
from loopwatch.views.units import count, counted, duration, moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.report.group import Group
    from loopwatch.report.summary import Summary

__all__ = ["Row", "allowed_line", "over_lines", "row", "totals_lines", "where"]

_REASONS: Final = 5
_OVER: Final = 10


class Row(NamedTuple):
    """What is told of a group. `call`, `advice` and `note` may be empty."""

    stalls: str
    total: str
    worst: str
    cause: str
    culprit: str
    call: str
    advice: str
    note: str
    first: str
    last: str
    workers: str


def row(group: Group) -> Row:
    """Return the cells of a group."""
    culprit = group.culprit
    more = "+" if group.workers >= MAX_WORKERS else ""
    return Row(
        count(group.count),
        duration(group.total_us / US_PER_S),
        duration(group.worst_us / US_PER_S),
        clean(group.cause) if group.fingerprint else "-",
        where(group),
        culprit.call or "" if culprit is not None else "",
        group.advice or "",
        f"{count(group.unfinished)} without an end" if group.unfinished else "",
        moment(group.first_s),
        moment(group.last_s),
        f"{count(group.workers)}{more}" if group.workers else "-",
    )


def where(group: Group) -> str:
    """Return who is blamed: function, file and line."""
    if not group.fingerprint:
        return "(all further fingerprints)"
    culprit = group.culprit
    if culprit is None:
        return "(nobody blamed)"
    return f"{culprit.function} ({culprit.file}:{culprit.line})"


def totals_lines(summary: Summary, shown: int) -> list[str]:
    """Return what stands below the table: the totals, and what is not in it."""
    totals = Totals.of(summary.groups())
    lines = []
    if totals.first_s is None or totals.last_s is None:
        lines.append("No stall.")
    else:
        of = f"{counted(totals.stalls, 'stall')} of {counted(totals.fingerprints, 'fingerprint')}"
        lines.append(
            f"{of}, {duration(totals.total_s)} in all, the worst {duration(totals.worst_s)}; "
            f"{moment(totals.first_s)} to {moment(totals.last_s)} UTC."
        )
    if totals.unfinished:
        lines.append(
            f"{counted(totals.unfinished, 'stall')} without an end: counted with the duration "
            "last told."
        )
    if shown < totals.fingerprints:
        lines.append(
            f"{counted(totals.fingerprints - shown, 'more fingerprint')}: --top 0 shows all."
        )
    if summary.allowed:
        lines.append(allowed_line(summary.allowed))
    if summary.left_out:
        lines.append(f"{counted(summary.left_out, 'stall')} left out by the options.")
    return lines


def allowed_line(allowed: Sequence[Group]) -> str:
    """Return the stalls the app had allowed, which are in no other figure."""
    totals = Totals.of(allowed)
    reasons = [f"{group.allowed} ({count(group.count)})" for group in allowed[:_REASONS]]
    reasons += ["…"] * (len(allowed) > _REASONS)
    return (
        f"Not in it: {counted(totals.stalls, 'allowed stall')}, {duration(totals.total_s)}: "
        f"{', '.join(reasons)}."
    )


def over_lines(groups: Sequence[Group], limit_s: float) -> list[str]:
    """Return which stalls were over the limit: one line, or none if there was none."""
    over = [group for group in groups if group.over]
    if not over:
        return []
    stalls = sum(group.over for group in over)
    lines = [f"{counted(stalls, 'stall')} lasted longer than {duration(limit_s)}:"]
    for group in over[:_OVER]:
        told = row(group)
        call = f" called {told.call}" if told.call else ""
        lines.append(
            f"- {count(group.over)} of them, worst {told.worst}: {told.cause}: {told.culprit}{call}"
        )
    if len(over) > _OVER:
        lines.append(f"- and {counted(len(over) - _OVER, 'more fingerprint')}")
    return lines
