"""The doctor, run as a user runs it: real children, real stalls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loopwatch.doctor import checks
from loopwatch.doctor.runner import run_trials
from loopwatch.doctor.trials import TRIALS
from tests.conftest import SENSORS

supported = pytest.mark.skipif(
    not checks._is_supported(), reason="not all parts work on this platform"
)


def doctor(*args: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LOOPWATCH_")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "loopwatch", "doctor", *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**env, **variables},
    )


def really_wrong(trials: list[dict[str, Any]]) -> list[tuple[str, Any]]:
    """Return what went wrong, but for stalls in which this machine had no CPU for us."""
    return [
        (trial["trial"], trial["wrong"])
        for trial in trials
        if trial["mark"] == "wrong" and trial["cause"] != "cpu_starved"
    ]


@supported
def test_everything_works_here(exact_loop: str) -> None:
    """Every trial is made and told as it should be, in time, and the exit code says so."""
    ran = doctor("--loop", exact_loop, "--json")
    assert ran.stderr == ""
    made = json.loads(ran.stdout)
    (loop,) = made["loops"]
    assert (loop["loop"], loop["sensor"], loop["failed"]) == (
        exact_loop,
        SENSORS[exact_loop],
        None,
    )
    assert [trial["trial"] for trial in loop["trials"]] == [trial.name for trial in TRIALS]
    assert really_wrong(loop["trials"]) == []
    assert [c["name"] for c in made["checks"] if c["status"] == "broken"] == []
    assert ran.returncode == int(not made["ok"])
    assert made["took_s"] < 30


@supported
def test_without_the_sampler_less_is_expected() -> None:
    """Switched off it is told as off, one trial expects less, and nothing is wrong.

    The settings of the app do not get into the child: with this threshold nothing would be told.
    """
    ran = doctor(
        "--loop",
        "asyncio",
        LOOPWATCH_NATIVE_SAMPLER="off",
        LOOPWATCH_STALL_THRESHOLD_S="9",
        LOOPWATCH_EXPORTERS="nonsense",
    )
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert ["off", "native", "sampler"] in [row[:3] for row in rows]
    assert ["less", "is", "expected", "without:", "native", "sampler"] in rows
    assert "missing or off: native sampler" in ran.stdout or "cpu_starved" in ran.stdout
    assert ran.returncode == int("cpu_starved" in ran.stdout.splitlines()[-1])


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_is_left_behind(signum: signal.Signals) -> None:
    """Ctrl-C ends it with code 1 and without a word; however it ends, its child does, too."""
    with subprocess.Popen(
        [sys.executable, "-m", "loopwatch", "doctor", "--loop", "asyncio"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has SIGINT ignored, for all of us.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "healthy second" in line:  # now the child waits to be stopped
                break
        children = children_of(process.pid)
        assert len(children) == 1
        process.send_signal(signum)
        _, err = process.communicate(timeout=10)
    assert err == ""
    assert process.returncode == (1 if signum == signal.SIGINT else -signum)
    deadline = time.monotonic() + 5
    while is_alive(children[0]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(children[0])


KILLED_WHILE_CHILD_IS_STOPPED = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "loopwatch.doctor.child"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
child.send_signal(signal.SIGSTOP)
os.waitpid(child.pid, os.WUNTRACED)
print(child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stopped_child_ends_with_its_parent() -> None:
    """A parent that is killed between stopping and continuing its child leaves nothing behind."""
    ran = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_CHILD_IS_STOPPED],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    child = int(ran.stdout)
    try:
        deadline = time.monotonic() + 5
        while is_alive(child) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not is_alive(child)
    finally:
        if is_alive(child):
            os.kill(child, signal.SIGKILL)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Have another module in place of the child; returns what makes it."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(script: str) -> str:
        (tmp_path / "fake_child.py").write_text(script)
        return "fake_child"

    return make


def test_a_child_that_crashes_is_a_failure(fake: Any) -> None:
    """What it said last is the reason, and what it told before is kept."""
    child = fake(
        "import sys\nprint('not JSON')\nprint('{\"sensor\": \"selector\"}')\nsys.exit('no luck')"
    )
    report = run_trials("asyncio", child=child)
    assert report.sensor == "selector"
    assert report.failed == "the child process ended with code 1: no luck"


def test_a_child_that_dies_of_a_signal_is_a_failure(fake: Any) -> None:
    """A crash of the interpreter does not take the doctor along."""
    report = run_trials("asyncio", child=fake("import os; os.kill(os.getpid(), 11)"))
    assert "ended with code -11" in report.failed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_child_that_hangs_is_ended(fake: Any) -> None:
    """After the deadline it is killed, with what it started."""
    child = fake(
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        'print(\'{"verdict": {"pid": %d}}\' % p.pid, flush=True)\n'
        "time.sleep(60)"
    )
    began = time.monotonic()
    report = run_trials("asyncio", child=child, deadline_s=1.5)
    assert report.failed == "the trials took longer than 1.5 s and were ended"
    assert time.monotonic() - began < 10
    (told,) = report.trials
    deadline = time.monotonic() + 5
    while is_alive(told["pid"]) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(told["pid"])
