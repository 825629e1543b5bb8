"""Several workers of uvicorn and gunicorn: each is seen, and only the one that stalls stalls."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import fetch, free_port, process, program, run, wait_for

pytest.importorskip("fastapi", reason="fastapi is not installed here")
pytest.importorskip("uvicorn", reason="uvicorn is not installed here")

WORKERS = 3

APP = """
import os, time
import loopwatch
from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry, Counter, make_asgi_app, multiprocess

SERVED = Counter("app_served", "Requests of the app itself.")
registry = REGISTRY
if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)

app = FastAPI(lifespan=loopwatch.lifespan())
app.mount("/metrics", make_asgi_app(registry))

@app.get("/block")
async def block(seconds: float) -> int:
    SERVED.inc()
    time.sleep(seconds)
    return os.getpid()
"""

UVICORN = ("-m", "uvicorn", "app:app", "--workers", str(WORKERS), "--port")
GUNICORN = (
    "-m", "gunicorn", "app:app", "-k", "uvicorn_worker.UvicornWorker", "-w", str(WORKERS), "-b",
)  # fmt: skip

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(params=["uvicorn", "gunicorn"])
def server(request: pytest.FixtureRequest) -> Sequence[str]:
    """The command line of a server with three workers, but for its address."""
    pytest.importorskip("gunicorn", reason="gunicorn is not installed here")
    pytest.importorskip("uvicorn_worker", reason="uvicorn-worker is not installed here")
    return UVICORN if request.param == "uvicorn" else GUNICORN


@contextmanager
def serving(folder: Path, server: Sequence[str], **environ: str) -> Iterator[str]:
    """Run the app; give its URL."""
    folder.joinpath("app.py").write_text(APP)
    port = free_port()
    address = str(port) if server is UVICORN else f"127.0.0.1:{port}"
    env = {**os.environ, "LOOPWATCH_TICK_INTERVAL_S": "0.2", **environ}
    # A group of its own: what the server has started ends with it, whatever happens.
    args = [sys.executable, *server, address]
    with process(args, folder, env=env, start_new_session=True) as started:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            started.terminate()
            try:
                started.wait(5)
            except subprocess.TimeoutExpired:
                os.killpg(started.pid, signal.SIGKILL)


def scraped(url: str) -> Series:
    """Return every sample of a page of metrics."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(fetch(url))
        for sample in family.samples
    }


def by_pid(series: Series, name: str, **labels: str) -> dict[int, float]:
    """Return the values of a metric by the label `pid`."""
    found = {}
    for (sample, pairs), value in series.items():
        own = dict(pairs)
        if sample == name and labels.items() <= own.items():
            found[int(own["pid"])] = value
    return found


class Block:
    """A request that blocks whoever serves it."""

    def __init__(self, url: str, seconds: float) -> None:
        self.pid = 0
        self._url = f"{url}/block?seconds={seconds}"
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def _ask(self) -> None:
        self.pid = json.loads(fetch(self._url))

    def end(self) -> int:
        """Wait for the answer: who was blocked."""
        self._thread.join(20)
        assert self.pid
        return self.pid


def all_there(url: str) -> Callable[[], Any]:
    return lambda: len(by_pid(scraped(url), "loopwatch_heartbeat_timestamp_seconds")) == WORKERS


