"""The stalls of one fingerprint, added up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from loopwatch.views.flame import Flame
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable

    from loopwatch.report.pairs import Open
    from loopwatch.report.record import Told
    from loopwatch.views.flame import Room

__all__ = ["MAX_WORKERS", "Blamed", "Group", "Worst"]

# Told apart for each fingerprint.
MAX_WORKERS: Final = 1_000
# Of each text; one more than `clean` shows, so that it sees that there is more. A line may have
# 4 MiB, and there are thousands of groups.
_KEPT: Final = 301
_CULPRIT: Final = ("function", "file", "line", "call", "source", "in_app")
_MAX_LINE: Final = 1_000_000_000

_Part: TypeAlias = dict[str, str | int] | None


@dataclass(frozen=True, slots=True)
class Blamed:
    """A culprit as it may be shown. `call` and `source` are `None` where they are not known."""

    function: str
    file: str
    line: int
    call: str | None
    source: str | None
    in_app: bool


@dataclass(frozen=True, slots=True)
class Worst:
    """The longest stall of a group: what leads to it in logs and traces."""

    id: str
    started_at_s: float
    finished: bool
    task: str | None
    coro: str | None
    request: str | None
    trace_id: str | None


class Group:
    """One fingerprint. Durations are whole microseconds, moments unix time in seconds.

    `unfinished` stalls have no final record: their duration is what it was when last told. `over`
    stalls are over the limit. `allowed` is the reason the app gave, `None` for all that count.
    Without a fingerprint it is a group of different stalls: it has no cause, culprit and advice.
    """

    def __init__(
        self, index: int, fingerprint: str, room: Room | None, allowed: str | None = None
    ) -> None:
        self.index = index
        self.fingerprint = fingerprint
        self.allowed = allowed
        self.flame = Flame(clean(fingerprint), room) if room is not None else None
        self.count = 0
        self.total_us = 0
        self.worst_us = 0
        self.first_s = math.inf
        self.last_s = -math.inf
        self.unfinished = 0
        self.over = 0
        self.cause = ""
        self._workers: set[int] = set()
        # What is shown comes from the newest and from the worst: (what decides, what it says).
        self._newest: tuple[tuple[float, str], _Part, _Part] = ((-math.inf, ""), None, None)
        self._worst: tuple[tuple[int, float, str], bool, _Part, _Part] = (
            (-1, 0.0, ""), False, None, None,
        )  # fmt: skip

    def describe(self, record: Told) -> None:
        """Take cause, culprit and advice, until a stall that counts brings its own."""
        self._tell((-math.inf, ""), record)

    def add(self, record: Told, worker: int, *, over: bool) -> None:
        """Count a stall."""
        self._count(record.started_at_s, record.duration_us, worker)
        self.over += over
        self.unfinished += not record.final
        data = record.data
        age = (record.started_at_s, data["id"][:_KEPT])
        if self.fingerprint and age > self._newest[0]:
            self._tell(age, record)
        size = (record.duration_us, *age)
        if size > self._worst[0]:
            request = _part(data, "request", ("method", "route", "trace_id"))
            self._worst = (size, record.final, request, _part(data, "task", ("name", "coro")))
        if self.flame is not None:
            self.flame.add(data.get("samples"), record.duration_us)

    def add_bare(self, stall: Open, *, over: bool) -> None:
        """Count an unfinished stall of which there is no more than this."""
        self._count(stall.started_at_s, stall.duration_us, stall.worker)
        self.over += over
        self.unfinished += 1
        if self.flame is not None:
            self.flame.add(None, stall.duration_us)

    def _tell(self, age: tuple[float, str], record: Told) -> None:
        self.cause = record.cause
        culprit = _part(record.data, "culprit", _CULPRIT)
        self._newest = (age, culprit, _part(record.data, "advice", ("text",)))

    def _count(self, started_at_s: float, duration_us: int, worker: int) -> None:
        self.count += 1
        self.total_us += duration_us
        self.worst_us = max(self.worst_us, duration_us)
        self.first_s = min(self.first_s, started_at_s)
        self.last_s = max(self.last_s, started_at_s)
        if worker and len(self._workers) < MAX_WORKERS:
            self._workers.add(worker)

    @property
    def workers(self) -> int:
        """How many processes it happened in, up to `MAX_WORKERS`; 0 if that is not known."""
        return len(self._workers)

    @property
    def culprit(self) -> Blamed | None:
        """Who was blamed the last time; `None` if nobody was."""
        blamed = self._newest[1]
        if blamed is None:
            return None
        line = blamed.get("line")
        return Blamed(
            clean(blamed.get("function")),
            clean(blamed.get("file")),
            line if type(line) is int and 0 <= line < _MAX_LINE else 0,
            _text(blamed, "call"),
            _text(blamed, "source"),
            blamed.get("in_app") is True,
        )

    @property
    def advice(self) -> str | None:
        """What to do instead."""
        return _text(self._newest[2], "text")

    @property
    def worst(self) -> Worst | None:
        """The longest stall; `None` if only its duration is known."""
        (duration_us, started_at_s, identity), final, request, task = self._worst
        if duration_us != self.worst_us:
            return None
        method, route = _text(request, "method"), _text(request, "route")
        return Worst(
            clean(identity),
            started_at_s,
            final,
            _text(task, "name"),
            _text(task, "coro"),
            f"{method} {route or '(route not known)'}" if method else None,
            _text(request, "trace_id"),
        )


def _part(data: dict[str, Any], name: str, fields: Iterable[str]) -> _Part:
    """Return what is shown of a part of a record, cut; `None` if it is none."""
    part = data.get(name)
    if not isinstance(part, dict):
        return None
    kept: dict[str, str | int] = {}
    for each in fields:
        value = part.get(each)
        if isinstance(value, str):
            kept[each] = value[:_KEPT]
        elif isinstance(value, int):
            kept[each] = value
    return kept


def _text(part: _Part, name: str) -> str | None:
    """Return one field of a part of a record; `None` if it has none."""
    value = part.get(name) if part is not None else None
    return clean(value) if isinstance(value, str) else None
