"""The dashboards against real servers that scrape real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from scripts.dashboards.reading import filled_in, legend_of, queries, variable_queries
from scripts.dashboards.scene import Scene, playing

from loopwatch.assets.dashboards import UIDS, dashboard
from loopwatch.assets.promql import WORKER
from tests.servers import PrometheusApi, fetch, victoria_metrics, wait_for

pytest.importorskip("loopwatch.demo.app", reason="the extra `demo` is not installed here")

# What Grafana makes of a scrape interval of one second and an hour in view is 4 s; over so few
# samples a rate has gaps, so that a query that is empty by mistake could hide behind them.
INTERVAL = "10s"
PLAY_S = 22.0
SERVERS = ("Prometheus", "newer Prometheus", "VictoriaMetrics")
ZERO = " or vector(0)"
# What must not happen in a healthy run, and is 0 there; the rest has to count something.
RIGHTLY_ZERO = {
    "loopwatch-overview / Stuck / A": "no stall lasts for the 10 s of the hang threshold",
    "loopwatch-overview / Watchdog silent / A": "no watchdog is dead",
}
BOARDS = {name: dashboard(name) for name in UIDS}
QUERIES = [query for board in BOARDS.values() for query in queries(board)]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One run that all tests look at: demo load, and a worker that has gone away."""
    with playing(tmp_path_factory.mktemp("scene"), PLAY_S, all_servers=True) as scene:
        yield scene


def seen(server: PrometheusApi, expr: str, began_s: float) -> list[dict[str, Any]]:
    """Return the series of a query over the whole run, one point a second."""
    now = time.time()
    series: list[dict[str, Any]] = server.get(
        "query_range", query=expr, start=began_s, end=now, step=1
    )["result"]
    return series


@pytest.mark.parametrize("name", SERVERS)
def test_every_expression_runs_and_has_data(scene: Scene, name: str) -> None:
    """Every query of every panel and annotation, asked for as Grafana does, gives numbers."""
    server = scene.servers[name]
    empty = []
    for query in QUERIES:
        expr = filled_in(query.expr, INTERVAL)
        if query.where not in RIGHTLY_ZERO:
            expr = expr.removesuffix(ZERO)
        if query.instant:
            # A window's worth of samples has to be there at this very moment.
            found = server.query(expr)
            values = [series["value"][1] for series in found]
        else:
            found = seen(server, expr, scene.began_s)
            values = [value for series in found for _, value in series["values"]]
        if all(value == "NaN" for value in values):
            empty.append(query.where)
    assert empty == []


@pytest.mark.parametrize("name", SERVERS)
def test_variables_offer_what_runs(scene: Scene, name: str) -> None:
    """Job, instance and loop have the values that the targets have, each narrowed by the first."""
    server = scene.servers[name]

    def offered(board: str, variable: str, **chosen: list[str]) -> list[str]:
        selector, label = variable_queries(BOARDS[board])[variable]
        match = filled_in(selector, INTERVAL, chosen)
        found = server.get(
            f"label/{label}/values",
            **{"match[]": match, "start": scene.began_s, "end": time.time()},
        )
        return sorted(found)

    for board, data in BOARDS.items():
        assert list(variable_queries(data)) == ["job", "instance", "loop"]
        assert offered(board, "job") == ["reports", "shop"]
        assert offered(board, "instance") == ["reports-1", "reports-2", "shop-1"]
        assert offered(board, "instance", job=["reports"]) == ["reports-1", "reports-2"]
        assert offered(board, "loop", job=["reports", "shop"]) == ["main", "worker"]
        assert offered(board, "loop", instance=["shop-1"]) == ["main"]


def test_a_choice_shows_that_loop_alone(scene: Scene) -> None:
    """With one loop chosen, no query brings a series of another."""
    server = scene.servers["Prometheus"]
    chosen = {"job": ["shop"], "instance": ["shop-1"], "loop": ["main"]}
    for query in QUERIES:
        for series in seen(server, filled_in(query.expr, INTERVAL, chosen), scene.began_s):
            for label, values in chosen.items():
                assert series["metric"].get(label, values[0]) == values[0], query.where


def test_the_unreachable_worker_is_named(scene: Scene) -> None:
    """The worker that went away, and it alone, is in the list of unreachable targets."""
    (panel,) = (p for p in BOARDS["overview"]["panels"] if p["title"] == "Unreachable targets")
    (target,) = panel["targets"]
    (series,) = scene.servers["Prometheus"].query(filled_in(target["expr"], INTERVAL))
    assert series["metric"] == {"job": "reports", "instance": "reports-2"}
    heard_of_s = float(series["value"][1]) / 1000
    assert scene.began_s < heard_of_s < time.time()


