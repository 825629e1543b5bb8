"""One loop in depth; with several selected, each has its lines and the numbers are the worst."""

from __future__ import annotations

from typing import Any, Final

from grafana_foundation_sdk.models import dashboard as model
from scripts.dashboards import query
from scripts.dashboards.board import Row, assemble
from scripts.dashboards.panels import LIMIT, Column, Line, Told, columns, heat, lines, number
from scripts.dashboards.shared import SHARE_AT, by_cause, stalled_time

from loopwatch.assets.promql import WORKER, labels
from loopwatch.assets.rules import HEARTBEAT_AGE_S
from loopwatch.lag import STEP_NS

_NAME: Final = "loop"
# A count of the lag histogram stands for this much wall time.
_COUNT_S: Final = STEP_NS / 1e9
_BUILD: Final = ("version", "python", "loop_impl", "sensor", "native_sampler")


def loop() -> dict[str, Any]:
    """Return the dashboard as JSON-ready data."""
    return assemble(
        _NAME,
        "loopwatch: loop",
        "One event loop in depth: its lag, stalls, tasks and CPU against their thresholds. "
        "Stalls are marked where they began.",
        (_now(), _lag(), _stalls(), _load(), _executors(), _ourselves()),
        mark_stalls=True,
    )


def _now() -> Row:
    return "Now", (
        number(
            Told(
                "Lag p99",
                "Worst of the selected loops; red above the threshold. "
                + query.help_of("lag_seconds"),
                "s", 3, 4, ("EventLoopLagHigh",),
            ),
            f"max({query.LAG_P99})",
            board_name=_NAME,
        ),
        number(
            Told(
                "Tasks",
                "Worst of the selected loops; red above the threshold. " + query.help_of("tasks"),
                "short", 3, 4, ("EventLoopTasksHigh", "EventLoopTasksGrowing"),
            ),
            f"max({query.TASKS})",
            board_name=_NAME,
        ),
        number(
            Told(
                "CPU-to-wall",
                "Worst of the selected loops; red above the threshold. "
                + query.help_of("loop_cpu_seconds_total"),
                "percentunit", 3, 4, ("EventLoopCpuHigh",),
            ),
            f"max({query.CPU_RATIO})",
            board_name=_NAME,
        ),
        number(
            Told(
                "Stalled now",
                "Age of the stall in progress, 0 if there is none; red above the hang threshold. "
                "/api/stalls of the worker names the line; restart what does not come back.",
                "s", 3, 4, ("EventLoopStuck",),
            ),
            f"max({query.STALL_AGE})",
            board_name=_NAME,
        ),
        number(
            Told(
                "Stalled time",
                "Share of the time spent in stalls, worst of the selected loops. The panels under "
                "Stalls say why.",
                "percentunit", 3, 4,
                ("EventLoopStalledTimeFastBurn", "EventLoopStalledTimeSlowBurn"),
            ),
            f"max({query.STALLED_SHARE})",
            at=SHARE_AT,
        ),
        number(
            Told(
                "Utilization",
                "Worst of the selected loops. " + query.help_of("loop_time_seconds_total"),
                "percentunit", 3, 4, ("EventLoopCpuHigh",),
            ),
            f"max({query.UTILIZATION})",
        ),
        number(
            Told(
                "Lag max, 60 s",
                "Worst of the selected loops. " + query.help_of("lag_max_seconds"),
                "s", 3, 4, ("EventLoopLagHigh",),
            ),
            f"max({query.of('lag_max_seconds')})",
            board_name=_NAME,
        ),
        number(
            Told(
                "Newest stall",
                "When the newest stall began. The log of that time has its line, cause and task.",
                "dateTimeFromNow", 3, 4, ("EventLoopStallsFrequent",),
            ),
            f"1000 * max({query.of('last_stall_timestamp_seconds')})",
            mappings=[
                model.ValueMap(
                    options={"0": model.ValueMappingResult(text="never", index=0)}
                )
            ],
        ),
    )  # fmt: skip


def _lag() -> Row:
    buckets = f"sum by (le) ({query.rate('lag_seconds_bucket')})"
    return "Lag", (
        heat(
            Told(
                "Lag, share of time",
                "Where the time goes: a cell is the share of the selected loops' time that waited "
                "so long. A band that leaves the bottom is many callbacks, single cells far up "
                "are stalls.",
                "s", height=9, alerts=("EventLoopLagHigh",),
            ),
            f"{_COUNT_S:g} * {buckets} / on () group_left () count({query.BUILD})",
        ),
        lines(
            Told(
                "Lag quantiles",
                "Dashed is the threshold. p50 above it: the loop is overloaded, add workers. Only "
                "p99 and max above it: single stalls, see their causes below.",
                "s", height=9, alerts=("EventLoopLagHigh",),
            ),
            *(Line(query.lag(q), f"p{q * 100:g} {query.LEGEND}") for q in (0.5, 0.95, 0.99)),
            Line(query.of("lag_max_seconds"), f"max {query.LEGEND}"),
            Line(f"min({query.LAG_LIMIT})", LIMIT),
        ),
    )  # fmt: skip


