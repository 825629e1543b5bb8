"""The request that is served on a loop, and how many are in flight, read from another thread.

The middleware puts one `InFlight` into the context of each request; tasks that the request
starts inherit it. Nothing is formatted before a stall asks. Method and route template are told,
never the path, the query or a parameter: all of that is the client's text.

Private API, checked on CPython 3.11 to 3.13 and uvloop 0.23: 3.11 has no `Task.get_context`, and
there the context is the first one among the `gc` referents of a C task (checked on 3.11.7) and
`_context` of a Python one. Where neither works there is no request.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextvars
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

from loopwatch.model import Request
from loopwatch.probes.current import current_task

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterator, MutableMapping, Sequence

__all__ = ["InFlight", "Tally", "begin", "context_of", "in_flight", "read_request", "tally_of"]

# The method is the client's text too: what is none of these is not repeated.
_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)
_OTHER_METHOD: Final = "OTHER"

# A search through the routes of an app takes about a microsecond for each: at most 2 ms.
_MOST_ROUTES: Final = 2000
_DEEPEST_MOUNT: Final = 8
_MOST_WRAPPERS: Final = 16


class Tally:
    """The HTTP requests in flight on one loop; only that loop's thread counts."""

    __slots__ = ("in_flight", "loop")

    def __init__(self, loop: Callable[[], AbstractEventLoop | None]) -> None:
        self.loop = loop
        self.in_flight = 0


class InFlight:
    """One request. Lets go of its scope at the end, whoever still has it in a context.

    `tally` is `None` for what is not counted. `outer` is the request from inside which this one
    was made, in the same context: it is what is served again when this one is over.
    """

    __slots__ = ("outer", "scope", "tally")

    def __init__(
        self, scope: MutableMapping[str, Any], tally: Tally | None, outer: InFlight | None
    ) -> None:
        self.scope: MutableMapping[str, Any] | None = scope
        self.tally = tally
        self.outer = outer
        if tally is not None:
            tally.in_flight += 1

    def end(self) -> None:
        """Say that the app is done with it. Once."""
        self.scope = None
        if self.outer is not None:
            # Requests pipelined on one connection are each begun inside the one before: a chain
            # that must not grow with the connection.
            self.outer = _alive(self.outer)
        if self.tally is not None:
            self.tally.in_flight -= 1


# Never reset: a request may be torn down in another context than its own, where that raises.
_CURRENT: Final[contextvars.ContextVar[InFlight | None]] = contextvars.ContextVar(
    "loopwatch_request", default=None
)
# Beside the agents and not in them: a middleware may be there before and after an agent is.
_TALLIES: Final[weakref.WeakKeyDictionary[AbstractEventLoop, Tally]] = weakref.WeakKeyDictionary()


# On the loop.


def begin(scope: MutableMapping[str, Any], tally: Tally | None) -> InFlight | None:
    """Note that the current context serves this request now; `None` if that is known already."""
    outer = _CURRENT.get()
    if outer is not None:
        outer = _alive(outer)
        if outer is not None and _is_same(outer, scope):
            outer.scope = scope  # a copy is what the router below will write the route into
            return None
    flight = InFlight(scope, tally, outer)
    _CURRENT.set(flight)
    return flight


def tally_of(loop: AbstractEventLoop) -> Tally:
    """Return the one tally of a loop."""
    try:
        tally = _TALLIES.get(loop)
        if tally is None:
            tally = _TALLIES[loop] = Tally(weakref.ref(loop))
    except TypeError:
        return Tally(lambda: None)  # a loop without weak references: nobody will read this one
    return tally


def _alive(flight: InFlight | None) -> InFlight | None:
    while flight is not None and flight.scope is None:
        flight = flight.outer
    return flight


def _is_same(flight: InFlight, scope: MutableMapping[str, Any]) -> bool:
    """Whether this is the request's scope, or a copy that a middleware in between made of it."""
    known = flight.scope
    if known is scope:
        return True
    headers = scope.get("headers")
    return known is not None and headers is not None and known.get("headers") is headers


# From any thread that has the GIL.


def in_flight(loop: AbstractEventLoop) -> int | None:
    """Return how many HTTP requests are in flight; `None` if no middleware ever ran there.

    WebSockets are not among them: they live long, and do not wait for an answer.
    """
    try:
        tally = _TALLIES.get(loop)
    except TypeError:
        return None
    return None if tally is None else tally.in_flight