def test_workers_of_one_endpoint_without_job_and_instance(scene: Scene, tmp_path: Path) -> None:
    """Series with a pid and without job and instance are shown, each pid by itself."""
    pids = {"11", "12"}
    with victoria_metrics(tmp_path) as server:
        now = copied(scene, server, [{"pid": pid} for pid in pids])
        for query in QUERIES:
            if "up{" in query.expr:
                continue  # a target without job and instance is none
            expr = filled_in(query.expr, INTERVAL)
            if query.instant:
                found = server.get("query", query=expr, time=now)["result"]
            else:
                found = seen(server, expr, now - 20)
            assert found, query.where
            if "{{pid}}" in query.legend or f"by ({', '.join(WORKER)}" in query.expr:
                assert {series["metric"].get("pid") for series in found} == pids, query.where


def test_services_over_otlp_are_told_apart(scene: Scene, tmp_path: Path) -> None:
    """Without job and instance, two processes of two services are two rows, bars and lines."""
    services = [
        {"service_name": "shop", "service_instance_id": "u-1"},
        {"service_name": "reports", "service_instance_id": "u-1"},
        {"service_name": "reports", "service_instance_id": "u-2"},
    ]
    with victoria_metrics(tmp_path) as server:
        now = copied(scene, server, services)
        for query in QUERIES:
            expr = filled_in(query.expr, INTERVAL)
            if f"by ({', '.join(WORKER)}" in expr and "up{" not in expr:
                found = server.get("query", query=expr, time=now)["result"]
                assert len(found) == len(services), query.where
            elif "{{loop}}" in query.legend and "annotation" not in query.where:
                found = server.get("query", query=expr, time=now)["result"]
                assert len({legend_of(query.legend, s["metric"]) for s in found}) == len(found)
                assert {s["metric"]["service_name"] for s in found} == {"shop", "reports"}
            elif "{{job}}" in query.legend:
                found = server.get("query", query=expr, time=now)["result"]
                shown = {legend_of(query.legend, s["metric"]) for s in found}
                assert shown == {"shop", "reports"}, query.where


def copied(scene: Scene, server: PrometheusApi, processes: list[dict[str, str]]) -> int:
    """Put a worker's series of 20 s into a server, once with the labels of each; return the end."""
    early = fetch(f"{scene.worker_url}/metrics")
    time.sleep(2)
    late = fetch(f"{scene.worker_url}/metrics")
    now = int(time.time())
    for labels in processes:
        lines = [
            f"{line} {at}000"
            for at in range(now - 20, now + 1)
            for line in (early if at < now - 8 else late).splitlines()
            if not line.startswith("#")
        ]
        extra = "&".join(f"extra_label={name}={value}" for name, value in labels.items())
        fetch(f"{server.url}/api/v1/import/prometheus?{extra}", data="\n".join(lines).encode())
    wait_for("the series", lambda: len(server.query("loopwatch_build_info")) == len(processes))
    return now


def test_stalls_are_marked_where_they_began(scene: Scene) -> None:
    """Each mark of the demo's loop is, to the millisecond, the start of a stall it has told."""
    (mark,) = (q for q in queries(BOARDS["loop"]) if "annotation" in q.where)
    expr = filled_in(mark.expr, INTERVAL, {"job": ["shop"]})

    def starts() -> set[float]:
        told = json.loads(fetch(f"{scene.demo_url}/api/stalls"))
        stalls = told if isinstance(told, list) else told["stalls"]
        return {datetime.fromisoformat(stall["started_at"]).timestamp() for stall in stalls}

    (series,) = seen(scene.servers["Prometheus"], expr, scene.began_s)
    marks = {float(value) / 1000 for _, value in series["values"]}
    # Of a run of stalls, one scrape a second sees most.
    assert len(marks) >= 5
    told = wait_for("the stalls", starts)
    oldest = min(told)
    for marked in marks:
        if marked >= oldest:
            assert min(abs(marked - start) for start in told) < 0.001
    assert any(marked >= oldest for marked in marks)


def test_a_selector_narrows_every_query(scene: Scene) -> None:
    """With a selector that fits nobody nothing is left but the zeros of what is counted."""
    server = scene.servers["Prometheus"]
    for name in UIDS:
        for query in queries(dashboard(name, selector='job="nobody"')):
            for series in seen(server, filled_in(query.expr, INTERVAL), scene.began_s):
                assert query.expr.endswith(ZERO), query.where
                assert {value for _, value in series["values"]} == {"0"}
