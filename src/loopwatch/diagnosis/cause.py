"""Why did the loop stand still? A truth table: facts in, cause and confidence out.

The rules are tried in order; each says which share of the stall it explains. Below `_ENOUGH` a rule
does not apply, and where none does the cause is unknown: a wrong blame costs more than none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loopwatch.model import Cause

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NOT_THE_LINE", "Facts", "Verdict", "decide"]

# What a rule must explain of a stall.
_ENOUGH: Final = 0.5
# What a clock may be off by, as a share of the stall.
_STILL: Final = 0.1
# More than this many callbacks of which none took half of the stall are congestion.
_MANY: Final = 3
_SURE: Final = 0.99

# Causes that lie elsewhere: the line that happened to run is not to blame.
NOT_THE_LINE: Final = frozenset(
    {Cause.GC, Cause.GIL_CONTENTION, Cause.CPU_STARVED, Cause.PROCESS_PAUSED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known of one stall. Times are shares of its duration; `None` is not known.

    `cpu` and `runqueue` are the loop thread's, `process_cpu` everybody's, `others_cpu` that of all
    other threads. `overslept` is the time the watchdog could not run, `wanted_gil` whether it was
    the GIL it waited for. `asleep`, `computing` and `at_gil` are shares of the looks at the loop
    thread: in a system call, without the GIL on a CPU, and with the GIL or waiting for it.
    `in_c` is the share of looks that were in one C function that is known for its CPU time.
    `native` is the share of looks taken in the middle of a C call that kept the watchdog waiting.
    `longest_step` is the share of the longest callback, of `steps` that were seen to follow
    another.
    """

    cpu: float | None = None
    gc: float = 0.0
    runqueue: float | None = None
    throttled: float | None = None
    process_cpu: float | None = None
    others_cpu: float | None = None
    overslept: float = 0.0
    wanted_gil: bool = False
    asleep: float = 0.0
    computing: float = 0.0
    at_gil: float = 0.0
    looks: int = 0
    native: float = 0.0
    in_c: float = 0.0
    longest_step: float = 1.0
    steps: int = 0
    debugged: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The cause, and how much of the stall it explains (0 to 1)."""

    cause: Cause
    confidence: float


def decide(facts: Facts) -> Verdict:
    """Return the first cause in the table that explains the stall."""
    for cause, share_of in _RULES:
        share = share_of(facts)
        if share >= _ENOUGH:
            return Verdict(cause, round(min(share, _SURE), 2))
    return Verdict(Cause.UNKNOWN, 0.0)


def _debugged(facts: Facts) -> float:
    return 1.0 if facts.debugged else 0.0


def _throttled(facts: Facts) -> float:
    # The quota is that of a whole cgroup, over all CPUs: others may have used it up meanwhile.
    if facts.asleep >= _ENOUGH:
        return 0.0
    return min(facts.throttled or 0.0, 1.0 - (facts.cpu or 0.0))


def _collected(facts: Facts) -> float:
    # A finalizer may sleep, and the process may be stopped, in the middle of a collection.
    return facts.gc if facts.cpu is None else min(facts.gc, facts.cpu)


def _waited_for_a_cpu(facts: Facts) -> float:
    return facts.runqueue or 0.0


def _stood_still(facts: Facts) -> float:
    """Return the share in which the watchdog could not run, and not for want of the GIL."""
    if facts.wanted_gil or facts.process_cpu is None:
        return 0.0
    # Nobody computed meanwhile: what the process did fits into the rest of the time.
    still = max(facts.process_cpu, facts.cpu or 0) + facts.overslept <= 1 + _STILL
    return facts.overslept if still else 0.0


def _many_callbacks(facts: Facts) -> float:
    if facts.steps < _MANY or facts.longest_step >= _ENOUGH:
        return 0.0
    return 1.0 - facts.longest_step


def _slept(facts: Facts) -> float:
    if facts.cpu is not None and facts.cpu >= _ENOUGH:
        return 0.0
    return facts.asleep


def _one_native_call(facts: Facts) -> float:
    if facts.cpu is None or facts.cpu < _ENOUGH:
        return 0.0
    most = max(facts.native, facts.computing, facts.in_c) > _ENOUGH
    return facts.cpu if most else 0.0


def _computed(facts: Facts) -> float:
    # Without a single look nobody knows what computed, Python or a C call. And where callbacks
    # were seen to change, too few for congestion, there is no one line to blame.
    several = facts.steps > 0 and facts.longest_step < _ENOUGH
    return facts.cpu or 0.0 if facts.looks and not several else 0.0


def _another_had_the_gil(facts: Facts) -> float:
    if facts.cpu is None or facts.cpu >= _ENOUGH or facts.others_cpu is None:
        return 0.0
    waited = facts.at_gil >= _ENOUGH or facts.wanted_gil
    return min(1.0, facts.others_cpu) if waited and facts.asleep < _ENOUGH else 0.0


_RULES: Final[tuple[tuple[Cause, Callable[[Facts], float]], ...]] = (
    (Cause.PROCESS_PAUSED, _debugged),
    (Cause.CPU_STARVED, _throttled),
    (Cause.GC, _collected),
    (Cause.CPU_STARVED, _waited_for_a_cpu),
    (Cause.PROCESS_PAUSED, _stood_still),
    (Cause.CONGESTION, _many_callbacks),
    (Cause.BLOCKING_CALL, _slept),
    (Cause.NATIVE_CALL, _one_native_call),
    (Cause.GIL_CONTENTION, _another_had_the_gil),
    (Cause.CPU, _computed),
)
