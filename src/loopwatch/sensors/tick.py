"""The sensor for every other loop, and the second opinion beside the exact ones.

It knows only the sidecar's beats: a beat that is overdue means a loop that does not serve. That
is true to one tick interval, needs no private API and works on any loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwatch.sensors.base import Period, Reading

if TYPE_CHECKING:
    from loopwatch.sensors.sidecar import Beat, Sidecar

__all__ = ["TickSensor", "late_periods"]


class TickSensor:
    """Reads the sidecar; the watchdog hands it the beats it drained."""

    name = "tick"

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._limit_ns = 0
        self._ended: list[Period] = []

    def start(self, limit_ns: int) -> None:
        """Start; the sidecar itself is started by the agent, it runs beside every sensor."""
        self._limit_ns = limit_ns

    def beats(self, beats: list[Beat]) -> None:
        """Take over the beats that ran since the last reading. Watchdog thread."""
        self._ended += late_periods(beats, self._limit_ns)

    def read(self, now_ns: int) -> Reading:
        """Return busy once a beat is overdue; see `Reading`."""
        number, due_ns = self._sidecar.number, self._sidecar.due_ns
        ended, self._ended = tuple(self._ended), []
        return Reading(
            iteration=number,
            busy_since_ns=due_ns if due_ns and now_ns > due_ns else None,
            idle_ns=None,
            iterations=None,
            ended=ended,
        )

    def is_at(self, iteration: int) -> bool:
        """Return whether that beat has still not run."""
        return self._sidecar.number == iteration

    def served(self, now_ns: int) -> None:
        """Nothing to do: the beat itself tells."""

    def stop(self) -> None:
        """Nothing to put back."""


def late_periods(beats: list[Beat], limit_ns: int) -> list[Period]:
    """Return the stretches in which a beat was due and did not run for at least `limit_ns`."""
    return [
        Period(beat.number, beat.due_ns, beat.ran_ns)
        for beat in beats
        if beat.ran_ns - beat.due_ns >= limit_ns
    ]
