"""The alerts and what they are computed from: one row each.

An expression stands here as it is with default options; `promql.Terms` puts others in. Names in
capitals are values of `rules.RulesOptions`; thresholds are metrics that each process exports.

A row of `ALERTS` also has cases in `alerts/loopwatch.tests.yml` and a page in `docs/runbooks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loopwatch.assets.links import DASHBOARD_LOOP, DASHBOARD_OVERVIEW
from loopwatch.assets.promql import LOOP, TARGET, labels

__all__ = ["GROUPS", "SEVERITIES", "SLOW_BURN", "Alert", "Group", "Recording"]

# Somebody gets up for it; somebody looks at it this week.
SEVERITIES: Final = ("critical", "warning")

# Burn rates: so many times the budget. https://sre.google/workbook/alerting-on-slos/
_FAST_BURN: Final = 14.4
SLOW_BURN: Final = 6


@dataclass(frozen=True, slots=True)
class Recording:
    """A series that alerts of its group read; its name says level, metric and window."""

    name: str
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert. `hold` is how long the condition must last, `keep` how long it goes on after.

    A `hold` in capitals is a value of `rules.RulesOptions`.
    `summary` and `description` are templates of Prometheus; `dashboard` is a uid.
    """

    name: str
    severity: str
    expr: str
    hold: str
    keep: str
    summary: str
    description: str
    dashboard: str = DASHBOARD_LOOP


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after the other."""

    name: str
    purpose: str
    recordings: tuple[Recording, ...]
    alerts: tuple[Alert, ...]


def _name(of: str, *names: str) -> str:
    """Return a template of the first of these labels that is there, with `of` before it."""
    first, *others = names
    otherwise = f"{{{{ else }}}}{_name(of, *others)}" if others else ""
    return f"{{{{ with $labels.{first} }}}}{of}{{{{ . }}}}{otherwise}{{{{ end }}}}"


# Which loop: what is known of it. Over OTLP job and instance are not there, or are a collector's.
_OF: Final = (
    _name(" of ", "service_name", "job")
    + _name(" on ", "service_instance_id", "instance")
    + _name(", pid ", "pid")
    + _name(", namespace ", "namespace")
    + _name(", cluster ", "cluster")
)
_COUNT: Final = '{{ printf "%.0f" $value }}'
_LOOP: Final = "Event loop {{ $labels.loop }}" + _OF

# Of several processes behind one endpoint those that stand still while another one does not. They
# are on one machine: its clock may be any. All of them silent: then the endpoint is, and `up` is 0.
_SILENT_WORKERS: Final = """\
  max without (loop, pid) (loopwatch_heartbeat_timestamp_seconds{pid!=""})
    - ignoring (loop, pid) group_right ()
    loopwatch_heartbeat_timestamp_seconds{pid!=""} > HEARTBEAT_AGE"""

# Who was paged for a loop is not paged again for the time it lost while it was stuck.
_PAGED: Final = f"""\
unless on {labels(LOOP)}
  max_over_time(ALERTS{{alertname=~"EventLoop(Stuck|Unreachable)",alertstate="firing"}}[10m])
