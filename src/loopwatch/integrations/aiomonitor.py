"""The commands of loopwatch in an aiomonitor that the host started itself."""

from __future__ import annotations

from loopwatch.integrations.console.service import require_aiomonitor

__all__ = ["register"]


def register() -> None:
    """Add `lag`, `stalls`, `stall`, `loop`, `census`, `flame` and `threshold` to aiomonitor.

    aiomonitor has one table of commands for all monitors of a process, so this is needed once, and
    twice is the same as once; each monitor answers for the loop it was started for. A name that the
    host has given to a command of its own stays the host's: ours is then `loopwatch-NAME`.

    Raises `MissingExtraError` without aiomonitor, and what importing it raises. Importing takes
    about half a second the first time.
    """
    require_aiomonitor()
    from loopwatch.integrations.console.commands import add_commands  # noqa: PLC0415 - heavy

    add_commands()
