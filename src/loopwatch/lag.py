"""Lag as users define it, weighted by time: how late would work have run that was due then?

A stall of 30 s is not one late tick among thousands. Each tick speaks for the time since the one
before it, and a stretch without service counts like work falling due every `STEP_S` throughout
it: lags of d, d - STEP_S, d - 2 STEP_S … (HdrHistogram's corrected recording, in closed form per
bucket). One count is `STEP_S` of wall time.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from loopwatch.clock import NS_PER_S
from loopwatch.model import LagHistogram

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["STEP_NS", "WINDOW_NS", "LagRecorder", "quantile"]

STEP_NS: Final = NS_PER_S // 20
WINDOW_NS: Final = 60 * NS_PER_S
# The window slides in slots of this length.
_SLOT_NS: Final = 5 * NS_PER_S


class LagRecorder:
    """Counts since the start, and over the last minute. Written by the watchdog thread alone."""

    def __init__(self, bounds_s: Sequence[float], now_ns: int) -> None:
        self._bounds_s = tuple(bounds_s)
        self._bounds_ns = [round(bound * NS_PER_S) for bound in bounds_s]
        self._counts = [0] * (len(bounds_s) + 1)
        self._sums_ns = [0] * (len(bounds_s) + 1)
        self._slots: list[_Slot] = []
        self._spoken_for_ns = now_ns
        self.last_ns = 0
        self._max_ns = 0

    def tick(self, due_ns: int, ran_ns: int) -> None:
        """Record a beat of the sidecar that no stretch explains."""
        lag_ns = max(0, ran_ns - due_ns)
        self.last_ns = lag_ns
        steps = max(0, due_ns - self._spoken_for_ns) // STEP_NS
        self._spoken_for_ns += steps * STEP_NS
        slot = self._slot(ran_ns)
        slot.max_ns = max(slot.max_ns, lag_ns)
        self._max_ns = max(self._max_ns, lag_ns)
        self._add(slot, bisect_left(self._bounds_ns, lag_ns), steps, steps * lag_ns)

    def stretch(self, duration_ns: int, end_ns: int) -> None:
        """Record a stretch of `duration_ns` without service that ended at `end_ns`."""
        self.last_ns = duration_ns
        self._spoken_for_ns += duration_ns
        slot = self._slot(end_ns)
        slot.max_ns = max(slot.max_ns, duration_ns)
        self._max_ns = max(self._max_ns, duration_ns)
        # The lags are duration - k * STEP_NS for k = 0 .. total - 1; small ones have a large k.
        total = -(-duration_ns // STEP_NS)
        beyond = total
        for index, bound_ns in enumerate([*self._bounds_ns, duration_ns]):
            first = -(-max(0, duration_ns - bound_ns) // STEP_NS)
            count = beyond - first
            if count > 0:
                sum_k = first * count + count * (count - 1) // 2
                self._add(slot, index, count, count * duration_ns - STEP_NS * sum_k)
            beyond = min(beyond, first)
            if beyond == 0:
                break

    def skip(self, now_ns: int) -> None:
        """Leave out the time until `now_ns`: the loop did not run, so nothing could be late."""
        self._spoken_for_ns = now_ns

    def take_max_ns(self) -> int:
        """Return the largest lag since the last call. Watchdog thread, its one reader."""
        max_ns, self._max_ns = self._max_ns, 0
        return max_ns

    def histogram(self) -> LagHistogram:
        """Return the counts since the start. Any thread."""
        # Counts before sums, which are written the other way round: a count that is read has its
        # time in the sum that is read.
        counts, sums_ns = tuple(self._counts), tuple(self._sums_ns)
        sums_s = tuple(sum_ns / NS_PER_S for sum_ns in sums_ns)
        return LagHistogram(self._bounds_s, counts, sum(sums_ns) / NS_PER_S, sums_s)

    def max_ns(self, now_ns: int) -> int:
        """Return the largest lag of the last minute. Any thread."""
        return max((slot.max_ns for slot in self._recent(now_ns)), default=0)

    def quantiles_s(self, now_ns: int, *qs: float) -> tuple[float, ...]:
        """Return quantiles of the last minute, in seconds. Any thread."""
        counts = [0] * len(self._counts)
        for slot in self._recent(now_ns):
            for index, count in enumerate(slot.counts):
                counts[index] += count
        top_s = self.max_ns(now_ns) / NS_PER_S
        return tuple(min(quantile(q, self._bounds_s, counts, top_s), top_s) for q in qs)

    def _add(self, slot: _Slot, index: int, count: int, sum_ns: int) -> None:
        self._sums_ns[index] += sum_ns
        self._counts[index] += count
        slot.counts[index] += count

    def _slot(self, at_ns: int) -> _Slot:
        start_ns = at_ns - at_ns % _SLOT_NS
        slots = self._slots
        if not slots or slots[-1].start_ns < start_ns:
            # A new list, so that a reader in another thread iterates over one picture.
            kept = [slot for slot in slots if slot.start_ns > at_ns - WINDOW_NS - _SLOT_NS]
            self._slots = [*kept, _Slot(start_ns, len(self._counts))]
        return self._slots[-1]

    def _recent(self, now_ns: int) -> list[_Slot]:
        return [slot for slot in self._slots if slot.start_ns + _SLOT_NS > now_ns - WINDOW_NS]


class _Slot:
    __slots__ = ("counts", "max_ns", "start_ns")

    def __init__(self, start_ns: int, buckets: int) -> None:
        self.start_ns = start_ns
        self.counts = [0] * buckets
        self.max_ns = 0


def quantile(q: float, bounds: Sequence[float], counts: Sequence[int], top: float) -> float:
    """Return the quantile of bucketed counts, linear within a bucket; `top` closes the last one."""
    total = sum(counts)
    if total == 0:
        return 0.0
    rank = q * total
    seen = 0
    low = 0.0
    for count, bound in zip(counts, [*bounds, max(top, bounds[-1])], strict=True):
        if count and seen + count >= rank:
            return low + (bound - low) * (rank - seen) / count
        seen += count
        low = bound
    return low
