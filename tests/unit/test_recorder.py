"""From samples to a record."""

from __future__ import annotations

import importlib
import time
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.diagnosis.cause import Facts
from loopwatch.diagnosis.culprit import in_app_rule
from loopwatch.diagnosis.tracker import Track
from loopwatch.forensics import Findings, Seen
from loopwatch.ledger import Identity
from loopwatch.model import Evidence, OtherThread, Request, TaskInfo
from loopwatch.probes.allowed import allow_blocking
from loopwatch.probes.kernel import Sleep
from loopwatch.probes.stacks import FrameNamer, Position, Stack
from loopwatch.recorder import WARM_UP, Recorder
from tests.unit.factories import stall

MS = 1_000_000


UNKNOWN = Facts()
ASLEEP = Facts(cpu=0.0, asleep=1.0, looks=3)


class Evident:
    """Forensics that has made up its mind."""

    def __init__(self, facts: Facts = UNKNOWN, wait: str | None = None) -> None:
        self.facts = facts
        self.wait = wait

    def findings(self, track: Track[Seen], end_ns: int, ident: int) -> Findings:
        wall_s = (end_ns - track.start_ns) / 1e9
        return Findings(
            self.facts,
            Evidence(wall_s, wait=self.wait, samples=len(track.samples)),
            OtherThread("hog", 0.4, "app.hog", "app.py", 9),
        )


def recorder(
    facts: Facts = UNKNOWN, *, wait: str | None = None, warm_until_ns: int = -1
) -> Recorder:
    identity = Identity("main", "asyncio", 42, "MainThread", "selector", "1", "3", "on")
    faults: list[Exception] = []
    made = Recorder(
        identity,
        FrameNamer(in_app_rule()),
        Evident(facts, wait),  # type: ignore[arg-type]
        warm_until_ns,
        faults.append,
    )
    made.faults = faults  # type: ignore[attr-defined]
    return made


def position(function: Any, line: int = 1) -> Position:
    return Position(function.__code__, 0, line, function.__module__)


def mine() -> None:
    """Stands for the host's code: this file is neither stdlib nor installed."""


def track(*samples: tuple[int, Seen], end: int | None = 500) -> Track[Seen]:
    made = Track[Seen](7, 0, end_ns=None if end is None else end * MS)
    made.samples = [(at * MS, seen) for at, seen in samples]
    return made


# A stack of the host's code alone, and one in which the host's code calls a library.
LIBRARY = Stack((position(stall), position(Track.__init__, 5)))
HOST = Stack((position(Recorder.record), position(mine, 3)), "loopwatch.recorder.Recorder.record")
SLEEPING = Stack((position(mine, 3),), "time.sleep")


def test_like_stacks_count_together() -> None:
    """One sample per different stack, with how often and when first it was seen."""
    seen = Seen(HOST, TaskInfo("t", "app.f"))
    record = recorder().record(
        track((50, seen), (100, seen), (125, Seen(LIBRARY, None)), end=150), 0
    )
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
    library = Stack((Position(Recorder.record.__code__, 0, 1, "loopwatch.recorder"),))
    record = recorder().record(track((450, Seen(library, None, late=True))), 0)
    assert record.culprit is None
    assert record.samples == ()


def test_a_late_look_at_the_hosts_code_still_counts() -> None:
    """The call has just returned, its caller is on the stack."""
    record = recorder().record(track((450, Seen(HOST, None, late=True))), 0)
    assert record.culprit is not None
    assert record.culprit.function == f"{__name__}.mine"


def test_a_blocking_call_has_its_name_and_its_advice() -> None:
    """The call of the culprit, and the row of the table it is known by."""
    look = Seen(SLEEPING, sleep=Sleep("sleep"))
    record = recorder(ASLEEP, wait="sleep").record(track((50, look), (100, look)), 0)
    assert record.cause is Cause.BLOCKING_CALL
    assert record.culprit is not None
    assert record.culprit.call == "time.sleep"
    assert record.advice is not None
    assert record.advice.signature == "time.sleep"
    assert record.evidence.wait == "sleep"


