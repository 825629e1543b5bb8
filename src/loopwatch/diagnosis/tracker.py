"""When to look, when a stall begins, when it is over.

A `Tracker` is told what the sensor says and what time it is; it answers with what to do next. It
has no clock, no thread and no loop, so each rule is a table-driven test.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Decision", "Stretch", "Track", "Tracker"]

S = TypeVar("S")

# Gaps between samples grow by this factor: dense where most stalls end, sparse in long ones.
_GROWTH: Final = 1.5
# In a stall that lasts and lasts the counters still move this often.
_LONGEST_NAP_NS: Final = 250_000_000
# So many periods are remembered, to see which late beats they explain.
_MEMORY: Final = 64


class Stretch(Protocol):
    """A period in which the loop did not wait, as a sensor reports it."""

    @property
    def iteration(self) -> int:
        """The iteration it belongs to."""

    @property
    def start_ns(self) -> int:
        """When it began."""

    @property
    def end_ns(self) -> int:
        """When it ended."""


@dataclass(slots=True)
class Track(Generic[S]):
    """One stretch that is, or may become, a stall; `samples` are what was seen in it."""

    iteration: int
    start_ns: int
    end_ns: int | None = None
    opened: bool = False
    id: str = ""
    started_at_s: float = 0.0
    samples: list[tuple[int, S]] = field(default_factory=list)
    next_sample_ns: int = 0
    gap_ns: int = 0
    # What was decided when it was told first, and holds to its end.
    excuse: str | None = None
    allowed: str | None = None
    told: bool = True
    suppressed: int = 0
    # How many samples the record of it was made of that readers find while it lasts.
    recorded: int = 0


@dataclass(frozen=True, slots=True)
class Decision(Generic[S]):
    """What to do: take a sample now, tell these stalls, and look again at `next_ns`.

    `opened` has just crossed the threshold. `closed` are over; those that were never opened were
    over before anybody could look.
    """

    next_ns: int
    sample: Track[S] | None = None
    opened: Track[S] | None = None
    closed: tuple[Track[S], ...] = ()


class Tracker(Generic[S]):
    """Follows one loop. `S` is what a sample is; the tracker only keeps it."""

    def __init__(self, threshold_ns: int, sample_interval_ns: int, max_samples: int) -> None:
        self.retune(threshold_ns)
        self._sample_interval_ns = sample_interval_ns
        self._max_samples = max_samples
        self._track: Track[S] | None = None
        self._told: list[tuple[int, int]] = []
        self._stopped_ns = 0

    def retune(self, threshold_ns: int) -> None:
        """Set what is a stall from now on; one that is open stays one."""
        self._threshold_ns = threshold_ns
        self.half_ns = threshold_ns // 2

    @property
    def tracking(self) -> bool:
        """Whether a stretch is being followed, be it a stall yet or not."""
        return self._track is not None

    @property
    def current(self) -> Track[S] | None:
        """The stretch that is being followed."""
        return self._track

    @property
    def stalled(self) -> bool:
        """Whether a stall is in progress, or a stretch that is half-way to one."""
        return self._track is not None and (self._track.opened or bool(self._track.samples))

    def begin(self, now_ns: int) -> None:
        """Begin to watch: what the loop did before, installing us for one, is no stall."""
        self._stopped_ns = now_ns

    def stopped(
        self, now_ns: int, ended: Sequence[Stretch] = (), *, for_good: bool = False
    ) -> Decision[S]:
        """Take a look while the loop does not run: no stall lasts beyond this moment.

        `for_good` ends the stall in progress also if the loop runs: nobody watches any more.
        """
        closed = self._close(ended)
        track, self._track = self._track, None
        if track is not None and track.opened:
            track.end_ns = now_ns
            closed.append(track)
        if not for_good:
            self._stopped_ns = now_ns
        return Decision(now_ns + self.half_ns, closed=tuple(closed))

    def observe(
        self,
        now_ns: int,
        iteration: int,
        busy_since_ns: int | None,
        ended: Sequence[Stretch] = (),
        late: Sequence[Stretch] = (),
        overdue: tuple[int, int] | None = None,
    ) -> Decision[S]:
        """Take one look at the loop.

        `iteration`, `busy_since_ns` and `ended` are the sensor's. `late` are beats that ran late
        and `overdue` is (number, due) of the beat that is late now: they count only where the
        sensor saw nothing, as when another thread kept the loop from waking up.
        """
        closed = self._close(ended)
        for beat in late:
            # A beat may run in the middle of the iteration that makes it late.
            busy = busy_since_ns is not None and beat.end_ns > busy_since_ns
            if not busy and not self._explained(beat.start_ns, beat.end_ns):
                closed += self._close([_Named(-1 - beat.iteration, beat.start_ns, beat.end_ns)])
        if overdue is not None:
            number, due_ns = -1 - overdue[0], self._unexplained_from(overdue[1])
            begun = self._track is not None and self._track.iteration == number
            if begun or (busy_since_ns is None and now_ns - due_ns >= self.half_ns):
                iteration, busy_since_ns = number, due_ns
        if busy_since_ns is not None:
            busy_since_ns = max(busy_since_ns, self._stopped_ns)

        track = self._track
        if track is not None and (busy_since_ns is None or track.iteration != iteration):
            # The sensor told no end: it ended somewhere before this look.
            self._track = None
            if track.opened:
                track.end_ns = now_ns
                self._told = [*self._told[-_MEMORY:], (track.start_ns, now_ns)]
                closed.append(track)
            track = None
        if busy_since_ns is None:
            return Decision(now_ns + self.half_ns, closed=tuple(closed))
        if track is None:
            track = self._track = Track(iteration, busy_since_ns)
        return self._advance(track, now_ns, tuple(closed))

    def add(self, track: Track[S], at_ns: int, sample: S) -> None:
        """Keep a sample that is known to belong to `track`."""
        track.samples.append((at_ns, sample))

    def _advance(self, track: Track[S], now_ns: int, closed: tuple[Track[S], ...]) -> Decision[S]:
        age_ns = now_ns - track.start_ns
        if not track.opened and age_ns >= self._threshold_ns:
            track.opened = True
            track.gap_ns = self._sample_interval_ns
            track.next_sample_ns = now_ns + track.gap_ns
            return Decision(track.next_sample_ns, track, track, closed)
        if track.opened:
            return self._continue(track, now_ns, closed)
        if age_ns >= self.half_ns:
            first = track if not track.samples else None
            return Decision(track.start_ns + self._threshold_ns, first, None, closed)
        return Decision(track.start_ns + self.half_ns, closed=closed)

    def _continue(self, track: Track[S], now_ns: int, closed: tuple[Track[S], ...]) -> Decision[S]:
        full = len(track.samples) >= self._max_samples
        due = not full and now_ns >= track.next_sample_ns
        if due:
            track.gap_ns = round(track.gap_ns * _GROWTH)
            track.next_sample_ns = now_ns + track.gap_ns
        nap_ns = now_ns + _LONGEST_NAP_NS
        next_ns = nap_ns if full else min(nap_ns, track.next_sample_ns)
        return Decision(next_ns, track if due else None, None, closed)

    def _close(self, ended: Sequence[Stretch]) -> list[Track[S]]:
        closed = []
        for stretch in ended:
            # What lies before a moment at which the loop did not run at all is no stall.
            start_ns = max(stretch.start_ns, self._stopped_ns)
            self._told = [*self._told[-_MEMORY:], (start_ns, stretch.end_ns)]
            track = self._track
            # An overdue beat that was being followed is part of the stretch in which it ran.
            overdue = track is not None and track.iteration < 0 and track.start_ns < stretch.end_ns
            if track is None or not (overdue or track.iteration == stretch.iteration):
                track = Track(stretch.iteration, start_ns)
            else:
                self._track = None
            track.end_ns = stretch.end_ns
            if track.opened or stretch.end_ns - track.start_ns >= self._threshold_ns:
                closed.append(track)
        return closed

    def _unexplained_from(self, due_ns: int) -> int:
        # A beat made late by a stall that was told has a moment to run before it counts anew.
        return max((end for start, end in self._told if start <= due_ns <= end), default=due_ns)

    def _explained(self, start_ns: int, end_ns: int) -> bool:
        return any(start < end_ns and end > start_ns for start, end in self._told)


@dataclass(frozen=True, slots=True)
class _Named:
    iteration: int
    start_ns: int
    end_ns: int
