"""The sensor of uvloop: reads libuv's own idle-time metric, at no cost on the loop.

Private API: uvloop's extension module exports libuv's symbols and hands out the `uv_loop_t*` as
a capsule. Checked with uvloop 0.19 to 0.23 (libuv 1.45 to 1.52) on CPython 3.11 to 3.15. A
missing symbol or another libuv means the `tick` sensor.

Facts of libuv >= 1.45 this stands on (src/unix/core.c and linux.c, `uv_run`):

- `loop_count` grows right before the loop polls, so a wait and the busy period after it share it;
- idle time grows only while the loop waits, and reading it is documented as thread-safe;
- the cached time (`uv_now`, whole milliseconds) is taken when the poll returns and once more
  before due timers run.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.clock import monotonic_ns
from loopwatch.sensors.base import Period, Reading, SensorUnavailableError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["LibuvSensor", "LibuvState", "Raw"]

_METRICS_IDLE_TIME: Final = 1
_MIN_LIBUV: Final = (1, 45)
_NS_PER_MS: Final = 1_000_000
_SYMBOLS: Final = (
    "uv_loop_configure",
    "uv_metrics_idle_time",
    "uv_metrics_info",
    "uv_now",
    "uv_version",
)
# A wait that was interrupted for less than this between two looks counts as one wait.
_ONE_WAIT_NS: Final = 20_000
# Poll returns between two readings up to which busy time can be laid to one period.
_ATTRIBUTABLE: Final = 3


class Raw(NamedTuple):
    """One look at libuv: clock, idle time, cached time, poll count, and whether it waits now."""

    now_ns: int
    idle_ns: int
    cached_ns: int
    polls: int
    waiting: bool


class _UvMetrics(ctypes.Structure):
    _fields_ = (
        ("loop_count", ctypes.c_uint64),
        ("events", ctypes.c_uint64),
        ("events_waiting", ctypes.c_uint64),
        ("reserved", ctypes.c_uint64 * 13),
    )


class LibuvSensor:
    """Busy periods of a uvloop loop, read from outside."""

    name = "libuv"

    def __init__(self, loop: AbstractEventLoop) -> None:
        module = sys.modules.get("uvloop.loop")
        if module is None or not isinstance(loop, getattr(module, "Loop", ())):
            raise SensorUnavailableError("not a uvloop loop")
        if not hasattr(loop, "__dict__"):
            raise SensorUnavailableError("the loop's close() cannot be watched")
        self._loop = loop
        libuv = _load(module)
        self._configure = libuv.uv_loop_configure
        self._idle_time = libuv.uv_metrics_idle_time
        self._info = libuv.uv_metrics_info
        self._cached_time = libuv.uv_now
        self._pointer = _loop_pointer(module, loop)
        self._metrics = _UvMetrics()
        self._metrics_reference = ctypes.byref(self._metrics)
        # Guards the pointer: once `stop` has returned, libuv is never called again. The agent
        # stops this sensor before the loop closes.
        self._lock = threading.Lock()
        self._alive = False
        self._state: LibuvState | None = None
        self._idle_at_start_ns = 0
        self._polls_at_start = 0
        self._served_ns: int | None = None

    def start(self, limit_ns: int) -> None:
        """Switch the idle-time metric on. It stays on: libuv has no way to switch it off."""
        if self._configure(self._pointer, _METRICS_IDLE_TIME) != 0:
            raise SensorUnavailableError("libuv refused to measure idle time")
        raw = self._look()
        self._idle_at_start_ns = raw.idle_ns
        self._polls_at_start = raw.polls
        self._state = LibuvState(raw, limit_ns)
        self._alive = True

    def retune(self, limit_ns: int) -> None:
        """Keep periods of at least `limit_ns` from now on."""
        if self._state is not None:
            self._state.limit_ns = limit_ns

    def read(self, now_ns: int) -> Reading:  # noqa: ARG002 - libuv's numbers need their own clock
        """Return the state of the loop; see `Reading`."""
        with self._lock:
            if self._gone() or self._state is None:
                return Reading(0, None, None, None)
            raw = self._look(self._state.last)
        served, self._served_ns = self._served_ns, None
        ended = self._state.advance(raw, served)
        return Reading(
            iteration=raw.polls,
            busy_since_ns=self._state.since_ns,
            idle_ns=raw.idle_ns - self._idle_at_start_ns,
            iterations=raw.polls - self._polls_at_start,
            ended=tuple(ended),
        )

    def is_at(self, iteration: int) -> bool:
        """Return whether the loop is still busy with that iteration."""
        with self._lock:
            if self._gone():
                return False
            raw = self._look()
        return raw.polls == iteration and not raw.waiting

    def served(self, now_ns: int) -> None:
        """Note when the loop served again: an upper bound for the end of the open stall."""
        self._served_ns = now_ns

    def stop(self) -> None:
        """Let go of libuv; waits for a reading in progress, which takes microseconds."""
        with self._lock:
            self._alive = False

    def _gone(self) -> bool:
        # `stop` comes before any close that goes through the loop object; this check is for one
        # that does not, like a `close` that somebody bound before we were installed.
        return not self._alive or self._loop.is_closed()

    def _look(self, last: Raw | None = None) -> Raw:
        pointer = self._pointer
        first = self._idle_time(pointer)
        # While the loop waits the metric grows with the clock, so a second look differs.
        idle_ns = self._idle_time(pointer)
        now_ns = monotonic_ns()
        waiting = idle_ns != first
        if waiting and last is not None and last.waiting:
            busy_ns = now_ns - last.now_ns - (idle_ns - last.idle_ns)
            if busy_ns < _ONE_WAIT_NS:
                return last._replace(now_ns=now_ns, idle_ns=idle_ns)
        self._info(pointer, self._metrics_reference)
        polls = self._metrics.loop_count
        cached_ns = self._cached_time(pointer) * _NS_PER_MS
        return Raw(now_ns, idle_ns, cached_ns, polls, waiting)


class LibuvState:
    """Turns successive looks into busy periods. Pure: it is told the time.

    Where one look cannot tell the start of a period, two bounds do: it began no earlier than all
    busy time since the last look allows, and no later than the cached time. The cached time is
    whole milliseconds, so its middle is taken.
    """

    def __init__(self, raw: Raw, limit_ns: int) -> None:
        self.limit_ns = limit_ns
        self.last = raw
        self.since_ns: int | None = None if raw.waiting else raw.now_ns

    def advance(self, raw: Raw, served_ns: int | None = None) -> list[Period]:
        """Take the next look; return the long periods that ended since the last one."""
        last, began = self.last, self.since_ns
        self.last = raw
        waited_ns = raw.idle_ns - last.idle_ns
        busy_ns = max(0, raw.now_ns - last.now_ns - waited_ns)
        same_poll = raw.polls == last.polls
        if began is not None and same_poll and not raw.waiting:
            return []  # the same period goes on

        current_ns = 0
        self.since_ns = None
        if not raw.waiting:
            self.since_ns = self._start(raw, last, waited_ns, exact=same_poll)
            current_ns = raw.now_ns - self.since_ns
        # What is left of the busy time belongs to periods that ended.
        left_ns = max(0, busy_ns - current_ns)
        one_period = raw.polls - last.polls <= _ATTRIBUTABLE
        if began is not None:
            # Over many polls the busy time since the last look belongs to many periods, and all
            # that is known of this one is that it lasted until then.
            end_ns = last.now_ns + (left_ns if one_period else 0)
            if served_ns is not None and served_ns > last.now_ns:
                end_ns = min(last.now_ns + left_ns, served_ns)
            return self._kept(Period(last.polls, began, end_ns))
        if left_ns and one_period:
            # A whole period between two looks: the watchdog itself could not run.
            end_ns = self.since_ns if self.since_ns is not None else raw.now_ns
            if raw.waiting:
                start_ns = min(max(last.now_ns, raw.cached_ns + _NS_PER_MS // 2), end_ns - left_ns)
                end_ns = start_ns + left_ns
            return self._kept(Period(last.polls, end_ns - left_ns, end_ns))
        return []

    def _start(self, raw: Raw, last: Raw, waited_ns: int, *, exact: bool) -> int:
        earliest_ns = last.now_ns + waited_ns
        if exact:
            return min(earliest_ns, raw.now_ns)
        return min(max(earliest_ns, raw.cached_ns + _NS_PER_MS // 2), raw.now_ns)

    def _kept(self, period: Period) -> list[Period]:
        return [period] if period.duration_ns >= self.limit_ns else []


def _load(module: Any) -> Any:
    # PyDLL keeps the GIL: these calls take less time than giving it back would.
    try:
        libuv = ctypes.PyDLL(module.__file__)
        functions = {name: getattr(libuv, name) for name in _SYMBOLS}
    except (OSError, AttributeError) as error:
        raise SensorUnavailableError(f"uvloop does not export libuv: {error}") from None
    functions["uv_version"].restype = ctypes.c_uint
    version = functions["uv_version"]()
    if not _MIN_LIBUV <= (version >> 16, version >> 8 & 0xFF) < (2, 0):
        raise SensorUnavailableError(f"libuv {version >> 16}.{version >> 8 & 0xFF} is not known")
    functions["uv_loop_configure"].argtypes = (ctypes.c_void_p, ctypes.c_int)
    functions["uv_metrics_idle_time"].argtypes = (ctypes.c_void_p,)
    functions["uv_metrics_idle_time"].restype = ctypes.c_uint64
    functions["uv_metrics_info"].argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    functions["uv_now"].argtypes = (ctypes.c_void_p,)
    functions["uv_now"].restype = ctypes.c_uint64
    return libuv


def _loop_pointer(module: Any, loop: AbstractEventLoop) -> ctypes.c_void_p:
    try:
        capsule = module.libuv_get_loop_t_ptr(loop)
        get_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", ctypes.pythonapi)
        )
        return ctypes.c_void_p(get_pointer(capsule, None))
    except (AttributeError, TypeError, ValueError) as error:
        raise SensorUnavailableError(f"uvloop does not hand out its loop: {error}") from None