def _stalls() -> Row:
    excused = f"60 * sum by (reason) ({query.rate('excused_stalls_total')})"
    return "Stalls", (
        by_cause(),
        stalled_time(),
        lines(
            Told(
                "Stall in progress",
                "Age of the stall at each scrape; dashed is the hang threshold, where /livez turns "
                "to 503. A line that climbs and does not fall: the loop is stuck.",
                "s", height=7, alerts=("EventLoopStuck",),
            ),
            Line(query.STALL_AGE, query.LEGEND),
            Line(f"min({query.HANG_LIMIT})", LIMIT),
        ),
        lines(
            Told(
                "Excused stalls",
                "Per minute. " + query.help_of("excused_stalls_total")
                + " Many: check that what is allowed still should be.",
                "suffix:/min", height=7, alerts=("EventLoopStallsFrequent",),
            ),
            Line(excused, "{{reason}}"),
            stacked=True,
        ),
    )  # fmt: skip


def _load() -> Row:
    return "Load", (
        lines(
            Told(
                "Utilization and CPU-to-wall",
                "Dashed is the CPU threshold. Both high: CPU-bound work, move it to a process "
                "pool. Utilization high and CPU low: the loop waits in blocking calls.",
                "percentunit", alerts=("EventLoopCpuHigh",),
            ),
            Line(query.UTILIZATION, f"utilization {query.LEGEND}"),
            Line(query.CPU_RATIO, f"CPU {query.LEGEND}"),
            Line(f"min({query.CPU_LIMIT})", LIMIT),
            most=1,
        ),
        lines(
            Told(
                "Pending tasks",
                "Dashed is the threshold. " + query.help_of("tasks"),
                "short", alerts=("EventLoopTasksHigh", "EventLoopTasksGrowing"),
            ),
            Line(query.TASKS, query.LEGEND),
            Line(f"min({query.TASKS_LIMIT})", LIMIT),
        ),
        lines(
            Told(
                "Garbage collection",
                "Share of the time. " + query.help_of("gc_pause_seconds_total"),
                "percentunit", height=7, alerts=("EventLoopStallsFrequent",),
            ),
            Line(query.rate("gc_pause_seconds_total"), query.LEGEND),
        ),
        lines(
            Told(
                "Iterations",
                "Per second. " + query.help_of("iterations_total"),
                "suffix:/s", height=7, alerts=("EventLoopStuck",),
            ),
            Line(query.rate("iterations_total"), query.LEGEND),
        ),
    )  # fmt: skip


def _executors() -> Row:
    legend = f"{{{{executor}}}} {query.LEGEND}"
    return "Executors", (
        lines(
            Told(
                "Executor threads",
                query.help_of("executor_threads") + " A pool at its maximum with a queue beside it "
                "needs more threads, or work that blocks less.",
                "short", height=7, alerts=("EventLoopExecutorSaturated",),
            ),
            Line(query.of("executor_threads"), legend),
        ),
        lines(
            Told(
                "Executor queue",
                query.help_of("executor_queue_length"),
                "short", height=7, alerts=("EventLoopExecutorSaturated",),
            ),
            Line(query.of("executor_queue_length"), legend),
        ),
    )  # fmt: skip


def _ourselves() -> Row:
    dropped = f"60 * sum by (reason) ({query.rate('dropped_records_total')})"
    errors = f"60 * sum by (component) ({query.rate('errors_total')})"
    return "loopwatch itself", (
        lines(
            Told(
                "Own CPU",
                query.help_of("self_cpu_seconds_total")
                + " Each stall costs some; above one percent of a core with few stalls is a bug.",
                "percentunit", 8, 7, ("EventLoopWatchdogDead",),
            ),
            Line(query.rate("self_cpu_seconds_total"), query.LEGEND),
        ),
        lines(
            Told(
                "Dropped records and errors",
                "Per minute. " + query.help_of("dropped_records_total") + " "
                + query.help_of("errors_total"),
                "suffix:/min", 8, 7, ("EventLoopWatchdogDead",),
            ),
            Line(dropped, "dropped: {{reason}}"),
            Line(errors, "error in {{component}}"),
        ),
        lines(
            Told(
                "Heartbeat age",
                query.help_of("heartbeat_timestamp_seconds") + f" The overview calls it silent "
                f"after {HEARTBEAT_AGE_S} s and the hang threshold.",
                "s", 8, 7, ("EventLoopWatchdogDead",),
            ),
            Line(query.HEARTBEAT_AGE, query.LEGEND),
        ),
        columns(
            Told(
                "What runs",
                "Versions, kind of loop and sensor. " + query.help_of("build_info"),
                "short", 24, 5,
            ),
            (*WORKER, *_BUILD),
            Column(f"count by {labels((*WORKER, *_BUILD))} ({query.BUILD})", "Loops", "short"),
            sort="job",
        ),
    )  # fmt: skip
