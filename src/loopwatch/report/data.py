"""A report as JSON, schema `loopwatch.report/1`, in pieces: the trees of many groups are long."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from loopwatch._version import __version__
from loopwatch.clock import iso_utc
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loopwatch.report.group import Group
    from loopwatch.report.reading import LogFile
    from loopwatch.report.summary import Summary

__all__ = ["SCHEMA", "US_PER_S", "Totals", "as_json", "group_dict"]

SCHEMA: Final = "loopwatch.report/1"
US_PER_S: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Totals:
    """Groups added up. Moments are unix time in seconds, `None` if there is no stall."""

    stalls: int
    fingerprints: int
    total_s: float
    worst_s: float
    unfinished: int
    over: int
    first_s: float | None
    last_s: float | None

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Totals:
        """Add up."""
        return cls(
            sum(group.count for group in groups),
            len(groups),
            sum(group.total_us for group in groups) / US_PER_S,
            max((group.worst_us for group in groups), default=0) / US_PER_S,
            sum(group.unfinished for group in groups),
            sum(group.over for group in groups),
            min((group.first_s for group in groups), default=None),
            max((group.last_s for group in groups), default=None),
        )


def as_json(
    summary: Summary, groups: Sequence[Group], files: Sequence[LogFile], limit_s: float | None
) -> Iterator[str]:
    """Yield one JSON object: the totals of all, and `groups`, each on a line of its own."""
    totals = Totals.of(summary.groups())
    head = {
        "schema": SCHEMA,
        "version": __version__,
        "stalls": totals.stalls,
        "fingerprints": totals.fingerprints,
        "total_s": totals.total_s,
        "worst_s": totals.worst_s,
        "unfinished": totals.unfinished,
        "first_seen": _iso(totals.first_s),
        "last_seen": _iso(totals.last_s),
        "limit_s": limit_s,
        "over_limit": totals.over if limit_s is not None else None,
        "left_out": summary.left_out,
        "allowed": [
            {
                "reason": group.allowed,
                "count": group.count,
                "total_s": group.total_us / US_PER_S,
                "worst_s": group.worst_us / US_PER_S,
            }
            for group in summary.allowed
        ],
        "files": [
            {
                "path": clean(file.path),
                "read": file.read,
                "lines": file.lines,
                "records": file.records,
                "notes": [{"line": n.line, "what": n.what, "count": n.alike} for n in file.said],
            }
            for file in files
        ],
    }
    yield json.dumps(head)[:-1]
    yield ', "groups": ['
    for number, group in enumerate(groups):
        yield ",\n" if number else "\n"
        yield json.dumps(group_dict(group, limit_s))
    yield "\n]}\n"


def group_dict(group: Group, limit_s: float | None) -> dict[str, Any]:
    """Return all that is known of a group. `flame` is `None` if no samples were merged.

    `fingerprint` and `cause` are `None` for the group of those there was no room for, `over_limit`
    if there is no limit.
    """
    culprit, worst = group.culprit, group.worst
    return {
        "fingerprint": clean(group.fingerprint) if group.fingerprint else None,
        "count": group.count,
        "total_s": group.total_us / US_PER_S,
        "worst_s": group.worst_us / US_PER_S,
        "unfinished": group.unfinished,
        "over_limit": group.over if limit_s is not None else None,
        "cause": clean(group.cause) if group.fingerprint else None,
        "culprit": asdict(culprit) if culprit is not None else None,
        "advice": group.advice,
        "first_seen": _iso(group.first_s),
        "last_seen": _iso(group.last_s),
        "workers": group.workers or None,
        "worst": {
            **{name: value for name, value in asdict(worst).items() if name != "started_at_s"},
            "started_at": _iso(worst.started_at_s),
        }
        if worst is not None
        else None,
        "flame": group.flame.to_dict(US_PER_S) if group.flame is not None else None,
    }


def _iso(at_s: float | None) -> str | None:
    return iso_utc(at_s) if at_s is not None else None
