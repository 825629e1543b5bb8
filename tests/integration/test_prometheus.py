"""What a real Prometheus and promtool make of our page."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from loopwatch.catalogue import METRICS, Kind
from tests.conftest import start_child
from tests.servers import (
    PrometheusApi,
    fetch,
    free_port,
    program,
    prometheus,
    run,
    wait_for,
)

# An app that serves its metrics on a thread, and blocks in a traced request every two seconds.
APP = """
from loopwatch import RequestMiddleware

class Span:
    is_valid, trace_id, span_id = True, 0x4bf92f3577b34da6a3ce929d0e0e4736, 0x00f067aa0ba902b7
    def get_span_context(self):
        return self

class Trace:
    get_current_span = staticmethod(Span)

sys.modules["opentelemetry.trace"] = Trace

async def handler(scope, receive, send):
    await asyncio.sleep(0)
    time.sleep(0.3)

async def main():
    loopwatch.install(http_port=int(sys.argv[1]), exporters=["prometheus"])
    app = RequestMiddleware(handler)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, time.sleep, 0)
    while True:
        await asyncio.create_task(app({"type": "http", "method": "GET"}, None, None))
        await asyncio.sleep(1)

run(main())
"""

TRACE = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7"}


@contextmanager
def watched_app(folder: Path) -> Iterator[str]:
    """Run the app; give the address of its metrics."""
    address = f"127.0.0.1:{free_port()}"
    with start_child(folder, APP, address.rpartition(":")[2]) as child:
        try:
            wait_for("the app", lambda: fetch(f"http://{address}/metrics"))
            yield address
        finally:
            child.kill()
            child.communicate()


def scraping(*targets: str) -> str:
    """Return a configuration that scrapes these addresses every second."""
    return json.dumps(
        {
            "global": {"scrape_interval": "1s"},
            "scrape_configs": [{"job_name": "app", "static_configs": [{"targets": targets}]}],
        }
    )


def series_of(server: PrometheusApi) -> set[str]:
    found = server.get("label/__name__/values", **{"match[]": '{__name__=~"loopwatch_.+"}'})
    return set(found)


EXPECTED = {
    name
    for metric in METRICS
    for name in (
        [f"{metric.name}_{part}" for part in ("bucket", "sum", "count")]
        if metric.kind is Kind.HISTOGRAM
        else [metric.name]
    )
}


def test_two_servers_scrape_everything_with_exemplars(tmp_path: Path) -> None:
    """Both have every series of the catalogue, alike, and the trace of the stalled request."""
    with ExitStack() as stack:
        address = stack.enter_context(watched_app(tmp_path))
        older, newer = (
            stack.enter_context(
                prometheus(
                    tmp_path / name,
                    scraping(address),
                    "--enable-feature=exemplar-storage",
                    newer=name == "newer",
                )
            )
            for name in ("older", "newer")
        )
        counted = 'loopwatch_stalls_total{cause="blocking_call"}'
        for server in (older, newer):
            wait_for(
                "a stall", lambda s=server: any(float(r["value"][1]) for r in s.query(counted))
            )
            assert series_of(server) == EXPECTED
            assert server.query('up{job="app"}')[0]["value"][1] == "1"
            [found] = wait_for(
                "an exemplar",
                lambda s=server: s.get(
                    "query_exemplars", query=counted, start=time.time() - 60, end=time.time() + 60
                ),
            )
            assert found["seriesLabels"]["cause"] == "blocking_call"
            assert found["exemplars"][0]["labels"] == TRACE
        causes = {row["metric"]["cause"] for row in older.query("loopwatch_stalls_total")}
        assert len(causes) == 9, "every cause is there, at 0 if it has to be"


@pytest.mark.parametrize("newer", [False, True], ids=["bookworm", "newer"])
def test_a_stall_is_seen_by_the_server_while_it_lasts(tmp_path: Path, newer: bool) -> None:
    """The age of the stall in progress is in the store before the stall is over."""
    script = """
    async def main():
        loopwatch.install(http_port=int(sys.argv[1]), exporters=["prometheus"])
        await asyncio.sleep(0.5)
        time.sleep(20)
    run(main())
    """
    port = free_port()
    with start_child(tmp_path, script, str(port)) as child:
        try:
            with prometheus(tmp_path / "server", scraping(f"127.0.0.1:{port}"), newer=newer) as api:
                [row] = wait_for(
                    "the age of the stall", lambda: api.query("loopwatch_stall_active_seconds > 1")
                )
                assert row["metric"]["loop"] == "main"
            assert child.poll() is None, "it is blocked still"
        finally:
            child.kill()
            child.communicate()


def test_the_page_passes_promtool(tmp_path: Path) -> None:
    """`promtool check metrics` finds nothing to say about names, types, units and help."""
    promtool = program("promtool")
    with watched_app(tmp_path) as address:
        page = fetch(f"http://{address}/metrics")
    ours = "".join(line for line in page.splitlines(keepends=True) if "loopwatch_" in line)
    checked = run([promtool, "check", "metrics"], tmp_path, ours)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    broken = run([promtool, "check", "metrics"], tmp_path, ours.replace("_total", "_sums"))
    assert broken.returncode != 0, "it does look"


def test_the_loop_is_not_asked(tmp_path: Path) -> None:
    """A server that scrapes every second costs the loop no iteration of its own."""
    script = """
    async def main():
        agent = loopwatch.install(http_port=int(sys.argv[1]), exporters=["prometheus"])
        await asyncio.sleep(3600)
    run(main())
    """

    def iterations(address: str) -> int:
        snapshot: dict[str, Any] = json.loads(fetch(f"http://{address}/api/snapshot"))
        return int(snapshot["loops"][0]["totals"]["iterations"])

    port = free_port()
    address = f"127.0.0.1:{port}"
    with start_child(tmp_path, script, str(port)) as child:
        try:
            wait_for("the app", lambda: fetch(f"http://{address}/livez"))
            before = iterations(address)
            for _ in range(200):
                fetch(f"http://{address}/metrics")
            # It beats twice a second by itself.
            assert iterations(address) - before < 100
        finally:
            child.kill()
            child.communicate()
