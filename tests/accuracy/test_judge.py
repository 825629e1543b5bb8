"""The judge, by constructed records; and the corpus, by what it has to hold."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from tests.accuracy.cases import load
from tests.accuracy.judge import Mark, Verdict, judge
from tests.accuracy.label import Case
from tests.accuracy.table import as_markdown, case_rows, misses, total_rows


def case(**label: Any) -> Case:
    """A case of 0.3 s that is blamed on `shop.pay`."""
    label = {
        "causes": ("blocking_call",),
        "culprits": ("shop.pay",),
        "calls": ("time.sleep",),
        "tasks": ("web.handler",),
        "waits": ("sleep",),
        **label,
    }
    return Case(name="pay", family="waits", how="sleeps", helper=print, **label)


def told(
    began_s: float = 10.0,
    duration_s: float = 0.3,
    phase: str = "final",
    arrived_s: float | None = None,
    **record: Any,
) -> dict[str, Any]:
    """A record that is right about `case()`."""
    return {
        "arrived_s": began_s + duration_s if arrived_s is None else arrived_s,
        "began_s": began_s,
        "record": {
            "id": "1",
            "phase": phase,
            "duration_s": duration_s,
            "loop": "main",
            "cause": "blocking_call",
            "culprit": {"function": "app.shop.pay", "call": "time.sleep"},
            "task": {"coro": "app.web.handler"},
            "evidence": {"wait": "sleep"},
            "other_thread": None,
            **record,
        },
    }


def judged(
    *records: dict[str, Any],
    of: Case | None = None,
    truth: tuple[tuple[float, float], ...] = ((10.0, 10.3),),
    gaps: tuple[tuple[float, float], ...] = (),
) -> Verdict:
    result = {"truth": truth, "gaps": gaps, "records": list(records)}
    return judge(of or case(), "asyncio", result)


def marks(verdict: Verdict) -> list[Mark | None]:
    return [verdict.culprit, verdict.call, verdict.cause, verdict.task, verdict.evidence]


def test_a_right_record_is_right_in_every_respect() -> None:
    """Detected, all marks ok, error and delay as they are, nothing to say."""
    ongoing = told(duration_s=0.1, phase="ongoing", arrived_s=10.11)
    verdict = judged(ongoing, told(duration_s=0.302))
    assert verdict.detected
    assert marks(verdict) == [Mark.OK] * 5
    assert verdict.error_s == pytest.approx(0.002)
    assert verdict.first_s == pytest.approx(0.01)
    assert (verdict.false_alarms, verdict.machine, verdict.said) == (0, 0, ())


def test_what_is_not_known_is_a_miss_and_no_wrong_blame() -> None:
    """Null and `unknown` are told apart from wrong answers."""
    record = told(cause="unknown", culprit=None, task=None, evidence={"wait": None})
    assert marks(judged(record)) == [Mark.UNKNOWN] * 5


def test_another_answer_is_wrong_and_told() -> None:
    """Each wrong answer is in what was said."""
    record = told(
        cause="cpu",
        culprit={"function": "app.shop.repay", "call": "os.read"},
        task={"coro": "app.other"},
        evidence={"wait": "lock"},
    )
    verdict = judged(record)
    assert marks(verdict) == [Mark.WRONG] * 5
    assert verdict.said == (
        "culprit app.shop.repay",
        "call os.read",
        "cause cpu",
        "task app.other",
        "evidence lock",
    )


def test_any_of_several_right_names_is_right() -> None:
    """The first is the best, but a call is known by several names."""
    label = case(calls=("sleep", "time.sleep"), causes=("gc", "blocking_call"))
    assert marks(judged(told(), of=label)) == [Mark.OK] * 5


def test_a_dotted_suffix_is_enough_for_functions_and_not_for_calls() -> None:
    """`app.shop.pay` is `shop.pay`; `cooperative.time.sleep` is not `time.sleep`."""
    wrong = told(culprit={"function": "workshop.pay", "call": "cooperative.time.sleep"})
    verdict = judged(wrong)
    assert (verdict.culprit, verdict.call) == (Mark.WRONG, Mark.WRONG)


def test_an_empty_label_asks_for_null() -> None:
    """In a plain callback there is no task, and to name one is wrong."""
    label = case(tasks=(), calls=())
    assert judged(told(), of=label).task is Mark.WRONG
    silent = told(task=None, culprit={"function": "shop.pay", "call": None})
    verdict = judged(silent, of=label)
    assert (verdict.task, verdict.call) == (Mark.OK, Mark.OK)


def test_what_has_no_label_is_not_judged() -> None:
    """Where no line is to blame, any line may be named."""
    label = case(culprits=None, calls=None, tasks=None, waits=None)
    assert marks(judged(told(), of=label)) == [None, None, Mark.OK, None, None]


def test_the_other_thread_is_judged_where_it_holds_the_gil() -> None:
    """The evidence of contention is the name of the thread."""
    label = case(waits=None, other_thread="hog")
    assert judged(told(other_thread={"name": "hog"}), of=label).evidence is Mark.OK
    assert judged(told(other_thread={"name": "pool-1"}), of=label).evidence is Mark.WRONG
    assert judged(told(), of=label).evidence is Mark.UNKNOWN


def test_a_stall_nobody_told_is_a_miss_in_every_respect() -> None:
    """Also where null would have been right."""
    verdict = judged(of=case(tasks=()))
    assert verdict.detected is False
    assert marks(verdict) == [Mark.UNKNOWN] * 5
    assert (verdict.error_s, verdict.first_s) == (None, None)


@pytest.mark.parametrize(
    "records",
    [
        [told(id="1", duration_s=0.15), told(began_s=10.15, duration_s=0.15, id="2")],
        [told(phase="ongoing", id="1"), told(id="2")],
        [told(phase="ongoing")],
    ],
    ids=["two final ones", "an ongoing one of its own", "no final one"],
)
def test_what_is_not_told_exactly_once_is_not_detected(records: list[dict[str, Any]]) -> None:
    """One stall is one final record, and its ongoing one has the same id."""
    assert judged(*records).detected is False


def test_several_records_are_right_where_the_label_says_so() -> None:
    """Then each has to be right: the worst mark counts."""
    label = case(several=True)
    first, second = told(id="1"), told(id="2", cause="cpu")
    verdict = judged(first, second, of=label)
    assert verdict.detected
    assert verdict.cause is Mark.WRONG
    assert verdict.error_s is None


def test_an_endless_stall_is_detected_by_its_ongoing_record() -> None:
    """There is no end, and no error of a duration."""
    verdict = judged(told(duration_s=0.1, phase="ongoing"), of=case(endless=True))
    assert verdict.detected
    assert marks(verdict) == [Mark.OK] * 5
    assert verdict.error_s is None


def test_a_record_of_another_loop_is_not_of_this_stall() -> None:
    """A second loop that slept is no reason to report the first."""
    verdict = judged(told(loop="second"), told(), of=case(loop="second"))
    assert verdict.detected
    assert verdict.false_alarms == 1


def test_a_record_of_nothing_is_a_false_alarm() -> None:
    """Unless the loop really was late then: that is the machine's."""
    elsewhere = told(began_s=11.0, id="2")
    assert judged(told(), elsewhere).false_alarms == 1
    verdict = judged(told(), elsewhere, gaps=((11.0, 11.3),))
    assert (verdict.false_alarms, verdict.machine) == (0, 1)
    assert judged(told(), elsewhere, gaps=((11.0, 11.06),)).false_alarms == 1


