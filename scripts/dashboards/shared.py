"""Panels that both dashboards have, and limits that are no settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from scripts.dashboards import query
from scripts.dashboards.panels import Line, Told, lines

from loopwatch.assets.alerts import SLOW_BURN
from loopwatch.assets.rules import RulesOptions
from loopwatch.views.colours import CAUSE_COLOURS

if TYPE_CHECKING:
    from grafana_foundation_sdk.builders import timeseries

# Stalled time: the budget of the alerts, and where the slow burn of it is told.
_BUDGET: Final = RulesOptions().stalled_budget
SHARE_AT: Final = ((_BUDGET, "orange"), (SLOW_BURN * _BUDGET, "red"))

_COLOURS: Final = {cause.value: colour.grafana for cause, colour in CAUSE_COLOURS.items()}

_PER_MINUTE: Final = f"60 * sum by (cause) ({query.rate('stalls_total')})"


def by_cause() -> timeseries.Panel:
    """Return the panel of stalls by cause."""
    told = Told(
        "Stalls by cause",
        "Stalls per minute. blocking_call, cpu, native_call: your code, the stall log names the "
        "line and what to do instead. gc: the collector. gil_contention: another thread. "
        "cpu_starved, process_paused: not your code, look at limits and neighbours.",
        "suffix:/min",
        alerts=("EventLoopStallsFrequent",),
    )
    return _stacked_by_cause(told, _PER_MINUTE)


def stalled_time() -> timeseries.Panel:
    """Return the panel of stalled time by cause."""
    told = Told(
        "Stalled time by cause",
        "Share of the loops' time spent in stalls. Mend the cause with the largest area first: "
        "few long stalls hurt more than many short ones.",
        "percentunit",
        alerts=("EventLoopStalledTimeFastBurn", "EventLoopStalledTimeSlowBurn"),
    )
    return _stacked_by_cause(told, query.STALLED_BY_CAUSE)


def _stacked_by_cause(told: Told, expr: str) -> timeseries.Panel:
    return lines(told, Line(expr, "{{cause}}"), stacked=True, colours=_COLOURS)
