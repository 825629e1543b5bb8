"""`loopwatch demo`."""

from __future__ import annotations

import argparse
import math
from typing import Final

from loopwatch.cli.command import Command
from loopwatch.errors import MissingExtraError

__all__ = ["DemoCommand"]

_MAX_PORT: Final = 65535


class DemoCommand(Command):
    """Shows loopwatch at work on an app that does everything wrong."""

    name = "demo"
    help = "watch a FastAPI app that makes the typical mistakes"
    about = (
        "Serves a FastAPI app on 127.0.0.1 that blocks its event loop in each of the usual ways, "
        "puts light load on it, and shows what loopwatch sees."
    )

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the options."""
        parser.add_argument(
            "--seconds", type=_seconds, metavar="N", help="end after N seconds (default: at Ctrl-C)"
        )
        parser.add_argument(
            "--loop",
            choices=("asyncio", "uvloop"),
            default="asyncio",
            help="event loop of the app (default: %(default)s)",
        )
        parser.add_argument(
            "--port",
            type=_port,
            default=8000,
            metavar="PORT",
            help="port of the app, 0 for a free one (default: %(default)s)",
        )
        parser.add_argument(
            "--http-port",
            type=_port,
            default=9464,
            metavar="PORT",
            help="port of loopwatch's own thread, which answers while the loop is stalled; "
            "0 for a free one (default: %(default)s)",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Serve until the time is up or Ctrl-C."""
        try:
            # Third parties: imported only when the demo runs.
            from loopwatch.demo.run import Options, run_demo  # noqa: PLC0415

            run_demo(Options(args.seconds, args.loop, args.port, args.http_port))
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] == "loopwatch":
                raise
            raise MissingExtraError("loopwatch demo", "demo") from error
        except KeyboardInterrupt:
            pass  # so early that nothing runs yet: Ctrl-C is how a demo ends
        return 0


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use a number above 0")
    return value


def _port(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= _MAX_PORT:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use a whole number from 0 to {_MAX_PORT}"
        )
    return value
