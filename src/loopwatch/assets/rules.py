"""Recording and alerting rules as data: the table of alerts with options put in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loopwatch.assets.alerts import GROUPS, SEVERITIES, Alert, Group
from loopwatch.assets.links import DASHBOARD_OVERVIEW, RUNBOOKS_URL, runbook_url
from loopwatch.assets.promql import MIN_WINDOW_S, Matcher, Terms, duration, scaled_s, seconds
from loopwatch.assets.yaml_text import Noted, comment, dump
from loopwatch.config import Config
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["FORGET_AFTER", "HEARTBEAT_AGE_S", "RulesOptions", "about", "groups", "plain"]

# The watchdog looks twice a second at least. Ten seconds leave room for clocks that differ.
HEARTBEAT_AGE_S: Final = 10
# One lost scrape of one a minute is not silence: until the next one is in, up to 70 s go by.
_UNREACHABLE_FOR: Final = "1m15s"
# What has not answered for so long is no longer missed.
FORGET_AFTER: Final = "1h"


@dataclass(frozen=True, slots=True, kw_only=True)
class RulesOptions:
    """What can be chosen.

    `thresholds` holds literal values, in seconds, tasks and ratio, by the metric that would
    tell them otherwise. `unreachable_for` and `forget_after` are durations as Prometheus writes
    them, `heartbeat_age_s` seconds. `uids` holds those of the dashboards, by the packaged ones.
    `scale` multiplies every window and wait; `command` is told in the head. Raises `ConfigError`.
    """

    selector: tuple[Matcher, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    stalled_budget: float = 0.01
    stalls_per_minute: float = 6.0
    unreachable_for: str = _UNREACHABLE_FOR
    forget_after: str = FORGET_AFTER
    heartbeat_age_s: float = HEARTBEAT_AGE_S
    severities: Mapping[str, str] = field(default_factory=lambda: {s: s for s in SEVERITIES})
    runbooks_url: str = RUNBOOKS_URL
    uids: Mapping[str, str] = field(default_factory=dict)
    scale: float = 1.0
    command: str = "loopwatch rules"

    def __post_init__(self) -> None:
        """Refuse a wait that is never over."""
        if seconds(self.forget_after) <= seconds(self.unreachable_for):
            raise ConfigError(
                f"forget-after {self.forget_after} is not longer than unreachable-for "
                f"{self.unreachable_for}, so that nobody would ever be told: use a longer one"
            )

    def terms(self) -> Terms:
        """Return what goes into the expressions."""
        forget_after_s = scaled_s(self.forget_after, self.scale, MIN_WINDOW_S)
        numbers: dict[str, float | str] = {
            **self.thresholds,
            "HEARTBEAT_AGE": self.heartbeat_age_s,
            "FORGET_AFTER": duration(forget_after_s),
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
        "Rules of loopwatch, for Prometheus 2.42 and newer (older ones refuse keep_firing_for).",
        "Change the options, not this file:",
        f"  {options.command}",
    ]
    if exported:
        lines.append(f"Limits are those each process exports, by default {', '.join(exported)}.")
    lines.append(
        f"Budget of stalled time {options.stalled_budget * 100:g} %, "
        f"{options.stalls_per_minute:g} stalls a minute."
    )
    wait_s = scaled_s(options.unreachable_for, options.scale)
    # A fifth of it is left to a slow scrape and to the evaluation.
    lines.append(
        f"EventLoopUnreachable waits {duration(wait_s)}: one lost scrape tells nobody up to a "
        f"scrape_interval of {duration(wait_s * 4 // 5)}."
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
    hold = options.unreachable_for if alert.hold == "UNREACHABLE_FOR" else alert.hold
    return {
        "alert": alert.name,
        "expr": terms.apply(alert.expr),
        "for": duration(scaled_s(hold, options.scale)),
        "keep_firing_for": duration(scaled_s(alert.keep, options.scale, 1)),
        "labels": {"severity": options.severities[alert.severity]},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": runbook_url(alert.name, options.runbooks_url),
            "dashboard": _dashboard(alert.dashboard, options),
        },
    }


def _dashboard(uid: str, options: RulesOptions) -> str:
    """Return the path below the Grafana URL, with the variables of that dashboard filled in."""
    names = ("job",) if uid == DASHBOARD_OVERVIEW else ("job", "instance", "loop")
    query = "&".join(f"var-{name}={{{{ urlquery $labels.{name} }}}}" for name in names)
    return f"/d/{options.uids.get(uid, uid)}?{query}"
