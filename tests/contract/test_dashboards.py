"""The committed dashboards: up to date, complete, and written by our own rules."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from loopwatch.assets.dashboards import COLOURED, UIDS, dashboard, render
from loopwatch.assets.links import RUNBOOKS_URL
from loopwatch.assets.promql import WORKER
from loopwatch.catalogue import METRICS, Kind
from loopwatch.config import Config
from loopwatch.model import Cause

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
MATCHERS = ('job=~"$job"', 'instance=~"$instance"', 'loop=~"$loop"')
# `up` is about targets: it has no loop.
SELECTOR = re.compile(r"\b(up|loopwatch_\w+)\{([^}]*)\}")
BARE = re.compile(r"\b(?:up|loopwatch_\w+)\b(?!\{)")
RATES = re.compile(r"\b(rate|irate|increase|delta|changes|resets)\([^\[\]]*\[([^\]]*)\]")
SERIES = {
    metric.name + suffix
    for metric in METRICS
    for suffix in (("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",))
}
# Grafana's data source knows them, the SDK's model of an annotation does not.
UNKNOWN_TO_THE_SDK = {"titleFormat", "textFormat", "tagKeys", "useValueForTime"}

BOARDS = {name: json.loads((FOLDER / f"{uid}.json").read_text()) for name, uid in UIDS.items()}


def needs_the_sdk() -> str:
    name = "grafana_foundation_sdk"
    pytest.importorskip(name, reason="the extra `dev` is not installed here")
    return name


def with_rows(board: dict[str, Any]) -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = board["panels"]
    return panels


def panels() -> Iterator[Any]:
    """Yield every panel that is no row as a case with a name."""
    for name, board in BOARDS.items():
        for panel in with_rows(board):
            if panel["type"] != "row":
                yield pytest.param(panel, id=f"{name}-{panel['title']}")


def expressions(board: dict[str, Any]) -> list[str]:
    found = [target["expr"] for panel in with_rows(board) for target in panel.get("targets", ())]
    return found + [a["expr"] for a in board["annotations"]["list"] if "expr" in a]


def texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from texts(child)
    elif isinstance(node, str):
        yield node


every_panel = pytest.mark.parametrize("panel", list(panels()))
every_board = pytest.mark.parametrize("name", BOARDS)


def test_the_files_are_what_the_code_builds() -> None:
    """The committed JSON is what the builder writes now."""
    needs_the_sdk()
    files = importlib.import_module("scripts.dashboards.__main__").files
    for file, text in files().items():
        assert (FOLDER / file).read_text() == text, f"dashboards/{file} is stale: run make docs"
    assert {path.name for path in FOLDER.glob("*.json")} == set(files())


@every_board
def test_the_sdk_reads_it_and_writes_the_same(name: str) -> None:
    """Read into the SDK's model and written again nothing is lost but what it does not know."""
    sdk = needs_the_sdk()
    importlib.import_module(f"{sdk}.cog.plugins").register_default_plugins()
    model = importlib.import_module(f"{sdk}.models.dashboard").Dashboard
    encoder = importlib.import_module(f"{sdk}.cog.encoder").JSONEncoder
    board = json.loads((FOLDER / f"{UIDS[name]}.json").read_text())
    again = json.loads(json.dumps(model.from_json(board), cls=encoder))
    for annotation in board["annotations"]["list"]:
        for key in UNKNOWN_TO_THE_SDK:
            annotation.pop(key, None)
    assert again == board


@every_board
def test_the_wheel_carries_the_same_file(name: str) -> None:
    """There is one file of each dashboard, not a copy that could differ."""
    packaged = ROOT / "src" / "loopwatch" / "assets" / "grafana" / f"{UIDS[name]}.json"
    assert packaged.resolve() == FOLDER / f"{UIDS[name]}.json"


@every_board
def test_the_command_prints_the_file(name: str) -> None:
    """With the default thresholds put in anew, the text is the file's, byte for byte."""
    assert render(dashboard(name, Config())) == (FOLDER / f"{UIDS[name]}.json").read_text()


@every_board
def test_it_can_be_imported_by_hand_and_provisioned(name: str) -> None:
    """A stable uid, the tag, no database id, and no inputs to be asked for at import."""
    board = BOARDS[name]
    assert board["uid"] == UIDS[name]
    assert board["tags"] == ["loopwatch"]
    assert board["description"]
    assert not {"id", "__inputs", "__requires", "version"} & set(board)


def test_the_example_of_provisioning() -> None:
    """It is YAML with one provider of files, and Grafana does not let them be changed."""
    example = yaml.safe_load((FOLDER / "provisioning.example.yaml").read_text())
    assert example["apiVersion"] == 1
    (provider,) = example["providers"]
    assert provider["type"] == "file"
    assert provider["options"]["path"].startswith("/")
    assert provider["allowUiUpdates"] is False


@every_board
def test_the_picture_is_there_and_small(name: str) -> None:
    """The docs show a PNG of each dashboard that loads fast."""
    picture = ROOT / "docs" / "images" / f"{UIDS[name]}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size < 250_000


