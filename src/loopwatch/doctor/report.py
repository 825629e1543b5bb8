"""What the doctor says: lines for people, one object for programs. Prints nothing itself."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any, Final

from loopwatch._version import __version__
from loopwatch.doctor.checks import CHECKS, Status
from loopwatch.doctor.judge import Mark
from loopwatch.doctor.trials import TRIALS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from loopwatch.doctor.checks import Finding
    from loopwatch.doctor.runner import LoopReport

__all__ = [
    "SCHEMA",
    "as_json",
    "check_lines",
    "conclusion",
    "not_working",
    "trial_lines",
    "trials_head",
]

SCHEMA: Final = "loopwatch.doctor/1"

_MARKS: Final = max(len(status) for status in (*Status, *Mark))
_CHECK_NAMES: Final = max(len(check.name) for check in CHECKS)
_TRIAL_NAMES: Final = max(len(trial.name) for trial in TRIALS)
_CAUSES: Final = max(len(trial.cause or "") for trial in TRIALS)
_INDENT: Final = " " * (_MARKS + 2)


def check_lines(findings: Sequence[Finding]) -> list[str]:
    """Return the table of what works here, one line each and what is lost below."""
    lines = []
    for finding in findings:
        lines.append(
            f"{finding.status:<{_MARKS}}  {finding.name:<{_CHECK_NAMES}}  {finding.detail}"
        )
        if finding.lost:
            lines.append(f"{_INDENT}{'':<{_CHECK_NAMES}}  -> {finding.lost}")
    return lines


def trials_head(loop: str) -> list[str]:
    """Return what stands above the trials on one kind of loop."""
    columns = f"{'stall':<{_TRIAL_NAMES}}  {'told as':<{_CAUSES}}  {'true':>7}  {'off by':>8}"
    return [
        "",
        f"Blocking a loop of {loop} on purpose, for about 8 s. What goes wrong is tried once more:",
        "the machine may have been at fault.",
        f"{_INDENT}{columns}  {'told at':>7}  blamed",
    ]


def trial_lines(verdict: dict[str, Any]) -> list[str]:
    """Return the row of one trial, and what was wrong below it."""
    true_s, duration_s, first_s = (verdict[key] for key in ("true_s", "duration_s", "first_s"))
    error = f"{(duration_s - true_s) * 1e3:+.1f} ms" if duration_s is not None else "-"
    told_as = verdict["cause"] or "-"
    line = (
        f"{verdict['mark']:<{_MARKS}}  {verdict['trial']:<{_TRIAL_NAMES}}  {told_as:<{_CAUSES}}  "
        f"{_ms(true_s):>7}  {error:>8}  {_ms(first_s):>7}  {_blamed(verdict)}"
    )
    lines = [line.rstrip()]
    lines += [f"{_INDENT}-> {text}" for text in verdict["wrong"]]
    if verdict["before"]:
        lines.append(f"{_INDENT}   second try; the first: {'; '.join(verdict['before'])}")
    if verdict["weaker"]:
        lines.append(f"{_INDENT}   less is expected without: {', '.join(verdict['weaker'])}")
    return lines


def _blamed(verdict: dict[str, Any]) -> str:
    """Return who is to blame: a line and what it called and waited for, or another thread."""
    if verdict["other_thread"]:
        return f"thread {verdict['other_thread']}"
    if not verdict["culprit"]:
        return "-"
    called = f": {verdict['call']}" if verdict["call"] else ""
    waited = f" [{verdict['wait']}]" if verdict["wait"] else ""
    function = verdict["culprit"].removeprefix("loopwatch.doctor.trials.")
    return f"{function}{called}{waited}"


def not_working(findings: Sequence[Finding], reports: Sequence[LoopReport]) -> list[str]:
    """Return the names of what should work and does not."""
    names = [finding.name for finding in findings if finding.status is Status.BROKEN]
    for report in reports:
        wrong = [t["trial"] for t in report.trials if t["mark"] == Mark.WRONG]
        names += [f"{name} on {report.loop}" for name in wrong]
        if report.failed:
            names.append(f"the trials on {report.loop}")
    return names


def conclusion(findings: Sequence[Finding], reports: Sequence[LoopReport], why_not: str) -> str:
    """Return the last line: what came of it and what to do next. `why_not`: no trials were made."""
    broken = not_working(findings, reports)
    if broken:
        things = "thing does" if len(broken) == 1 else "things do"
        return (
            f"{len(broken)} {things} not work: {', '.join(broken)}. Do what the rows say; "
            "if that does not help, report it with the output of `loopwatch doctor --json`."
        )
    if why_not:
        return f"What was checked works, but no loop was blocked: {why_not}."
    gone = [f.name for f in findings if f.status in (Status.MISSING, Status.OFF)]
    skipped = [t["trial"] for report in reports for t in report.trials if t["mark"] == Mark.SKIPPED]
    said = "Everything works"
    if gone:
        said = f"Everything that can work here works; missing or off: {', '.join(gone)}"
    if skipped:
        said += f"; not tried: {', '.join(skipped)}"
    return f"{said}. Next: loopwatch.lifespan() or loopwatch.install() in your app."


def as_json(
    findings: Sequence[Finding], reports: Sequence[LoopReport], why_not: str, took_s: float
) -> dict[str, Any]:
    """Return the whole as JSON-ready data, schema `loopwatch.doctor/1`."""
    broken = not_working(findings, reports)
    return {
        "schema": SCHEMA,
        "ok": not broken,
        "not_working": broken,
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "took_s": round(took_s, 3),
        "checks": [finding._asdict() for finding in findings],
        "no_trials": why_not or None,
        "loops": list(_loops(reports)),
    }


def _loops(reports: Sequence[LoopReport]) -> Iterator[dict[str, Any]]:
    for report in reports:
        yield {
            "loop": report.loop,
            "sensor": report.sensor or None,
            "failed": report.failed or None,
            "trials": report.trials,
        }


def _ms(seconds: float | None) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds is not None else "-"
