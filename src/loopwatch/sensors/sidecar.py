"""The sidecar: a timer on the loop whose beats measure how late the loop runs what is due.

It is a plain timer, not a task: it survives an application that cancels all tasks and never
counts as one. On the loop it stores a few numbers a beat; the watchdog reads them.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import time
from collections import deque
from threading import get_ident, get_native_id
from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.clock import NS_PER_S, monotonic_ns

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle
    from collections.abc import Callable
    from types import FrameType

    from loopwatch.sensors.alarm import Alarm

__all__ = ["DENSE", "Beat", "Sidecar"]

_KEPT_BEATS: Final = 256
# Nothing is known between two beats of a sidecar that is alone, so there they are this dense.
_BEATS_PER_THRESHOLD: Final = 4
# A `relied_on_until_ns` of long ago: beat densely, and put nothing off.
DENSE: Final = 1


def _nothing() -> None:
    pass


class Beat(NamedTuple):
    """One tick: which it was, when it was due, when it ran, and the thread's CPU time then."""

    number: int
    due_ns: int
    ran_ns: int
    cpu_ns: int


class Sidecar:
    """Beats on the loop, from `start` to `stop`: every `interval_ns`, or densely while relied on.

    Densely is every half threshold: then no stall can pass between two beats. Where beats are all
    there is to go by (`alone`) they are never rarer than four a threshold.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        interval_ns: int,
        threshold_ns: int,
        alarm: Alarm,
        *,
        alone: bool = False,
        on_beat: Callable[[], None] = _nothing,
    ) -> None:
        self._loop = loop
        self._longest_ns = interval_ns
        self._alone = alone
        self._on_beat = on_beat
        self.retune(threshold_ns)
        self._alarm = alarm
        # Set by the watchdog on a loop that is at work and well: until then each beat puts the
        # watchdog's alarm off, to shortly after the beat that follows. 0: beat, and no more.
        # Soon after the start there is nothing else to go by, so the first beats are dense, too.
        self.relied_on_until_ns = DENSE
        self._beats: deque[Beat] = deque(maxlen=_KEPT_BEATS)
        self._handle: TimerHandle | None = None
        self._stopped = False
        # An empty context: the timer must not keep the installer's context variables alive.
        self._context = contextvars.Context()
        self.number = 0
        self.due_ns = 0
        # The thread that runs the loop: it may be run again, on another one.
        self.ident = get_ident()
        self.native_id = get_native_id()
        # Frames of the thread above the loop's callbacks (those that run the loop itself).
        self.base_depth = 0

    def retune(self, threshold_ns: int) -> None:
        """Beat as this threshold needs it from the next beat on. Watchdog thread."""
        dense_ns = threshold_ns // (_BEATS_PER_THRESHOLD if self._alone else 2)
        self._interval_ns = min(self._longest_ns, dense_ns) if self._alone else self._longest_ns
        self._dense_ns = min(dense_ns, self._longest_ns)
        self._slack_ns = dense_ns // 2

    def hasten(self) -> None:
        """Have the beat that is due next come as the interval now says. Any thread."""
        try:
            self._loop.call_soon_threadsafe(self._restart, context=self._context)
        except RuntimeError:
            pass  # closed in this very moment

    def _restart(self) -> None:
        if self._stopped or self._handle is None:
            return
        self._handle.cancel()
        self._schedule()

    def start(self) -> None:
        """Schedule the first beat. Runs on the loop thread."""
        self.base_depth = _depth_above_coroutines()
        self._schedule()

    def drain(self) -> list[Beat]:
        """Return the beats since the last call, oldest first. Watchdog thread."""
        beats: list[Beat] = []
        while self._beats:
            beats.append(self._beats.popleft())
        return beats

    def stop(self) -> None:
        """Stop beating. Any thread; a timer handle may only be cancelled on its loop's thread."""
        self._stopped = True
        self.relied_on_until_ns = 0
        handle, self._handle = self._handle, None
        if handle is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(handle.cancel, context=self._context)
        except RuntimeError:
            pass  # the loop was closed in between: the timer is gone with it

    def _schedule(self) -> None:
        now_ns = monotonic_ns()
        until_ns = self.relied_on_until_ns
        interval_ns = self._dense_ns if until_ns else self._interval_ns
        self.due_ns = due_ns = now_ns + interval_ns
        if until_ns > now_ns:
            self._alarm.put_off(now_ns, min(until_ns, due_ns + self._slack_ns))
        self._handle = self._loop.call_later(
            interval_ns / NS_PER_S, self._beat, context=self._context
        )

    def _beat(self) -> None:
        ran_ns = monotonic_ns()
        if self._stopped:
            return
        self._beats.append(Beat(self.number, self.due_ns, ran_ns, time.thread_time_ns()))
        self.number += 1
        if (ident := get_ident()) != self.ident:
            self.native_id = get_native_id()
            self.ident = ident
        self.base_depth = _depth(sys._getframe().f_back)  # noqa: SLF001 - these run the loop
        try:
            self._schedule()
            self._on_beat()
        except Exception:  # noqa: BLE001 - nothing of ours may reach the loop's exception handler
            self._handle = None  # the loop is being closed: no further beat


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth += 1
        frame = frame.f_back
    return depth


def _depth_above_coroutines() -> int:
    """Return how many frames lie above the outermost coroutine: a guess until the first beat."""
    depth = 0
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way up from here
    while frame is not None:
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            depth = _depth(frame.f_back)
        frame = frame.f_back
    return depth