def test_who_slept_is_blamed_not_who_computed_before() -> None:
    """A stall that begins with computing and then sleeps is the sleeper's."""
    computing = Seen(HOST, sleep=Sleep("gil"))
    asleep = Seen(SLEEPING, sleep=Sleep("sleep"))
    looks = [(50, computing), (60, computing), (100, asleep)]
    record = recorder(ASLEEP).record(track(*looks), 0)
    assert record.culprit is not None
    assert record.culprit.call == "time.sleep"


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (Facts(gc=0.9, cpu=1.0, looks=1), Cause.GC),
        (Facts(throttled=0.9, cpu=0.1, looks=1), Cause.CPU_STARVED),
        (Facts(cpu=0.0, process_cpu=0.0, overslept=0.9, looks=1), Cause.PROCESS_PAUSED),
        (Facts(cpu=0.0, others_cpu=1.0, at_gil=1.0, looks=1), Cause.GIL_CONTENTION),
    ],
)
def test_the_line_that_happened_to_run_is_not_blamed(facts: Facts, cause: Cause) -> None:
    """Where the cause lies elsewhere there is no culprit, and the advice is the cause's."""
    record = recorder(facts).record(track((50, Seen(SLEEPING)), (100, Seen(SLEEPING))), 0)
    assert record.cause is cause
    assert record.culprit is None
    assert record.advice is not None
    assert record.advice.signature == cause
    assert (record.other_thread is not None) is (cause is Cause.GIL_CONTENTION)


def test_collecting_on_purpose_is_the_callers() -> None:
    """`gc.collect()` in the host's code is a call like any other."""
    look = Seen(Stack((position(mine, 3),), "gc.collect"), source="native")
    record = recorder(Facts(gc=0.9, cpu=1.0, looks=1)).record(track((50, look)), 0)
    assert record.cause is Cause.GC
    assert record.culprit is not None
    assert record.culprit.call == "gc.collect"


def test_stacks_from_the_middle_of_a_call_beat_later_ones() -> None:
    """What the watchdog saw when the call was over is not a sample of it."""
    native = Seen(SLEEPING, source="native")
    late = Seen(HOST, TaskInfo("t", "app.f"), late=True)
    record = recorder(Facts(cpu=1.0, native=1.0, looks=2)).record(
        track((40, native), (60, native), (450, late)), 0
    )
    assert record.cause is Cause.NATIVE_CALL
    assert [(s.source, s.count) for s in record.samples] == [("native", 2)]
    # The same callback still: so is the task.
    assert record.task == TaskInfo("t", "app.f")


def test_victims_are_the_other_requests() -> None:
    """The request that stalled is not its own victim; without the middleware nobody knows."""
    request = Request("GET", "/export")
    looks = [(50, Seen(SLEEPING, request=request, victims=7))]
    record = recorder(ASLEEP).record(track(*looks), 0)
    assert (record.request, record.victims) == (request, 6)
    assert recorder(ASLEEP).record(track((50, Seen(SLEEPING))), 0).victims is None


def test_imports_while_warming_up_are_allowed() -> None:
    """Most looks were inside an import statement, and the agent is young."""
    importing = Position(importlib._bootstrap._load_unlocked.__code__, 0, 1, "importlib._bootstrap")
    look = Seen(Stack((importing, position(mine, 3)), "import slow"))
    assert recorder(warm_until_ns=10).record(track((50, look)), 0).allowed == WARM_UP
    assert recorder(warm_until_ns=-1).record(track((50, look)), 0).allowed is None
    assert recorder(warm_until_ns=10).record(track((50, Seen(HOST))), 0).allowed is None


def test_a_stall_inside_allow_blocking_is_allowed() -> None:
    """The reason is in the record."""
    began_ns = time.monotonic_ns()
    with allow_blocking("reading the model"):
        time.sleep(0.01)
    made = Track[Seen](7, began_ns, end_ns=time.monotonic_ns())
    assert recorder().record(made, 0).allowed == "reading the model"


def test_a_failing_probe_costs_the_explanation_not_the_record() -> None:
    """The stall is told with its duration, and the failure is handed on."""
    made = recorder()
    made._forensics = None  # type: ignore[assignment]
    record = made.record(track((50, Seen(HOST))), 0)
    assert (record.cause, record.duration_s) == (Cause.UNKNOWN, 0.5)
    assert len(made.faults) == 1  # type: ignore[attr-defined]


def test_looks_count_for_the_time_they_speak_for() -> None:
    """Looks are dense in the first moments of a stall: these must not outvote the rest."""
    brief = Seen(Stack((position(mine, 3),), "time.sleep"))
    long = Seen(Stack((position(stall, 30), position(mine, 7)), "app.transform"))
    looks = [(50, brief), (60, brief), (70, brief), (200, long), (600, long)]
    record = recorder(Facts(cpu=0.8, looks=5)).record(track(*looks, end=1000), 0)
    assert record.culprit is not None
    assert record.culprit.line in (7, 30)
    assert record.culprit.call == "app.transform"


def test_python_code_is_not_advised_on_a_call_in_passing() -> None:
    """What the innermost frame happens to call is no signature where Python computed."""
    look = Seen(Stack((position(mine, 3),), None, "json.loads"))
    record = recorder(Facts(cpu=1.0, looks=1)).record(track((50, look)), 0)
    assert record.advice is not None
    assert record.advice.signature == "cpu"
