"""`loopwatch dashboard`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from loopwatch.cli import output, values
from loopwatch.cli.command import Command
from loopwatch.config import Config, settings

if TYPE_CHECKING:
    import argparse

__all__ = ["DashboardCommand"]

# Option -> the setting whose default it stands in for.
_THRESHOLDS: Final = {
    "--lag-threshold": "stall_threshold_s",
    "--tasks-threshold": "tasks_threshold",
    "--cpu-threshold": "cpu_ratio_threshold",
    "--hang-threshold": "hang_threshold_s",
}


class DashboardCommand(Command):
    """Prints a Grafana dashboard."""

    name = "dashboard"
    help = "print a Grafana dashboard: the fleet, or one loop in depth"
    about = (
        "Prints the JSON of a Grafana dashboard: import it by hand, or put it where Grafana "
        "provisions from. The thresholds only change colours: the dashed lines and the counts "
        "follow what each process exports."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "which",
            nargs="?",
            choices=("overview", "loop"),
            default="overview",
            help="the fleet, worst first, or one loop in depth (default: %(default)s)",
        )
        rows = {row.name: row for row in settings()}
        for option, setting in _THRESHOLDS.items():
            row = rows[setting]
            parser.add_argument(
                option,
                type=values.threshold(setting),
                dest=setting,
                default=row.default,
                metavar=row.unit.upper(),
                help=f"red from there on: {row.help} (default: %(default)s)",
            )
        parser.add_argument(
            "--selector",
            metavar="MATCHERS",
            help="""label matchers added to every query, such as 'team="x"'""",
        )
        parser.add_argument("--title", help="title of the dashboard")
        parser.add_argument("--uid", help="uid of the dashboard (default: loopwatch-overview, …)")
        parser.add_argument(
            "--other-uid", metavar="UID", help="uid of the dashboard its links lead to"
        )
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
        )

    def run(self, args: argparse.Namespace) -> int:
        """Print or write the JSON."""
        from loopwatch.assets.dashboards import dashboard, render  # noqa: PLC0415 - for this alone

        config = Config.of(**{name: getattr(args, name) for name in _THRESHOLDS.values()})
        text = render(
            dashboard(
                args.which,
                config,
                selector=args.selector,
                title=args.title,
                uid=args.uid,
                other_uid=args.other_uid,
            )
        )
        output.write(text, args.output)
        if args.output is not None:
            output.say(
                f"{args.output}: in Grafana choose Dashboards, New, Import; import the other one "
                "as well, they lead to each other"
            )
        return 0
