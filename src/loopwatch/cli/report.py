"""`loopwatch report`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loopwatch.cli import output
from loopwatch.cli.command import Command
from loopwatch.errors import ConfigError, LoopwatchError
from loopwatch.model import STALL_SCHEMA, Cause
from loopwatch.views import units

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from loopwatch.report.reading import LogFile
    from loopwatch.report.summary import Summary

__all__ = ["ReportCommand"]

_STDOUT: Final = "-"
_SORTS: Final = ("total", "worst", "count", "last", "first")
_TOP_OF_TABLE: Final = 20
_TOP_OF_PAGE: Final = 100


class ReportCommand(Command):
    """Reads stall logs back."""

    name = "report"
    help = "add up stall logs: what stalled, how often, how long"
    about = (
        "Adds up the stalls in stall logs by fingerprint (same cause, same culprit) and prints a "
        "table, or writes files. Logs may be rotated, gzipped, of many workers, and damaged. Exit "
        "code 1 if --fail-over finds something, or if nothing could be read."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "logs",
            nargs="+",
            metavar="STALLLOG",
            help="files the setting stall_log made, rotated ones (stalls.jsonl.1, .gz) too, in any "
            "order; - is standard input",
        )
        parser.add_argument(
            "--html", metavar="FILE", help="write a page with flame graphs, all in one file"
        )
        parser.add_argument(
            "--speedscope", metavar="FILE", help="write a profile for speedscope, in seconds"
        )
        parser.add_argument(
            "--collapsed", metavar="FILE", help="write collapsed stacks, in microseconds"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--top",
            type=_top,
            metavar="N",
            help="only the first N fingerprints; 0 is all (default: "
            f"{_TOP_OF_TABLE} in the table, {_TOP_OF_PAGE} in the page, else all)",
        )
        parser.add_argument(
            "--sort", choices=_SORTS, default="total", help="what is first (default: %(default)s)"
        )
        for option, what in (("--since", "from then on"), ("--until", "before")):
            parser.add_argument(
                option,
                type=_moment,
                metavar="WHEN",
                help=f"only stalls that started {what}: 2026-11-21T10:00, in UTC without a zone, "
                "or 2h, 30min ago",
            )
        parser.add_argument(
            "--cause",
            action="append",
            choices=[cause.value for cause in Cause],
            default=[],
            metavar="CAUSE",
            help=f"only this one, repeatable: {', '.join(Cause)}",
        )
        parser.add_argument(
            "--loop", action="append", default=[], metavar="NAME", help="only this loop, repeatable"
        )
        parser.add_argument(
            "--fail-over",
            type=_duration,
            metavar="TIME",
            help="exit with 1 if a stall lasted longer, as 200ms, 1.5s; allowed ones do not count",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Read, print or write, and return 1 if nothing was read or a stall was over the limit."""
        from loopwatch.cli import report_terminal  # noqa: PLC0415 - all for this command alone
        from loopwatch.report.reading import Reading, in_order, not_given  # noqa: PLC0415
        from loopwatch.report.summary import Choice, Summary  # noqa: PLC0415
        from loopwatch.report.table import over_lines  # noqa: PLC0415

        files = _outputs(args)
        tabular = not files
        if tabular:
            report_terminal.need_rich()
        choice = Choice(
            since_s=args.since,
            until_s=args.until,
            causes=frozenset(args.cause),
            loops=frozenset(args.loop),
            limit_s=args.fail_over,
        )
        summary = Summary(choice, flames=not tabular)
        stdin = sys.stdin.buffer if sys.stdin is not None else None
        with report_terminal.progress(_bytes_of(args.logs)) as on_bytes:
            reading = Reading(in_order(args.logs), stdin, on_bytes)
            for line in reading:
                summary.add(line)
            summary.finish()
        _say(str(note) for note in (*reading.notes, *not_given(args.logs)))
        _check_read(reading.files)
        if tabular:
            top = _TOP_OF_TABLE if args.top is None else args.top
            groups = summary.groups(args.sort)
            report_terminal.print_table(summary, groups[: top or None])
        for name, path in files.items():
            text = "".join(_text_of(name, args, summary, reading.files))
            output.write(text, Path(path), "" if name == "json" else f"--{name}")
            if name == "speedscope" and not summary.groups():
                output.say(f"loopwatch: no stall, so no profile: speedscope cannot open {path}")
        over = [] if args.fail_over is None else over_lines(summary.groups("worst"), args.fail_over)
        _say(over)
        return 1 if over else 0


