"""Real servers for tests: plain processes on loopback ports, in a temp folder, stopped by pid.

`scripts/install-servers` installs them all. What a machine lacks skips the test that wants it,
except in CI (`CI` is set), where it fails.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parent.parent
# Unpacked from the next Debian: newer versions of what is installed, and what this one lacks.
NEWER: Final = ROOT / ".servers" / "usr" / "bin"

_START_S: Final = 20.0
_STOP_S: Final = 5.0


def program(name: str, *, newer: bool = False) -> str:
    """Return the path of a program; skip the test that asks if it is not there."""
    found = shutil.which(name, path=str(NEWER)) if newer else shutil.which(name)
    if found is None:
        why = f"{name} is not installed here: run scripts/install-servers"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    return found


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def fetch(url: str, data: bytes | None = None, headers: dict[str, str] | None = None) -> str:
    """Return the body of an answer."""
    request = urllib.request.Request(url, data=data, headers=headers or {})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(answer.read().decode())


def wait_for(what: str, ready: Callable[[], Any], timeout_s: float = _START_S) -> Any:
    """Ask until the answer is true, and return it; an `OSError` counts as not yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            answer = ready()
        except OSError:
            answer = None
        if answer:
            return answer
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s:g} s for {what}")
        time.sleep(0.05)


@contextmanager
def process(args: Sequence[str], folder: Path, **kwargs: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in a folder, its output in a file there; end it by its pid."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{Path(args[0]).name}.log"
    with log.open("wb") as out:
        started = subprocess.Popen(args, cwd=folder, stdout=out, stderr=out, **kwargs)
        try:
            yield started
        except BaseException:
            print(f"--- {log}\n{log.read_text(errors='replace')[-4000:]}")
            raise
        finally:
            started.terminate()
            try:
                started.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def run(args: Sequence[str], folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end, with its output as text."""
    return subprocess.run(
        args, cwd=folder, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


@dataclass
class PrometheusApi:
    """The query API that Prometheus and VictoriaMetrics share."""

    url: str

    def get(self, path: str, **parameters: str | float) -> Any:
        """Return `data` of an answer; what is no success fails the test with its message."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        try:
            answer = json.loads(fetch(f"{self.url}/api/v1/{path}?{query}"))
        except urllib.error.HTTPError as error:
            pytest.fail(f"{path} {parameters}: {error.read().decode()}")
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expr: str) -> list[dict[str, Any]]:
        """Return the series of an instant query: dicts with `metric` and `value`."""
        result: list[dict[str, Any]] = self.get("query", query=expr)["result"]
        return result

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are pending or firing."""
        alerts: list[dict[str, Any]] = self.get("alerts")["alerts"]
        return alerts


@contextmanager
def prometheus(
    folder: Path, config: str, *flags: str, newer: bool = False
) -> Iterator[PrometheusApi]:
    """Run Prometheus with this configuration (YAML) until the block ends."""
    binary = program("prometheus", newer=newer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(config)
    url = f"http://127.0.0.1:{free_port()}"
    args = [
        binary,
        "--config.file=prometheus.yml",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--log.level=warn",
        *flags,
    ]
    with process(args, folder):
        wait_for("Prometheus", lambda: fetch(f"{url}/-/ready"))
        yield PrometheusApi(url)


@contextmanager
def alertmanager(folder: Path, config: str, *, newer: bool = False) -> Iterator[str]:
    """Run Alertmanager with this configuration (YAML); give its URL."""
    binary = program("prometheus-alertmanager", newer=newer)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(config)
    url = f"http://127.0.0.1:{free_port()}"
    args = [
        binary,
        "--config.file=alertmanager.yml",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    with process(args, folder):
        wait_for("Alertmanager", lambda: fetch(f"{url}/-/ready"))
        yield url


@contextmanager
def victoria_metrics(folder: Path, *flags: str) -> Iterator[PrometheusApi]:
    """Run VictoriaMetrics; it takes OTLP at `/opentelemetry/v1/metrics` below the URL."""
    binary = program("victoria-metrics", newer=True)
    url = f"http://127.0.0.1:{free_port()}"
    args = [
        binary,
        f"-storageDataPath={folder / 'data'}",
        f"-httpListenAddr={url.removeprefix('http://')}",
        "-search.latencyOffset=0s",
        "-loggerLevel=WARN",
        *flags,
    ]
    with process(args, folder):
        wait_for("VictoriaMetrics", lambda: fetch(f"{url}/health"))
        yield PrometheusApi(url)


@dataclass
class Received:
    """One request that a `receiver` got; `at` is `time.monotonic()`."""

    at: float
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """An HTTP server that takes every POST and keeps it."""

    url: str
    requests: list[Received] = field(default_factory=list)


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a `Receiver` on a thread of its own: a webhook, an OTLP endpoint."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            got.requests.append(Received(time.monotonic(), self.path, dict(self.headers), body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    got = Receiver(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield got
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
