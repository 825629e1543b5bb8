"""One line for FastAPI, Starlette and every framework with an ASGI lifespan context."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from loopwatch.config import Config
from loopwatch.registry import current, install

__all__ = ["lifespan"]

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


def lifespan(inner: Callable[[Any], Any] | None = None, /, **settings: Any) -> Lifespan:
    """Return a lifespan that watches the loop while the app runs.

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
                yield None
            else:
                async with inner(app) as state:
                    yield state
        finally:
            if owner:
                agent.stop()

    return watched
