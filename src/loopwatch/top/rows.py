"""What is known of the loops, as a table: pure, for a terminal view as for plain text."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Final

from loopwatch.top.fleet import POINTS_S, SILENT_S
from loopwatch.views import units
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from loopwatch.top.answers import LoopNow, StallLine
    from loopwatch.top.fleet import Known, Seen

__all__ = [
    "COLUMNS", "SPARKS", "SPARKS_ASCII", "Cell", "Order", "Row", "State", "Tone", "blamed",
    "last_stall", "rows", "spark", "state_of", "table",
]  # fmt: skip

COLUMNS: Final = (
    "process", "loop", "state", "lag, last minute", "max", "busy", "cpu", "tasks", "stalls",
    "last stall",
)  # fmt: skip

# A lowest and a highest letter, and one more for each bound that the lag has reached. Absolute, so
# that the lines of different loops compare.
_SPARK_BOUNDS_S: Final = (0.005, 0.02, 0.05, 0.1, 0.25, 1.0, 5.0)
SPARKS: Final = "▁▂▃▄▅▆▇█"
SPARKS_ASCII: Final = "_.-~=+*#"
_SPARK_WIDTH: Final = 20

_LONG_LAG_S: Final = 1.0
_NAME_LIMIT: Final = 60


class State(StrEnum):
    """How a loop is; also the `state` of the JSON output."""

    SERVING = "serving"
    STALLED = "stalled"
    SILENT = "not answering"
    GONE = "gone"


class Tone(Enum):
    """How a cell is to look: as text does, unimportant, over a limit, or in trouble now."""

    PLAIN = "plain"
    DIM = "dim"
    OVER = "over"
    BAD = "bad"


class Order(Enum):
    """What rows are sorted by."""

    WORST = "worst first"
    NAME = "by process"
    STALLS = "by stalls"


class _Rank(IntEnum):
    """How bad a loop is, in steps so wide that rows change places only for a reason."""

    GONE = 0
    FINE = 1
    OVER_LIMIT = 2
    LAGGED = 3
    LAGGED_LONG = 4
    HUNG = 5
    SILENT = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """Text without control characters, and its tone."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Row:
    """One loop: its cells in the order of `COLUMNS`. `key` stays the same while it is watched."""

    key: str
    cells: tuple[Cell, ...]
    known: Known
    seen: Seen
    rank: int


def rows(known: Iterable[Known], now_s: float, order: Order = Order.WORST) -> list[Row]:
    """Return a row per loop. `now_s` is `time.monotonic()`.

    Worst first is by the worst of the last minute, so that a loop that has just stalled, and
    will again, stays where it is in between; rows that are equally bad are in order of their names.
    """
    made = [_row(each, seen, now_s) for each in known for seen in each.loops]
    made.sort(key=lambda row: (row.known.address, row.seen.now.loop))
    if order is Order.WORST:
        made.sort(key=lambda row: -row.rank)
    elif order is Order.STALLS:
        made.sort(key=lambda row: -row.seen.now.stalls)
    return made


def state_of(known: Known, seen: Seen, now_s: float) -> tuple[State, float]:
    """Return how a loop is and for how many seconds that has been so (0 for serving)."""
    # Since it was asked, and not since the last answer: questions may be far between.
    for_s = now_s - known.asked_at_s
    if known.gone:
        return State.GONE, for_s
    waiting = known.asked_at_s > (known.answered_at_s or 0.0) and for_s > SILENT_S
    if known.trouble or waiting:
        return State.SILENT, for_s
    if seen.now.active_s > 0:
        return State.STALLED, seen.now.active_s
    return State.SERVING, 0.0


def spark(points: Sequence[tuple[float, float]], end_s: float, letters: str = SPARKS) -> str:
    """Return the last minute before `end_s` in 20 letters: the largest lag of each 3 seconds.

    A space is where nothing was measured.
    """
    slot_s = POINTS_S / _SPARK_WIDTH
    largest: list[float | None] = [None] * _SPARK_WIDTH
    for at_s, lag_s in points:
        slot = _SPARK_WIDTH - 1 - int((end_s - at_s) / slot_s)
        if 0 <= slot < _SPARK_WIDTH:
            largest[slot] = max(lag_s, largest[slot] or 0.0)
    return "".join(
        " " if lag_s is None else letters[bisect.bisect_right(_SPARK_BOUNDS_S, lag_s)]
        for lag_s in largest
    )


