"""Every metric, once: name, kind, unit, labels, help, and how to read it from a snapshot.

Prometheus, OpenTelemetry, the reference page, dashboards and rules derive from this table. The
OpenTelemetry name is the one that the usual translation turns into exactly the Prometheus name.
Every metric carries the label `loop` besides the labels named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from loopwatch.model import Snapshot, Trace

__all__ = ["LAG_BOUNDS_S", "METRICS", "Kind", "Metric", "Reading", "Traced"]

# Holds 0.1, 0.25 and 0.5 exactly: the bounds that dashboards and rules compare with.
LAG_BOUNDS_S: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
)  # fmt: skip

Reading = tuple[tuple[str, ...], float]
# What a counter grew by, in which trace.
Traced = tuple["Trace", float]


def _no_exemplars(_: Snapshot) -> Mapping[tuple[str, ...], Traced]:
    return {}


class Kind(StrEnum):
    """The instrument kinds a metric can have."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. `read` yields (label values, value) and nothing where the sensor cannot know.

    `exemplars` gives an example by label values, where a request of a trace was stalled.
    """

    name: str
    otel: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Snapshot], Iterable[Reading]]
    exemplars: Callable[[Snapshot], Mapping[tuple[str, ...], Traced]] = _no_exemplars


def _one(value: float | None) -> Iterable[Reading]:
    return () if value is None else (((), value),)


def _loop_time(s: Snapshot) -> Iterable[Reading]:
    if s.busy_s_total is not None:
        yield ("busy",), s.busy_s_total
    if s.idle_s_total is not None:
        yield ("idle",), s.idle_s_total


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "loopwatch_lag_seconds", "loopwatch.lag", Kind.HISTOGRAM, "s", (),
        "Time between scheduled and executed, weighted by time. Above 0.1 look for a blocking "
        "call: loopwatch_stalls_total and the stall log name it.",
        lambda _: (),
    ),
    Metric(
        "loopwatch_lag_max_seconds", "loopwatch.lag.max", Kind.GAUGE, "s", (),
        "Largest lag of the last 60 s, the stall in progress counted in; reading resets nothing.",
        lambda s: _one(s.lag_max_s),
    ),
    Metric(
        "loopwatch_iterations_total", "loopwatch.iterations", Kind.COUNTER, "{iteration}", (),
        "Loop iterations. A rate near 0 on a busy service means that the loop is not serving.",
        lambda s: _one(s.iterations_total),
    ),
    Metric(
        "loopwatch_loop_time_seconds_total", "loopwatch.loop.time", Kind.COUNTER, "s", ("state",),
        "Loop time by state, busy or idle. The rate of busy is the utilization; near 1 there is "
        "no headroom: add a worker or move work to threads.",
        _loop_time,
    ),
    Metric(
        "loopwatch_loop_cpu_seconds_total", "loopwatch.loop.cpu", Kind.COUNTER, "s", (),
        "CPU time of the loop thread. A rate above 0.5 means that CPU-bound work starves I/O: "
        "move it to a process pool.",
        lambda s: _one(s.cpu_s_total),
    ),
    Metric(
        "loopwatch_tasks", "loopwatch.tasks", Kind.GAUGE, "{task}", (),
        "Pending asyncio tasks. Steady growth is a task leak: look for create_task without await.",
        lambda s: _one(s.tasks),
    ),
    Metric(
        "loopwatch_stalls_total", "loopwatch.stalls", Kind.COUNTER, "{stall}", ("cause",),
        "Stalls longer than the threshold, counted when they begin. The log has the line.",
        lambda s: [((cause.value,), n) for cause, n in s.stalls_total.items()],
        lambda s: {(cause.value,): (trace, 1.0) for cause, trace in s.traces.items()},
    ),
    Metric(
        "loopwatch_stall_seconds_total", "loopwatch.stall", Kind.COUNTER, "s", ("cause",),
        "Seconds spent in stalls, growing while one lasts. Its rate is the share of time lost.",
        lambda s: [((cause.value,), v) for cause, v in s.stall_s_total.items()],
        lambda s: {(c.value,): (trace, trace.duration_s) for c, trace in s.traces.items()},
    ),
    Metric(
        "loopwatch_excused_stalls_total", "loopwatch.excused.stalls",
        Kind.COUNTER, "{stall}", ("reason",),
        "Stalls that are counted here only and not reported: inside allow_blocking, imports "
        "during the warm-up, and while a debugger is attached.",
        lambda s: [((reason,), n) for reason, n in s.excused_total.items()],
    ),
    Metric(
        "loopwatch_stall_active_seconds", "loopwatch.stall.active", Kind.GAUGE, "s", (),
        "Age of the stall in progress at the moment of the scrape, else 0. Above "
        "loopwatch_hang_threshold_seconds the loop is stuck: see /api/stalls for the line.",
        lambda s: _one(s.active_s),
    ),
    Metric(
        "loopwatch_last_stall_timestamp_seconds", "loopwatch.last.stall.timestamp",
        Kind.GAUGE, "s", (),
        "Start of the newest stall as unix time, 0 before the first.",
        lambda s: _one(s.last_stall_at_s),
    ),
    Metric(
        "loopwatch_gc_pause_seconds_total", "loopwatch.gc.pause", Kind.COUNTER, "s", (),
        "Garbage collection on the loop thread. If it dominates stalls, gc.freeze() after "
        "start-up or raise the gc threshold.",
        lambda s: _one(s.gc_pause_s_total),
    ),
    Metric(
        "loopwatch_executor_threads", "loopwatch.executor.threads",
        Kind.GAUGE, "{thread}", ("executor",),
        "Threads alive in the default and in registered executors.",
        lambda s: [((e.name,), e.threads) for e in s.executors],
    ),
    Metric(
        "loopwatch_executor_queue_length", "loopwatch.executor.queue.length",
        Kind.GAUGE, "{item}", ("executor",),
        "Work items waiting for a thread. Above 0 for long the pool is too small or blocked.",
        lambda s: [((e.name,), e.queue_length) for e in s.executors],
    ),
    Metric(
        "loopwatch_heartbeat_timestamp_seconds", "loopwatch.heartbeat.timestamp",
        Kind.GAUGE, "s", (),
        "When the watchdog last looked, as unix time. Older than a few seconds: the watchdog is "
        "dead or something holds the GIL.",
        lambda s: _one(s.heartbeat_at_s),
    ),
    Metric(
        "loopwatch_self_cpu_seconds_total", "loopwatch.self.cpu", Kind.COUNTER, "s", (),
        "CPU time of loopwatch's own threads.",
        lambda s: _one(s.self_cpu_s_total),
    ),
    Metric(
        "loopwatch_dropped_records_total", "loopwatch.dropped.records",
        Kind.COUNTER, "{record}", ("reason",),
        "Stall records that did not reach an exporter. rate_limited is normal where many are "
        "alike; any other reason means a slow or failing exporter.",
        lambda s: [((reason,), n) for reason, n in s.dropped_total.items()],
    ),
    Metric(
        "loopwatch_errors_total", "loopwatch.errors", Kind.COUNTER, "{error}", ("component",),
        "Failures inside loopwatch, by component; the first of each kind is in the log.",
        lambda s: [((component,), n) for component, n in s.errors_total.items()],
    ),
    Metric(
        "loopwatch_build_info", "loopwatch.build.info", Kind.GAUGE, "",
        ("version", "python", "loop_impl", "sensor", "native_sampler"),
        "Constant 1: what runs here. native_sampler is on, off or unavailable.",
        lambda s: [((s.version, s.python, s.loop_impl, s.sensor, s.native_sampler), 1)],
    ),
    Metric(
        "loopwatch_lag_threshold_seconds", "loopwatch.lag.threshold", Kind.GAUGE, "s", (),
        "Setting stall_threshold_s: lag or a stall above it is reported.",
        lambda s: _one(s.thresholds.stall_s),
    ),
    Metric(
        "loopwatch_hang_threshold_seconds", "loopwatch.hang.threshold", Kind.GAUGE, "s", (),
        "Setting hang_threshold_s: a stall this long turns /livez to 503.",
        lambda s: _one(s.thresholds.hang_s),
    ),
    Metric(
        "loopwatch_tasks_threshold", "loopwatch.tasks.threshold", Kind.GAUGE, "{task}", (),
        "Setting tasks_threshold: more pending tasks are a suspected leak.",
        lambda s: _one(s.thresholds.tasks),
    ),
    Metric(
        "loopwatch_cpu_threshold_ratio", "loopwatch.cpu.threshold.ratio", Kind.GAUGE, "1", (),
        "Setting cpu_ratio_threshold: a higher CPU-to-wall ratio of the loop thread starves I/O.",
        lambda s: _one(s.thresholds.cpu_ratio),
    ),
)  # fmt: skip
