"""One line for FastAPI, Starlette and every framework with an ASGI lifespan context."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any

from loopwatch.config import Config
from loopwatch.integrations.asgi import RequestMiddleware
from loopwatch.patch import Patch
from loopwatch.registry import current, install

__all__ = ["lifespan"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(inner: Callable[[Any], Any] | None = None, /, **settings: Any) -> Lifespan:
    """Return a lifespan that watches the loop while the app runs.

    Requests of Starlette and FastAPI apps are watched too, so that a stall names its request.
    `inner` is the app's own lifespan: it runs inside, and the state it yields is kept. `settings`
    are those of `install`, `on_stall` and `exporters` included. Wrong ones raise `ConfigError`
    right here, where the app is made. A loop that is watched already is left to its owner.
    """
    Config.from_env(**{k: v for k, v in settings.items() if k not in {"on_stall", "exporters"}})
    if inner is not None and inspect.isasyncgenfunction(inner):
        inner = asynccontextmanager(inner)

    @asynccontextmanager
    async def watched(app: Any) -> AsyncIterator[Any]:
        owner = current() is None
        agent = install(**settings)
        try:
            if inner is None:
                with _requests_of(app):
                    yield None
            else:
                async with inner(app) as state:
                    # After the app's own start-up, which may build its middlewares anew.
                    with _requests_of(app):
                        yield state
        finally:
            if owner:
                agent.stop()

    return watched


@contextmanager
def _requests_of(app: Any) -> Iterator[None]:
    """Put the middleware around a Starlette app; other apps are left as they are."""
    patch = None
    try:
        stack = getattr(app, "__dict__", {}).get("middleware_stack")
        if stack is not None:
            patch = Patch(app, "middleware_stack", RequestMiddleware(stack))
    except Exception:  # noqa: BLE001, S110 - an app that cannot be patched runs without it
        pass
    try:
        yield
    finally:
        if patch is not None:
            patch.restore()
