"""The sensor of stdlib selector loops: wraps `select` of the loop's own selector object.

Private API: `loop._selector`, checked on CPython 3.11 to 3.15. Where it is missing the `tick`
sensor takes over.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.clock import monotonic_ns
from loopwatch.patch import Patch
from loopwatch.sensors.base import Period, Reading, SensorUnavailableError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = ["SelectorSensor"]

# Long periods are rare by nature; a watchdog that cannot run for long finds this many at the most.
_KEPT_PERIODS: Final = 1024


class _Marks(NamedTuple):
    iteration: int
    busy_since_ns: int
    waiting_since_ns: int
    idle_ns: int


class SelectorSensor:
    """Exact busy periods of a selector loop, for two clock reads an iteration."""

    name = "selector"

    def __init__(self, loop: AbstractEventLoop) -> None:
        selector = getattr(loop, "_selector", None)
        if not callable(getattr(selector, "select", None)):
            raise SensorUnavailableError("the loop has no selector")
        self._selector: Any = selector
        self._ended: deque[tuple[int, int, int]] = deque(maxlen=_KEPT_PERIODS)
        self._patch: Patch | None = None
        self._marks: Callable[[], _Marks] | None = None
        self._retune: Callable[[int], None] | None = None

    def start(self, limit_ns: int) -> None:
        """Wrap `select`. Runs on the loop thread, so the loop is busy at this moment."""
        hook, self._marks, self._retune = _wrap(self._selector.select, limit_ns, self._ended.append)
        try:
            self._patch = Patch(self._selector, "select", hook)
        except AttributeError:
            self._marks = None
            raise SensorUnavailableError("the loop's selector cannot be wrapped") from None

    def retune(self, limit_ns: int) -> None:
        """Keep periods of at least `limit_ns` from now on."""
        if self._retune is not None:
            self._retune(limit_ns)

    def read(self, now_ns: int) -> Reading:
        """Return the state of the loop; see `Reading`."""
        if self._marks is None:
            return Reading(0, None, None, None)
        marks = self._marks()
        # The marks are read before the deque is drained: a period whose end they show is in it.
        ended = []
        while self._ended:
            ended.append(Period(*self._ended.popleft()))
        waiting = marks.waiting_since_ns
        # The loop may have gone to wait between the marks and the deque.
        over = any(period.iteration == marks.iteration for period in ended)
        return Reading(
            iteration=marks.iteration,
            busy_since_ns=None if waiting or over else marks.busy_since_ns,
            idle_ns=marks.idle_ns + (max(0, now_ns - waiting) if waiting else 0),
            iterations=marks.iteration,
            ended=tuple(ended),
        )

    def is_at(self, iteration: int) -> bool:
        """Return whether the loop is still busy with that iteration."""
        if self._marks is None:
            return False
        marks = self._marks()
        return marks.iteration == iteration and not marks.waiting_since_ns

    def served(self, now_ns: int) -> None:
        """Nothing to do: the hook itself sees the end of every period."""

    def stop(self) -> None:
        """Take the wrapper off, if it is still the one on top."""
        if self._patch is not None:
            self._patch.restore()


def _wrap(
    select: Callable[[float | None], Any],
    limit_ns: int,
    keep: Callable[[tuple[int, int, int]], None],
) -> tuple[Callable[..., Any], Callable[[], _Marks], Callable[[int], None]]:
    """Return `select` with marks around it, what reads the marks, and what sets the limit.

    This runs once per loop iteration: closure variables, no attributes, no allocation unless a
    period was long. `waiting` is set last on the way out and first on the way in, so a reader
    that sees 0 sees the `since` and `iteration` of the period in progress.
    """
    clock = monotonic_ns
    iteration = 0
    idle_ns = 0
    waiting = 0
    since = clock()

    def hooked(timeout: float | None = None) -> Any:
        nonlocal iteration, idle_ns, waiting, since
        began = clock()
        if began - since >= limit_ns:
            keep((iteration, since, began))
        waiting = began
        try:
            return select(timeout)
        finally:  # also when a signal handler raises out of the wait
            since = clock()
            idle_ns += since - began
            iteration += 1
            waiting = 0

    def marks() -> _Marks:
        # The loop thread may move between two loads: taken again until the iteration stood still.
        for _ in range(8):
            before = iteration
            picture = _Marks(before, since, waiting, idle_ns)
            if iteration == before:
                break
        return picture

    def retune(to_ns: int) -> None:
        nonlocal limit_ns
        limit_ns = to_ns

    return hooked, marks, retune
