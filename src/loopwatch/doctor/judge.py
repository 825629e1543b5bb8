"""Compares what was told of a trial with what is true. Pure: it is told everything.

All moments are on the monotonic clock, in seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.model import Phase

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from loopwatch.doctor.trials import Trial
    from loopwatch.model import Stall

__all__ = ["LATE_S", "THRESHOLD_S", "Told", "Truth", "Verdict", "judge"]

THRESHOLD_S: Final = 0.1
# A timer this late says that the loop really did not serve, though nobody asked for it.
LATE_S: Final = 0.09
# The fallback sensor is exact to a quarter of the threshold.
_TICK_S: Final = THRESHOLD_S / 2


class Mark(StrEnum):
    """How a trial went; `SKIPPED` could not be made here."""

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"


class Told(NamedTuple):
    """A record, when it came, and when its stall began."""

    arrived_s: float
    began_s: float
    record: Stall

    @property
    def end_s(self) -> float:
        """When the stall ended, or as far as the record goes."""
        return self.began_s + self.record.duration_s


class Truth(NamedTuple):
    """When the loop really did not serve; `late` are timers that ran too late, (due, ran)."""

    start_s: float
    end_s: float
    late: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of a trial: `wrong` says what was expected and what came, empty if all is right.

    `before` is what was wrong at the attempt before this one. `first_s` is how long after its
    beginning the stall was first told. `weaker` are the parts that are missing here, so that less
    was expected. `records` are there if something is wrong.
    """

    trial: str
    mark: Mark
    wrong: tuple[str, ...] = ()
    weaker: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    cause: str | None = None
    culprit: str | None = None
    call: str | None = None
    wait: str | None = None
    other_thread: str | None = None
    true_s: float | None = None
    duration_s: float | None = None
    first_s: float | None = None
    records: tuple[dict[str, Any], ...] = ()


def judge(
    trial: Trial, truth: Truth, told: Sequence[Told], missing: Collection[str] = ()
) -> Verdict:
    """Return the verdict on one trial; `missing` are parts that do not work here."""
    weaker = tuple(part for part in trial.needs if part in missing)
    if trial.cause is None:
        return _judge_healthy(trial, truth, told)
    true_s = truth.end_s - truth.start_s
    if true_s < THRESHOLD_S:
        why = f"not made: the loop stood still for {true_s:.3f} s only"
        return Verdict(trial=trial.name, mark=Mark.SKIPPED, wrong=(why,), true_s=true_s)
    mine = [t for t in told if t.began_s < truth.end_s and t.end_s > truth.start_s]
    finals = [t for t in mine if t.record.phase is Phase.FINAL]
    if not finals:
        return Verdict(
            trial=trial.name, mark=Mark.WRONG, weaker=weaker, wrong=("not told",), true_s=true_s
        )
    # The one that covers most, if a disturbance of the machine made another.
    final = max(finals, key=lambda t: min(t.end_s, truth.end_s) - max(t.began_s, truth.start_s))
    record = final.record
    first_s = min(t.arrived_s for t in mine if t.record.id == record.id) - truth.start_s
    wrong = [*_wrong_cause(trial, record, weaker), *_wrong_period(trial, truth, final)]
    if len(finals) > 1:
        wrong.append(f"told {len(finals)} times, expected once")
    if not weaker:
        wrong += _wrong_blame(trial, record)
    if trial.meanwhile and first_s >= true_s:
        wrong.append("told after it was over, expected while it lasted")
    culprit = record.culprit
    return Verdict(
        trial=trial.name,
        mark=Mark.WRONG if wrong else Mark.OK,
        wrong=tuple(wrong),
        weaker=weaker,
        cause=record.cause.value,
        culprit=culprit.function if culprit is not None else None,
        call=culprit.call if culprit is not None else None,
        wait=record.evidence.wait,
        other_thread=record.other_thread.name if record.other_thread is not None else None,
        true_s=true_s,
        duration_s=record.duration_s,
        first_s=first_s,
        records=tuple(t.record.to_dict() for t in mine) if wrong else (),
    )


def _judge_healthy(trial: Trial, truth: Truth, told: Sequence[Told]) -> Verdict:
    """Nothing may be told, but for moments in which the machine itself held the loop up."""
    false = [
        t
        for t in told
        if truth.start_s < t.end_s
        and t.began_s < truth.end_s
        and not any(t.began_s < ran_s and t.end_s > due_s for due_s, ran_s in truth.late)
    ]
    ids = {t.record.id for t in false}
    wrong = f"{len(ids)} told, expected none: the loop was never {LATE_S:g} s late"
    return Verdict(
        trial=trial.name,
        mark=Mark.WRONG if false else Mark.OK,
        wrong=(wrong,) if false else (),
        true_s=truth.end_s - truth.start_s,
        records=tuple(t.record.to_dict() for t in false),
    )


def _wrong_cause(trial: Trial, record: Stall, weaker: Sequence[str]) -> list[str]:
    accepted = {trial.cause, *(cause for part in weaker for cause in trial.needs[part])}
    return [] if record.cause in accepted else [_differs("cause", record.cause, trial.cause)]


def _wrong_period(trial: Trial, truth: Truth, final: Told) -> list[str]:
    error_s = final.record.duration_s - (truth.end_s - truth.start_s)
    within_s = trial.within_s + (_TICK_S if final.record.sensor == "tick" else 0.0)
    if abs(error_s) <= within_s:
        return []
    return [f"duration off by {error_s * 1e3:+.0f} ms, expected at most {within_s * 1e3:.0f} ms"]


def _wrong_blame(trial: Trial, record: Stall) -> list[str]:
    culprit = record.culprit
    function = culprit.function if culprit is not None else None
    call = culprit.call if culprit is not None else None
    other = record.other_thread.name if record.other_thread is not None else None
    wrong = []
    blamed = f"{trial.block.__module__}.{trial.block.__qualname__}" if trial.blamed else None
    if function != blamed:
        wrong.append(_differs("culprit", function, blamed))
    if trial.calls and call not in trial.calls:
        wrong.append(_differs("call", call, trial.calls[0]))
    if trial.wait is not None and record.evidence.wait != trial.wait:
        wrong.append(_differs("wait", record.evidence.wait, trial.wait))
    if trial.other_thread is not None and other != trial.other_thread:
        wrong.append(_differs("other thread", other, trial.other_thread))
    return wrong


def _differs(what: str, came: str | None, expected: str | None) -> str:
    return f"{what} {came or 'none'}, expected {expected or 'none'}"
