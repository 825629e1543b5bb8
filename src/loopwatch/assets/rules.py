"""Recording and alerting rules as data: the table of alerts with options put in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loopwatch.assets.alerts import GROUPS, SEVERITIES, Alert, Group
from loopwatch.assets.links import DASHBOARD_OVERVIEW, RUNBOOKS_URL, runbook_url
from loopwatch.assets.promql import Matcher, Terms, duration, scaled_s
from loopwatch.assets.yaml_text import Noted, comment, dump
from loopwatch.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HEARTBEAT_AGE_S", "RulesOptions", "about", "groups", "plain"]

# The watchdog looks twice a second at least. Ten seconds leave room for clocks that differ.
HEARTBEAT_AGE_S: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions:
    """What can be chosen.

    `thresholds` holds literal values, in seconds, tasks and ratio, by the metric that would
    tell them otherwise; `scale` multiplies every window and wait; `command` is told in the head.
    """

    selector: tuple[Matcher, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    stalled_budget: float = 0.01
    stalls_per_minute: float = 6.0
    severities: Mapping[str, str] = field(default_factory=lambda: {s: s for s in SEVERITIES})
    runbooks_url: str = RUNBOOKS_URL
    scale: float = 1.0
    command: str = "loopwatch rules"

    def terms(self) -> Terms:
        """Return what goes into the expressions."""
        numbers = {
            **self.thresholds,
            "HEARTBEAT_AGE": HEARTBEAT_AGE_S,
            "STALLED_BUDGET": self.stalled_budget,
            "STALLS_PER_MINUTE": self.stalls_per_minute,
        }
        return Terms(self.selector, numbers, self.scale)


def plain(options: RulesOptions) -> str:
    """Return the rules as a file for `rule_files` of Prometheus."""
    return f"{comment(about(options))}\n{dump({'groups': groups(options)})}"


def about(options: RulesOptions) -> str:
    """Return what the head of a file says: what this is, and the numbers in it."""
    config = Config()
    defaults = {
        "loopwatch_lag_threshold_seconds": f"lag {config.stall_threshold_s:g} s",
        "loopwatch_hang_threshold_seconds": f"stuck {config.hang_threshold_s:g} s",
        "loopwatch_tasks_threshold": f"{config.tasks_threshold} tasks",
        "loopwatch_cpu_threshold_ratio": f"CPU {config.cpu_ratio_threshold:g}",
    }
    exported = [text for name, text in defaults.items() if name not in options.thresholds]
    lines = [
        "Rules of loopwatch, for Prometheus 2.42 and newer. Change the options, not this file:",
        f"  {options.command}",
    ]
    if exported:
        lines.append(f"Limits are those each process exports, by default {', '.join(exported)}.")
    lines.append(
        f"Budget of stalled time {options.stalled_budget * 100:g} %, "
        f"{options.stalls_per_minute:g} stalls a minute."
    )
    if options.scale != 1:
        lines.append(f"Every window and wait is multiplied by {options.scale:g}: for trying out.")
    return "\n".join(lines)


def groups(options: RulesOptions) -> list[Noted]:
    """Return the groups as they stand in a rule file, each with its purpose beside it."""
    return [
        Noted(group.purpose, {"name": group.name, "rules": list(_rules(group, options))})
        for group in GROUPS
    ]


def _rules(group: Group, options: RulesOptions) -> Iterator[Mapping[str, object]]:
    terms = options.terms()
    for recording in group.recordings:
        yield {"record": terms.record(recording.name), "expr": terms.apply(recording.expr)}
    for alert in group.alerts:
        yield _alert(alert, terms, options)


def _alert(alert: Alert, terms: Terms, options: RulesOptions) -> Mapping[str, object]:
    return {
        "alert": alert.name,
        "expr": terms.apply(alert.expr),
        "for": duration(scaled_s(alert.hold, options.scale)),
        "keep_firing_for": duration(scaled_s(alert.keep, options.scale, 1)),
        "labels": {"severity": options.severities[alert.severity]},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": runbook_url(alert.name, options.runbooks_url),
            "dashboard": _dashboard(alert.dashboard),
        },
    }


def _dashboard(uid: str) -> str:
    """Return the path below the Grafana URL, with the variables of that dashboard filled in."""
    names = ("job",) if uid == DASHBOARD_OVERVIEW else ("job", "instance", "loop")
    query = "&".join(f"var-{name}={{{{ urlquery $labels.{name} }}}}" for name in names)
    return f"/d/{uid}?{query}"