def _outputs(args: argparse.Namespace) -> dict[str, str]:
    """Return what is to be written where, and refuse what cannot be, before the long work."""
    files = {name: getattr(args, name) for name in ("html", "speedscope", "collapsed")}
    files = {name: path for name, path in files.items() if path is not None}
    if args.json:
        files["json"] = _STDOUT
    if list(files.values()).count(_STDOUT) > 1:
        raise ConfigError("only one of --json and files named - can go to standard output")
    for name, text in files.items():
        if text != _STDOUT:
            _check_output(name, Path(text), args.logs)
    # Links and `..` give one file many names.
    places = {os.path.realpath(text): name for name, text in files.items() if text != _STDOUT}
    for name, text in files.items():
        other = places.get(os.path.realpath(text), name)
        if other != name and text != _STDOUT:
            raise ConfigError(f"--{name} and --{other} name one file, {text}: choose two")
    return files


def _check_output(name: str, path: Path, logs: Sequence[str]) -> None:
    try:
        is_folder, has_folder, is_there = path.is_dir(), path.parent.is_dir(), path.exists()
    except OSError as error:  # of a folder that is not ours, or of a name that is too long
        raise LoopwatchError(
            f"cannot write {path} ({error.strerror}): choose another --{name}"
        ) from None
    if is_folder or not has_folder:
        why = "is a directory" if is_folder else "its folder does not exist"
        raise LoopwatchError(f"cannot write {path} ({why}): choose another --{name}")
    if is_there and any(_same(path, log) for log in logs):
        raise ConfigError(f"--{name} {path} is one of the logs to read: choose another file")


def _same(path: Path, log: str) -> bool:
    try:
        return log != _STDOUT and path.samefile(log)
    except OSError:
        return False


def _bytes_of(logs: Sequence[str]) -> int | None:
    """Return how much there is to read; `None` if standard input is part of it."""
    if _STDOUT in logs:
        return None
    total = 0
    for log in logs:
        try:
            total += Path(log).stat().st_size
        except OSError:
            pass  # said when it is read
    return total


def _check_read(files: Sequence[LogFile]) -> None:
    """Raise if there was nothing that could be a stall log; the notes have said why."""
    read = [file for file in files if file.read]
    if not read:
        raise LoopwatchError("no stall log could be read: name files that stall_log made")
    if not any(file.records for file in read) and any(file.lines for file in read):
        raise LoopwatchError(
            f"no stall record ({STALL_SCHEMA}) in what was read: name files that stall_log made"
        )


def _text_of(
    name: str, args: argparse.Namespace, summary: Summary, files: Sequence[LogFile]
) -> Iterable[str]:
    from loopwatch.report import collapsed, data, page, speedscope  # noqa: PLC0415 - see `run`

    groups = summary.groups(args.sort)
    top = (_TOP_OF_PAGE if name == "html" else 0) if args.top is None else args.top
    groups = groups[: top or None]
    if name == "html":
        return (page.as_page(summary, groups, files, args.fail_over),)
    if name == "json":
        return data.as_json(summary, groups, files, args.fail_over)
    if name == "speedscope":
        return speedscope.as_speedscope(groups, "stalls")
    return collapsed.as_collapsed(groups)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        output.say(f"loopwatch: {line}")


def _top(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a whole number, 0 is all")
    return int(text)


def _duration(text: str) -> float:
    try:
        return units.seconds(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> float:
    """Return unix time: of a moment, or so long ago."""
    try:
        return time.time() - units.seconds(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use a time as 2026-11-21T10:00 or how long ago, as 2h"
        ) from None
