"""`loopwatch top`."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Final

from loopwatch.cli import output, values
from loopwatch.cli.command import Command
from loopwatch.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from loopwatch.top.address import Address
    from loopwatch.top.finding import Search
    from loopwatch.top.fleet import Fleet

__all__ = ["TopCommand"]

_INTERVAL_S: Final = 1.0
_INTERVALS_S: Final = (0.1, 3600.0)
_PID: Final = re.compile(r"[0-9]{1,10}").fullmatch
_NOTHING_HERE: Final = (
    "no process of yours has a loopwatch server: set http_port=9464 (or LOOPWATCH_HTTP_PORT) in "
    "the app, or give the URL of one that runs elsewhere"
)


class TopCommand(Command):
    """Shows the loops of one or many processes, and why they stall."""

    name = "top"
    help = "watch the event loops of running processes"
    about = (
        "Shows the event loops of processes that have http_port set, a line for each, the worst "
        "first; Enter opens the stalls of one. Where there is no terminal it prints one table."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "targets",
            nargs="*",
            metavar="URL|PID",
            help="address of a thread server, as http://127.0.0.1:9464, or a process of this "
            "machine (default: every process of yours that has one)",
        )
        parser.add_argument("--once", action="store_true", help="print one table and end")
        parser.add_argument(
            "--json",
            action="store_true",
            help="print one JSON document and end; with --interval one a line until Ctrl-C",
        )
        low_s, high_s = _INTERVALS_S
        parser.add_argument(
            "--interval",
            type=values.number(
                f"a number of seconds from {low_s:g} to {high_s:g}", lambda v: low_s <= v <= high_s
            ),
            metavar="SECONDS",
            help=f"ask every process so often (default: {_INTERVAL_S:g})",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Show what was asked for; 1 if nobody answers."""
        if args.once and args.interval is not None and not args.json:
            raise ConfigError("--interval changes nothing with --once: leave one of them out")
        live = not args.json and not args.once and _has_terminal()
        if live:
            _check_extra()
        # This file is imported for every command, these for this one.
        from loopwatch.top.fleet import Fleet  # noqa: PLC0415

        addresses, search, mistakes = _targets(args.targets)
        if not addresses and search is None:
            _complain(mistakes)
            return 2
        fleet = Fleet(addresses, search, args.interval or _INTERVAL_S)
        fleet.start()
        try:
            fleet.wait_for_first()
            if args.json:
                return _print_json(fleet, mistakes, repeated=args.interval is not None)
            if not _answered(fleet):
                _complain([*mistakes, *fleet.problems()] or [_NOTHING_HERE])
                return 1
            if live:
                return _view(fleet, mistakes)
            _print_table(fleet)
            _complain([*mistakes, *fleet.problems()])
        except KeyboardInterrupt:
            pass  # the usual end
        finally:
            fleet.stop()
        return 0


def _targets(texts: Sequence[str]) -> tuple[list[Address], Search | None, list[str]]:
    """Return addresses, what to search for, and what is neither a URL nor a PID."""
    from loopwatch.top.address import parse_address  # noqa: PLC0415 - see `run`
    from loopwatch.top.finding import Search  # noqa: PLC0415

    addresses: list[Address] = []
    pids: list[int] = []
    mistakes: list[str] = []
    for text in dict.fromkeys(texts):
        if _PID(text):
            pids.append(int(text))
            continue
        try:
            addresses.append(parse_address(text))
        except ConfigError as error:
            mistakes.append(str(error))
    if not texts:
        return [], Search(None), []
    return addresses, Search(pids) if pids else None, mistakes


def _has_terminal() -> bool:
    # Keys come from the first; textual draws on the last.
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return os.environ.get("TERM") != "dumb" and all(s is not None and s.isatty() for s in streams)


def _check_extra() -> None:
    import importlib.util  # noqa: PLC0415 - see `run`

    for name in ("textual", "rich"):
        try:
            found = importlib.util.find_spec(name) is not None
        except ValueError:
            found = False
        if not found:
            raise MissingExtraError("the live view (not --once, not --json)", "terminal")


def _view(fleet: Fleet, mistakes: Sequence[str]) -> int:
    from loopwatch.cli.top_view import TopApp  # noqa: PLC0415 - third parties

    app = TopApp(fleet, mistakes)
    app.run()
    return app.return_code or 0


def _answered(fleet: Fleet) -> bool:
    return any(known.loops for known in fleet.known())


def _print_table(fleet: Fleet) -> None:
    from loopwatch.top.rows import SPARKS, SPARKS_ASCII, rows, table  # noqa: PLC0415 - see `run`

    encoding = output.stdout_encoding()
    try:
        SPARKS.encode(encoding)
        letters = SPARKS
    except UnicodeEncodeError:
        letters = SPARKS_ASCII
    lines = table(rows(fleet.known(), time.monotonic()), letters=letters)
    text = "".join(f"{line}\n" for line in lines)
    output.write(text, option="", encoding=encoding, errors="replace")


def _print_json(fleet: Fleet, mistakes: Sequence[str], *, repeated: bool) -> int:
    from loopwatch.top.document import document  # noqa: PLC0415 - see `run`

    while True:
        known, problems = fleet.known(), [*mistakes, *fleet.problems()]
        if not known and not problems:
            problems = [_NOTHING_HERE]
        made = document(known, problems, time.monotonic())
        output.write(f"{json.dumps(made)}\n", option="")
        if not repeated:
            return 0 if made["loops"] else 1
        time.sleep(fleet.interval_s)


def _complain(problems: Sequence[str]) -> None:
    for problem in problems:
        output.say(f"loopwatch: error: {problem}")