def test_the_shared_endpoint_shows_every_worker(tmp_path: Path, server: Sequence[str]) -> None:
    """One stalls: that one alone shows it, while it lasts and after; killed, it goes away."""
    shared = tmp_path / "metrics"
    shared.mkdir()
    with serving(tmp_path, server, PROMETHEUS_MULTIPROC_DIR=str(shared)) as url:
        page = f"{url}/metrics/"
        wait_for("three workers", all_there(page))
        blocked = Block(url, 3)

        def stalled() -> dict[int, float]:
            ages = by_pid(scraped(page), "loopwatch_stall_active_seconds")
            return {pid: age for pid, age in ages.items() if age > 0}

        during = wait_for("a stall in progress", stalled)
        pid = blocked.end()
        assert list(during) == [pid]
        assert by_pid(scraped(page), "loopwatch_stalls_total", cause="blocking_call")[pid] == 1

        def over() -> bool:
            lost = by_pid(scraped(page), "loopwatch_stall_seconds_total", cause="blocking_call")
            return not stalled() and lost[pid] > 2.9

        wait_for("the end of the stall", over)
        after = scraped(page)
        counts = by_pid(after, "loopwatch_stalls_total", cause="blocking_call")
        assert len(counts) == WORKERS
        assert counts.pop(pid) == 1
        assert set(counts.values()) == {0.0}
        assert by_pid(after, "loopwatch_lag_max_seconds")[pid] > 2.9
        buckets = by_pid(after, "loopwatch_lag_seconds_bucket", le="+Inf")
        assert set(buckets) == set(by_pid(after, "loopwatch_tasks")) == {pid, *counts}
        assert after["app_served_total", ()] == 1

        os.kill(pid, signal.SIGKILL)
        wait_for(
            "the dead worker's series to go away, and a new worker's",
            lambda: (
                pid not in {int(dict(pairs).get("pid", 0)) for _, pairs in scraped(page)}
                and all_there(page)()
            ),
        )
        # What is the app's own is left alone.
        assert scraped(page)["app_served_total", ()] == 1
        slots = sorted(shared.glob("counter_loopwatch-*.db"))
        assert len(slots) <= WORKERS + 1
    assert not list(shared.glob("gauge_*loopwatch*"))


def test_the_shared_endpoint_passes_promtool(tmp_path: Path) -> None:
    """Names, types and help of the merged page are as Prometheus wants them."""
    promtool = program("promtool")
    shared = tmp_path / "metrics"
    shared.mkdir()
    with serving(tmp_path, UVICORN, PROMETHEUS_MULTIPROC_DIR=str(shared)) as url:
        page = f"{url}/metrics/"
        wait_for("three workers", all_there(page))
        ours = re.sub(r"(?m)^(# \w+ )?app_.*\n", "", fetch(page))
    checked = run([promtool, "check", "metrics"], tmp_path, ours)
    assert checked.returncode == 0, checked.stderr
    assert not checked.stderr


def three_free_ports() -> int:
    """Return the first of three ports in a row that are free."""
    for base in range(20000, 30000, WORKERS):
        bound = [socket.socket() for _ in range(WORKERS)]
        try:
            for port, sock in zip(itertools.count(base), bound, strict=False):
                sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        else:
            return base
        finally:
            for sock in bound:
                sock.close()
    pytest.fail("no three free ports in a row")


def test_each_worker_has_a_port_of_its_own(tmp_path: Path, server: Sequence[str]) -> None:
    """One stalls: the port of that one alone says so, and its successor takes the port over."""
    base = three_free_ports()
    ports = range(base, base + WORKERS)
    environ = {"LOOPWATCH_HTTP_PORT": str(base), "LOOPWATCH_HTTP_PORT_COUNT": str(WORKERS)}
    with serving(tmp_path, server, **environ) as url:

        def loops() -> dict[int, dict[str, Any]]:
            """Return the snapshot at each port."""
            return {
                port: json.loads(fetch(f"http://127.0.0.1:{port}/api/snapshot"))["loops"][0]
                for port in ports
            }

        wait_for("three ports that answer", loops)
        blocked = Block(url, 3)
        during = wait_for(
            "a stall in progress",
            lambda: {loop["pid"]: loop for loop in loops().values() if loop["active_s"]},
        )
        pid = blocked.end()
        assert list(during) == [pid]
        pids = {loop["pid"]: port for port, loop in loops().items()}
        assert len(pids) == WORKERS
        metrics = fetch(f"http://127.0.0.1:{pids[pid]}/metrics")
        assert 'loopwatch_stalls_total{cause="blocking_call",loop="main"} 1.0' in metrics

        os.kill(pid, signal.SIGKILL)
        successor = wait_for(
            "a successor at the same port",
            lambda: {loop["pid"] for port, loop in loops().items() if port == pids[pid]} - {pid},
        )
        assert not successor & set(pids)
