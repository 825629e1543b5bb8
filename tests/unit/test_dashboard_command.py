"""`loopwatch dashboard`: what it prints and what it says of mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loopwatch.cli import main

SELECTED = re.compile(r"\b(?:loopwatch_\w+|up)\{([^}]*)\}")


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    assert main(["dashboard", *argv]) == 0
    return json.loads(capsys.readouterr().out)


def panel(data: Any, title: str) -> Any:
    return next(panel for panel in data["panels"] if panel["title"] == title)


def red_from(data: Any, title: str) -> float:
    steps = panel(data, title)["fieldConfig"]["defaults"]["thresholds"]["steps"]
    return float(next(step["value"] for step in steps if step["color"] == "red"))


@pytest.mark.parametrize(
    ("argv", "uid"),
    [
        ([], "loopwatch-overview"),
        (["overview"], "loopwatch-overview"),
        (["loop"], "loopwatch-loop"),
    ],
)
def test_it_prints_the_one_asked_for(
    argv: list[str], uid: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By default the overview."""
    assert printed(capsys, *argv)["uid"] == uid


def test_thresholds_move_the_colours(capsys: pytest.CaptureFixture[str]) -> None:
    """Each option moves the colours of its panels to its value."""
    argv = ["--lag-threshold", "0.25", "--tasks-threshold", "50", "--cpu-threshold", "0.9"]
    data = printed(capsys, "loop", *argv, "--hang-threshold", "30")
    assert red_from(data, "Lag p99") == 0.25
    assert red_from(data, "Tasks") == 50
    assert red_from(data, "CPU-to-wall") == 0.9
    assert red_from(data, "Stalled now") == 30
    assert red_from(printed(capsys, *argv), "Lag p99, worst loops") == 0.25


def test_a_selector_gets_into_every_query(capsys: pytest.CaptureFixture[str]) -> None:
    """Panels, annotations and variables ask for series with these labels alone."""
    selector = r'team="a \"b\"",env=~"prod|te\\.st"'
    data = printed(capsys, "overview", "--selector", selector)
    queries = [target["expr"] for p in data["panels"] for target in p.get("targets", ())]
    queries += [a["expr"] for a in data["annotations"]["list"] if "expr" in a]
    queries += [v["query"] for v in data["templating"]["list"] if v["type"] == "query"]
    for query in queries:
        insides = SELECTED.findall(query)
        assert insides
        assert all(inside.startswith(selector) for inside in insides), query


def test_names_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """Title and uid change, and links follow the other dashboard to its new uid."""
    argv = ["--title", "Loops of team x", "--uid", "x-overview", "--other-uid", "x-loop"]
    assert main(["dashboard", *argv]) == 0
    text = capsys.readouterr().out
    data = json.loads(text)
    assert (data["title"], data["uid"]) == ("Loops of team x", "x-overview")
    assert "/d/x-loop" in text
    assert "loopwatch-loop" not in text


def test_output_is_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--output` writes what is printed otherwise, and prints nothing."""
    file = tmp_path / "overview.json"
    assert main(["dashboard", "--output", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads(file.read_text()) == printed(capsys)


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["both"], "'both'"),
        (["--lag-threshold", "soon"], "--lag-threshold: 'soon'"),
        (["--lag-threshold", "0"], "--lag-threshold: '0'"),
        (["--tasks-threshold", "1.5"], "--tasks-threshold: '1.5'"),
        (["--cpu-threshold", "50"], "--cpu-threshold: '50'"),
        (["--hang-threshold", "nan"], "--hang-threshold: 'nan'"),
        (["--lag-threshold", "20"], "hang_threshold_s=10.0"),
        (["--selector", "team=x"], "selector 'team=x'"),
        (["--selector", "{}"], "selector '{}'"),
        (["--uid", "my dashboard"], "uid 'my dashboard'"),
        (["--uid", ""], "uid ''"),
        (["--other-uid", "a/b"], "uid 'a/b'"),
        (["--title", ""], "title"),
    ],
)
def test_bad_usage(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is named in one line with code 2, and nothing is printed."""
    assert main(["dashboard", *argv]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert named in shown.err


def test_a_file_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It failed, in one line that names the file and the option."""
    assert main(["dashboard", "--output", str(tmp_path / "no" / "such.json")]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1
    assert "such.json" in shown.err
    assert "--output" in shown.err


def test_it_needs_no_sdk() -> None:
    """The command works where the library it was built with cannot be imported."""
    script = (
        "import sys; sys.modules['grafana_foundation_sdk'] = None\n"
        "from loopwatch.cli import main\n"
        "code = main(['dashboard', 'loop'])\n"
        "sys.exit(code or any(name.startswith('scripts') for name in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["uid"] == "loopwatch-loop"
