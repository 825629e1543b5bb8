"""The ledger of one loop: plain numbers, written by the watchdog, read by everybody.

There is one writer, and every field is a number or an immutable object, so readers take no lock:
a snapshot may be one watchdog look old, never torn within a field.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from loopwatch.catalogue import LAG_BOUNDS_S
from loopwatch.clock import NS_PER_S, monotonic_ns, ns_to_s, unix_s
from loopwatch.lag import LagRecorder
from loopwatch.model import Cause, Census, Executor, Point, Snapshot, Stall, Thresholds, Trace

if TYPE_CHECKING:
    from loopwatch.config import Config

__all__ = ["COMPONENTS", "DROP_REASONS", "EXCUSES", "Active", "Identity", "Ledger"]

# Closed, so that each child of the labelled counters exists at 0 from the start.
COMPONENTS: Final = ("exporter", "http", "on_stall", "probe", "watchdog")
DROP_REASONS: Final = ("export_failed", "queue_full", "rate_limited", "shutdown")
EXCUSES: Final = ("allowed", "debugger", "warm_up")

_RATE_WINDOW_NS: Final = 10 * NS_PER_S
_RATE_SLOT_NS: Final = NS_PER_S
# A record is replaced by its next one soon: beside it there are only a few that began later.
_OPEN_AT_ONCE: Final = 200
# Five minutes of seconds.
_POINTS: Final = 300


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while an agent lives."""

    loop: str
    loop_impl: str
    pid: int
    thread: str
    sensor: str
    version: str
    python: str
    native_sampler: str


@dataclass(frozen=True, slots=True)
class Active:
    """The stall in progress: since when, and under which cause it counts."""

    since_ns: int
    cause: Cause
    record: Stall


