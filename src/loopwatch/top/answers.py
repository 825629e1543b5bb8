"""What a thread server says, checked: other versions and other programs answer too.

Names stay as they came, hostile or not; whoever shows them cleans them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from loopwatch._version import __version__
from loopwatch.top.client import NotLoopwatchError, TroubleError
from loopwatch.views.text import clean

__all__ = ["Live", "LoopNow", "StallLine", "read_live", "read_record", "read_stall"]

# What a field of a wrong type or size, or one that is missing, raises.
_DAMAGED: Final = (LookupError, TypeError, ValueError, AttributeError, OverflowError)
# Beyond it a number is no measurement, and would overflow what shows it.
_LARGEST: Final = 1e15


@dataclass(frozen=True, slots=True)
class StallLine:
    """One stall without its samples. `started_at_s` is unix time; `raw` the record as it came."""

    id: str
    loop: str
    started_at_s: float
    duration_s: float
    ongoing: bool
    cause: str
    function: str | None
    file: str | None
    line: int | None
    request: str | None
    task: str | None
    allowed: str | None
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LoopNow:
    """What is true of one loop. `points` are (unix time, largest lag of that second).

    Ratios are `None` where the sensor cannot know. Limits are those that the process has set.
    """

    loop: str
    pid: int
    at_s: float
    lag_max_s: float
    utilization: float | None
    cpu_ratio: float | None
    tasks: int
    stalls: int
    active_s: float
    active: StallLine | None
    limit_stall_s: float
    limit_hang_s: float
    limit_tasks: int
    limit_cpu: float
    points: tuple[tuple[float, float], ...]
    raw: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Live:
    """One answer of `/api/live`; `stalls` are oldest first.

    `server` tells one process from the next with its pid; empty where older versions answer.
    """

    server: str
    loops: tuple[LoopNow, ...]
    stalls: tuple[StallLine, ...]


def read_live(data: object) -> Live:
    """Return an answer of `/api/live`; raises `TroubleError` if it is none that we understand."""
    if not isinstance(data, dict) or not isinstance(data.get("loops"), list):
        raise NotLoopwatchError("is no loopwatch: give the port of the setting http_port")
    try:
        loops = tuple(_loop(entry) for entry in data["loops"])
        stalls = tuple(read_stall(entry) for entry in data["stalls"])
    except _DAMAGED:
        version = _version(data["loops"])
        raise TroubleError(
            f"answers as loopwatch {version} does, which {__version__} does not understand: use "
            "the same version here and there"
        ) from None
    server = data.get("server")
    return Live(server if isinstance(server, str) else "", loops, stalls)


def read_stall(data: object) -> StallLine:
    """Return the line of a record; raises whatever a damaged one does."""
    record = _dict(data)
    culprit, request = record["culprit"], record["request"]
    task, allowed = record["task"], record["allowed"]
    return StallLine(
        id=_text(record["id"]),
        loop=_text(record["loop"]),
        started_at_s=_unix(record["started_at"]),
        duration_s=_number(record["duration_s"]),
        ongoing=record["phase"] == "ongoing",
        cause=_text(record["cause"]),
        function=_text(culprit["function"]) if culprit is not None else None,
        file=_text(culprit["file"]) if culprit is not None else None,
        line=_whole(culprit["line"]) if culprit is not None else None,
        request=_request(request) if request is not None else None,
        task=_text(task["name"]) if task is not None else None,
        allowed=_text(allowed) if allowed is not None else None,
        raw=record,
    )


def read_record(data: object) -> StallLine:
    """Return an answer of `/api/stalls/ID`; raises `TroubleError` if it is none."""
    try:
        return read_stall(data)
    except _DAMAGED:
        raise TroubleError("answered with something else than a record of a stall") from None


def _loop(entry: object) -> LoopNow:
    answer = _dict(entry)
    now, rows = _dict(answer["snapshot"]), answer["points"]
    limits, totals, lag = _dict(now["thresholds"]), _dict(now["totals"]), _dict(now["lag"])
    active = now["active_stall"]
    return LoopNow(
        loop=_text(now["loop"]),
        pid=_whole(now["pid"]),
        at_s=_unix(now["at"]),
        lag_max_s=_number(lag["max_s"]),
        utilization=_ratio(now["utilization"]),
        cpu_ratio=_ratio(now["cpu_ratio"]),
        tasks=_whole(now["tasks"]),
        stalls=sum(_whole(count) for count in _dict(totals["stalls"]).values()),
        active_s=_number(now["active_s"]),
        active=read_stall(active) if active is not None else None,
        limit_stall_s=_number(limits["stall_s"]),
        limit_hang_s=_number(limits["hang_s"]),
        limit_tasks=_whole(limits["tasks"]),
        limit_cpu=_number(limits["cpu_ratio"]),
        points=tuple((_number(row[0]), _number(row[1])) for row in rows),
        raw=now,
    )


def _version(loops: list[Any]) -> str:
    try:
        return clean(loops[0]["snapshot"]["version"])
    except (LookupError, TypeError):
        return "?"


def _request(request: Any) -> str:
    route = request["route"]
    return _text(request["method"]) + (f" {_text(route)}" if route is not None else "")


def _dict(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    if not -_LARGEST <= value <= _LARGEST or math.isnan(value):
        raise ValueError
    return float(value)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError
    return int(_number(value))


def _ratio(value: object) -> float | None:
    return None if value is None else _number(value)


def _unix(text: object) -> float:
    at = datetime.fromisoformat(_text(text))
    if at.tzinfo is None:
        raise ValueError
    return at.timestamp()
