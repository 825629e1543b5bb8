"""From samples to a record."""

from __future__ import annotations

from typing import Any

from loopwatch.diagnosis.tracker import Track
from loopwatch.ledger import Identity
from loopwatch.model import TaskInfo
from loopwatch.probes.stacks import Position
from loopwatch.recorder import Recorder, Seen
from tests.unit.factories import stall

MS = 1_000_000


def recorder() -> Recorder:
    return Recorder(Identity("main", "asyncio", 42, "MainThread", "selector", "1", "3"))


def position(function: Any, line: int = 1) -> Position:
    return Position(function.__code__, 0, line, function.__module__)


def mine() -> None:
    """Stands for the host's code: this file is neither stdlib nor installed."""


def track(*samples: tuple[int, Seen], end: int | None = 500) -> Track[Seen]:
    made = Track[Seen](7, 0, end_ns=None if end is None else end * MS)
    made.samples = [(at * MS, seen) for at, seen in samples]
    return made


# A function of an installed package and one of the host's.
LIBRARY = (position(stall), position(Track.__init__, 5))
HOST = (position(Recorder.record), position(mine, 3))


def test_like_stacks_count_together() -> None:
    """One sample per different stack, with how often and when first it was seen."""
    seen = Seen(HOST, TaskInfo("t", "app.f"))
    record = recorder().record(track((50, seen), (100, seen), (125, Seen(LIBRARY, None))), 0)
    assert [(s.count, s.at_s) for s in record.samples] == [(2, 0.05), (1, 0.125)]
    assert record.evidence.samples == 3
    assert record.task == TaskInfo("t", "app.f")


def test_ongoing_and_final_share_identity() -> None:
    """Same id and start; duration so far, then in all."""
    made = track((50, Seen(HOST, None)), end=None)
    ongoing = recorder().record(made, 100 * MS)
    made.end_ns = 700 * MS
    final = recorder().record(made, 900 * MS)
    assert (ongoing.phase, final.phase) == ("ongoing", "final")
    assert (ongoing.id, ongoing.started_at_s) == (final.id, final.started_at_s)
    assert (ongoing.duration_s, final.duration_s) == (0.1, 0.7)
    assert final.to_dict()["samples"][0]["frames"][1]["function"] == f"{__name__}.mine"


def test_a_late_look_at_a_library_blames_nobody() -> None:
    """The GIL was held and the host's code has returned: an honest null."""
    library = (Position(Recorder.record.__code__, 0, 1, "loopwatch.recorder"),)
    record = recorder().record(track((450, Seen(library, None, late=True))), 0)
    assert record.culprit is None
    assert record.samples == ()


def test_a_late_look_at_the_hosts_code_still_counts() -> None:
    """The call has just returned, its caller is on the stack."""
    record = recorder().record(track((450, Seen(HOST, None, late=True))), 0)
    assert record.culprit is not None
    assert record.culprit.function == f"{__name__}.mine"