class Ledger:
    """Totals since the start, and what is true now."""

    def __init__(self, identity: Identity, config: Config, now_ns: int) -> None:
        self.identity = identity
        self.thresholds = Thresholds(
            config.stall_threshold_s,
            config.hang_threshold_s,
            config.tasks_threshold,
            config.cpu_ratio_threshold,
        )
        self.lag = LagRecorder(LAG_BOUNDS_S, now_ns)
        self.stalls: deque[Stall] = deque(maxlen=config.history)
        self.heartbeat_ns = now_ns
        self.tasks = 0
        self.tasks_exact = True
        self.executors: tuple[Executor, ...] = ()
        self.gc_pause_ns = 0
        self.iterations: int | None = None
        self.cpu_ns: int | None = None
        self._last_stall_at_s = 0.0
        self.census: Census | None = None
        self.points: deque[Point] = deque(maxlen=_POINTS)
        self._stall_counts = dict.fromkeys(Cause, 0)
        self._stalled: tuple[Active | None, dict[Cause, int]] = (None, dict.fromkeys(Cause, 0))
        # What readers were told: a stall's end lies a moment before the look that finds it.
        self._told_stall_ns = dict.fromkeys(Cause, 0)
        self._traces: dict[Cause, Trace] = {}
        self._loop_time_ns: tuple[int, int] | None = None
        self._looked_ns = now_ns
        self._idle_seen_ns = 0
        self._rates: deque[tuple[int, int | None, int | None]] = deque(maxlen=12)
        # These are written by several of our own threads, never by the loop's.
        # Reentrant, as a signal handler may read a snapshot while one is being read.
        self._lock = threading.RLock()
        self._dropped = Counter(dict.fromkeys(DROP_REASONS, 0))
        self._errors = Counter(dict.fromkeys(COMPONENTS, 0))
        self._excused = Counter(dict.fromkeys(EXCUSES, 0))
        self._self_cpu_ns: Counter[str] = Counter()

    # The watchdog writes.

    def looked(self, now_ns: int, idle_ns: int | None, *, running: bool) -> None:
        """Note one look: the idle time so far, if the sensor knows it.

        The time since the last look is busy or idle only if the loop runs.
        """
        if idle_ns is not None:
            wall_ns = now_ns - self._looked_ns
            waited_ns = min(max(0, idle_ns - self._idle_seen_ns), wall_ns)
            self._idle_seen_ns = idle_ns
            busy, idle = self._loop_time_ns or (0, 0)
            if running:
                busy, idle = busy + wall_ns - waited_ns, idle + waited_ns
            self._loop_time_ns = (busy, idle)
        self._looked_ns = now_ns
        self.heartbeat_ns = now_ns

    def settled(self, now_ns: int) -> None:
        """Note that all that this look found is on the books: about once a second, a point."""
        if self._rates and now_ns - self._rates[-1][0] < _RATE_SLOT_NS:
            return
        if self._rates:
            self._point(now_ns, *self._rates[-1])
        self._rates.append((now_ns, self._busy_ns(), self.cpu_ns))

    def _point(self, now_ns: int, then_ns: int, busy_ns: int | None, cpu_ns: int | None) -> None:
        wall_ns = now_ns - then_ns
        active = self.active
        lag_ns = max(self.lag.take_max_ns(), now_ns - active.since_ns if active is not None else 0)
        self.points.append(
            Point(
                unix_s(now_ns),
                ns_to_s(lag_ns),
                _ratio(self._busy_ns(), busy_ns, wall_ns),
                _ratio(self.cpu_ns, cpu_ns, wall_ns),
                self.tasks,
                ns_to_s(wall_ns),
            )
        )

    def opened(self, since_ns: int, record: Stall) -> None:
        """Count a stall that has crossed the threshold and goes on."""
        self._count(record)
        self._stalled = (Active(since_ns, record.cause, record), self._stall_ns)
        self._trace(record.cause, record)
        self._remember(record)

    def revised(self, record: Stall) -> None:
        """Take a newer record of the stall in progress; it counts as it did when it opened."""
        active = self.active
        if active is not None and active.record.id == record.id:
            self._stalled = (replace(active, record=record), self._stall_ns)
            self._remember(record)

    def closed(self, since_ns: int, end_ns: int, record: Stall) -> None:
        """Add a stall that is over to the totals; one that was never opened is counted here."""
        active = self.active
        mine = active is not None and active.record.id == record.id
        cause = active.cause if active is not None and mine else record.cause
        if not mine:
            self._count(record)
        stall_ns = {**self._stall_ns, cause: self._stall_ns[cause] + end_ns - since_ns}
        # One store, so that no reader sees the stall neither in progress nor in the totals.
        self._stalled = (None if mine else active, stall_ns)
        self._trace(cause, record)
        self.lag.stretch(end_ns - since_ns, end_ns)
        self._remember(record)

    def excused(self, excuse: str, record: Stall) -> None:
        """Count a stall that is nobody's fault; `excuse` is one of `EXCUSES`."""
        self._excused[excuse] += 1
        self.stalls.append(record)

    def excused_closed(self, end_ns: int, record: Stall, late_ns: int) -> None:
        """Take the end of an excused stall: what was due meanwhile was late for `late_ns`."""
        if late_ns:
            self.lag.stretch(late_ns, end_ns)
        else:
            self.lag.skip(end_ns)
        self._remember(record)

    def _trace(self, cause: Cause, record: Stall) -> None:
        request = record.request
        if request is not None and request.trace_id is not None:
            trace = Trace(request.trace_id, request.span_id, record.duration_s, record.started_at_s)
            self._traces = {**self._traces, cause: trace}

    def _remember(self, record: Stall) -> None:
        # From the newest on: it is among the last few, and `history` may be large.
        for back, stall in enumerate(reversed(self.stalls), 1):
            if stall.id == record.id:
                self.stalls[-back] = record
                return
            if back > _OPEN_AT_ONCE:
                break
        self.stalls.append(record)

    def _count(self, record: Stall) -> None:
        self._stall_counts[record.cause] += 1
        # Unix time as of the record: derived anew at each scrape it would jitter, and `changes()`
        # would count that.
        self._last_stall_at_s = record.started_at_s

    # Any of our threads writes.

    def drop(self, reason: str, count: int = 1) -> None:
        """Count records that did not reach an exporter; `reason` is one of `DROP_REASONS`."""
        with self._lock:
            self._dropped[reason] += count

    def error(self, component: str) -> int:
        """Count a failure of ours; return how many of this component there were before."""
        with self._lock:
            self._errors[component] += 1
            return self._errors[component] - 1

    def spent(self, thread: str, cpu_ns: int) -> None:
        """Set the CPU time that one of our threads has used so far."""
        with self._lock:
            self._self_cpu_ns[thread] = cpu_ns

    def add_spent(self, thread: str, cpu_ns: int) -> None:
        """Add CPU time of a thread that ends."""
        with self._lock:
            self._self_cpu_ns[thread] += cpu_ns

    # Anybody reads.

    @property
    def active(self) -> Active | None:
        """The stall in progress."""
        return self._stalled[0]

    @property
    def _stall_ns(self) -> dict[Cause, int]:
        return self._stalled[1]

    def snapshot(self) -> Snapshot:
        """Return what is true now. Any thread, no lock held for longer than a copy."""
        now_ns = monotonic_ns()
        active, totals = self._stalled
        active_ns = max(0, now_ns - active.since_ns) if active is not None else 0
        stall_ns = dict(totals)
        if active is not None:
            stall_ns[active.cause] += active_ns
        p50_s, p99_s = self.lag.quantiles_s(now_ns, 0.5, 0.99)
        utilization, cpu_ratio = self._ratios()
        loop_time = self._loop_time_ns
        with self._lock:
            for cause, told_ns in self._told_stall_ns.items():
                self._told_stall_ns[cause] = stall_ns[cause] = max(told_ns, stall_ns[cause])
            dropped = dict(self._dropped)
            errors = dict(self._errors)
            self_cpu_ns = sum(self._self_cpu_ns.values())
        who = self.identity
        return Snapshot(
            at_s=unix_s(now_ns),
            loop=who.loop,
            loop_impl=who.loop_impl,
            pid=who.pid,
            thread=who.thread,
            sensor=who.sensor,
            version=who.version,
            python=who.python,
            native_sampler=who.native_sampler,
            lag_last_s=ns_to_s(max(self.lag.last_ns, active_ns) if active else self.lag.last_ns),
            lag_p50_s=p50_s,
            lag_p99_s=p99_s,
            lag_max_s=ns_to_s(max(self.lag.max_ns(now_ns), active_ns)),
            lag=self.lag.histogram(),
            tasks=self.tasks,
            tasks_exact=self.tasks_exact,
            utilization=utilization,
            cpu_ratio=cpu_ratio,
            active_stall=active.record if active else None,
            active_s=ns_to_s(active_ns),
            stalls_total=dict(self._stall_counts),
            stall_s_total={cause: ns_to_s(ns) for cause, ns in stall_ns.items()},
            last_stall_at_s=self._last_stall_at_s,
            iterations_total=self.iterations,
            busy_s_total=None if loop_time is None else ns_to_s(loop_time[0]),
            idle_s_total=None if loop_time is None else ns_to_s(loop_time[1]),
            cpu_s_total=None if self.cpu_ns is None else ns_to_s(self.cpu_ns),
            gc_pause_s_total=ns_to_s(self.gc_pause_ns),
            executors=self.executors,
            heartbeat_at_s=unix_s(self.heartbeat_ns),
            self_cpu_s_total=ns_to_s(self_cpu_ns),
            excused_total=dict(self._excused),
            dropped_total=dropped,
            errors_total=errors,
            thresholds=self.thresholds,
            traces=self._traces,
            census=self.census,
        )

    def _busy_ns(self) -> int | None:
        return None if self._loop_time_ns is None else self._loop_time_ns[0]

    def _ratios(self) -> tuple[float | None, float | None]:
        """Return utilization and CPU-to-wall of the last ten seconds."""
        rates = [*self._rates]
        now_ns = self._looked_ns
        # Where nobody could look for longer than that, all of it: its end alone says little.
        before = [rate for rate in rates if rate[0] <= now_ns - _RATE_WINDOW_NS]
        oldest = before[-1] if before else next(iter(rates), None)
        if oldest is None or now_ns <= oldest[0]:
            return None, None
        wall_ns = now_ns - oldest[0]
        return (
            _ratio(self._busy_ns(), oldest[1], wall_ns),
            _ratio(self.cpu_ns, oldest[2], wall_ns),
        )


def _ratio(now_ns: int | None, then_ns: int | None, wall_ns: int) -> float | None:
    if now_ns is None or then_ns is None:
        return None
    return min(1.0, max(0.0, (now_ns - then_ns) / wall_ns))
