"""Puts the two records of a stall together: it is counted once, by the final one if there is one.

They may come in any order, from different files, among those of other workers. All that is kept
of a stall is a number or two, and only of the newest half a million or more: the two records of
one stall lie close together in time.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from loopwatch.report.reading import Line

__all__ = ["Open", "Pairs"]

# Per generation, two of which are kept: 500,000 to 1,000,000 stalls that are over (some 60 bytes
# each), 250,000 to 500,000 that are not (some 130).
_OVER: Final = 500_000
_OPEN: Final = 250_000
# Of ongoing records that wait for their final one.
_WAITING_BYTES: Final = 8 << 20

_V = TypeVar("_V")


class Open(NamedTuple):
    """What is kept of a stall without a final record; indices are those of whoever counts."""

    group: int
    worker: int
    started_at_s: float
    duration_us: int


# Packed they take a third of the memory.
_PACKED: Final = struct.Struct("<IIdQ")


class Pairs:
    """Remembers which stalls are over and which are still open.

    Lines of ongoing records wait (`wait`) for their final ones. Those that waited for too long are
    handed back, to be read and remembered in short (`open`).
    """

    def __init__(
        self, over: int = _OVER, still_open: int = _OPEN, waiting_bytes: int = _WAITING_BYTES
    ) -> None:
        self._over: _Newest[None] = _Newest(over)
        self._open: _Newest[bytes] = _Newest(still_open)
        self._waiting: dict[int, Line] = {}
        self._bytes = 0
        self._max_bytes = waiting_bytes

    def close(self, key: int) -> bool:
        """Take a final record; return whether it is the first one of its stall."""
        if key in self._over:
            return False
        self._over.put(key, None)
        self._open.pop(key)
        self.stop_waiting(key)
        return True

    def is_over(self, key: int) -> bool:
        """Return whether a final record came."""
        return key in self._over

    def wait(self, line: Line) -> list[Line]:
        """Keep the line of an ongoing record; return those that have waited for too long."""
        self.stop_waiting(line.key)
        self._waiting[line.key] = line
        self._bytes += len(line.raw)
        if self._bytes <= self._max_bytes:
            return []
        # The older half goes in one step: one by one from the front of a dict gets slow.
        oldest = list(self._waiting)[: len(self._waiting) // 2 + 1]
        return [found for key in oldest if (found := self.stop_waiting(key)) is not None]

    def stop_waiting(self, key: int) -> Line | None:
        """Remove and return the line of an ongoing record that waits."""
        line = self._waiting.pop(key, None)
        if line is not None:
            self._bytes -= len(line.raw)
        return line

    def waiting(self) -> list[Line]:
        """Remove and return all lines that wait."""
        lines = list(self._waiting.values())
        self._waiting.clear()
        self._bytes = 0
        return lines

    def open(self, key: int, stall: Open) -> Iterable[Open]:
        """Remember a stall in short; return those whose final record is not waited for any more."""
        packed = self._open.pop(key)
        if packed is None or _PACKED.unpack(packed)[3] < stall.duration_us:
            packed = _PACKED.pack(*stall)
        forgotten = self._open.put(key, packed)
        return self._given_up(forgotten) if forgotten else ()

    def take(self, key: int) -> Open | None:
        """Remove and return what is remembered of a stall in short."""
        packed = self._open.pop(key)
        return Open(*_PACKED.unpack(packed)) if packed is not None else None

    def still_open(self) -> Iterator[Open]:
        """Yield all that is remembered in short."""
        for packed in self._open.values():
            yield Open(*_PACKED.unpack(packed))

    def _given_up(self, forgotten: dict[int, bytes]) -> Iterator[Open]:
        for key, packed in forgotten.items():
            # Should its end come after all, the stall must not be counted twice.
            self._over.put(key, None)
            yield Open(*_PACKED.unpack(packed))


class _Newest(Generic[_V]):
    """A dict that forgets its oldest entries, a generation at a time."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._young: dict[int, _V] = {}
        self._old: dict[int, _V] = {}

    def __contains__(self, key: int) -> bool:
        return key in self._young or key in self._old

    def put(self, key: int, value: _V) -> dict[int, _V]:
        """Add what is not in it; return what is forgotten for it."""
        forgotten: dict[int, _V] = {}
        if len(self._young) >= self._size:
            forgotten, self._old, self._young = self._old, self._young, {}
        self._young[key] = value
        return forgotten

    def pop(self, key: int) -> _V | None:
        """Remove and return what is known of `key`."""
        if key in self._young:
            return self._young.pop(key)
        return self._old.pop(key, None)

    def values(self) -> Iterator[_V]:
        """Yield all values, oldest first."""
        yield from self._old.values()
        yield from self._young.values()
