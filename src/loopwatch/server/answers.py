"""What the thread server answers: paths in, bytes out, from snapshots and records alone."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from loopwatch.model import Point, Snapshot, Stall

__all__ = ["HTML", "JSON", "TEXT", "Answer", "View", "answer"]

JSON: Final = "application/json; charset=utf-8"
TEXT: Final = "text/plain; charset=utf-8"
HTML: Final = "text/html; charset=utf-8"
# Rows of a list of stalls: what fits a page.
_NEWEST: Final = 500


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


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type, body, and headers beside those that every answer has."""

    status: HTTPStatus
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def answer(views: tuple[View, ...], target: str, accept: str) -> Answer:
    """Return what is at `target` (path and query). Raises what a collector of the host raises."""
    # Not urlsplit, which raises for what is no URL.
    path, _, query = target.partition("?")
    if path == "/":
        return _page()
    if path == "/metrics" and views:
        return _metrics(views, accept)
    if path == "/livez":
        return _livez([view.snapshot() for view in views])
    if path == "/api/snapshot":
        return _json({"loops": [view.snapshot().to_dict() for view in views]})
    if path == "/api/live":
        return _live(views, _since(query))
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


def _live(views: tuple[View, ...], since_s: float) -> Answer:
    """Return all that has changed since a moment (unix time): snapshots, points, stalls."""
    loops = [
        json.dumps(
            {
                "snapshot": _now(view.snapshot(), since_s),
                "points": [point.to_list() for point in view.timeline() if point.at_s > since_s],
            }
        )
        for view in views
    ]
    changed = [stall for stall in _newest(views) if _changed_at_s(stall) >= since_s]
    # Asked for once a second, and samples are a hundred times the work of all the rest.
    stalls = [json.dumps(stall.summary()) for stall in changed[-_NEWEST:]]
    body = f'{{"loops": [{", ".join(loops)}], "stalls": [{", ".join(stalls)}]}}'
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
    # One call per record: the encoder keeps the GIL, and all at once would be a stall.
    rows = ", ".join(json.dumps(stall.to_dict()) for stall in _newest(views))
    return Answer(HTTPStatus.OK, JSON, f'{{"stalls": [{rows}]}}'.encode())


def _stall(views: tuple[View, ...], wanted: str) -> Answer:
    for stall in _newest(views):
        if stall.id == wanted:
            return _json(stall.to_dict())
    text = b"no such stall; /api/stalls has those that are kept (setting history)\n"
    return Answer(HTTPStatus.NOT_FOUND, TEXT, text)


def _newest(views: tuple[View, ...]) -> list[Stall]:
    return sorted(_all_stalls(views), key=lambda stall: stall.started_at_s)


def _all_stalls(views: tuple[View, ...]) -> Iterator[Stall]:
    for view in views:
        yield from view.stalls()


def _json(data: dict[str, Any]) -> Answer:
    return Answer(HTTPStatus.OK, JSON, json.dumps(data).encode())
