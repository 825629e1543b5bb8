"""The fast part of the corpus: a dozen cases on both loops, judged as `make accuracy` does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.accuracy.cases import load
from tests.accuracy.judge import Mark, Verdict
from tests.accuracy.runner import LOOPS, play
from tests.conftest import needs_uvloop

# These only sleep: three at a time do not disturb each other on two cores.
SLEEPING = (
    "sleep",
    "Payments.pause",
    "read_from_slow_server",
    "request",
    "take_lock",
    "run_program",
    "data_received",
    "endless_sleep",
    "stopped_while_idle",
    "idle",
)
BUSY = ("add_up", "trim", "hash_password", "backtrack")
NAMES = (*SLEEPING, *BUSY)

Verdicts = dict[tuple[str, str], Verdict]


@pytest.fixture(scope="module")
def verdicts() -> Verdicts:
    """How each case went on each loop."""
    cases = {case.name: case for case in load()}
    found: Verdicts = {}
    for names, at_a_time in ((SLEEPING, 3), (BUSY, 1)):
        runs = [(name, loop) for name in names for loop in LOOPS]
        with ThreadPoolExecutor(at_a_time) as pool:
            found.update(
                zip(runs, pool.map(lambda run: play(cases[run[0]], run[1], 1), runs), strict=True)
            )
    return found


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_told_is_true(verdicts: Verdicts, name: str, loop: str) -> None:
    """A stall is told once with its line, call and cause, and a healthy loop is left alone."""
    verdict = verdicts[name, loop]
    if verdict.skipped:
        pytest.skip(verdict.skipped)
    assert verdict.detected is not False, verdict
    assert verdict.false_alarms == 0, verdict
    assert verdict.cause in (Mark.OK, None), verdict
    assert verdict.culprit in (Mark.OK, None), verdict
    assert verdict.call in (Mark.OK, None), verdict
    assert verdict.task in (Mark.OK, None), verdict
    assert verdict.evidence in (Mark.OK, None), verdict