@every_board
def test_variables(name: str) -> None:
    """Data source, job, instance, loop; All is `.*`, so that series without job match, too."""
    source, *rest = BOARDS[name]["templating"]["list"]
    assert (source["name"], source["type"], source["query"]) == (
        "datasource", "datasource", "prometheus",
    )  # fmt: skip
    assert [variable["name"] for variable in rest] == ["job", "instance", "loop"]
    for variable in rest:
        assert variable["type"] == "query"
        assert variable["datasource"] == SOURCE
        assert variable["query"].startswith("label_values(loopwatch_build_info{")
        assert variable["query"].endswith(f", {variable['name']})")
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ".*"
        assert variable["current"]["value"] == "$__all"


@every_board
def test_queries_ask_for_metrics_that_exist_and_for_the_chosen_loops(name: str) -> None:
    """Each selector has all the variables; each name is in the catalogue, or is `up`."""
    for expr in expressions(BOARDS[name]):
        found = SELECTOR.findall(expr)
        assert found, expr
        assert not BARE.findall(expr), expr
        for metric, inside in found:
            assert metric == "up" or metric in SERIES, expr
            for matcher in MATCHERS[:2] if metric == "up" else MATCHERS:
                assert matcher in inside, expr


@every_board
def test_rates_have_the_window_grafana_chooses(name: str) -> None:
    """Every rate is over `$__rate_interval`, which is right at any zoom and scrape interval.

    But what is counted as above a threshold is what the alert sees, over its five minutes.
    """
    for expr in expressions(BOARDS[name]):
        assert expr.count("rate(") == len([f for f, _ in RATES.findall(expr) if f == "rate"])
        for _, window in RATES.findall(expr):
            alert = re.match(r"count\(.* > loopwatch_\w*threshold", expr)
            assert window == ("5m" if alert else "$__rate_interval"), expr


def panel_of(name: str, title: str) -> Any:
    return next(panel for panel in with_rows(BOARDS[name]) if panel["title"] == title)


@pytest.mark.parametrize(
    ("title", "alert"),
    [
        ("Stuck", "EventLoopStuck"),
        ("Watchdog silent", "EventLoopWatchdogDead"),
        ("Unreachable", "EventLoopUnreachable"),
        ("Tasks above threshold", "EventLoopTasksHigh"),
    ],
)
def test_what_is_counted_is_what_the_alert_tells(title: str, alert: str) -> None:
    """All the metrics, limits and labels that the alert compares, the panel compares."""
    rules = yaml.safe_load((ROOT / "alerts" / "loopwatch.rules.yml").read_text())["groups"]
    (rule,) = (r for g in rules for r in g["rules"] if r.get("alert") == alert)
    (target,) = panel_of("overview", title)["targets"]

    def facts(expr: str) -> set[str]:
        return set(
            re.findall(
                r"\bloopwatch_\w*(?:threshold|active)\w*|\bup\b|pid!=\"\"|unless|== 0"
                r"|(?:ignoring|on) \([^)]*\)|> \d+|\[1h\]",
                expr,
            )
        )

    assert facts(target["expr"].removesuffix(" or vector(0)")) == facts(rule["expr"])


def test_every_metric_is_on_some_panel() -> None:
    """No metric is collected for nothing."""
    shown = {metric for board in BOARDS.values() for expr in expressions(board)
             for metric, _ in SELECTOR.findall(expr)}  # fmt: skip
    missing = {metric.name for metric in METRICS} - {
        re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown
    }
    assert missing == set()


@every_panel
def test_a_panel_says_what_it_shows_and_what_to_do(panel: dict[str, Any]) -> None:
    """Title, unit, a description of some words, and a legend for every query."""
    assert panel["title"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert len(panel["description"].split()) >= 8
    assert panel["description"].endswith(".")
    assert panel["datasource"] == SOURCE
    assert panel["targets"]
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)
    for target in panel["targets"]:
        assert target["datasource"] == SOURCE
        assert target["legendFormat"]
        assert target["instant"] != target["range"]


@every_panel
def test_workers_of_one_endpoint_are_told_apart(panel: dict[str, Any]) -> None:
    """A legend that names the loop has its pid; a column of loops has one of pids."""
    for target in panel["targets"]:
        if "{{loop}}" in target["legendFormat"]:
            for label in WORKER:
                assert label == "job" or f"{{{{{label}}}}}" in target["legendFormat"]
            assert not re.match(r"(max|min|sum|avg)\b", target["expr"].removeprefix("sort_desc"))
        elif panel["type"] == "table" and "loop," in target["expr"].split("(")[1]:
            assert f"({', '.join(WORKER)}" in target["expr"]


@every_panel
def test_a_threshold_is_a_dashed_line(panel: dict[str, Any]) -> None:
    """Where a threshold is drawn it is what the process exports, dashed and red."""
    for target in panel["targets"]:
        if target["legendFormat"] != "threshold":
            continue
        assert re.match(r"min\(loopwatch_\w*threshold\w*\{", target["expr"])
        (override,) = panel["fieldConfig"]["overrides"]
        assert override["matcher"] == {"id": "byName", "options": "threshold"}
        said = {item["id"]: item["value"] for item in override["properties"]}
        assert said["custom.lineStyle"]["fill"] == "dash"
        assert said["color"]["fixedColor"] == "red"


