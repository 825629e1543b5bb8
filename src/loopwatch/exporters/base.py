"""The interface of an exporter: snapshots and finished records go out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.config import Config
    from loopwatch.model import Census, Snapshot, Stall

__all__ = ["Exporter", "Source"]


def _ignore(*_: object) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Source:
    """What an exporter may read: the settings, and what is true now (any thread).

    An exporter with a thread of its own tells `spent` the thread's name and CPU time so far (ns),
    `fault` what it was doing when which error came (counted, and logged once), and `drop` how many
    records it gave up, for a reason of `ledger.DROP_REASONS`. A copy of the host's context that
    outlives `export` is given to `keep` first: what is in it then ends on the loop's thread.
    """

    config: Config
    snapshot: Callable[[], Snapshot]
    spent: Callable[[str, int], None] = _ignore
    fault: Callable[[str, BaseException], None] = _ignore
    drop: Callable[[str, int], None] = _ignore
    keep: Callable[[object], None] = _ignore


class Exporter:
    """Base of all exporters; override what you need.

    `start` and `stop` run on the thread that starts and stops the agent, `export` and `census` on
    the delivery thread, one record at a time. What those raise is counted and logged once.
    """

    name = "exporter"

    def start(self, source: Source) -> None:
        """Get ready. Raise `LoopwatchError` if the settings cannot work."""

    def export(self, stall: Stall) -> None:
        """Take one record: `phase` ongoing while the stall lasts, then final, same `id`.

        Runs in a copy of the context of the task that was blocked, where that can be read: its
        OpenTelemetry span and what the host bound to its log are the current ones.
        """

    def census(self, census: Census, loop: str) -> None:
        """Take a census of the tasks of `loop` that is to be told; by default nothing is done.

        It comes when the pending tasks go over `tasks_threshold`, again when they have doubled or
        stay above, and a last time with `census.tasks` below it when that is over.
        """

    def stop(self) -> None:
        """Let go of everything. Idempotent."""

    def forget(self) -> None:
        """Become silent in a forked child, without taking a lock."""

    def explain(self, error: Exception) -> str:
        """Return what to tell of a failure; by default its type, as messages may carry values."""
        return type(error).__name__
