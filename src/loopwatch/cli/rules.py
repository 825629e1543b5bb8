"""`loopwatch rules`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loopwatch.cli import output, values
from loopwatch.cli.command import Command
from loopwatch.config import Config
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from loopwatch.assets.kubernetes import KubernetesOptions
    from loopwatch.assets.rules import RulesOptions

__all__ = ["RulesCommand"]

# Option -> the setting that it stands for, and the metric that tells it otherwise.
_THRESHOLDS: Final = {
    "lag_threshold": ("stall_threshold_s", "loopwatch_lag_threshold_seconds"),
    "hang_threshold": ("hang_threshold_s", "loopwatch_hang_threshold_seconds"),
    "tasks_threshold": ("tasks_threshold", "loopwatch_tasks_threshold"),
    "cpu_threshold": ("cpu_ratio_threshold", "loopwatch_cpu_threshold_ratio"),
}

_RULES: Final = (
    *("selector", *_THRESHOLDS, "stalled_budget", "stalls_per_minute"),
    *("unreachable_for", "forget_after", "heartbeat_age"),
    *("severity", "runbooks_url", "dashboard_uid", "time_scale"),
)
_KUBERNETES: Final = ("name", "namespace", "label")

# Which options have a say in which format.
_FORMATS: Final = {
    "plain": _RULES,
    "prometheus-rule": (*_RULES, *_KUBERNETES),
    "pod-monitor": (*_KUBERNETES, "pod_label"),
    "alertmanager": ("severity", "time_scale"),
}

# Ten times a window is for slow scrapes; below a hundredth different windows become one.
_SCALES: Final = (0.01, 10.0)
# The fast burn is 14.4 times the budget and has to stay below all of the time.
_MAX_BUDGET: Final = 0.05
_MAX_STALLS_PER_MINUTE: Final = 600
# Below, a clock that is a little off is an alert; above, nobody is told on the same day.
_HEARTBEAT_AGES_S: Final = (5.0, 3600.0)


class RulesCommand(Command):
    """Prints recording and alerting rules and what goes with them."""

    name = "rules"
    help = "print alert rules for Prometheus, Kubernetes and Alertmanager"
    about = (
        "Prints recording and alerting rules for Prometheus. Without thresholds of your own they "
        "compare with those that each process exports. Write them to a file."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options. Those not given are None, so that a useless one can be told."""
        parser.add_argument(
            "--format",
            choices=_FORMATS,
            default="plain",
            help="a rule file, the same as a PrometheusRule, a PodMonitor that goes with it, or "
            "an example for Alertmanager (default: %(default)s)",
        )
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
        )
        _add_rules_options(parser)
        kubernetes = parser.add_argument_group("for prometheus-rule and pod-monitor")
        kubernetes.add_argument(
            "--name", type=values.dns_name, help="name of the object (default: loopwatch)"
        )
        kubernetes.add_argument(
            "--namespace", type=values.dns_label, help="its namespace (default: that of kubectl)"
        )
        kubernetes.add_argument(
            "--label",
            type=values.label,
            action="append",
            metavar="KEY=VALUE",
            help="its label, for the selector of your Prometheus; several times for several",
        )
        kubernetes.add_argument(
            "--pod-label",
            type=values.label,
            action="append",
            metavar="KEY=VALUE",
            help="pod-monitor: scrape pods with this label (default: loopwatch=enabled)",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Print what was asked for."""
        # This file is imported for every command, these for this one.
        from loopwatch.assets import alertmanager, kubernetes, rules  # noqa: PLC0415

        _refuse_useless(args)
        _refuse_twice(args)
        if args.format == "pod-monitor":
            text = kubernetes.pod_monitor(_kubernetes_options(args))
        elif args.format == "prometheus-rule":
            text = kubernetes.prometheus_rule(_rules_options(args), _kubernetes_options(args))
        elif args.format == "alertmanager":
            text = alertmanager.example(_rules_options(args))
        else:
            text = rules.plain(_rules_options(args))
        output.write(text, args.output)
        return 0


def _add_rules_options(parser: argparse.ArgumentParser) -> None:
    rules = parser.add_argument_group("what the rules say")
    rules.add_argument(
        "--selector",
        metavar="MATCHERS",
        help='only series with these labels, as in \'job="api",namespace=~"shop|pay"\'',
    )
    for option, (setting, metric) in _THRESHOLDS.items():
        rules.add_argument(
            f"--{option.replace('_', '-')}",
            type=values.threshold(setting),
            metavar="N",
            help=f"compare with N instead of {metric}, the {setting} of each process",
        )
    rules.add_argument(
        "--stalled-budget",
        type=values.number("a ratio above 0 and at most 0.05", lambda v: 0 < v <= _MAX_BUDGET),
        metavar="RATIO",
        help="share of time that may be lost to stalls (default: 0.01)",
    )
    rules.add_argument(
        "--stalls-per-minute",
        type=values.number(
            f"a number above 0 and at most {_MAX_STALLS_PER_MINUTE}",
            lambda v: 0 < v <= _MAX_STALLS_PER_MINUTE,
        ),
        metavar="N",
        help="more than this is frequent (default: 6)",
    )
    _add_waits(rules)
    rules.add_argument(
        "--severity",
        type=values.severity,
        action="append",
        metavar="NAME=YOURS",
        help="name of a severity, as in critical=page; for critical and for warning",
    )
    rules.add_argument(
        "--runbooks-url",
        type=values.url,
        metavar="URL",
        help="where your runbooks are: URL/ALERT.md",
    )
    rules.add_argument(
        "--dashboard-uid",
        type=values.dashboard_uid,
        action="append",
        metavar="NAME=UID",
        help="uid of a dashboard in your Grafana, as in loop=team-loop; for overview and for loop",
    )
    rules.add_argument(
        "--time-scale",
        type=values.number(
            f"a number from {_SCALES[0]:g} to {_SCALES[1]:g}",
            lambda v: _SCALES[0] <= v <= _SCALES[1],
        ),
        metavar="N",
        help="multiply every window and wait: 0.02 shows each alert within a minute or two if "
        "Prometheus scrapes and evaluates every second",
    )


def _add_waits(rules: argparse._ArgumentGroup) -> None:
    rules.add_argument(
        "--unreachable-for",
        type=values.duration,
        metavar="DURATION",
        help="how long a process is silent before EventLoopUnreachable: more than a "
        "scrape_interval, so that a lost scrape wakes nobody up (default: 1m15s)",
    )
    rules.add_argument(
        "--forget-after",
        type=values.duration,
        metavar="DURATION",
        help="a target that has not answered for so long is no longer missed (default: 1h)",
    )
    least_s, most_s = _HEARTBEAT_AGES_S
    rules.add_argument(
        "--heartbeat-age",
        type=values.number(
            f"seconds from {least_s:g} to {most_s:g}", lambda v: least_s <= v <= most_s
        ),
        metavar="SECONDS",
        help="a watchdog that has not looked for so long is silent: more than what is between two "
        "exports, where samples have the time of a scrape of a collector (default: 10)",
    )


def _refuse_useless(args: argparse.Namespace) -> None:
    """Raise `ConfigError` for an option that the format has no place for."""
    every = dict.fromkeys(name for names in _FORMATS.values() for name in names)
    for name in every:
        if getattr(args, name) is not None and name not in _FORMATS[args.format]:
            fitting = " or ".join(f for f, names in _FORMATS.items() if name in names)
            raise ConfigError(
                f"--{name.replace('_', '-')} changes nothing in --format {args.format}: "
                f"leave it out, or use --format {fitting}"
            )


def _refuse_twice(args: argparse.Namespace) -> None:
    """Raise `ConfigError` for a name that has two values: one of them would be lost."""
    for option in ("label", "pod_label", "severity", "dashboard_uid"):
        names = [name for name, _ in getattr(args, option) or ()]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(
                    f"--{option.replace('_', '-')} {name} has two values: leave one of them out"
                )


def _rules_options(args: argparse.Namespace) -> RulesOptions:
    from loopwatch.assets.dashboards import UIDS  # noqa: PLC0415 - see `run`
    from loopwatch.assets.promql import parse_selector  # noqa: PLC0415
    from loopwatch.assets.rules import RulesOptions  # noqa: PLC0415

    # Which thresholds fit together, the settings know.
    given = {setting: getattr(args, option) for option, (setting, _) in _THRESHOLDS.items()}
    Config.of(**{setting: value for setting, value in given.items() if value is not None})
    default = RulesOptions()

    def chosen(name: str, otherwise: float) -> float:
        value: float | None = getattr(args, name)
        return otherwise if value is None else value

    values = {metric: getattr(args, option) for option, (_, metric) in _THRESHOLDS.items()}
    return RulesOptions(
        selector=() if args.selector is None else parse_selector(args.selector),
        thresholds={metric: value for metric, value in values.items() if value is not None},
        stalled_budget=chosen("stalled_budget", default.stalled_budget),
        stalls_per_minute=chosen("stalls_per_minute", default.stalls_per_minute),
        unreachable_for=args.unreachable_for or default.unreachable_for,
        forget_after=args.forget_after or default.forget_after,
        heartbeat_age_s=chosen("heartbeat_age", default.heartbeat_age_s),
        severities={**default.severities, **dict(args.severity or ())},
        runbooks_url=default.runbooks_url if args.runbooks_url is None else args.runbooks_url,
        uids={UIDS[name]: uid for name, uid in args.dashboard_uid or ()},
        scale=chosen("time_scale", default.scale),
        command=_command(args),
    )


def _kubernetes_options(args: argparse.Namespace) -> KubernetesOptions:
    from loopwatch.assets.kubernetes import POD_LABELS, KubernetesOptions  # noqa: PLC0415

    return KubernetesOptions(
        name=args.name or KubernetesOptions().name,
        namespace=args.namespace,
        labels=dict(args.label or ()),
        pod_labels=dict(args.pod_label) if args.pod_label else POD_LABELS,
    )


def _command(args: argparse.Namespace) -> str:
    """Return the command line that gives this output, in one order whatever the order was."""
    words = ["loopwatch", "rules"]
    if args.format != "plain":
        words += ["--format", args.format]
    for name in _FORMATS[args.format]:
        value = getattr(args, name)
        for one in value if isinstance(value, list) else [value] * (value is not None):
            said = "=".join(one) if isinstance(one, tuple) else one
            words += [
                f"--{name.replace('_', '-')}",
                f"{said:.12g}" if isinstance(said, float) else str(said),
            ]
    return shlex.join(words)