def test_both_records_of_a_false_alarm_count_once() -> None:
    """A stall that was none is one error."""
    records = (told(began_s=11.0, phase="ongoing"), told(began_s=11.0))
    verdict = judged(*records, of=case(quiet=True), truth=())
    assert verdict.detected is None
    assert verdict.false_alarms == 1


def test_below_the_threshold_silence_is_right() -> None:
    """A record of 90 ms is a false alarm; of 97 ms it is either way."""
    label = case(asked_s=(0.08, 0.095))
    record = told(duration_s=0.1)
    assert judged(of=label, truth=((10.0, 10.09),)).false_alarms == 0
    assert judged(record, of=label, truth=((10.0, 10.09),)).false_alarms == 1
    assert judged(record, of=label, truth=((10.0, 10.097),)).false_alarms == 0
    assert judged(of=label, truth=((10.0, 10.101),)).detected is False


def test_a_stall_that_did_not_come_about_is_not_judged() -> None:
    """A case that should block for 0.3 s and took 50 ms tells nothing."""
    assert judged(truth=((10.0, 10.05),)).skipped == "not produced: it took 50 ms"
    assert judge(case(), "uvloop", {"skipped": "needs root"}).skipped == "needs root"


def test_the_tables_tell_misses() -> None:
    """A wrong cause is in the row, in the totals and in the list."""
    verdicts = [judged(told(cause="cpu")), judged(told())]
    (row,) = case_rows([case()], verdicts)
    assert "1 of 2, **1 wrong**" in row
    totals = {line[0]: line[1:] for line in total_rows(["asyncio"], verdicts)}
    assert totals["cause"] == (">= 95 %", "50.0 % of 2, 0 unknown, 1 wrong")
    assert totals["detected"] == ("100 %", "100.0 % of 2")
    assert misses(verdicts) == ["pay, asyncio: cause cpu"]
    assert as_markdown(("a", "b"), [("1", "2")]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"


def test_the_corpus_is_large_and_covers_every_cause() -> None:
    """At least 45 cases that stall, each cause but `unknown` among them, and quiet ones."""
    stalls = [case for case in load() if not case.quiet]
    causes = Counter(case.causes[0] for case in stalls)
    assert len(stalls) >= 45
    assert len(load()) - len(stalls) >= 5
    assert set(causes) == {
        "blocking_call",
        "cpu",
        "native_call",
        "gc",
        "gil_contention",
        "congestion",
        "cpu_starved",
        "process_paused",
    }
    assert all(case.how for case in load())
