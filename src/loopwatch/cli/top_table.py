"""The table of `loopwatch top`: told all its rows again and again, it keeps selection and place.

Everything that comes from other processes is shown as `Text`, never as markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from rich.text import Text
from textual.binding import Binding
from textual.widgets import DataTable

from loopwatch.top.rows import Cell, Tone

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.binding import BindingType

__all__ = ["Table", "lines"]

_STYLES: Final = {Tone.PLAIN: "", Tone.DIM: "dim", Tone.OVER: "yellow", Tone.BAD: "bold red"}
# What changes from second to second has a width of its own, so that the rest stands still.
_WIDTHS: Final = {"state": 19, "lag, last minute": 20, "max": 7, "busy": 5, "cpu": 5}


class Table(DataTable[Text]):
    """Rows of `Cell`s by key. Enter posts `RowSelected`; then `selected` is the key."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "select_cursor", "open")]

    def __init__(self, columns: Sequence[str]) -> None:
        """`columns` are the headings, each only once."""
        super().__init__(cursor_type="row", zebra_stripes=True, fixed_columns=1)
        self._headings = columns
        self._shown: dict[str, tuple[Cell, ...]] = {}

    def on_mount(self) -> None:
        """Make the columns."""
        for heading in self._headings:
            self.add_column(heading, key=heading, width=_WIDTHS.get(heading))

    @property
    def selected(self) -> str | None:
        """The key of the row that the cursor is on."""
        keys = list(self._shown)
        return keys[self.cursor_row] if 0 <= self.cursor_row < len(keys) else None

    def show(self, wanted: dict[str, tuple[Cell, ...]]) -> None:
        """Show these rows, by key, in this order."""
        if list(wanted) == list(self._shown):
            self._update(wanted)
        else:
            self._rebuild(wanted)
        self._shown = wanted

    def _update(self, wanted: dict[str, tuple[Cell, ...]]) -> None:
        for key, cells in wanted.items():
            for heading, cell, before in zip(self._headings, cells, self._shown[key], strict=True):
                if cell != before:
                    self.update_cell(key, heading, _text(cell), update_width=True)

    def _rebuild(self, wanted: dict[str, tuple[Cell, ...]]) -> None:
        selected, at_row, at_y, at_x = self.selected, self.cursor_row, self.scroll_y, self.scroll_x
        self.clear()
        for key, cells in wanted.items():
            self.add_row(*map(_text, cells), key=key)
        keys = list(wanted)
        row = keys.index(selected) if selected in wanted else min(at_row, len(keys) - 1)
        self.move_cursor(row=max(0, row), scroll=False)
        # Whoever has scrolled goes on to see the same rows; at the top the newest comes into sight.
        y = at_y + row - at_row if at_y else 0
        self.scroll_to(at_x, max(0, y), animate=False)


def lines(cells: Sequence[Cell]) -> Text:
    """Return lines of text in their tones."""
    return Text("\n").join(_text(cell) for cell in cells)


def _text(cell: Cell) -> Text:
    return Text(cell.text, style=_STYLES[cell.tone])
