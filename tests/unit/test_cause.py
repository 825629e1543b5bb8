"""The truth table: which facts make which cause, and which do not."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from loopwatch.diagnosis.cause import NOT_THE_LINE, Facts, Verdict, decide
from loopwatch.model import Cause

UNKNOWN = Verdict(Cause.UNKNOWN, 0.0)

# One row for each way into a cause: the least that is enough, and how much of the stall it is.
ENOUGH: dict[str, tuple[dict[str, Any], Cause, float]] = {
    "a debugger": ({"debugged": True}, Cause.PROCESS_PAUSED, 0.99),
    "throttled": ({"throttled": 0.5}, Cause.CPU_STARVED, 0.5),
    "throttled throughout": ({"throttled": 1.0}, Cause.CPU_STARVED, 0.99),
    "collecting": ({"gc": 0.5}, Cause.GC, 0.5),
    "waiting for a CPU": ({"runqueue": 0.5}, Cause.CPU_STARVED, 0.5),
    "standing still": ({"overslept": 0.5, "process_cpu": 0.5}, Cause.PROCESS_PAUSED, 0.5),
    "standing still throughout": (
        {"overslept": 1.0, "process_cpu": 0.1, "cpu": 0.1},
        Cause.PROCESS_PAUSED,
        0.99,
    ),
    "many callbacks": ({"steps": 3, "longest_step": 0.49}, Cause.CONGESTION, 0.51),
    "asleep": ({"asleep": 0.5, "cpu": 0.49}, Cause.BLOCKING_CALL, 0.5),
    "asleep, CPU time not known": ({"asleep": 0.75}, Cause.BLOCKING_CALL, 0.75),
    "native, without the GIL": (
        {"cpu": 0.5, "computing": 0.51, "looks": 1},
        Cause.NATIVE_CALL,
        0.5,
    ),
    "native, with the GIL": ({"cpu": 0.5, "native": 0.51, "looks": 1}, Cause.NATIVE_CALL, 0.5),
    "native, known by its name": ({"cpu": 0.5, "in_c": 0.51, "looks": 1}, Cause.NATIVE_CALL, 0.5),
    "another has the GIL, seen in the system call": (
        {"cpu": 0.49, "others_cpu": 0.5, "at_gil": 0.5},
        Cause.GIL_CONTENTION,
        0.5,
    ),
    "another has the GIL, the watchdog waited for it": (
        {"cpu": 0.0, "others_cpu": 0.9, "wanted_gil": True},
        Cause.GIL_CONTENTION,
        0.9,
    ),
    "another has the GIL, the loop could not wake up": (
        {"cpu": 0.0, "others_cpu": 2.0, "wanted_gil": True},
        Cause.GIL_CONTENTION,
        0.99,
    ),
    "Python computes": ({"cpu": 0.5, "looks": 1}, Cause.CPU, 0.5),
}

# The same, with one fact just on the other side of its border: nothing decides.
NOT_ENOUGH: dict[str, dict[str, Any]] = {
    "nothing is known": {},
    "throttled for less": {"throttled": 0.49},
    "collecting for less": {"gc": 0.49},
    "waiting for a CPU for less": {"runqueue": 0.49},
    "overslept for less": {"overslept": 0.49, "process_cpu": 0.1},
    "overslept, but the process computed meanwhile": {"overslept": 0.9, "process_cpu": 0.21},
    "overslept for want of the GIL": {
        "overslept": 0.9,
        "process_cpu": 0.0,
        "cpu": 0.0,
        "wanted_gil": True,
    },
    "overslept, the process's CPU time not known": {"overslept": 0.9, "cpu": 0.0},
    "few callbacks": {"steps": 2, "longest_step": 0.1},
    "one callback took half": {"steps": 50, "longest_step": 0.5},
    "asleep for less": {"asleep": 0.49},
    "asleep, but it computed": {"asleep": 0.9, "cpu": 0.5},
    "computing for less": {"cpu": 0.49, "computing": 1.0, "native": 1.0, "in_c": 1.0},
    "computing, CPU time not known": {"computing": 1.0, "native": 1.0, "looks": 9},
    "computing, but nobody looked": {"cpu": 0.9},
    "another computed for less": {"cpu": 0.0, "others_cpu": 0.49, "at_gil": 1.0},
    "another computed, its time not known": {"cpu": 0.0, "at_gil": 1.0},
    "another computed, the loop's time not known": {"others_cpu": 1.0, "at_gil": 1.0},
    "another computed, nobody waited for the GIL": {
        "cpu": 0.1,
        "others_cpu": 1.0,
        "at_gil": 0.49,
        "looks": 9,
    },
    "another computed while the loop computed too, unseen": {
        "cpu": 0.5,
        "others_cpu": 1.0,
        "at_gil": 1.0,
    },
}

# The order in which rules are tried, where facts for both are there.
BEATS: dict[str, tuple[dict[str, Any], Cause]] = {
    "a debugger beats all": (
        {"debugged": True, "throttled": 1.0, "gc": 1.0, "runqueue": 1.0, "cpu": 1.0, "looks": 1},
        Cause.PROCESS_PAUSED,
    ),
    "throttled beats collecting": ({"throttled": 0.5, "gc": 0.9}, Cause.CPU_STARVED),
    "throttled beats computing": (
        {"throttled": 0.5, "cpu": 0.5, "looks": 3},
        Cause.CPU_STARVED,
    ),
    "collecting beats waiting for a CPU": ({"gc": 0.5, "runqueue": 0.5}, Cause.GC),
    "collecting beats a native call": (
        {"gc": 0.6, "cpu": 1.0, "native": 1.0, "looks": 3},
        Cause.GC,
    ),
    "collecting beats many callbacks": ({"gc": 0.6, "steps": 9, "longest_step": 0.2}, Cause.GC),
    "waiting for a CPU beats standing still": (
        {"runqueue": 0.6, "overslept": 0.9, "process_cpu": 0.0},
        Cause.CPU_STARVED,
    ),
    "waiting for a CPU beats computing": (
        {"runqueue": 0.5, "cpu": 0.5, "looks": 3},
        Cause.CPU_STARVED,
    ),
    "standing still beats asleep": (
        {"overslept": 0.9, "process_cpu": 0.0, "cpu": 0.0, "asleep": 1.0},
        Cause.PROCESS_PAUSED,
    ),
    "many callbacks beat asleep": (
        {"steps": 9, "longest_step": 0.2, "asleep": 1.0},
        Cause.CONGESTION,
    ),
    "many callbacks beat computing": (
        {"steps": 9, "longest_step": 0.2, "cpu": 1.0, "looks": 9},
        Cause.CONGESTION,
    ),
    "asleep beats another with the GIL": (
        {"asleep": 0.5, "cpu": 0.0, "others_cpu": 1.0, "at_gil": 0.5},
        Cause.BLOCKING_CALL,
    ),
    "a native call beats Python": (
        {"cpu": 0.9, "computing": 0.6, "at_gil": 0.4, "looks": 5},
        Cause.NATIVE_CALL,
    ),
    "a native call on half of the looks does not": (
        {"cpu": 0.9, "computing": 0.5, "native": 0.5, "in_c": 0.5, "looks": 4},
        Cause.CPU,
    ),
    "computing beats another with the GIL": (
        {"cpu": 0.5, "others_cpu": 1.0, "at_gil": 1.0, "looks": 4},
        Cause.CPU,
    ),
}


@pytest.mark.parametrize(("facts", "cause", "confidence"), ENOUGH.values(), ids=ENOUGH)
def test_the_least_that_is_enough(facts: dict[str, Any], cause: Cause, confidence: float) -> None:
    """Facts just over a rule's border make its cause, and explain that share of the stall."""
    assert decide(Facts(**facts)) == Verdict(cause, confidence)


