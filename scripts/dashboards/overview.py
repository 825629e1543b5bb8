"""The fleet: which service, which worker, worst first."""

from __future__ import annotations

from typing import Any

from scripts.dashboards import query
from scripts.dashboards.board import Row, assemble
from scripts.dashboards.panels import LIMIT, Column, Line, Told, bars, columns, lines, number
from scripts.dashboards.shared import SHARE_AT, by_cause, stalled_time

from loopwatch.assets.promql import WORKER
from loopwatch.assets.rules import HEARTBEAT_AGE_S

_NAME = "overview"
_ANY = ((1, "red"),)


def overview() -> dict[str, Any]:
    """Return the dashboard as JSON-ready data."""
    return assemble(
        _NAME,
        "loopwatch: overview",
        "All event loops that loopwatch watches, worst first. A bar or a row leads to its loop.",
        (_now(), _worst(), _course(), _what_runs()),
        # With a fleet in view there would be nothing else to see; switched on with one click.
        mark_stalls=False,
    )


def _now() -> Row:
    def count(told: Told, expr: str) -> Any:
        return number(told, query.how_many(expr), at=_ANY)

    return "Now", (
        number(
            Told(
                "Loops watched",
                "Event loops that tell their metrics. Fewer than you run: a worker does not start "
                "loopwatch, is not scraped, or is under Unreachable.",
                "none", 3, 4,
            ),
            f"count({query.BUILD})",
        ),
        count(
            Told(
                "Stuck",
                "Loops in a stall longer than their hang threshold: they serve nobody. Find them "
                "under All loops by Stalled now; /api/stalls of the worker names the line; "
                "restart what does not come back.",
                "none", 3, 4, ("EventLoopStuck",),
            ),
            f"{query.STALL_AGE} >= {query.HANG_LIMIT}",
        ),
        number(
            Told(
                "Stalled now",
                "Loops that were in a stall when they were scraped. Now and then is what you see "
                "of short stalls; if it stays, look at Stalled time and at the loop in depth.",
                "none", 3, 4, ("EventLoopStuck",),
            ),
            query.how_many(f"{query.STALL_AGE} > 0"),
            at=((1, "orange"),),
        ),
        count(
            Told(
                "Lag above threshold",
                "Loops whose p99 lag of 5 minutes is above their threshold. "
                + query.help_of("lag_seconds"),
                "none", 3, 4, ("EventLoopLagHigh",),
            ),
            f"{query.lag(0.99, query.ALERT_WINDOW)} > {query.LAG_LIMIT}",
        ),
        count(
            Told(
                "Tasks above threshold",
                "Loops with more pending tasks than their threshold. " + query.help_of("tasks"),
                "none", 3, 4, ("EventLoopTasksHigh", "EventLoopTasksGrowing"),
            ),
            f"{query.TASKS} > {query.TASKS_LIMIT}",
        ),
        count(
            Told(
                "CPU above threshold",
                "Loops whose thread burns more CPU than their threshold, over 5 minutes. "
                "Move CPU-bound work to a process pool, or add workers.",
                "none", 3, 4, ("EventLoopCpuHigh",),
            ),
            f"{query.rate('loop_cpu_seconds_total', window=query.ALERT_WINDOW)} > "
            f"{query.CPU_LIMIT}",
        ),
        count(
            Told(
                "Watchdog silent",
                f"Loops whose watchdog has not looked for {HEARTBEAT_AGE_S} s and for their hang "
                "threshold: it is dead. Until it is back, no stall of that loop is told.",
                "none", 3, 4, ("EventLoopWatchdogDead",),
            ),
            query.WATCHDOG_SILENT,
        ),
        count(
            Told(
                "Unreachable",
                "Targets that ran loopwatch within the last hour and do not answer now, and "
                "workers that stand still: gone, or a C call keeps the GIL. They are listed below.",
                "none", 3, 4, ("EventLoopUnreachable",),
            ),
            query.UNREACHABLE,
        ),
    )  # fmt: skip


