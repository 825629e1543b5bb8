"""What the thread server answers: paths in, bytes out, from snapshots and records alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loopwatch.model import Point, Snapshot, Stall

__all__ = ["BUSY", "HTML", "JSON", "TEXT", "Answer", "View", "answer", "is_long"]

JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
# Rows of a list of stalls: what fits a page, and of whole records what fits in memory.
_NEWEST: Final = 500
_MAX_RECORDS_BYTES: Final = 8 * 1024 * 1024
# A record is noted when it opens, and its place is kept: newer ones may have ended before it.
_ASIDE: Final = 200
# A clock that was set back leaves points and stalls of times that are to come again.
_AHEAD_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class View:
    """What the server may read of one loop."""

    snapshot: Callable[[], Snapshot]
    stalls: Callable[[], tuple[Stall, ...]]
    timeline: Callable[[], tuple[Point, ...]]
    registry: Callable[[str], tuple[bytes, str]] | None
    metrics: Callable[[str, Sequence[Callable[[], Snapshot]]], tuple[bytes, str]]
    spent: Callable[[int], None]
    failed: Callable[[BaseException], None]


def _nothing() -> None:
    """Do nothing when an answer is over."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, body, and headers beside those that every answer has.

    `over` is to be called when it is sent, or cannot be.
    """

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    over: Callable[[], None] = _nothing


_SOON: Final = (("Retry-After", "1"),)
_STOPPED: Final = Answer(
    HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"no loop is watched here any more\n", _SOON
)
BUSY: Final = Answer(
    HTTPStatus.SERVICE_UNAVAILABLE, TEXT, b"somebody reads all records now; ask again\n", _SOON
)


def is_long(target: str) -> bool:
    """Return whether the answer may be of megabytes."""
    return target.partition("?")[0] == "/api/stalls"


def answer(views: tuple[View, ...], target: str, accept: str, token: str = "") -> Answer:
    """Return what is at `target` (path and query); `token` tells one server from the next.

    Raises what a collector of the host raises.
    """
    if not views:
        return _STOPPED
    # Not urlsplit, which raises for what is no URL.
    path, _, query = target.partition("?")
    if path == "/":
        return _page()
    if path == "/metrics":
        return _metrics(views, accept)
    if path == "/livez":
        return _livez([view.snapshot() for view in views])
    if path == "/api/snapshot":
        return _json({"loops": [view.snapshot().to_dict() for view in views]})
    if path == "/api/live":
        return _live(views, _since(query), token)
    if path == "/api/stalls":
        return _stalls(views)
    if path.startswith("/api/stalls/"):
        return _stall(views, path.removeprefix("/api/stalls/"))
    known = "/ /metrics /livez /api/snapshot /api/live /api/stalls /api/stalls/ID"
    return Answer(HTTPStatus.NOT_FOUND, TEXT, f"not found; there is {known}\n".encode())


def _metrics(views: tuple[View, ...], accept: str) -> Answer:
    # The registry of whoever exports to one has all loops that do; else all loops alone.
    registries = [view.registry for view in views if view.registry is not None]
    if registries:
        body, content_type = registries[0](accept)
    else:
        body, content_type = views[0].metrics(accept, [view.snapshot for view in views])
    return Answer(HTTPStatus.OK, content_type, body)


def _livez(snapshots: list[Snapshot]) -> Answer:
    stuck = [s for s in snapshots if s.active_s >= s.thresholds.hang_s]
    if not stuck:
        return Answer(HTTPStatus.OK, TEXT, b"ok\n")
    text = "".join(f"loop {s.loop} stuck for {s.active_s:.1f} s\n" for s in stuck)
    return Answer(HTTPStatus.SERVICE_UNAVAILABLE, TEXT, text.encode())


@cache
def _page() -> Answer:
    # Most processes never show it.
    from loopwatch.views.colours import cause_css  # noqa: PLC0415
    from loopwatch.web import live_page  # noqa: PLC0415

    page = live_page(cause_css())
    return Answer(HTTPStatus.OK, HTML, page.html.encode(), page.headers)


def _live(views: tuple[View, ...], since_s: float, token: str) -> Answer:
    """Return all that has changed since a moment (unix time): snapshots, points, stalls."""
    loops = []
    for view in views:
        snapshot = view.snapshot()
        points = [
            point.to_list()
            for point in view.timeline()
            if since_s < point.at_s <= snapshot.at_s + _AHEAD_S
        ]
        loops.append(json.dumps({"snapshot": _now(snapshot, since_s), "points": points}))
    # Asked for once a second, and samples are a hundred times the work of all the rest.
    stalls = [json.dumps(stall.summary()) for stall in _oldest_first(views, since_s)]
    body = (
        f'{{"loops": [{", ".join(loops)}], "stalls": [{", ".join(stalls)}], '
        f'"server": {json.dumps(token)}}}'
    )
    return Answer(HTTPStatus.OK, JSON, body.encode())


def _now(snapshot: Snapshot, since_s: float) -> dict[str, Any]:
    """Return a snapshot without the samples of its stall, and with its census only if new."""
    stall, census = snapshot.active_stall, snapshot.census
    known = census is not None and census.at_s <= since_s
    data = replace(
        snapshot,
        active_stall=stall and replace(stall, samples=()),
        census=None if known else census,
    ).to_dict()
    if stall:
        del data["active_stall"]["samples"]
    if known:
        del data["census"]
    return data


def _changed_at_s(stall: Stall) -> float:
    # Told a moment later than it ended: a reader must not miss it for that.
    return stall.started_at_s + stall.duration_s + 1.0


def _since(query: str) -> float:
    try:
        since_s = float(parse_qs(query)["since"][0])
    except (KeyError, ValueError):
        return 0.0
    return since_s if math.isfinite(since_s) else 0.0


def _stalls(views: tuple[View, ...]) -> Answer:
    """Return the newest records, as many as fit; `left_out` says how many do not."""
    kept = sum(len(view.stalls()) for view in views)
    rows: list[bytes] = []
    left = _MAX_RECORDS_BYTES
    for stall in reversed(_oldest_first(views)):
        # One call per record: the encoder keeps the GIL, and all at once would be a stall.
        row = json.dumps(stall.to_dict()).encode()
        left -= len(row)
        if left < 0 and rows:
            break
        rows.append(row)
    tail = f'], "left_out": {max(0, kept - len(rows))}}}'
    body = b"".join((b'{"stalls": [', b", ".join(reversed(rows)), tail.encode()))
    return Answer(HTTPStatus.OK, JSON, body)


def _stall(views: tuple[View, ...], wanted: str) -> Answer:
    for view in views:
        for stall in reversed(view.stalls()):
            if stall.id == wanted:
                return _json(stall.to_dict())
    text = b"no such stall; /api/stalls has those that are kept (setting history)\n"
    return Answer(HTTPStatus.NOT_FOUND, TEXT, text)


def _oldest_first(views: tuple[View, ...], since_s: float = 0.0) -> list[Stall]:
    """Return the newest stalls that have changed since then, oldest of them first."""
    newest = [islice(_changed(view.stalls(), since_s), _NEWEST) for view in views]
    stalls = [stall for each in newest for stall in each]
    return sorted(stalls, key=lambda stall: stall.started_at_s)[-_NEWEST:]


def _changed(stalls: tuple[Stall, ...], since_s: float) -> Iterator[Stall]:
    """Yield from the newest on; `history` may be large, so it stops where all is old."""
    aside = 0
    for stall in reversed(stalls):
        if _changed_at_s(stall) >= since_s:
            yield stall
        elif (aside := aside + 1) > _ASIDE:
            return


def _json(data: dict[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, JSON, json.dumps(data).encode())
