"""`loopwatch doctor`."""

from __future__ import annotations

import importlib.util
import json
import time
from typing import TYPE_CHECKING

from loopwatch.cli.command import Command
from loopwatch.errors import MissingExtraError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from loopwatch.doctor.checks import Finding, Here
    from loopwatch.doctor.runner import LoopReport

__all__ = ["DoctorCommand"]

_LOOPS = ("asyncio", "uvloop")


class DoctorCommand(Command):
    """Says whether loopwatch works here."""

    name = "doctor"
    help = "check what works here, and block a loop on purpose"
    about = (
        "Tries out every part loopwatch is made of, then blocks a watched event loop in a child "
        "process with each kind of stall and compares what is told with what is true. Takes about "
        "8 s for each kind of loop. Exit code 1 if something that should work here does not."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--loop",
            choices=_LOOPS,
            help="check this kind of event loop alone (default: both, if uvloop is installed)",
        )
        parser.add_argument(
            "--no-trials", action="store_true", help="block no loop, only check what works here"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def run(self, args: argparse.Namespace) -> int:
        """Check, try, and return 1 if something that should work does not."""
        from loopwatch.doctor import report  # noqa: PLC0415 - asyncio and more, for this one only
        from loopwatch.doctor.checks import Here  # noqa: PLC0415

        has_uvloop = importlib.util.find_spec("uvloop") is not None
        if args.loop == "uvloop" and not has_uvloop:
            raise MissingExtraError("loopwatch doctor --loop uvloop", "uvloop")
        began_s = time.monotonic()
        here = Here.now()
        findings = _examined(here, args.loop)
        if not args.json:
            _print(report.check_lines(findings))
        loops = [args.loop] if args.loop else _LOOPS if has_uvloop else _LOOPS[:1]
        why_not = "--no-trials" if args.no_trials else _hindrance(findings)
        reports = list(_tried(here, findings, () if why_not else loops, quiet=args.json))
        if args.json:
            took_s = time.monotonic() - began_s
            print(json.dumps(report.as_json(findings, reports, why_not, took_s), indent=2))
        else:
            _print(["", report.conclusion(findings, reports, why_not)])
        return 1 if report.not_working(findings, reports) else 0


def _examined(here: Here, loop: str | None) -> list[Finding]:
    from loopwatch.doctor.checks import CHECKS, examine  # noqa: PLC0415 - see `run`

    left_out = {f"{other} loop" for other in _LOOPS if loop not in (None, other)}
    return examine(here, [check for check in CHECKS if check.name not in left_out])


def _hindrance(findings: Sequence[Finding]) -> str:
    """Return why no trial makes sense here; empty if they do."""
    from loopwatch.doctor.checks import DEBUGGER, Status  # noqa: PLC0415 - see `run`

    attached = [f for f in findings if f.name == DEBUGGER and f.status is Status.OFF]
    return "a debugger is attached, and no stall is told then" if attached else ""


def _tried(
    here: Here, findings: Sequence[Finding], loops: Sequence[str], *, quiet: bool
) -> Iterator[LoopReport]:
    from loopwatch.doctor import report  # noqa: PLC0415 - see `run`
    from loopwatch.doctor.checks import Status  # noqa: PLC0415
    from loopwatch.doctor.runner import run_trials  # noqa: PLC0415

    missing = [finding.name for finding in findings if finding.status is not Status.OK]
    for loop in loops:
        if not quiet:
            _print(report.trials_head(loop))
        tried = run_trials(
            loop,
            native_sampler=here.config.native_sampler,
            missing=missing,
            on_verdict=None if quiet else lambda said: _print(report.trial_lines(said)),
        )
        if tried.failed and not quiet:
            _print([f"-> {tried.failed}"])
        yield tried


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line, flush=True)
