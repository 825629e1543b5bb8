"""The doctor's judgement and words; what it starts is in tests/integration/test_doctor.py."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from loopwatch import Cause, Config
from loopwatch.cli import doctor as command, main
from loopwatch.doctor import checks, report
from loopwatch.doctor.checks import CHECKS, Check, Finding, Here, Result, Status, examine
from loopwatch.doctor.judge import Mark, Told, Truth, Verdict, judge
from loopwatch.doctor.runner import LoopReport
from loopwatch.doctor.trials import HOG, TRIALS, Trial
from loopwatch.model import Culprit, Evidence, OtherThread, Phase
from loopwatch.probes.native_stacks import NativeSamplerError
from tests.unit.factories import stall

BY_NAME = {trial.name: trial for trial in TRIALS}
ACCEPTED = Config(native_sampler="on")  # else it is off before 3.13.1
HERE = Here({}, ACCEPTED, all_should_work=True)
ELSEWHERE = Here({}, ACCEPTED, all_should_work=False)
BEGAN_S = 50.0


def found(name: str, here: Here = HERE) -> Finding:
    """Run one check of the table."""
    (finding,) = examine(here, [check for check in CHECKS if check.name == name])
    return finding


# Checks.


def test_every_part_a_trial_needs_is_a_check() -> None:
    """A trial cannot depend on a part that nobody looks at."""
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for trial in TRIALS:
        assert set(trial.needs) <= set(names), trial.name
    assert len(BY_NAME) == len(TRIALS)


def test_the_command_knows_the_same_loops() -> None:
    """The command's own list, which spares it an import, is the one of the checks."""
    assert command._LOOPS == checks.LOOPS


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_every_check_comes_to_an_answer(check: Check) -> None:
    """No check fails by itself, and what is not ok says what is lost."""
    (finding,) = examine(Here.now({}), [check])
    assert "failed with" not in finding.detail
    assert finding.detail
    assert finding.status is Status.OK or finding.lost


@pytest.mark.skipif(not checks._is_supported(), reason="not all parts work on this platform")
@pytest.mark.parametrize(
    "name", ["stacks", "local variables", "native sampler", "thread CPU clock", "alarm"]
)
def test_what_should_work_here_does(name: str) -> None:
    """On Linux with a known CPython these parts are ok."""
    assert found(name).status is Status.OK


def test_a_check_that_raises_is_a_broken_part() -> None:
    """An exception in one check is its finding, and the next ones run."""

    def fail(_here: Here) -> Result:
        raise OSError("no such thing")

    findings = examine(HERE, [Check("first", fail, "a lot"), Check("next", checks._clock, "")])
    assert [finding.status for finding in findings] == [Status.BROKEN, Status.OK]
    assert findings[0].detail == "trying it failed with OSError: no such thing"
    assert findings[0].lost == "a lot"


@pytest.mark.parametrize(
    ("here", "status"), [(HERE, Status.BROKEN), (ELSEWHERE, Status.MISSING)], ids=["here", "else"]
)
def test_a_sampler_that_cannot_start(
    monkeypatch: pytest.MonkeyPatch, here: Here, status: Status
) -> None:
    """It is broken where it should work and missing elsewhere, with the reason in both."""

    def refuse(*_: Any, **__: Any) -> None:
        raise NativeSamplerError("every real-time signal is taken")

    monkeypatch.setattr(checks, "NativeSampler", refuse)
    finding = found("native sampler", here)
    assert (finding.status, finding.detail) == (status, "every real-time signal is taken")


def test_a_sampler_that_brings_nothing_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A timer that can be made but does not fire is not taken for one that works."""

    class Silent:
        def __init__(self, *_: Any, **__: Any) -> None:
            self.signum = 63

        def arm(self, after_ns: int) -> None: ...

        def collect(self) -> list[Any]:
            return []

        def stop(self) -> None: ...

    monkeypatch.setattr(checks, "NativeSampler", Silent)
    finding = found("native sampler")
    assert (finding.status, finding.detail) == (Status.BROKEN, "the timer brought no stack")


def test_a_sampler_that_is_not_safe_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 3.13.1 the row says why, and what accepts the risk."""
    monkeypatch.setattr(sys, "version_info", (3, 12, 9, "final", 0))
    finding = found("native sampler", Here({}, Config(), all_should_work=True))
    assert finding.status is Status.MISSING
    assert "native_sampler='on'" in finding.detail