@pytest.mark.parametrize("facts", NOT_ENOUGH.values(), ids=NOT_ENOUGH)
def test_less_is_not_enough(facts: dict[str, Any]) -> None:
    """Facts just under a rule's border, or that do not decide, leave the cause unknown."""
    assert decide(Facts(**facts)) == UNKNOWN


@pytest.mark.parametrize(("facts", "cause"), BEATS.values(), ids=BEATS)
def test_the_order_of_the_rules(facts: dict[str, Any], cause: Cause) -> None:
    """Where two rules apply the one that explains the other wins."""
    assert decide(Facts(**facts)).cause is cause


def test_every_cause_has_a_row() -> None:
    """No cause is missing from these tables."""
    assert {cause for _, cause, _ in ENOUGH.values()} | {Cause.UNKNOWN} == set(Cause)


def test_confidence_is_a_share_below_certainty() -> None:
    """Whatever the facts, the confidence is 0 where nothing is known and else 0.5 to 0.99."""
    dice = random.Random(7)
    shares = (None, 0.0, 0.1, 0.49, 0.5, 0.51, 0.99, 1.0, 1.7, 8.0)
    for _ in range(20_000):
        verdict = decide(
            Facts(
                cpu=dice.choice(shares),
                gc=dice.choice(shares[1:]) or 0.0,
                runqueue=dice.choice(shares),
                throttled=dice.choice(shares),
                process_cpu=dice.choice(shares),
                others_cpu=dice.choice(shares),
                overslept=dice.choice((0.0, 0.5, 1.0)),
                wanted_gil=dice.random() < 0.5,
                asleep=dice.choice((0.0, 0.5, 1.0)),
                computing=dice.choice((0.0, 0.5, 1.0)),
                at_gil=dice.choice((0.0, 0.5, 1.0)),
                looks=dice.choice((0, 1, 9)),
                native=dice.choice((0.0, 0.5, 1.0)),
                in_c=dice.choice((0.0, 0.5, 1.0)),
                longest_step=dice.choice((0.0, 0.3, 1.0)),
                steps=dice.choice((0, 3, 90)),
                debugged=dice.random() < 0.1,
            )
        )
        if verdict.cause is Cause.UNKNOWN:
            assert verdict.confidence == 0.0
        else:
            assert 0.5 <= verdict.confidence <= 0.99


def test_a_paused_process_needs_every_fact() -> None:
    """Any one of its facts that speaks against it is enough to acquit a pause."""
    paused: dict[str, Any] = {"overslept": 1.0, "process_cpu": 0.0, "wanted_gil": False}
    against = {"overslept": 0.0, "process_cpu": 0.9, "wanted_gil": True}
    assert decide(Facts(**paused)).cause is Cause.PROCESS_PAUSED
    for names in itertools.chain.from_iterable(
        itertools.combinations(against, count) for count in range(1, 4)
    ):
        facts = Facts(**{**paused, **{name: against[name] for name in names}})
        assert decide(facts).cause is not Cause.PROCESS_PAUSED


def test_causes_that_lie_elsewhere() -> None:
    """Nobody's line is blamed for the collector, another thread, a full machine or a pause."""
    assert {cause.value for cause in NOT_THE_LINE} == {
        "gc",
        "gil_contention",
        "cpu_starved",
        "process_paused",
    }
