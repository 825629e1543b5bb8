"""The alerts against the catalogue, the committed files, their cases and their runbooks."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from loopwatch.assets import links
from loopwatch.assets.alerts import GROUPS, SEVERITIES, Alert
from loopwatch.assets.promql import LOOP, SERVICE, TARGET, WORKER
from loopwatch.catalogue import LAG_BOUNDS_S, METRICS, Kind

ROOT = Path(__file__).parent.parent.parent
ASSETS = runpy.run_path(str(ROOT / "scripts" / "assets.py"))
RUNBOOKS = ROOT / "docs" / "runbooks"
CASES = ROOT / "alerts" / "loopwatch.tests.yml"

ALERTS = [alert for group in GROUPS for alert in group.alerts]
RECORDINGS = [recording for group in GROUPS for recording in group.recordings]
NAMES = [alert.name for alert in ALERTS]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)


def rules() -> dict[str, dict[str, Any]]:
    """Return the alerts of the committed rule file by name."""
    groups = yaml.safe_load((ROOT / "alerts" / "loopwatch.rules.yml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


@pytest.mark.parametrize("name", ASSETS["FILES"])
def test_a_committed_file_is_what_the_code_prints(name: str) -> None:
    """Run `python scripts/assets.py` after a change of the rules."""
    assert (ROOT / "alerts" / name).read_text() == ASSETS["printed"](name)


def test_no_file_is_left_over() -> None:
    """What lies in alerts/ is printed by the code, or written by hand and named here."""
    files = {str(f.relative_to(ROOT / "alerts")) for f in (ROOT / "alerts").rglob("*.*")}
    assert files == {*ASSETS["FILES"], "README.md", "loopwatch.tests.yml"}


def test_the_alerts_of_the_issue_are_there() -> None:
    """Names are public: routes, silences and runbooks of others use them."""
    assert NAMES == [
        "EventLoopStuck",
        "EventLoopUnreachable",
        "EventLoopWatchdogDead",
        "EventLoopStalledTimeFastBurn",
        "EventLoopStalledTimeSlowBurn",
        "EventLoopStallsFrequent",
        "EventLoopLagHigh",
        "EventLoopTasksHigh",
        "EventLoopTasksGrowing",
        "EventLoopCpuHigh",
        "EventLoopExecutorSaturated",
    ]


@pytest.mark.parametrize("row", [*RECORDINGS, *ALERTS], ids=lambda row: row.name)
def test_expressions_name_metrics_of_the_catalogue(row: Any) -> None:
    """A metric that is renamed cannot stay behind in a rule, nor can one of its labels."""
    series = {m.name: m for m in METRICS if m.kind is not Kind.HISTOGRAM}
    series |= {f"{m.name}_bucket": m for m in METRICS if m.kind is Kind.HISTOGRAM}
    recorded = {recording.name for recording in RECORDINGS}
    for name in re.findall(r"[a-z_:]*loopwatch_[\w:]+", row.expr):
        assert name in series or name in recorded, name
    used = {
        label.strip()
        for names in re.findall(r"(?:without|ignoring) \(([^)]*)\)", row.expr)
        for label in names.split(",")
    }
    known = {label for name, m in series.items() if name in row.expr for label in m.labels}
    known |= {"loop", "pid"}
    assert used <= known


@each_alert
def test_an_alert_compares_with_the_threshold_in_force(alert: Alert) -> None:
    """What a service sets for itself is its limit: no default of `Config` is repeated."""
    limits = {
        "EventLoopStuck": "loopwatch_hang_threshold_seconds",
        "EventLoopUnreachable": "loopwatch_hang_threshold_seconds",
        "EventLoopWatchdogDead": "loopwatch_hang_threshold_seconds",
        "EventLoopLagHigh": "loopwatch_lag_threshold_seconds",
        "EventLoopTasksHigh": "loopwatch_tasks_threshold",
        "EventLoopTasksGrowing": "loopwatch_tasks_threshold",
        "EventLoopCpuHigh": "loopwatch_cpu_threshold_ratio",
    }
    exported = {m.name for m in METRICS if "_threshold" in m.name}
    assert set(limits.values()) == exported
    found = {name for name in exported if name in alert.expr}
    assert found == {limits[alert.name]} if alert.name in limits else not found


def test_every_recorded_series_is_read_in_its_group() -> None:
    """Rules of a group run in turn: read elsewhere it would be one evaluation old."""
    for group in GROUPS:
        for recording in group.recordings:
            others = [r for r in group.recordings if r is not recording]
            assert [row for row in (*group.alerts, *others) if recording.name in row.expr], (
                recording.name
            )


def test_no_rule_depends_on_how_a_bound_is_printed() -> None:
    """`le` of whole numbers is printed as 1 or 1.0: only bounds below one may be compared with."""
    bounds = {f"{bound}" for bound in LAG_BOUNDS_S if bound in (0.1, 0.25, 0.5)}
    for row in (*RECORDINGS, *ALERTS):
        assert set(re.findall(r'le="([^"]*)"', row.expr)) <= bounds


@each_alert
def test_an_alert_tells_all_that_is_needed(alert: Alert) -> None:
    """Severity, who, how much, what to do, the runbook and the dashboard; it does not flap."""
    rule = rules()[alert.name]
    assert rule["labels"]["severity"] in SEVERITIES
    assert rule["keep_firing_for"] != "0s"
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url", "dashboard"}
    for label in WORKER:
        assert f"$labels.{label}" in notes["summary"]
    assert "$value" in notes["description"]
    assert notes["description"].endswith((".", "?"))
    assert not notes["summary"].endswith(".")
    assert notes["runbook_url"] == f"{links.RUNBOOKS_URL}/{alert.name}.md"
    assert notes["dashboard"].startswith(f"/d/{alert.dashboard}?")
    assert alert.dashboard in (links.DASHBOARD_LOOP, links.DASHBOARD_OVERVIEW)


@each_alert
def test_an_alert_has_its_cases(alert: Alert) -> None:
    """One in which it fires, one before in which it does not yet, one after: it is resolved."""
    fires, silent = [], []
    for group in yaml.safe_load(CASES.read_text())["tests"]:
        for case in group.get("alert_rule_test", ()):
            if case["alertname"] == alert.name:
                (fires if case.get("exp_alerts") else silent).append(seconds(case["eval_time"]))
    assert fires, "it never fires"
    assert min(silent) < min(fires), "it is never silent before it fires"
    assert max(silent) > max(fires), "it is never resolved"


@each_alert
def test_an_alert_has_its_runbook(alert: Alert) -> None:
    """Who is paged finds what it means, whom it hurts, how to look (and where) and what to do."""
    page = (RUNBOOKS / f"{alert.name}.md").read_text()
    assert page.startswith(f"# {alert.name}\n")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [
        "Meaning",
        "Impact",
        "Diagnosis",
        "Mitigation",
    ]
    assert "```" in page.split("## Diagnosis")[1].split("## Mitigation")[0], "no command to run"
    board = json.loads((ROOT / "dashboards" / f"{alert.dashboard}.json").read_text())
    assert board["uid"] == alert.dashboard
    assert f"**{alert.severity}** · dashboard *{board['title']}*" in page
    assert f"]({alert.name}.md)" in (RUNBOOKS / "README.md").read_text()


def test_labels_that_tell_loops_apart_are_those_of_one_table() -> None:
    """Joins, inhibitions and routes take the whole sets: a label more is one line of code."""
    sets = [set(names) for names in (TARGET, LOOP, WORKER)]
    for row in (*RECORDINGS, *ALERTS):
        for names in re.findall(r"\b(?:on|by) \(([^)]*)\)", row.expr):
            assert set(names.split(", ")) in sets, row.name
    example = yaml.safe_load((ROOT / "alerts" / "alertmanager.example.yml").read_text())
    assert example["route"]["group_by"] == ["alertname", *SERVICE]
    for rule in example["inhibit_rules"]:
        assert set(rule["equal"]) in sets


def test_a_runbook_has_its_alert() -> None:
    """No page tells of an alert that is no more."""
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    assert pages == set(NAMES)


def test_runbooks_name_metrics_of_the_catalogue() -> None:
    """A command from a runbook works: its metrics exist."""
    suffixes = ("", "_bucket", "_count", "_sum")
    known = {m.name + suffix for m in METRICS for suffix in suffixes}
    pages = [*RUNBOOKS.glob("*.md"), ROOT / "docs" / "how-to" / "alert-on-a-stalled-loop.md"]
    for page in pages:
        for name in re.findall(r"(?<![\w:/])loopwatch_\w+", page.read_text()):
            assert name in known, f"{page.name}: {name}"


def test_the_home_of_the_runbooks_is_said_once() -> None:
    """When the project moves, one line of code changes."""
    sources = [f for f in (ROOT / "src").rglob("*.py") if links.RUNBOOKS_URL in f.read_text()]
    assert [f.name for f in sources] == ["links.py"]


def seconds(text: str) -> int:
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(n) * units[unit] for n, unit in re.findall(r"(\d+)([hms])", text))