def _worst() -> Row:
    return "Worst first", (
        bars(
            Told(
                "Lag p99, worst loops",
                "How late the unluckiest hundredth of the time is. Red: above the threshold. "
                "Click a bar: stalls by cause say why.",
                "s", 6, 9, ("EventLoopLagHigh",),
            ),
            query.worst(query.LAG_P99),
            board_name=_NAME,
        ),
        bars(
            Told(
                "Stalled time, worst loops",
                "Share of the time in which a loop served nobody, for the threshold or longer at a "
                "time. Click a bar; the stall log of that worker has the lines.",
                "percentunit", 6, 9,
                ("EventLoopStalledTimeFastBurn", "EventLoopStalledTimeSlowBurn"),
            ),
            query.worst(query.STALLED_SHARE),
            at=SHARE_AT,
        ),
        bars(
            Told(
                "CPU-to-wall, worst loops",
                query.help_of("loop_cpu_seconds_total"),
                "percentunit", 6, 9, ("EventLoopCpuHigh",),
            ),
            query.worst(query.CPU_RATIO),
            board_name=_NAME,
        ),
        bars(
            Told(
                "Tasks, worst loops",
                query.help_of("tasks"),
                "short", 6, 9, ("EventLoopTasksHigh", "EventLoopTasksGrowing"),
            ),
            query.worst(query.TASKS),
            board_name=_NAME,
        ),
        columns(
            Told(
                "All loops",
                "Every loop, largest p99 lag first; a click on a head sorts by it, a click on a "
                "row leads to the loop in depth. Red: above the threshold.",
                "short", 24, 9, ("EventLoopLagHigh", "EventLoopStallsFrequent"),
            ),
            WORKER,
            Column(query.each(query.LAG_P99), "Lag p99", "s"),
            Column(query.each(query.of("lag_max_seconds")), "Lag max, 60 s", "s"),
            Column(query.each(query.STALL_AGE), "Stalled now", "s"),
            Column(query.each(query.STALLED_SHARE), "Stalled time", "percentunit"),
            Column(query.each(query.UTILIZATION), "Utilization", "percentunit"),
            Column(query.each(query.CPU_RATIO), "CPU-to-wall", "percentunit"),
            Column(query.each(query.TASKS), "Tasks", "short"),
            sort="Lag p99",
            board_name=_NAME,
            linked=True,
        ),
    )  # fmt: skip


def _course() -> Row:
    return "Over time", (
        lines(
            Told(
                "Lag p99 by service",
                "The worst loop of each service; dashed is the threshold. Services that rise "
                "together share a machine or a dependency.",
                "s", alerts=("EventLoopLagHigh",),
            ),
            Line(f"max {query.BY_SERVICE} ({query.LAG_P99})", query.SERVICE_LEGEND),
            Line(f"min({query.LAG_LIMIT})", LIMIT),
        ),
        lines(
            Told(
                "Utilization by service",
                "The busiest loop of each service. " + query.help_of("loop_time_seconds_total"),
                "percentunit", alerts=("EventLoopCpuHigh",),
            ),
            Line(f"max {query.BY_SERVICE} ({query.UTILIZATION})", query.SERVICE_LEGEND),
            most=1,
        ),
        by_cause(),
        stalled_time(),
    )  # fmt: skip


def _what_runs() -> Row:
    return "What runs", (
        columns(
            Told(
                "Unreachable targets",
                "Ran loopwatch within the last hour and do not answer, or one worker of several. "
                "If the process lives, a C call keeps its GIL: py-spy dump shows which.",
                "short", 12, 7, ("EventLoopUnreachable",),
            ),
            WORKER,
            Column(f"1000 * ({query.LAST_HEARD})", "Last heard of", "dateTimeFromNow"),
            sort="Last heard of",
        ),
        columns(
            Told(
                "Versions",
                "How many loops run which loopwatch, Python, kind of loop and sensor. "
                "native_sampler unavailable: run loopwatch doctor there.",
                "short", 12, 7,
            ),
            ("version", "python", "loop_impl", "sensor", "native_sampler"),
            Column(
                f"count by (version, python, loop_impl, sensor, native_sampler) ({query.BUILD})",
                "Loops", "short",
            ),
            sort="Loops",
        ),
    )  # fmt: skip
