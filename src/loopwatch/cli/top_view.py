"""The terminal view of `loopwatch top`: loops, the stalls of one, one record."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Input, Static

from loopwatch.cli.top_table import Table, lines
from loopwatch.top.detail import STALL_COLUMNS, record_lines, stall_cells
from loopwatch.top.rows import COLUMNS, Cell, Order, Row, State, Tone, rows, state_of
from loopwatch.views import units
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult
    from textual.binding import BindingType

    from loopwatch.top.answers import StallLine
    from loopwatch.top.fleet import Fleet

__all__ = ["TopApp"]

_REFRESH_S: Final = 0.5
_RECORD_REFRESH_S: Final = 0.1
# An ongoing stall's record is asked for again after so long.
_ASK_AGAIN_S: Final = 1.0
_MAX_PROBLEMS: Final = 5
_BACK: Final = Binding("escape", "app.pop_screen", "back")


class TopApp(App[None]):
    """The loops, until q, Ctrl-C, SIGINT or SIGTERM; then code 0."""

    TITLE = "loopwatch top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    .heading { height: 1; padding: 0 1; text-style: bold; }
    Table { height: 1fr; }
    #problems { height: auto; padding: 0 1; }
    #filter { display: none; }
    #record { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "quit"),
        Binding("ctrl+c", "quit", "quit", show=False, priority=True),
    ]

    def __init__(self, fleet: Fleet, mistakes: Sequence[str] = ()) -> None:
        """`fleet` is started and stopped by whoever made it; `mistakes` are shown below it."""
        super().__init__()
        self._fleet = fleet
        self._mistakes = mistakes

    def get_default_screen(self) -> Screen[None]:
        """Begin with the loops."""
        return LoopsScreen(self._fleet, self._mistakes)

    def on_mount(self) -> None:
        """Give the terminal back at signals as at q."""
        for signum in (signal.SIGINT, signal.SIGTERM):
            try:
                asyncio.get_running_loop().add_signal_handler(signum, self.exit)
            except (NotImplementedError, RuntimeError, ValueError):
                pass  # Windows, or not in the main thread: then as Python does it


class LoopsScreen(Screen[None]):
    """A line for each loop."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "sort", "sort"),
        Binding("slash,f", "filter", "filter", key_display="/"),
        Binding("escape", "all", "all", show=False),
    ]

    def __init__(self, fleet: Fleet, mistakes: Sequence[str]) -> None:
        super().__init__()
        self._fleet = fleet
        self._mistakes = tuple(mistakes)
        self._order = Order.WORST
        self._filter = ""
        self._rows: dict[str, Row] = {}

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static(classes="heading")
        yield Table(COLUMNS)
        yield Static(id="problems")
        yield Input(placeholder="only lines with this text; Escape for all", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        """Fill it, and go on to."""
        self.query_one(Table).focus()
        self._show()
        self.set_interval(min(_REFRESH_S, self._fleet.interval_s), self._show)

    def on_data_table_row_selected(self) -> None:
        """Open the stalls of the loop that the cursor is on."""
        row = self._rows.get(self.query_one(Table).selected or "")
        if row is not None:
            self.app.push_screen(StallsScreen(self._fleet, row))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what fits."""
        self._filter = event.value.casefold()
        self._show()

    def on_input_submitted(self) -> None:
        """Keep the filter and go back to the lines."""
        self.query_one(Table).focus()

    def action_sort(self) -> None:
        """Sort by the next order."""
        orders = list(Order)
        self._order = orders[(orders.index(self._order) + 1) % len(orders)]
        self._show()

    def action_filter(self) -> None:
        """Ask what to filter by."""
        asked = self.query_one("#filter", Input)
        asked.display = True
        asked.focus()

    def action_all(self) -> None:
        """Take the filter away."""
        asked = self.query_one("#filter", Input)
        asked.value = ""
        asked.display = False
        self.query_one(Table).focus()

    def _show(self) -> None:
        now_s = time.monotonic()
        made = rows(self._fleet.known(), now_s, self._order)
        self._rows = {row.key: row for row in made if self._fits(row)}
        self.query_one(Table).show({key: row.cells for key, row in self._rows.items()})
        stalled = sum(state_of(row.known, row.seen, now_s)[0] is State.STALLED for row in made)
        told = f"loopwatch top: {units.counted(len(made), 'loop')}, {stalled} stalled"
        if len(self._rows) < len(made):
            told += f", {len(self._rows)} shown"
        self.query_one(".heading", Static).update(Text(f"{told}, {self._order.value}"))
        problems = self.query_one("#problems", Static)
        problems.update(lines(self._problems()))
        problems.display = bool(self._problems())

    def _fits(self, row: Row) -> bool:
        return not self._filter or any(self._filter in c.text.casefold() for c in row.cells)

    def _problems(self) -> list[Cell]:
        problems = [*self._mistakes, *self._fleet.problems()]
        told = problems[:_MAX_PROBLEMS]
        if len(problems) > _MAX_PROBLEMS:
            told.append(f"and {len(problems) - _MAX_PROBLEMS} more")
        return [Cell(clean(problem), Tone.OVER) for problem in told]


class StallsScreen(Screen[None]):
    """The stalls of one loop, newest first."""

    BINDINGS: ClassVar[list[BindingType]] = [_BACK]

    def __init__(self, fleet: Fleet, row: Row) -> None:
        super().__init__()
        self._fleet = fleet
        self._row = row

    def compose(self) -> ComposeResult:
        """Lay it out."""
        yield Static(classes="heading")
        yield Table(STALL_COLUMNS)
        yield Footer()

    def on_mount(self) -> None:
        """Fill it, and go on to."""
        self._show()
        self.set_interval(min(_REFRESH_S, self._fleet.interval_s), self._show)

    def on_data_table_row_selected(self) -> None:
        """Open the record that the cursor is on."""
        wanted = self.query_one(Table).selected
        for stall in self._row.seen.stalls:
            if stall.id == wanted:
                self.app.push_screen(RecordScreen(self._fleet, self._row, stall))

    def _show(self) -> None:
        for row in rows(self._fleet.known(), time.monotonic()):
            if row.key == self._row.key:
                self._row = row
        stalls = self._row.seen.stalls
        process, loop, state = (cell.text for cell in self._row.cells[:3])
        told = units.counted(len(stalls), "stall") if stalls else "no stall that is still known"
        self.query_one(".heading", Static).update(Text(f"{process}, {loop}, {state}: {told}"))
        self.query_one(Table).show({stall.id: stall_cells(stall) for stall in reversed(stalls)})


class RecordScreen(Screen[None]):
    """One stall: the whole record, or as much of it as is still to be had."""

    BINDINGS: ClassVar[list[BindingType]] = [_BACK]

    def __init__(self, fleet: Fleet, row: Row, stall: StallLine) -> None:
        super().__init__()
        self._fleet = fleet
        self._address = row.known.address
        self._stall = stall
        self._wanted = fleet.ask_for(self._address, stall.id)
        self._asked_at_s = time.monotonic()
        self._shown = False

    def compose(self) -> ComposeResult:
        """Lay it out."""
        with VerticalScroll():
            yield Static(lines(record_lines(self._stall)), id="record")
        yield Footer()

    def on_mount(self) -> None:
        """Wait for the record."""
        self.set_interval(_RECORD_REFRESH_S, self._look)

    def _look(self) -> None:
        if not self._wanted.done:
            return
        if not self._shown:
            self._shown = True
            self._show()
        elif self._stall.ongoing and time.monotonic() - self._asked_at_s > _ASK_AGAIN_S:
            self._wanted = self._fleet.ask_for(self._address, self._stall.id)
            self._asked_at_s = time.monotonic()
            self._shown = False

    def _show(self) -> None:
        if self._wanted.record is not None:
            self._stall = self._wanted.record
        told = record_lines(self._stall)
        if self._wanted.trouble:
            told.append(Cell(f"{self._address.url}: {self._wanted.trouble}", Tone.OVER))
        self.query_one("#record", Static).update(lines(told))
