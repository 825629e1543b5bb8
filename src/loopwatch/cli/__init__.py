"""The command line. One file and one class per command; a new one is one line in `COMMANDS`.

Exit codes: 0 fine, 1 found something or failed, 2 bad usage. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from loopwatch._version import __version__
from loopwatch.cli import output
from loopwatch.cli.command import Command
from loopwatch.cli.dashboard import DashboardCommand
from loopwatch.cli.demo import DemoCommand
from loopwatch.cli.doctor import DoctorCommand
from loopwatch.cli.report import ReportCommand
from loopwatch.cli.rules import RulesCommand
from loopwatch.cli.top import TopCommand
from loopwatch.errors import ConfigError, LoopwatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "Command", "main"]

# In the order in which `loopwatch --help` shows them.
COMMANDS: Final[tuple[Command, ...]] = (
    DemoCommand(),
    TopCommand(),
    ReportCommand(),
    DoctorCommand(),
    RulesCommand(),
    DashboardCommand(),
)

_FAILED: Final = 1
_BAD_USAGE: Final = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (by default this process's) and return its exit code. Never raises."""
    parser = _parser()
    try:
        args = parser.parse_args(argv)
        if args.command is None:
            output.say(parser.format_help().rstrip())
            return _BAD_USAGE
        command: Command = args.command
        return command.run(args)
    except SystemExit as exit_:
        # argparse ends this way after --help, --version and a mistake.
        return exit_.code if isinstance(exit_.code, int) else _FAILED
    except LoopwatchError as error:
        output.say(f"{parser.prog}: error: {error}")
        return _BAD_USAGE if isinstance(error, ConfigError) else _FAILED
    except KeyboardInterrupt:
        # A command for which Ctrl-C is the usual end handles it and returns 0.
        return _FAILED
    except BrokenPipeError:
        # `loopwatch … | head` has seen enough. What is buffered must not fail again at exit:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line; argparse's own way puts the whole usage before it."""

    def error(self, message: str) -> NoReturn:
        output.say(f"{self.prog}: error: {message}; see {self.prog} --help")
        self.exit(_BAD_USAGE)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="loopwatch",
        description="Sees an asyncio event loop stall and names the line that did it.",
        allow_abbrev=False,  # an abbreviation in a script breaks when an option is added
    )
    parser.add_argument("--version", action="version", version=f"loopwatch {__version__}")
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for command in COMMANDS:
        own = commands.add_parser(
            command.name, help=command.help, description=command.about, allow_abbrev=False
        )
        command.configure(own)
        own.set_defaults(command=command)
    return parser
