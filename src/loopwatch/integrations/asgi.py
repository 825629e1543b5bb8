"""A pure ASGI middleware that tells the watchdog which request the loop is serving."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from loopwatch.probes.requests import Tally, begin, tally_of

__all__ = ["RequestMiddleware"]

# As in the ASGI specification, and spelled as Starlette spells them.
_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]


class RequestMiddleware:
    """Wrap an ASGI app so that stalls carry the request, and how many had to wait.

    `loopwatch.lifespan()` does this for Starlette and FastAPI apps. Anywhere else:
    `app = loopwatch.RequestMiddleware(app)`, or the framework's own way to add a middleware, as
    far outside as it can be. Twice is the same as once.
    """

    __slots__ = ("__dict__", "__weakref__", "_tally", "app")

    def __init__(self, app: _App) -> None:
        # Tools walk a stack of middlewares by this name.
        self.app = app
        self._tally: Tally | None = None

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Pass everything on as it came, and note which request it is."""
        kind = scope["type"]
        if kind == "http":
            # One app may be served by two loops in two threads: `_tally` is a cache of one.
            tally = self._tally
            try:
                loop = get_running_loop()
            except RuntimeError:
                tally = None  # not asyncio's
            else:
                if tally is None or tally.loop() is not loop:
                    tally = self._tally = tally_of(loop)
            flight = begin(scope, tally)
        elif kind == "websocket":
            flight = begin(scope, None)
        else:
            flight = None
        if flight is None:
            await self.app(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            flight.end()