unless on {labels(TARGET)}
  max_over_time(ALERTS{{alertname="EventLoopUnreachable",alertstate="firing",loop=""}}[10m])"""

GROUPS: Final[tuple[Group, ...]] = (
    Group(
        "loopwatch-stuck",
        "Is anybody there? A loop that does not come back, a process that does not answer, a\n"
        "watchdog that does not look.",
        (),
        (
            Alert(
                "EventLoopStuck",
                "critical",
                "loopwatch_stall_active_seconds >= loopwatch_hang_threshold_seconds",
                "0s",
                "1m",
                f"{_LOOP} has been stuck for {{{{ $value | humanizeDuration }}}}",
                "It has served nothing for {{ $value | humanizeDuration }}: every request of this "
                "process waits. GET /api/stalls of the process names the line that holds it; if "
                "it does not come back, restart the process.",
            ),
            Alert(
                "EventLoopUnreachable",
                "critical",
                "(up == 0)\n"
                f"  + on {labels(TARGET)} group_left ()\n"
                f"  (time() - max by {labels(TARGET)} (\n"
                "    last_over_time(loopwatch_heartbeat_timestamp_seconds[FORGET_AFTER])\n"
                "  ))\n"
                "or\n"
                f"(\n{_SILENT_WORKERS}\n) >= loopwatch_hang_threshold_seconds",
                "UNREACHABLE_FOR",
                "1m",
                "Nothing heard from "
                "{{ with $labels.loop }}event loop {{ . }}{{ else }}a watched process{{ end }}"
                f"{_OF} for {{{{ $value | humanizeDuration }}}}",
                "Its numbers stopped {{ $value | humanizeDuration }} ago. Either a C call holds "
                "the GIL, so that no thread of the process can answer, or the process is gone, "
                "paused or cut off. py-spy dump --native on its pid tells which.",
                DASHBOARD_OVERVIEW,
            ),
            Alert(
                "EventLoopWatchdogDead",
                "warning",
                "(\n"
                "  timestamp(loopwatch_heartbeat_timestamp_seconds)\n"
                "    - loopwatch_heartbeat_timestamp_seconds > HEARTBEAT_AGE\n"
                ") >= loopwatch_hang_threshold_seconds\n"
                f"unless\n(\n{_SILENT_WORKERS}\n)",
                "1m",
                "5m",
                f"The watchdog of event loop {{{{ $labels.loop }}}}{_OF} looked last "
                "{{ $value | humanizeDuration }} ago",
                "The process answers, but its watchdog thread has not run for "
                "{{ $value | humanizeDuration }}: stalls of this loop go unseen and its numbers "
                "are old. Look into its log for errors of loopwatch and compare its clock with "
                "that of Prometheus.",
            ),
        ),
    ),
    Group(
        "loopwatch-stalls",
        "How much of its time does a loop lose to stalls? Burn rates of a budget over a\n"
        "long and a short window: the long one says that it matters, the short one that it still\n"
        "happens. Of several workers behind one endpoint it is the mean: one that is replaced\n"
        "every few minutes would be too young for a window of an hour.",
        (
            Recording(
                "loop:loopwatch_workers:count",
                "count without (pid) (loopwatch_heartbeat_timestamp_seconds)",
            ),
            *(
                Recording(
                    f"loop:loopwatch_stall_seconds:rate{window}",
                    f"sum without (cause, pid) (rate(loopwatch_stall_seconds_total[{window}]))\n"
                    f"  / avg_over_time(loop:loopwatch_workers:count[{window}])",
                )
                for window in ("5m", "30m", "1h", "6h")
            ),
            Recording(
                "loop:loopwatch_stalls:rate5m",
                "sum without (cause) (rate(loopwatch_stalls_total[5m]))",
            ),
        ),
        (
            Alert(
                "EventLoopStalledTimeFastBurn",
                "critical",
                f"loop:loopwatch_stall_seconds:rate1h > {_FAST_BURN} * STALLED_BUDGET\n"
                "and\n"
                f"loop:loopwatch_stall_seconds:rate5m > {_FAST_BURN} * STALLED_BUDGET\n{_PAGED}",
                "1m",
                "5m",
                f"{_LOOP} has lost {{{{ $value | humanizePercentage }}}} of the last hour to "
                "stalls",
                "It was stalled for {{ $value | humanizePercentage }} of the last hour and still "
                f"is, over {_FAST_BURN} times its budget: an hour at this rate uses what is meant "
                "for more than half a day. See which cause grows in loopwatch_stall_seconds_total, "
                "then the lines in the stall log.",
            ),
            Alert(
                "EventLoopStalledTimeSlowBurn",
                "warning",
                f"loop:loopwatch_stall_seconds:rate6h > {SLOW_BURN} * STALLED_BUDGET\n"
                "and\n"
                f"loop:loopwatch_stall_seconds:rate30m > {SLOW_BURN} * STALLED_BUDGET",
                "5m",
                "15m",
                f"{_LOOP} has lost {{{{ $value | humanizePercentage }}}} of the last 6 hours to "
                "stalls",
                "It was stalled for {{ $value | humanizePercentage }} of the last 6 hours and "
                f"still is, over {SLOW_BURN} times its budget. See which cause grows in "
                "loopwatch_stall_seconds_total, then the lines in the stall log.",
            ),
            Alert(
                "EventLoopStallsFrequent",
                "warning",
                "loop:loopwatch_stalls:rate5m * 60 > STALLS_PER_MINUTE",
                "10m",
                "10m",
                f"{_LOOP} stalls {{{{ $value | humanize }}}} times a minute",
                "It stalled {{ $value | humanize }} times a minute over the last 5 minutes; each "
                "time every request in flight waited. Like stalls have one fingerprint in "
                "/api/stalls: mend the most frequent one.",
            ),
        ),
    ),
    Group(
        "loopwatch-lag",
        "How late is work that is due? p99 of the time between scheduled and executed.",
        (
            Recording(
                "loop:loopwatch_lag_seconds:p99_5m",
                "histogram_quantile(0.99, rate(loopwatch_lag_seconds_bucket[5m]))",
            ),
        ),
        (
            Alert(
                "EventLoopLagHigh",
                "warning",
                "loop:loopwatch_lag_seconds:p99_5m > loopwatch_lag_threshold_seconds",
                "10m",
                "10m",
                f"{_LOOP} lags: p99 is {{{{ $value | humanizeDuration }}}}",
                "In 1 % of the time of the last 5 minutes, work that was due waited for "
                "{{ $value | humanizeDuration }} or more. With stalls, mend what they name; "
                "without, the loop has too much to do: see its utilization.",
            ),
        ),
    ),
    Group(
        "loopwatch-tasks",
        "Do tasks pile up? Now above the limit, or on the way there with a floor that rises in\n"
        "each of four quarters of an hour: a leak does that, a load that comes and stays does not.",
        (),
        (
            Alert(
                "EventLoopTasksHigh",
                "warning",
                "loopwatch_tasks > loopwatch_tasks_threshold",
                "5m",
                "5m",
                f"{_LOOP} has {_COUNT} pending tasks",
                f"{_COUNT} tasks are pending. A burst goes away by itself; if the "
                "number only ever grows, tasks are created and never end: look for create_task "
                "without await, and for awaits without a timeout.",
            ),
            Alert(
                "EventLoopTasksGrowing",
                "warning",
                "predict_linear(loopwatch_tasks[1h], 4 * 3600) > loopwatch_tasks_threshold\n"
                "and min_over_time(loopwatch_tasks[15m])\n"
                "  > min_over_time(loopwatch_tasks[15m] offset 15m)\n"
                "and min_over_time(loopwatch_tasks[15m] offset 15m)\n"
                "  > min_over_time(loopwatch_tasks[15m] offset 30m)\n"
                "and min_over_time(loopwatch_tasks[15m] offset 30m)\n"
                "  > min_over_time(loopwatch_tasks[15m] offset 45m)",
                "15m",
                "15m",
                f"{_LOOP} leaks tasks: {_COUNT} in 4 hours at this rate",
                "Pending tasks have grown for an hour without ever falling back; at this rate "
                f"there will be {_COUNT} of them in 4 hours. Look for create_task "
                "without await, and for awaits without a timeout.",
            ),
        ),
    ),
    Group(
        "loopwatch-work",
        "Is there too much to do? CPU time of the loop thread per second, and work that waits for\n"
        "a thread of an executor.",
        (
            Recording(
                "loop:loopwatch_loop_cpu_seconds:rate5m",
                "rate(loopwatch_loop_cpu_seconds_total[5m])",
            ),
        ),
        (
            Alert(
                "EventLoopCpuHigh",
                "warning",
                "loop:loopwatch_loop_cpu_seconds:rate5m > loopwatch_cpu_threshold_ratio",
                "10m",
                "10m",
                f"{_LOOP} burns {{{{ $value | humanizePercentage }}}} of a CPU",
                "Its thread used {{ $value | humanizePercentage }} of a CPU over the last 5 "
                "minutes: what computes keeps what waits for I/O from going on. Move the work to "
                "a process pool or to another worker.",
            ),
            Alert(
                "EventLoopExecutorSaturated",
                "warning",
                "min_over_time(loopwatch_executor_queue_length[5m]) > 0\n"
                "and present_over_time(loopwatch_executor_queue_length[5m] offset 5m)",
                "1m",
                "5m",
                "Executor {{ $labels.executor }} of event loop {{ $labels.loop }}"
                f"{_OF} is saturated",
                "At least {{ $value | humanize }} work items have waited for a thread all the "
                "time: whatever goes through asyncio.to_thread, run_in_executor and (in the "
                "default executor) DNS lookups waits with them. The pool is too small, or its "
                "threads hang.",
            ),
        ),
    ),
)
