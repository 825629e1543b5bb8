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
    """Reads the sidecar."""

    name = "tick"

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar

    def start(self, limit_ns: int) -> None:
        """Nothing to do: the agent starts the sidecar, it runs beside every sensor."""

    def retune(self, limit_ns: int) -> None:
        """Nothing to do: whoever reads the beats says which ran late."""

    def read(self, now_ns: int) -> Reading:
        """Return busy once a beat is overdue; the watchdog itself adds the beats that ran late."""
        number, due_ns = self._sidecar.number, self._sidecar.due_ns
        return Reading(
            iteration=number,
            busy_since_ns=due_ns if due_ns and now_ns > due_ns else None,
            idle_ns=None,
            iterations=None,
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
