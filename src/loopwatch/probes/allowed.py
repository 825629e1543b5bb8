"""Blocking on purpose: `allow_blocking` marks a stretch of a thread, the watchdog reads it."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final, NamedTuple, ParamSpec, Self, TypeVar, cast

from loopwatch.clock import monotonic_ns
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Stretch", "allow_blocking", "reason_for"]

P = ParamSpec("P")
R = TypeVar("R")

_KEPT: Final = 64


class _Mark:
    """One stretch: on which thread, in which task, from when to when (0 while it lasts)."""

    __slots__ = ("end_ns", "ident", "reason", "start_ns", "task_id")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.ident = get_ident()
        self.task_id = _task_id()
        self.end_ns = 0
        self.start_ns = monotonic_ns()


class Stretch(NamedTuple):
    """What is asked about: which thread, which task, from when to when.

    `task_id` is 0 in a plain callback, and `None` where it is not known.
    """

    ident: int
    task_id: int | None
    start_ns: int
    end_ns: int


# Of all threads: a stall may be looked at when the block is over. Bounded, and appended to and
# read without a lock (single operations of deque and dict).
_ENDED: Final[deque[_Mark]] = deque(maxlen=_KEPT)
_ACTIVE: Final[dict[int, _Mark]] = {}


class allow_blocking:  # noqa: N801 - used like a function: a context manager and a decorator
    """Say that blocking is meant here: `with allow_blocking("reading the model"):`, or `@`.

    A stall inside is counted as allowed and kept in `Agent.stalls`, but not reported. On an async
    function, or around an `await`, it holds for the task that entered it and no other. `reason` is
    a text that is not empty; anything else raises `ConfigError`.
    """

    def __init__(self, reason: str) -> None:
        text: object = reason  # what users pass is checked where there is no type checker
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(
                f"allow_blocking() got a reason of type {type(text).__name__} and no text: "
                'write allow_blocking("why it may block")'
            )
        self._reason = reason
        self._marks: list[_Mark] = []

    def __enter__(self) -> Self:
        mark = _Mark(self._reason)
        self._marks.append(mark)
        _ACTIVE[id(mark)] = mark
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Several tasks may be inside the same object: each takes its own mark out.
        ident, task_id = get_ident(), _task_id()
        own = [m for m in self._marks if (m.ident, m.task_id) == (ident, task_id)]
        mark = own[-1] if own else self._marks[-1]
        self._marks.remove(mark)
        mark.end_ns = monotonic_ns()
        _ENDED.append(mark)
        _ACTIVE.pop(id(mark), None)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, sync or async."""
        reason = self._reason
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"allow_blocking({reason!r}) cannot decorate a generator, {function.__qualname__}: "
                "use `with allow_blocking(...)` around what blocks in it"
            )
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def allowed_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                with allow_blocking(reason):
                    return await cast("Any", function(*args, **kwargs))

            return cast("Callable[P, R]", allowed_async)

        @functools.wraps(function)
        def allowed(*args: P.args, **kwargs: P.kwargs) -> R:
            with allow_blocking(reason):
                return function(*args, **kwargs)

        return allowed


def reason_for(stretch: Stretch) -> str | None:
    """Return the reason of the block that covers most of a stretch; `None` if none does."""
    wall_ns = stretch.end_ns - stretch.start_ns
    for mark in [*_ACTIVE.copy().values(), *_ENDED.copy()]:
        if mark.ident != stretch.ident:
            continue
        # A plain callback cannot be left and come back to: its mark needs no task.
        if stretch.task_id is not None and mark.task_id not in (None, stretch.task_id):
            continue
        start_ns = max(mark.start_ns, stretch.start_ns)
        covered_ns = min(mark.end_ns or stretch.end_ns, stretch.end_ns) - start_ns
        if 2 * covered_ns > wall_ns:
            return mark.reason
    return None


def _task_id() -> int | None:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None  # no loop runs here
    return None if task is None else id(task)
