"""`loopwatch report`: what it prints, what it returns, what it says of mistakes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.cli import main
from loopwatch.cli.report import ReportCommand
from loopwatch.model import Phase
from loopwatch.report.summary import SORTS
from tests.unit.factories import stall


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log of three stalls: 1.5 s, 0.25 s that never ended, and an allowed one of 9 s."""
    return written(
        tmp_path / "stalls.jsonl",
        stall(id="a", duration_s=1.5, cause=Cause.CPU, fingerprint="1"),
        stall(id="b", duration_s=0.25, phase=Phase.ONGOING, loop="other", fingerprint="2"),
        stall(id="c", duration_s=9.0, allowed="reading the model"),
    )


def written(path: Path, *stalls: Any) -> Path:
    path.write_text("".join(json.dumps(each.to_dict()) + "\n" for each in stalls))
    return path


def told(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> Any:
    """Return the JSON that the options give."""
    assert main(["report", *map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_the_table(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One row per fingerprint with its figures, the totals below, nothing on stderr."""
    assert main(["report", str(log)]) == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    rows = shown.out.splitlines()
    assert rows[0].split()[:4] == ["stalls", "total", "worst", "cause"]
    assert rows[1].split()[:6] == ["1", "1.5", "s", "1.5", "s", "cpu"]
    assert "app.slow (app.py:4)" in rows[1]
    assert "1 without an end" in shown.out
    assert "2 stalls of 2 fingerprints, 1.8 s in all, the worst 1.5 s" in shown.out
    assert "1 allowed stall, 9.0 s: reading the model (1)" in shown.out


def test_a_narrow_terminal_loses_nothing(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no column there is told in words."""
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["report", str(log), "--top", "1"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.split("stalls of 2")[0].splitlines()[:-1])) <= 60
    for text in ("cpu: app.slow", "2026-11-21", "workers: 1", "1 more fingerprint: --top 0"):
        assert text in shown


def test_no_columns_are_no_width(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """COLUMNS=0, as some shells set it where there is no terminal, hides nothing."""
    monkeypatch.setenv("COLUMNS", "0")
    assert main(["report", str(log)]) == 0
    assert "app.slow (app.py:4)" in capsys.readouterr().out


def test_markup_of_the_table_is_not_obeyed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A cause that is Rich's markup, or a terminal's escape, is text."""
    record = stall().to_dict()
    record["culprit"]["function"] = "[red]x[/red]\x1b[31m[link=http://x]y[/nothing]"
    record["cause"] = "[bold]x[/nothing] :boom:"
    path = tmp_path / "log"
    path.write_text(json.dumps(record))
    assert main(["report", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "[red]x[/red]\\x1b[31m[link=http://x]y[/nothing]" in shown
    assert "[bold]x[/nothing] :boom:" in shown


def test_options_choose(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By cause, loop and time; what is not chosen is counted as left out."""
    assert told(capsys, log)["stalls"] == 2
    chosen = told(capsys, log, "--cause", "cpu", "--cause", "gc")
    assert (chosen["stalls"], chosen["left_out"]) == (1, 2)
    assert told(capsys, log, "--loop", "other")["stalls"] == 1
    assert told(capsys, log, "--since", "2026-11-21T07:30:04")["stalls"] == 0
    assert told(capsys, log, "--until", "2026-11-21T08:30:04+01:00")["stalls"] == 2
    assert told(capsys, log, "--until", "2026-11-21 07:30:03Z")["stalls"] == 0
    assert len(told(capsys, log, "--top", "1")["groups"]) == 1
    first = told(capsys, log, "--sort", "count", "--top", "1")["groups"][0]
    assert first["fingerprint"] == "1"


def test_times_ago(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A duration is how long ago a stall began."""
    hours_ago = [stall(id=str(h), started_at_s=time.time() - 3600 * h) for h in (1, 3, 50)]
    log = written(tmp_path / "log", *hours_ago)
    assert told(capsys, log, "--since", "2h")["stalls"] == 1
    assert told(capsys, log, "--since", "1d")["stalls"] == 2
    assert told(capsys, log, "--since", "1d", "--until", "90min")["stalls"] == 1


def test_fail_over(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 1 and the culprit if a stall that was not allowed lasted longer, unfinished or not."""
    assert main(["report", str(log), "--fail-over", "1.5s"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["report", str(log), "--fail-over", "200ms"]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err == [
        "loopwatch: 2 stalls lasted longer than 200 ms:",
        "loopwatch: - 1 of them, worst 1.5 s: cpu: app.slow (app.py:4)",
        "loopwatch: - 1 of them, worst 250 ms: unknown: app.slow (app.py:4)",
    ]
    assert main(["report", str(log), "--fail-over", "200ms", "--cause", "gc"]) == 0


def test_files_are_written(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All of them in one go; then there is no table."""
    names = ("html", "speedscope", "collapsed")
    files = {name: log.with_name(f"out.{name}") for name in names}
    options = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    assert main(["report", str(log), *options]) == 0
    assert capsys.readouterr().out == ""
    assert files["html"].read_text().startswith("<!DOCTYPE html>")
    assert len(json.loads(files["speedscope"].read_text())["profiles"]) == 2
    assert files["collapsed"].read_text().splitlines()[0] == "app.slow (app.py:4) 1500000"
    assert main(["report", str(log), "--collapsed", "-"]) == 0
    assert capsys.readouterr().out == files["collapsed"].read_text()


def test_standard_input(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`-` is read, beside files."""
    other = io.TextIOWrapper(io.BytesIO(json.dumps(stall(id="z").to_dict()).encode()))
    monkeypatch.setattr(sys, "stdin", other)
    assert told(capsys, "-", log)["stalls"] == 3


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        ([], "STALLLOG"),
        (["x", "--top", "-1"], "--top: '-1'"),
        (["x", "--top", "many"], "--top: 'many'"),
        (["x", "--sort", "name"], "'name'"),
        (["x", "--cause", "magic"], "'magic'"),
        (["x", "--since", "soon"], "--since: 'soon'"),
        (["x", "--until", "2026-13-01"], "--until: '2026-13-01'"),
        (["x", "--fail-over", "200"], "--fail-over: '200'"),
        (["x", "--fail-over", "-1s"], "--fail-over"),
        (["x", "--fail-over", "9" * 310 + "s"], "--fail-over"),
        (["x", "--fail-over", "9" * 305 + "s"], "--fail-over"),
        (["x", "--html", "y", "--collapsed", "./y"], "--html and --collapsed name one file"),
        (["x", "--html", "-", "--json"], "only one of --json"),
        (["x", "--html", "-", "--collapsed", "-"], "only one of --json"),
    ],
)
def test_bad_usage(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is named in one line with code 2, and nothing is printed."""
    assert main(["report", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err


def test_a_file_that_cannot_be_written(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Said in one line, before the long work; a log is never written over."""
    folder = log.parent
    long = folder / ("x" * 300)
    for target in (folder / "no" / "out.html", folder, Path("/dev/full"), long, long / "out"):
        assert main(["report", str(log), "--html", str(target)]) == 1
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert f"cannot write {target}" in err
        assert "--html" in err
    before = log.read_bytes()
    assert main(["report", str(log), "--html", str(log)]) == 2
    assert "is one of the logs to read" in capsys.readouterr().err
    assert log.read_bytes() == before


def test_no_profile_is_said(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Speedscope refuses a file without a profile: it says so where the file is made."""
    out = log.with_name("out.json")
    assert main(["report", str(log), "--cause", "gc", "--speedscope", str(out)]) == 0
    assert json.loads(out.read_text())["profiles"] == []
    err = capsys.readouterr().err
    assert err == f"loopwatch: no stall, so no profile: speedscope cannot open {out}\n"


def test_nothing_that_could_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Code 1 with a line per file and one that says what to do."""
    assert main(["report", str(tmp_path), str(tmp_path / "gone")]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    err = shown.err.splitlines()
    assert len(err) == 3
    assert f"{tmp_path}: is a directory" in err[0] + err[1]
    assert f"{tmp_path}/gone: no such file" in err[0] + err[1]
    assert err[2].startswith("loopwatch: error: no stall log could be read")


def test_no_stall_log_at_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file of something else is a mistake; an empty one is a quiet app."""
    path = tmp_path / "app.log"
    path.write_text("INFO started\nINFO done\n")
    assert main(["report", str(path)]) == 1
    err = capsys.readouterr().err.splitlines()
    assert err == [
        f"loopwatch: {path}:1: not JSON, so no stall record, and 1 more like it in this file",
        (
            "loopwatch: error: no stall record (loopwatch.stall/1) in what was read: "
            "name files that stall_log made"
        ),
    ]
    path.write_text("")
    assert main(["report", str(path), "--fail-over", "1ms"]) == 0
    shown = capsys.readouterr()
    assert shown.out == "No stall.\n"
    assert shown.err == f"loopwatch: {path}: is empty: no stall was told\n"


def test_what_could_be_read_counts(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside a file that is missing and lines that are none."""
    log.write_bytes(b"?\n" + log.read_bytes())
    assert main(["report", str(log), str(log) + ".gone", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["stalls"] == 2
    assert shown.err.count("\n") == 2


def test_without_rich(
    log: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table names the extra and what works without it, which does."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "rich"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "-packages" not in p])
    assert main(["report", str(log)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "pip install 'loopwatch[terminal]'" in err
    assert "--json, --html, --collapsed and --speedscope" in err
    assert told(capsys, log)["stalls"] == 2
    assert main(["report", str(log), "--html", str(log.with_name("o.html"))]) == 0


@pytest.mark.parametrize(
    ("encoding", "shown"), [("ascii", b"gr??e"), ("latin-1", b"gr\xf6\xdfe"), ("utf-8", None)]
)
def test_the_encoding_of_the_terminal(encoding: str, shown: bytes | None, log: Path) -> None:
    """The table is in its letters; those that it does not have are no error."""
    record = stall().to_dict()
    record["culprit"]["function"] = "größe"
    log.write_text(json.dumps(record))
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-m", "loopwatch", "report", str(log)],
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert (shown or "größe".encode()) in ran.stdout


def shell(redirected: str, *argv: object) -> subprocess.CompletedProcess[str]:
    """Run a command line with redirections as a shell knows them."""
    words = " ".join(map(str, argv))
    return subprocess.run(
        ["sh", "-c", f"{sys.executable} -B -m loopwatch {words} {redirected}"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_messages_never_get_into_the_output(log: Path) -> None:
    """Where stderr is closed or full they are lost, and what was asked for is not."""
    log.write_text("?\n" + log.read_text())
    fine = shell("", "report", log, "--json")
    assert fine.stderr.count("\n") == 1
    for redirected in ("2>&-", "2>/dev/full"):
        ran = shell(redirected, "report", log, "--json")
        assert (ran.returncode, ran.stdout) == (0, fine.stdout)
        for mistake in ((), ("nonsense",), ("report", log, "--html", log)):
            ran = shell(redirected, *mistake)
            assert (ran.returncode, ran.stdout) == (2, "")


def test_an_output_that_takes_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Python's buffer a write may stop half-way: that is told, not taken for all."""
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")
    log = written(tmp_path / "log", *(stall(id=str(n), fingerprint=str(n)) for n in range(20)))
    out = tmp_path / "out"
    command = f"ulimit -f 8; exec {sys.executable} -B -m loopwatch report {log} --json > {out}"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert 0 < out.stat().st_size < 10_000
    assert ran.returncode == 1
    assert "cannot write stdout" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_no_place_for_the_table(log: Path) -> None:
    """A closed or full stdout is one line and code 1."""
    for redirected, why in ((">&-", "no stdout"), (">/dev/full", "cannot write stdout")):
        ran = shell(redirected, "report", log)
        assert ran.returncode == 1
        assert why in ran.stderr
        assert ran.stderr.count("\n") == 1
        assert "--output" not in ran.stderr


def test_the_orders_are_those_of_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    """`--sort` offers what there is; the help imports nothing of the report."""
    assert main(["report", "--help"]) == 0
    assert "{" + ",".join(SORTS) + "}" in capsys.readouterr().out
    assert ReportCommand.name == "report"
