"""What the request middleware adds to one request: at most 2 µs.

An ASGI app that does nothing is called in a tight loop, each time in a context of its own as a
server does it, bare and wrapped, in alternating rounds of one run.
"""

from __future__ import annotations

import asyncio
import contextvars
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Figure, quartiles
from loopwatch.integrations.asgi import RequestMiddleware

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED_S: Final = 2e-6
_CALLS: Final = 20_000
_ROUNDS: Final = 25


async def _app(scope: Any, receive: Any, send: Any) -> None:
    pass


async def _nothing(*_: Any) -> Any:
    pass


def measure() -> list[Figure]:
    """Return one figure."""
    return asyncio.run(_measure())


async def _measure() -> list[Figure]:
    wrapped = RequestMiddleware(_app)
    bare_s, added_s = [], []
    for number in range(_ROUNDS):
        # Whoever goes first is not always the same.
        if number % 2:
            bare = _per_request_s(_app)
            added = _per_request_s(wrapped) - bare
        else:
            with_it = _per_request_s(wrapped)
            bare = _per_request_s(_app)
            added = with_it - bare
        bare_s.append(bare)
        added_s.append(added)
    median = statistics.median(added_s)
    low, high = quartiles(added_s)
    return [
        Figure(
            "request middleware per request",
            f"{median * 1e6:.2f} µs (half of {_ROUNDS} rounds: {low * 1e6:.2f} to "
            f"{high * 1e6:.2f}; the bare call {statistics.median(bare_s) * 1e6:.2f})",
            f"<= {WANTED_S * 1e6:.0f} µs",
            median <= WANTED_S,
            {"added_s": added_s, "bare_s": bare_s},
        )
    ]


def _per_request_s(app: Callable[..., Any]) -> float:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        contextvars.Context().run(_finish, app, scope)
    return (time.perf_counter() - began_s) / _CALLS


def _finish(app: Callable[..., Any], scope: dict[str, Any]) -> None:
    """Run a call that never waits to its end, without the cost of a task."""
    try:
        app(scope, _nothing, _nothing).send(None)
    except StopIteration:
        return
