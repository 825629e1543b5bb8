"""PromQL of the dashboards: every selector has the dashboard's variables, every name is known."""

from __future__ import annotations

from typing import Final

from loopwatch.assets.promql import SERVICE, TARGET, WORKER, labels
from loopwatch.assets.rules import FORGET_AFTER, HEARTBEAT_AGE_S
from loopwatch.catalogue import METRICS, Kind

# By OTLP a series may lack `job` and `instance`: All stands for `.*`, which matches that, too.
TARGETS: Final = 'job=~"$job", instance=~"$instance"'
LOOPS: Final = f'{TARGETS}, loop=~"$loop"'
RATE_WINDOW: Final = "[$__rate_interval]"
# What is counted as above a threshold is what the alerts see, at any zoom.
ALERT_WINDOW: Final = "[5m]"

# All that tells loops apart; a label that is not there stays away. Workers that share an endpoint
# have the label `pid`, and adding them up would lie.
BY_LOOP: Final = f"by {labels(WORKER)}"
LEGEND: Final = " ".join(f"{{{{{name}}}}}" for name in WORKER if name != "job")
BY_SERVICE: Final = f"by {labels(SERVICE)}"
SERVICE_LEGEND: Final = " ".join(f"{{{{{name}}}}}" for name in SERVICE)

_NAMES: Final = frozenset(
    metric.name + suffix
    for metric in METRICS
    for suffix in (("_bucket", "_count", "_sum") if metric.kind is Kind.HISTOGRAM else ("",))
)
_HELP: Final = {metric.name: metric.help for metric in METRICS}


def of(name: str, *matchers: str) -> str:
    """Return the selector of `loopwatch_NAME` of the selected loops; `KeyError` if unknown."""
    if f"loopwatch_{name}" not in _NAMES:
        raise KeyError(name)
    return f"loopwatch_{name}{{{', '.join((LOOPS, *matchers))}}}"


def rate(name: str, *matchers: str, window: str = RATE_WINDOW) -> str:
    """Return the growth per second of a counter."""
    return f"rate({of(name, *matchers)}{window})"


def lag(quantile: float, window: str = RATE_WINDOW) -> str:
    """Return a quantile of lag, weighted by time, of each loop."""
    return f"histogram_quantile({quantile:g}, {rate('lag_seconds_bucket', window=window)})"


def each(expr: str) -> str:
    """Return the same with the labels that tell loops apart and no others."""
    return f"max {BY_LOOP} ({expr})"


def worst(expr: str) -> str:
    """Return the ten loops with the largest values, largest first."""
    return f"sort_desc(topk(10, {expr}))"


def how_many(expr: str) -> str:
    """Return a number of series; 0 if there is none."""
    return f"count({expr}) or vector(0)"


def help_of(name: str) -> str:
    """Return the help of a metric."""
    return _HELP[f"loopwatch_{name}"]


LAG_P99: Final = lag(0.99)
LAG_LIMIT: Final = of("lag_threshold_seconds")
CPU_RATIO: Final = rate("loop_cpu_seconds_total")
CPU_LIMIT: Final = of("cpu_threshold_ratio")
TASKS: Final = of("tasks")
TASKS_LIMIT: Final = of("tasks_threshold")
STALL_AGE: Final = of("stall_active_seconds")
HANG_LIMIT: Final = of("hang_threshold_seconds")
UTILIZATION: Final = rate("loop_time_seconds_total", 'state="busy"')
STALLED_SHARE: Final = f"sum without (cause) ({rate('stall_seconds_total')})"
# At the moment of the scrape, as the alert has it: an export once a minute is no silence. A scrape
# has the time at which it began, which may be before the watchdog looked.
HEARTBEAT_AGE: Final = (
    f"clamp_min(timestamp({of('heartbeat_timestamp_seconds')}) - "
    f"{of('heartbeat_timestamp_seconds')}, 0)"
)
BUILD: Final = of("build_info")

_WORKERS: Final = of("heartbeat_timestamp_seconds", 'pid!=""')
_SILENT: Final = (
    f"max without (loop, pid) ({_WORKERS}) - ignoring (loop, pid) group_right () {_WORKERS} "
    f"> {HEARTBEAT_AGE_S}"
)
# As the alerts have it: not scraped now and ran loopwatch not long ago, or one worker of several
# that stands still; and a watchdog that does not look although its process answers.
UNREACHABLE_TARGETS: Final = (
    f"up{{{TARGETS}}} == 0 and on {labels(TARGET)} last_over_time({BUILD}[{FORGET_AFTER}])"
)
UNREACHABLE_WORKERS: Final = f"({_SILENT}) >= {HANG_LIMIT}"
UNREACHABLE: Final = f"{UNREACHABLE_TARGETS} or {UNREACHABLE_WORKERS}"
WATCHDOG_SILENT: Final = f"({HEARTBEAT_AGE} > {HEARTBEAT_AGE_S}) >= {HANG_LIMIT} unless ({_SILENT})"
LAST_HEARD: Final = (
    f"max by {labels(TARGET)} "
    f"(last_over_time({of('heartbeat_timestamp_seconds')}[{FORGET_AFTER}])) "
    f"and on {labels(TARGET)} ({UNREACHABLE_TARGETS}) "
    f"or max {BY_LOOP} ({_WORKERS} and {UNREACHABLE_WORKERS})"
)
STALLED_BY_CAUSE: Final = (
    f"sum by (cause) ({rate('stall_seconds_total')}) / on () group_left () count({BUILD})"
)
