"""How a report looks in a terminal: its table, and the progress of a long reading.

The third party is Rich, of the extra `terminal`.
"""

from __future__ import annotations

import importlib.util
import io
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from loopwatch.cli import output
from loopwatch.errors import MissingExtraError
from loopwatch.report import table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from loopwatch.report.group import Group
    from loopwatch.report.summary import Summary

__all__ = ["need_rich", "print_table", "progress"]

# From there on reading takes seconds.
_LONG_BYTES: Final = 20_000_000
# Narrower, what is told in words goes below the culprit instead of beside it.
_WIDE: Final = 130
# For files and pipes, where nothing says how wide the reader's screen is.
_WIDTH_OF_A_PIPE: Final = 160


def need_rich() -> None:
    """Raise `MissingExtraError` if there can be no table; files and --json need no extra."""
    if importlib.util.find_spec("rich") is None:
        raise MissingExtraError(
            "the table (not --json, --html, --collapsed and --speedscope)", "terminal"
        )


@contextmanager
def progress(total_bytes: int | None) -> Iterator[Callable[[int], None] | None]:
    """Yield what is told bytes as they are read, and show them; `None` where nobody would look."""
    long = total_bytes is None or total_bytes > _LONG_BYTES
    seen = sys.stderr is not None and sys.stderr.isatty()
    if not long or not seen or importlib.util.find_spec("rich") is None:
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - an extra, see `need_rich`
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("reading"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=total_bytes)
        yield lambda size: bar.advance(task, size)


def print_table(summary: Summary, groups: Sequence[Group]) -> None:
    """Print the groups as a table, and the totals below it."""
    from rich.console import Console  # noqa: PLC0415 - an extra, see `need_rich`

    text = io.StringIO()
    terminal = sys.stdout is not None and sys.stdout.isatty()
    # COLUMNS, else what the terminal says; Rich's own way takes COLUMNS=0 for a width.
    width = shutil.get_terminal_size((_WIDTH_OF_A_PIPE, 0)).columns
    # Names are hostile, and Rich obeys what stands in brackets or between colons.
    console = Console(
        file=text,
        force_terminal=terminal,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if groups:
        console.print(_table(console, groups))
    for line in table.totals_lines(summary, len(groups)):
        console.print(line, soft_wrap=True)
    # A terminal that knows no more than ASCII shows `?` for a letter.
    output.write(text.getvalue(), option="", encoding=output.stdout_encoding(), errors="replace")


def _table(console: Console, groups: Sequence[Group]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415

    wide = console.width >= _WIDE
    made = Table(box=None, pad_edge=False, show_edge=False, padding=(0, 2, 0, 0))
    for heading in ("stalls", "total", "worst"):
        made.add_column(heading, justify="right", no_wrap=True)
    if wide:
        made.add_column("cause", no_wrap=True)
    made.add_column("culprit, call, advice", ratio=1, overflow="fold")
    if wide:
        made.add_column("first and last (UTC)", no_wrap=True)
        made.add_column("workers", justify="right", no_wrap=True)
    for group in groups:
        told = table.row(group)
        cells: list[str | Text] = [told.stalls, told.total, told.worst]
        if wide:
            seen = f"{told.first}\n{told.last}"
            cells += [Text(told.cause), _words(told, wide=True), seen, told.workers]
        else:
            cells.append(_words(told, wide=False))
        made.add_row(*cells)
    return made


def _words(told: table.Row, *, wide: bool) -> Text:
    """Return what is told in words. Names never get into Rich's markup."""
    from rich.text import Text  # noqa: PLC0415 - as above

    text = Text()
    if not wide:
        text.append(f"{told.cause}: ")
    text.append(told.culprit, style="bold")
    if told.call:
        text.append(f"\ncalled {told.call}")
    if told.advice:
        text.append(f"\n-> {told.advice}", style="green")
    if told.note:
        text.append(f"\n{told.note}", style="yellow")
    if not wide:
        workers = f", workers: {told.workers}"
        text.append(f"\n{told.first} to {told.last} UTC{workers}", style="dim")
    return text