def test_a_sampler_that_is_switched_off() -> None:
    """The setting is not a failure: off, and it says by what."""
    here = Here.now({"LOOPWATCH_NATIVE_SAMPLER": "off"})
    finding = found("native sampler", here)
    assert finding.status is Status.OFF
    assert "native_sampler='off'" in finding.detail


def test_a_variable_that_cannot_work() -> None:
    """The message of the ConfigError is the row, and the other checks see the defaults."""
    here = Here.now({"LOOPWATCH_MAX_SAMPLES": "many"})
    finding = found("settings", here)
    assert finding.status is Status.BROKEN
    assert "LOOPWATCH_MAX_SAMPLES='many'" in finding.detail
    assert here.config == Config()


def test_the_names_of_variables_are_told_and_no_values() -> None:
    """A path or an address in a variable does not get into a report."""
    finding = found("settings", Here.now({"LOOPWATCH_STALL_LOG": "/srv/secret", "HOME": "/root"}))
    assert (finding.status, finding.detail) == (Status.OK, "LOOPWATCH_STALL_LOG")


@pytest.mark.parametrize("name", ["/proc syscall", "/proc mem", "/proc schedstat"])
def test_what_the_kernel_does_not_show_is_missing(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A kernel without the file, or one that forbids it, is a platform and not a failure."""
    monkeypatch.setattr(checks, "_unreadable", lambda *_: "file: Permission denied")
    finding = found(name)
    assert (finding.status, finding.detail) == (Status.MISSING, "file: Permission denied")
    assert finding.lost


def test_a_loop_without_an_exact_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sensor that takes over is named, and the reasons are given."""

    def refuse(_loop: object) -> None:
        raise checks.SensorUnavailableError("libuv 9.9 is not known")

    monkeypatch.setattr(checks, "EXACT", (refuse,))
    finding = found("asyncio loop")
    assert (finding.status, finding.detail) == (
        Status.BROKEN,
        "sensor tick: libuv 9.9 is not known",
    )


def test_uvloop_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without uvloop nothing is broken, and the row says how to get it."""
    monkeypatch.setattr(checks, "_version_of", lambda _name: None)
    finding = found("uvloop loop")
    assert (finding.status, finding.detail) == (Status.MISSING, "not installed")
    assert "pip install" in finding.lost


# The judgement.


def told(trial: Trial, late_s: float = 0.1, **changes: Any) -> list[Told]:
    """Return the two records of a stall of 0.25 s as they should be; keywords change them."""
    function = f"{trial.block.__module__}.{trial.block.__qualname__}"
    call = trial.calls[0] if trial.calls else None
    values: dict[str, Any] = {
        "duration_s": 0.25,
        "cause": trial.cause,
        "culprit": Culprit(function, "trials.py", 1, call, None, in_app=True)
        if trial.blamed
        else None,
        "evidence": Evidence(0.25, wait=trial.wait),
        "other_thread": OtherThread(HOG, 0.25) if trial.other_thread else None,
        **changes,
    }
    ongoing = stall(**{**values, "phase": Phase.ONGOING, "duration_s": 0.1})
    return [
        Told(BEGAN_S + late_s, BEGAN_S, ongoing),
        Told(BEGAN_S + 0.26, BEGAN_S, stall(**values)),
    ]


STALLS = [trial for trial in TRIALS if trial.cause is not None]
TRUTH = Truth(BEGAN_S, BEGAN_S + 0.25)


@pytest.mark.parametrize("trial", STALLS, ids=lambda trial: trial.name)
def test_a_true_record_is_ok(trial: Trial) -> None:
    """A record that says what the row says is all right."""
    verdict = judge(trial, TRUTH, told(trial))
    assert (verdict.mark, verdict.wrong) == (Mark.OK, ())
    assert verdict.first_s == pytest.approx(0.1)
    assert verdict.records == ()


@pytest.mark.parametrize(
    ("name", "changes", "wrong"),
    [
        ("sleep", {"cause": Cause.UNKNOWN}, "cause unknown, expected blocking_call"),
        ("sleep", {"evidence": Evidence(0.25)}, "wait none, expected sleep"),
        ("sleep", {"duration_s": 0.2}, "duration off by -50 ms, expected at most 40 ms"),
        ("sleep", {"late_s": 0.27}, "told after it was over, expected while it lasted"),
        ("GIL in another thread", {"other_thread": None}, f"other thread none, expected {HOG}"),
        (
            "process stopped",
            {"culprit": Culprit("app.f", "app.py", 1, None, None, in_app=True)},
            "culprit app.f, expected none",
        ),
    ],
)
def test_what_differs_is_named(name: str, changes: dict[str, Any], wrong: str) -> None:
    """A wrong verdict says what came and what was expected, and brings the records."""
    verdict = judge(BY_NAME[name], TRUTH, told(BY_NAME[name], **changes))
    assert (verdict.mark, verdict.wrong) == (Mark.WRONG, (wrong,))
    assert verdict.records


def test_another_call_is_wrong() -> None:
    """The right line with the wrong call is no true record."""
    trial = BY_NAME["sleep"]
    blamed = Culprit(f"{trial.block.__module__}.sleep", "t.py", 1, "os.read", None, in_app=True)
    verdict = judge(trial, TRUTH, told(trial, culprit=blamed))
    assert verdict.wrong == ("call os.read, expected time.sleep",)


def test_a_stall_nobody_told() -> None:
    """Without a final record of that time it is wrong, whatever else was told."""
    trial = BY_NAME["sleep"]
    elsewhere = [t._replace(began_s=BEGAN_S + 9) for t in told(trial)]
    assert judge(trial, TRUTH, elsewhere).wrong == ("not told",)
    assert judge(trial, TRUTH, told(trial)[:1]).mark is Mark.WRONG


def test_a_stall_told_twice() -> None:
    """Two final records of one stall are one too many."""
    trial = BY_NAME["sleep"]
    twice = [*told(trial), told(trial, id="ff")[1]._replace(began_s=BEGAN_S + 0.2)]
    assert judge(trial, TRUTH, twice).wrong == ("told 2 times, expected once",)


def test_a_missing_part_asks_for_less() -> None:
    """Without the sampler a C call may be told as cpu and without its line; not as a sleep."""
    trial = BY_NAME["C call with the GIL"]
    weak = judge(trial, TRUTH, told(trial, cause=Cause.CPU, culprit=None), ["native sampler"])
    assert (weak.mark, weak.weaker) == (Mark.OK, ("native sampler",))
    assert judge(trial, TRUTH, told(trial, cause=Cause.CPU, culprit=None)).mark is Mark.WRONG
    slept = told(trial, cause=Cause.BLOCKING_CALL)
    assert judge(trial, TRUTH, slept, ["native sampler"]).mark is Mark.WRONG


def test_the_fallback_sensor_may_be_less_exact() -> None:
    """What is 70 ms off is wrong of an exact sensor and right of `tick`."""
    trial = BY_NAME["sleep"]
    assert judge(trial, TRUTH, told(trial, duration_s=0.18)).mark is Mark.WRONG
    assert judge(trial, TRUTH, told(trial, duration_s=0.18, sensor="tick")).mark is Mark.OK


def test_a_stall_that_did_not_come_about() -> None:
    """A trial that took less than the threshold says nothing about loopwatch."""
    verdict = judge(BY_NAME["sleep"], Truth(BEGAN_S, BEGAN_S + 0.09), [])
    assert verdict.mark is Mark.SKIPPED


def test_a_healthy_second() -> None:
    """A report is wrong while the timers were on time, and right if the machine held them up."""
    trial = BY_NAME["healthy second"]
    records = told(BY_NAME["sleep"])
    truth = Truth(BEGAN_S - 0.5, BEGAN_S + 0.5)
    assert judge(trial, truth, []).mark is Mark.OK
    verdict = judge(trial, truth, records)
    assert (verdict.mark, len(verdict.wrong)) == (Mark.WRONG, 1)
    late = truth._replace(late=((BEGAN_S, BEGAN_S + 0.25),))
    assert judge(trial, late, records).mark is Mark.OK


# What it says.


def looked(**states: Status) -> list[Finding]:
    return [Finding(name, status, "so", "much is lost") for name, status in states.items()]


def tried(*marks: Mark, failed: str = "") -> list[LoopReport]:
    trials = [
        dataclasses.asdict(Verdict(trial=f"trial {n}", mark=mark)) for n, mark in enumerate(marks)
    ]
    return [LoopReport("asyncio", "selector", trials, failed)]


@pytest.mark.parametrize(
    ("findings", "reports", "names"),
    [
        (looked(a=Status.OK, b=Status.MISSING, c=Status.OFF), tried(Mark.OK, Mark.SKIPPED), []),
        (looked(a=Status.BROKEN), tried(Mark.OK), ["a"]),
        (looked(a=Status.OK), tried(Mark.OK, Mark.WRONG), ["trial 1 on asyncio"]),
        (looked(a=Status.OK), tried(failed="it crashed"), ["the trials on asyncio"]),
    ],
)
def test_what_does_not_work(
    findings: Sequence[Finding], reports: Sequence[LoopReport], names: list[str]
) -> None:
    """Broken parts, wrong trials and a child that failed count; what is missing or off does not."""
    assert report.not_working(findings, reports) == names
    said = report.conclusion(findings, reports, "")
    assert said.startswith("1 thing does not work: " if names else "Everything")
    assert all(name in said for name in names)
    made = report.as_json(findings, reports, "", 1.0)
    assert (made["ok"], made["not_working"]) == (not names, names)


def test_the_conclusion_admits_what_was_not_seen() -> None:
    """Missing parts, trials that could not be made and trials left out are in the last line."""
    said = report.conclusion(looked(a=Status.MISSING), tried(Mark.SKIPPED), "")
    assert "missing or off: a; not tried: trial 0." in said
    assert "--no-trials" in report.conclusion(looked(a=Status.OK), [], "--no-trials")


def test_a_row_of_a_trial() -> None:
    """One line with cause, times and blame; below it what is wrong, and that it was retried."""
    trial = BY_NAME["sleep"]
    verdict = judge(trial, TRUTH, told(trial, duration_s=0.2))
    row = dataclasses.replace(verdict, before=("not told",), weaker=("stacks",))
    lines = report.trial_lines(dataclasses.asdict(row))
    assert " ".join(lines[0].split()) == (
        "wrong sleep blocking_call 250 ms -50.0 ms 100 ms sleep: time.sleep [sleep]"
    )
    assert [line.strip() for line in lines[1:]] == [
        "-> duration off by -50 ms, expected at most 40 ms",
        "second try; the first: not told",
        "less is expected without: stacks",
    ]


def test_columns_stand_below_their_heads() -> None:
    """Rows of every mark and cause are aligned with the head."""
    column = report.trials_head("asyncio")[-1].index("blamed")
    for trial in TRIALS:
        records = told(trial) if trial.cause else []
        line, *_ = report.trial_lines(dataclasses.asdict(judge(trial, TRUTH, records)))
        assert line[column - 1] == " "
        assert line[column] != " "


# The command.


def test_only_checks(capsys: pytest.CaptureFixture[str]) -> None:
    """`--no-trials` prints one row for each check and blocks nothing."""
    code = main(["doctor", "--no-trials", "--loop", "asyncio"])
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.split(" ")[0] in list(Status)]
    assert len(rows) == len(CHECKS) - 1  # the other loop's is left out
    assert code == int(any(row.startswith("broken") for row in rows))
    assert "--no-trials" in out.splitlines()[-1]


def test_an_invalid_variable_is_a_row_and_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The doctor does not stop at a setting that cannot work: it says so beside the rest."""
    monkeypatch.setenv("LOOPWATCH_STALL_TRESHOLD_S", "1")
    assert main(["doctor", "--no-trials"]) == 1
    out = capsys.readouterr().out
    assert "did you mean LOOPWATCH_STALL_THRESHOLD_S?" in out
    assert out.splitlines()[-1].startswith("1 thing does not work: settings")


def test_json_says_what_the_table_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is in the object, with the same status and words."""
    main(["doctor", "--no-trials"])
    table = capsys.readouterr().out
    main(["doctor", "--no-trials", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert made["schema"] == "loopwatch.doctor/1"
    assert made["loops"] == []
    rows = [line for line in table.splitlines() if line.split(" ")[0] in list(Status)]
    for row, check in zip(rows, made["checks"], strict=True):
        status, words = row.split(None, 1)
        assert status == check["status"]
        assert words.startswith(check["name"])
        # The number of frames depends on who called.
        assert words.endswith(check["detail"]) or "frames" in words


def test_a_debugger_is_a_reason_not_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is told while one is attached, so nothing is blocked and nothing is wrong."""
    monkeypatch.setattr(checks.DebuggerProbe, "attached", lambda _self: True)
    assert found("debugger").status is Status.OFF
    assert "debugger" in command._hindrance([found("debugger")])


def test_uvloop_asked_for_but_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names the extra, and code 1."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert main(["doctor", "--loop", "uvloop"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "pip install 'loopwatch[uvloop]'" in shown.err


def test_another_loop_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """A loop the doctor does not know is code 2."""
    assert main(["doctor", "--loop", "trio"]) == 2
    assert "invalid choice: 'trio'" in capsys.readouterr().err
