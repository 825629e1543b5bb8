"""A census as one line of a log, and as flat fields beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from loopwatch.model import Census, Location, TaskGroup

__all__ = ["EVENT", "census_fields", "census_sentence"]

EVENT: Final = "loopwatch.tasks"

# Groups in the line: the largest, and others that are no trifle beside it.
_MOST: Final = 3
_NO_TRIFLE: Final = 0.05
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
_MAIN: Final = "main"


def census_sentence(census: Census, loop: str) -> str:
    """Return how many tasks are pending and what most of them do, in one line, for people."""
    where = "" if loop == _MAIN else f"event loop {loop!r}: "
    many = f"{where}{census.tasks:,} pending tasks"
    if census.tasks <= census.threshold:
        return f"{many}, below the limit of {census.threshold:,} again"
    told = _told(census)
    parts = [_words(group, estimated=census.looked_at < census.tasks) for group in told]
    others = census.tasks - sum(group.count for group in told)
    if others > 0:
        parts.append(f"{others:,} others" if told else "not looked at, set task_sites=True")
    some = f", {census.looked_at:,} looked at" if 0 < census.looked_at < census.tasks else ""
    return f"{many} (limit {census.threshold:,}{some}): {'; '.join(parts)}"


def census_fields(census: Census, loop: str, pid: int) -> dict[str, Any]:
    """Return the census as flat fields with stable names: the largest group, and the numbers."""
    over = census.tasks > census.threshold
    top = census.groups[0] if census.groups and over else None
    at = top.waits_at if top is not None else None
    return {
        "event_name": EVENT,
        "state": "over" if over else "below",
        "loop": loop,
        "pid": pid,
        "tasks": census.tasks,
        "limit": census.threshold,
        "looked_at": census.looked_at,
        "coro": top.coro if top else None,
        "count": top.count if top else None,
        "function": at.function if at else None,
        "file": at.file if at else None,
        "line": at.line if at else None,
        "oldest_s": round(top.oldest_s, 3) if top else None,
        "growth_per_min": top.growth_per_min if top else None,
        "created_at": _place(top.created_at) if top and top.created_at else None,
    }


def _told(census: Census) -> list[TaskGroup]:
    least = census.tasks * _NO_TRIFLE
    return [g for n, g in enumerate(census.groups[:_MOST]) if n == 0 or g.count >= least]


def _words(group: TaskGroup, *, estimated: bool) -> str:
    words = [f"{'about ' * estimated}{group.count:,} × {group.coro}"]  # noqa: RUF001 - so it is
    words.append(f" at {_place(group.waits_at)}" if group.waits_at else ", without a line")
    # Only where its making was seen is the age more than a lower bound.
    words.append(f", oldest {'' if group.created_at else 'at least '}{_age(group.oldest_s)}")
    if group.growth_per_min is not None:
        words.append(f", {group.growth_per_min:+,.0f}/min")
    if group.created_at is not None:
        words.append(f", made at {_place(group.created_at)}")
    return "".join(words)


def _place(location: Location) -> str:
    return f"{location.file}:{location.line}"


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        # 90 minutes rather than one hour: two digits say enough.
        if seconds >= size * (2 if size > 1 else 1):
            return f"{int(seconds / size)} {unit}"
    return "0 s"
