"""The interface of a sensor: is the loop busy, since when, in which iteration?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

__all__ = ["Period", "Reading", "Sensor", "SensorUnavailableError"]


@dataclass(frozen=True, slots=True)
class Period:
    """One stretch in which the loop did not wait for events, from `start_ns` to `end_ns`."""

    iteration: int
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """The length of the stretch."""
        return self.end_ns - self.start_ns


class Reading(NamedTuple):
    """What the sensor says now.

    `busy_since_ns` is `None` while the loop waits. `ended` holds the long periods that ended
    since the last reading, oldest first; every period of at least the limit the sensor was
    started with, or given since, is in exactly one reading. `idle_ns` and `iterations` count since
    the start and are `None` where this sensor cannot know.
    """

    iteration: int
    busy_since_ns: int | None
    idle_ns: int | None
    iterations: int | None
    ended: tuple[Period, ...] = ()


class SensorUnavailableError(Exception):
    """This sensor cannot watch this loop; the message says why. Never reaches the host."""


class Sensor(Protocol):
    """Watches one loop. `start` and `stop` may raise nothing but `SensorUnavailableError`.

    - `start` runs once, on the loop thread, with the loop running.
    - `read` runs on the watchdog thread alone. It takes microseconds and never waits for the loop.
    - `retune` runs on the watchdog thread.
    - `served` runs on the loop thread, as soon as the loop serves again after an open stall.
    - `stop` runs on any thread, also after the loop was closed, and puts everything back.
    """

    name: str

    def start(self, limit_ns: int) -> None:
        """Start; periods of at least `limit_ns` are to be kept."""

    def retune(self, limit_ns: int) -> None:
        """Keep periods of at least `limit_ns` from now on."""

    def read(self, now_ns: int) -> Reading:
        """Return what is true at `now_ns`."""

    def is_at(self, iteration: int) -> bool:
        """Return whether the loop is still busy with that iteration. Watchdog thread."""

    def served(self, now_ns: int) -> None:
        """Take note that the loop serves callbacks at `now_ns`."""

    def stop(self) -> None:
        """Put back everything that was touched. Idempotent."""