def context_of(loop: AbstractEventLoop) -> contextvars.Context | None:
    """Return the context of the task that runs on `loop` now; `None` in a plain callback."""
    try:
        task: Any = current_task(loop)
        get_context = getattr(task, "get_context", None)
        context = getattr(task, "_context", None) if get_context is None else get_context()
    except Exception:  # noqa: BLE001 - a task class of the host's own may do anything
        return None
    if isinstance(context, contextvars.Context):
        return context
    # Not for subclasses: what their slots hold comes before the context.
    if type(task) is getattr(asyncio.tasks, "_CTask", None):
        for referent in gc.get_referents(task):
            if type(referent) is contextvars.Context:
                return referent
    return None


def read_request(context: contextvars.Context) -> Request | None:
    """Return the request that a context belongs to; `None` without one, or when it is over."""
    flight = _alive(context.get(_CURRENT))
    scope = flight.scope if flight is not None else None
    if scope is None:
        return None
    trace_id, span_id = _span_of(context)
    return Request(_method(scope), _route(scope), trace_id, span_id)


def _method(scope: MutableMapping[str, Any]) -> str:
    try:
        if scope["type"] == "websocket":
            return "WEBSOCKET"
        method = scope["method"]
        return str(method) if method in _METHODS else _OTHER_METHOD
    except Exception:  # noqa: BLE001 - what is in a scope is the host's and may do anything
        return _OTHER_METHOD


def _span_of(context: contextvars.Context) -> tuple[str | None, str | None]:
    """Return the ids of the current OpenTelemetry span, if the host uses OpenTelemetry."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is not None:
        try:
            # In a copy: the context itself is entered, on the loop's thread.
            span = context.copy().run(trace.get_current_span).get_span_context()
            if span.is_valid:
                return f"{span.trace_id:032x}", f"{span.span_id:016x}"
        except Exception:  # noqa: BLE001, S110 - spans are the host's; without ids it is a request all the same
            pass
    return None, None


# The route template.


def _route(scope: MutableMapping[str, Any]) -> str | None:
    try:
        return _template(scope)
    except Exception:  # noqa: BLE001 - routes are the host's objects and may do anything
        return None


def _template(scope: MutableMapping[str, Any]) -> str | None:
    endpoint = scope.get("endpoint")
    template = _chosen(scope, endpoint)
    if endpoint is None or (template is not None and "app_root_path" not in scope):
        return template  # not under a mount, so this is all of it
    found = set()
    for number, (route, path) in enumerate(_walk(_routes_of(scope.get("router")), "", 0)):
        if number == _MOST_ROUTES:
            return template
        if path and _serves(route, endpoint) and path.endswith(template or ""):
            found.add(path)
    return found.pop() if len(found) == 1 else template


def _chosen(scope: MutableMapping[str, Any], endpoint: object) -> str | None:
    """Return the template that the framework says it chose, without the prefixes of mounts."""
    # FastAPI that keeps included routers apart: the route itself lacks their prefix.
    own = scope.get("fastapi")
    included = own.get("effective_route_context") if isinstance(own, dict) else None
    for route in (getattr(included, "starlette_route", None), included, scope.get("route")):
        # All of these may be left from a mount above.
        if route is not None and (endpoint is None or _serves(route, endpoint)):
            path = getattr(route, "path_format", None)
            if path and isinstance(path, str):
                return path
    return None


def _serves(route: Any, endpoint: object) -> bool:
    # A mount names its app as the endpoint.
    return getattr(route, "endpoint", None) is endpoint or getattr(route, "app", None) is endpoint


def _walk(routes: Sequence[Any], prefix: str, depth: int) -> Iterator[tuple[Any, str]]:
    """Yield all routes with their whole templates."""
    for route in routes:
        path: str = getattr(route, "path_format", None) or getattr(route, "path", None) or ""
        yield route, prefix + path
        if hasattr(route, "endpoint") or depth == _DEEPEST_MOUNT:
            continue
        include = getattr(route, "include_context", None)
        if include is not None:
            yield from _walk(route.original_router.routes, prefix + include.prefix, depth + 1)
        else:
            below = _routes_of(getattr(route, "app", None))
            yield from _walk(below, prefix + path.removesuffix("/{path}"), depth + 1)


def _routes_of(app: Any) -> Sequence[Any]:
    """Return the routes of an app, maybe inside middlewares."""
    for _ in range(_MOST_WRAPPERS):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list):
            return routes
        app = getattr(app, "app", None)
    return ()
