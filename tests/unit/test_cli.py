"""The command line: what it says, what it returns, what it imports."""

from __future__ import annotations

import subprocess
import sys

import pytest

import loopwatch
from loopwatch.cli import COMMANDS, main
from loopwatch.demo.view import Group, View, progress, table
from loopwatch.model import Advice, Cause, Culprit, Phase
from tests.unit.factories import ledger, stall

NAMES = [command.name for command in COMMANDS]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` tells the version of the package and is fine."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"loopwatch {loopwatch.__version__}\n"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` shows each command with its line."""
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command.name in shown
        assert command.help in shown


def test_nothing_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a command the help is shown as an error is: on stderr, with code 2."""
    assert main([]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("usage: loopwatch")


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command explains itself and its options."""
    assert main([name, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: loopwatch {name}")


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["nonsense"], "'nonsense'"),
        (["--nonsense"], "--nonsense"),
        (["demo", "--nonsense"], "--nonsense"),
        (["demo", "--loop", "trio"], "--loop: invalid choice: 'trio'"),
        (["demo", "--seconds", "-3"], "--seconds: '-3'"),
        (["demo", "--seconds", "0"], "--seconds: '0'"),
        (["demo", "--seconds", "nan"], "--seconds: 'nan'"),
        (["demo", "--seconds", "soon"], "--seconds: 'soon'"),
        (["demo", "--port", "-1"], "--port: '-1'"),
        (["demo", "--port", "65536"], "--port: '65536'"),
        (["demo", "--http-port", "http"], "--http-port: 'http'"),
    ],
)
def test_bad_usage(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake on the command line is named in one line that points to the help, with code 2."""
    assert main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err
    assert shown.err.rstrip().endswith("--help")


def test_a_missing_extra_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the third parties of the demo the error says what to install."""
    for name in [name for name in sys.modules if name.startswith("loopwatch.demo.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 1
    shown = capsys.readouterr().err
    assert shown == (
        "loopwatch: error: loopwatch demo needs an extra: run `pip install 'loopwatch[demo]'`\n"
    )


def test_missing_uvloop_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Asking for uvloop where it is missing names the extra that brings it."""
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert main(["demo", "--loop", "uvloop"]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "pip install 'loopwatch[uvloop]'" in shown


def test_a_wrong_setting_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A LOOPWATCH_ variable that cannot work ends a command in one line, with code 2."""
    monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD_S", "soon")
    assert main(["demo", "--port", "0", "--http-port", "0", "--seconds", "1"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "LOOPWATCH_STALL_THRESHOLD_S='soon'" in shown


def test_importing_is_light() -> None:
    """The command line loads no third party, and not asyncio, before a command runs."""
    script = (
        "import sys; before = set(sys.modules); import loopwatch.cli; "
        "print({m.partition('.')[0] for m in set(sys.modules) - before} "
        "- (set(sys.stdlib_module_names) - {'asyncio'}))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "{'loopwatch'}"


def test_python_dash_m() -> None:
    """`python -m loopwatch` is the command line, exit code included."""
    ran = subprocess.run([sys.executable, "-m", "loopwatch"], capture_output=True, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith(b"usage: loopwatch")


def test_the_view_groups_by_culprit() -> None:
    """Final records of one function are one row, with cause and advice; ongoing ones are none."""
    view = View()
    view.export(stall(phase=Phase.ONGOING))
    assert view.groups == []
    other_line = Culprit("app.slow", "app.py", 5, None, "time.sleep(1)", in_app=True)
    told = {"cause": Cause.CPU, "advice": Advice("cpu", "move the work")}
    view.export(stall(started_at_s=100.0, duration_s=0.25))
    view.export(stall(started_at_s=101.0, duration_s=0.5, culprit=other_line, **told))
    view.export(stall(started_at_s=102.0, duration_s=0.125, culprit=other_line, **told))
    assert table(view.groups, 98.5).splitlines() == [
        "stalls  first at  longest    total  cause  culprit  called by  task",
        "     3     1.5 s  0.500 s  0.875 s  cpu    slow     handler    Task-1",
        "        app.py:5: time.sleep(1)",
        "        -> move the work",
    ]


def test_the_view_admits_what_is_not_known() -> None:
    """A stall without samples has its row, and nobody is blamed."""
    unseen = stall(culprit=None, entry=None, task=None)
    group = Group(unseen)
    group.add(unseen)
    assert table([group], unseen.started_at_s).splitlines()[1:] == [
        "     1     0.0 s  0.512 s  0.512 s  unknown  (not known)  -          -"
    ]


def test_progress_names_the_stall_in_progress() -> None:
    """While the loop is stalled the line says so and where; afterwards what the last one was."""
    book = ledger()
    assert "no stall yet" in progress(book.snapshot(), None, 1.0, 0)
    book.opened(0, stall(phase=Phase.ONGOING))
    assert "s: slow " in progress(book.snapshot(), None, 1.0, 7)
    assert "STALLED" in progress(book.snapshot(), None, 1.0, 7)
    book.closed(0, 512_000_000, stall())
    after = progress(book.snapshot(), stall(), 1.0, 7)
    assert "1 stall |" in after
    assert "last 0.51 s: slow" in after
    assert "STALLED" not in after
    assert "7 requests" in after