@every_board
def test_the_grid(name: str) -> None:
    """Ids and titles are unique, nothing sticks out, and no two panels cover each other."""
    boxes = []
    for panel in with_rows(BOARDS[name]):
        pos = panel["gridPos"]
        assert 0 <= pos["x"] < pos["x"] + pos["w"] <= 24
        boxes.append((panel["title"], pos["x"], pos["y"], pos["x"] + pos["w"], pos["y"] + pos["h"]))
    ids = [panel["id"] for panel in with_rows(BOARDS[name])]
    assert len(set(ids)) == len(ids) == len({title for title, *_ in boxes})
    for (a, ax, ay, ax2, ay2), (b, bx, by, bx2, by2) in combinations(boxes, 2):
        assert ax2 <= bx or bx2 <= ax or ay2 <= by or by2 <= ay, f"{a} covers {b}"


@every_board
def test_links_lead_on(name: str) -> None:
    """To the other dashboard with time and variables, and to runbooks that have a page."""
    board = BOARDS[name]
    (other,) = set(UIDS) - {name}
    (link,) = (link for link in board["links"] if link["url"] == f"/d/{UIDS[other]}")
    assert link["keepTime"]
    assert link["includeVars"]
    alerts = {
        text.removeprefix(f"{RUNBOOKS_URL}/").removesuffix(".md")
        for text in texts(board)
        if text.startswith(f"{RUNBOOKS_URL}/")
    }
    assert alerts
    pages = {page.stem for page in (ROOT / "docs" / "runbooks").glob("*.md")}
    assert alerts <= pages


def test_bars_and_rows_lead_to_the_loop_they_stand_for() -> None:
    """A click on the overview opens the other dashboard with this loop, source and time."""
    leading = [
        link["url"]
        for panel in with_rows(BOARDS["overview"])
        for link in panel.get("fieldConfig", {}).get("defaults", {}).get("links", ())
    ]
    assert len(leading) == 5
    for url in leading:
        assert url.startswith(f"/d/{UIDS['loop']}?${{datasource:queryparam}}&")
        assert re.findall(r"var-(\w+)=\$\{__\w+\.\w+\.(\w+)\}", url) == [
            ("job", "job"), ("instance", "instance"), ("loop", "loop"),
        ]  # fmt: skip
        assert url.endswith("&${__url_time_range}")


@every_board
def test_stalls_are_marked_at_their_start(name: str) -> None:
    """The annotation takes the value as its moment, which Grafana wants in milliseconds."""
    _, stalls = BOARDS[name]["annotations"]["list"]
    assert stalls["useValueForTime"] is True
    assert stalls["expr"].startswith("1000 * (loopwatch_last_stall_timestamp_seconds{")
    # Grafana puts the bare name of a label where it is missing, and pid often is.
    assert "pid" not in stalls["textFormat"]


@pytest.mark.parametrize("row", COLOURED, ids=lambda r: f"{r.dashboard}-{r.panel}-{r.column}")
def test_a_threshold_changes_the_colours_of_its_row_and_nothing_else(row: Any) -> None:
    """Each row of the table of colours has its place, and each such place has its row."""
    other = Config(
        stall_threshold_s=0.25, hang_threshold_s=30.0, tasks_threshold=77, cpu_ratio_threshold=0.9
    )
    before, after = BOARDS[row.dashboard], dashboard(row.dashboard, other)
    changed = [text for text, _ in differences(before, after)]
    panel = next(p for p in with_rows(before) if p["title"] == row.panel)
    place = f"/panels/{with_rows(before).index(panel)}/fieldConfig/"
    assert [where for where in changed if where.startswith(place)]
    rows = [r for r in COLOURED if r.dashboard == row.dashboard]
    assert len(changed) == sum(len(r.at) for r in rows)
    values = {value for _, value in differences(before, after)}
    assert values <= {0.25, 30.0, 77.0, 0.9}


def differences(a: Any, b: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the places where two pieces of JSON of one shape differ, with the second's value."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key, value in a.items():
            yield from differences(value, b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for index, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from differences(one, other, f"{where}/{index}")
    elif a != b:
        yield where, b


@every_board
def test_a_cause_has_one_colour_on_every_panel(name: str) -> None:
    """Each cause is there, and no two look alike."""
    found = 0
    for panel in with_rows(BOARDS[name]):
        colours = {
            override["matcher"]["options"]: setting["value"]["fixedColor"]
            for override in panel.get("fieldConfig", {}).get("overrides", ())
            for setting in override["properties"]
            if setting["id"] == "color" and override["matcher"]["options"] in set(Cause)
        }
        if colours:
            found += 1
            assert set(colours) == set(Cause)
            assert len(set(colours.values())) == len(Cause)
    assert found == 2
