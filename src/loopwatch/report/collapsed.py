"""A report as collapsed stacks, for flamegraph.pl, inferno and what reads their format.

One line a stack: its frames, outermost first, between semicolons, a blank, and microseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from loopwatch.views.flame import stacks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from loopwatch.report.group import Group

__all__ = ["NO_STACK", "as_collapsed"]

# What a stall is shown as that nobody could look at.
NO_STACK: Final = "(no stack)"


def as_collapsed(groups: Sequence[Group]) -> Iterator[str]:
    """Yield the lines. A stall's duration is shared by its samples."""
    for group in groups:
        if group.flame is not None:
            for path, value_us in stacks(group.flame.to_dict()):
                yield f"{';'.join(map(_frame, path)) or NO_STACK} {value_us}\n"


def _frame(frame: Mapping[str, Any]) -> str:
    where = f" ({frame['file']}:{frame['line']})" if frame["file"] else ""
    return f"{frame['name']}{where}".replace(";", ",")