def blamed(stall: StallLine) -> str:
    """Return culprit and cause of a stall: `export app/views.py:42 blocking_call`."""
    if stall.function is None or stall.file is None:
        return clean(stall.cause, _NAME_LIMIT)
    module = stall.file.removesuffix(".py").replace("\\", "/").replace("/", ".")
    function = clean(stall.function.removeprefix(f"{module}."), _NAME_LIMIT)
    return f"{function} {_end(clean(stall.file))}:{stall.line} {clean(stall.cause, _NAME_LIMIT)}"


def table(made: Sequence[Row], *, letters: str = SPARKS) -> list[str]:
    """Return the rows as lines of plain text, a heading first."""
    texts = [list(COLUMNS)]
    for row in made:
        cells = [cell.text for cell in row.cells]
        cells[_SPARK_COLUMN] = spark(row.seen.points, row.seen.now.at_s, letters)
        texts.append(cells)
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in texts
    ]


_SPARK_COLUMN: Final = COLUMNS.index("lag, last minute")


def _row(known: Known, seen: Seen, now_s: float) -> Row:
    now = seen.now
    state, for_s = state_of(known, seen, now_s)
    gone = state is State.GONE
    last = last_stall(seen)
    over_lag = now.lag_max_s >= now.limit_stall_s
    cells: tuple[Cell, ...] = (
        Cell(f"{known.address.place} ({now.pid})"),
        Cell(clean(now.loop, _NAME_LIMIT)),
        _state_cell(state, for_s),
        Cell(spark(seen.points, now.at_s), Tone.OVER if over_lag else Tone.PLAIN),
        Cell(units.duration(now.lag_max_s), Tone.OVER if over_lag else Tone.PLAIN),
        Cell(_percent(now.utilization)),
        Cell(_percent(now.cpu_ratio), Tone.OVER if _over_cpu(now) else Tone.PLAIN),
        Cell(
            f"{units.count(now.tasks)}/{units.count(now.limit_tasks)}",
            Tone.OVER if now.tasks > now.limit_tasks else Tone.PLAIN,
        ),
        Cell(units.count(now.stalls)),
        Cell(blamed(last) if last else "-"),
    )
    if gone:
        cells = tuple(Cell(cell.text, Tone.DIM) for cell in cells)
    silent = state is State.SILENT or (
        # As all that rows are ordered by, for the rest of the minute.
        known.silent_at_s is not None and now_s - known.silent_at_s <= POINTS_S
    )
    rank = _Rank.GONE if gone else _Rank.SILENT if silent else _rank(now)
    return Row(f"{known.address.url} {now.loop}", cells, known, seen, rank)


def _state_cell(state: State, for_s: float) -> Cell:
    lasts = units.duration(for_s)
    match state:
        case State.SERVING:
            return Cell("serving")
        case State.STALLED:
            return Cell(f"STALLED {lasts}", Tone.BAD)
        case State.SILENT:
            return Cell(f"no answer for {lasts}", Tone.BAD)
        case State.GONE:
            return Cell(f"gone for {lasts}", Tone.DIM)


def _rank(now: LoopNow) -> _Rank:
    # The largest lag of the last minute counts the stall in progress in.
    lag_s = max(now.lag_max_s, now.active_s)
    if lag_s >= now.limit_hang_s:
        return _Rank.HUNG
    if lag_s >= max(_LONG_LAG_S, now.limit_stall_s):
        return _Rank.LAGGED_LONG
    if lag_s >= now.limit_stall_s:
        return _Rank.LAGGED
    return _Rank.OVER_LIMIT if now.tasks > now.limit_tasks or _over_cpu(now) else _Rank.FINE


def _over_cpu(now: LoopNow) -> bool:
    return now.cpu_ratio is not None and now.cpu_ratio > now.limit_cpu


def last_stall(seen: Seen) -> StallLine | None:
    """Return the newest stall that counts, the one in progress included."""
    return next((stall for stall in reversed(seen.stalls) if stall.allowed is None), None)


def _percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.0%}"


def _end(path: str) -> str:
    """Return the end of a path that is long: its file is what matters."""
    return path if len(path) <= _NAME_LIMIT else "…" + path[1 - _NAME_LIMIT :]
