"""The thread server, spoken to over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch.server import http as server
from tests.conftest import Run

Answer = tuple[int, dict[str, str], bytes]


def ask(port: int, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read()
    finally:
        connection.close()


def served(check: Callable[[int, Agent], Any], **settings: Any) -> Any:
    """Run `check` in a thread against an agent that serves."""

    async def main() -> Any:
        with loopwatch.install(http_port=0, **settings) as agent:
            assert agent.http_port
            await asyncio.sleep(0.1)
            return await asyncio.to_thread(check, agent.http_port, agent)

    return asyncio.run(main())


def test_every_path_answers() -> None:
    """Metrics as text, the rest as JSON, and the root says what there is."""

    def check(port: int, agent: Agent) -> None:
        status, headers, body = ask(port, "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain")
        assert b'loopwatch_build_info{loop="main"' in body
        assert ask(port, "/livez")[::2] == (200, b"ok\n")
        status, headers, body = ask(port, "/api/snapshot?pretty=1")
        assert headers["Content-Type"].startswith("application/json")
        (now,) = json.loads(body)["loops"]
        assert now["loop"] == "main"
        assert json.loads(ask(port, "/api/stalls")[2]) == {"stalls": []}
        status, _, body = ask(port, "/nothing/<script>")
        assert status == 404
        assert b"/api/snapshot" in body
        assert b"script" not in body

    served(check)


def test_it_answers_while_the_loop_is_blocked(run_exact: Run) -> None:
    """Age on /metrics, the ongoing record on /api/stalls, 503 on /livez beyond the hang limit."""
    seen: dict[str, Any] = {}

    def look(port: int) -> None:
        time.sleep(0.3)
        seen["metrics"] = ask(port, "/metrics")[2].decode()
        seen["stalls"] = json.loads(ask(port, "/api/stalls")[2])["stalls"]
        seen["snapshot"] = json.loads(ask(port, "/api/snapshot")[2])["loops"][0]
        seen["early"] = ask(port, "/livez")
        time.sleep(0.4)
        seen["late"] = ask(port, "/livez")

    async def main() -> Answer:
        with loopwatch.install(http_port=0, hang_threshold_s=0.5) as agent:
            assert agent.http_port
            await asyncio.sleep(0.1)
            thread = threading.Thread(target=look, args=(agent.http_port,))
            thread.start()
            time.sleep(1)
            thread.join()
            await asyncio.sleep(0.1)
            return await asyncio.to_thread(ask, agent.http_port, "/livez")

    after = run_exact(main())
    age = next(
        float(line.split()[-1])
        for line in seen["metrics"].splitlines()
        if line.startswith("loopwatch_stall_active_seconds{")
    )
    assert 0.2 < age < 0.6
    assert 'loopwatch_stalls_total{cause="blocking_call",loop="main"} 1.0' in seen["metrics"]
    (stall,) = seen["stalls"]
    assert stall["phase"] == "ongoing"
    assert stall["culprit"]["source"].startswith("time.sleep(1)")
    assert seen["snapshot"]["active_stall"]["id"] == stall["id"]
    assert seen["early"][0] == 200
    assert seen["late"][0] == 503
    assert b"loop main stuck for 0." in seen["late"][2]
    assert after[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "BREW"])
def test_only_get_and_head(method: str) -> None:
    """Anything else is 405 with what is allowed."""

    def check(port: int, agent: Agent) -> None:
        status, headers, body = ask(port, "/metrics", method)
        assert status == 405
        assert headers["Allow"] == "GET, HEAD"
        assert b"use GET or HEAD" in body

    served(check)


def test_head_has_headers_and_no_body() -> None:
    """The length of what GET would send, and nothing after it."""

    def check(port: int, agent: Agent) -> None:
        status, headers, body = ask(port, "/livez", "HEAD")
        assert (status, headers["Content-Length"], body) == (200, "3", b"")

    served(check)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example", 403),
        ("evil.example:80", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("localhost", 200),
        ("LOCALHOST:9464", 200),
        ("127.0.0.1", 200),
        ("[::1]:9464", 200),
    ],
)
def test_a_foreign_host_header_is_refused_on_loopback(host: str, status: int) -> None:
    """A page that reaches us by DNS rebinding names its own host, and gets nothing."""

    def check(port: int, agent: Agent) -> None:
        got, _, body = ask(port, "/api/stalls", headers={"Host": host})
        assert got == status
        assert (b"stalls" in body) == (status == 200)

    served(check)


def test_an_open_address_answers_to_every_name() -> None:
    """Whoever sets http_host to the network decides who may come."""

    def check(port: int, agent: Agent) -> None:
        assert ask(port, "/livez", headers={"Host": "pod-7.svc"})[0] == 200

    served(check, http_host="0.0.0.0")


def test_a_slow_reader_is_let_go_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing ends at the read timeout; meanwhile others get answers."""
    monkeypatch.setattr(server._Handler, "timeout", 0.3)

    def check(port: int, agent: Agent) -> None:
        slow = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(5)]
        for connection in slow:
            connection.sendall(b"GET /met")
        assert ask(port, "/livez")[0] == 200
        for connection in slow:
            connection.settimeout(3)
            assert connection.recv(10) == b""
            connection.close()

    served(check)


def test_a_crowd_is_turned_away_not_queued_in_threads() -> None:
    """Beyond the places there are, connections are closed; when they leave there is room again."""

    def check(port: int, agent: Agent) -> None:
        crowd = []
        for _ in range(server._MAX_CONNECTIONS + 5):
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
            crowd.append(connection)
        time.sleep(0.3)
        handlers = [t for t in threading.enumerate() if "process_request_thread" in t.name]
        assert len(handlers) <= server._MAX_CONNECTIONS
        for connection in crowd:
            connection.close()
        time.sleep(0.3)
        assert ask(port, "/livez")[0] == 200

    served(check)


def test_an_oversized_request_is_refused() -> None:
    """64 KiB of path is an error, not memory."""

    def check(port: int, agent: Agent) -> None:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 414")

    served(check)


def test_a_taken_port_is_one_clear_error_and_the_app_runs_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log names address, reason and setting; the loop is watched all the same."""

    async def main(port: int) -> tuple[int | None, str]:
        with loopwatch.install(http_port=port) as agent:
            await asyncio.sleep(0.1)
            return agent.http_port, repr(agent)

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with caplog.at_level(logging.INFO, logger="loopwatch"):
            http_port, text = asyncio.run(main(port))
    assert http_port is None
    assert "watching" in text
    (record,) = [r for r in caplog.records if r.levelno >= logging.ERROR]
    assert f"cannot listen on 127.0.0.1:{port} (Address already in use)" in record.getMessage()
    assert "set http_port to a free port" in record.getMessage()


def test_two_loops_of_a_process_share_a_port() -> None:
    """One server shows both; it stays until the last of them stops."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    both = threading.Barrier(2)
    seen: list[list[str]] = []

    def thread(last: bool) -> None:
        async def main() -> None:
            with loopwatch.install(http_port=port):
                await asyncio.to_thread(both.wait, 5)
                loops = json.loads((await asyncio.to_thread(ask, port, "/api/snapshot"))[2])
                seen.append(sorted(loop["loop"] for loop in loops["loops"]))
                await asyncio.to_thread(both.wait, 5)
                if last:
                    await asyncio.sleep(0.3)
                    alone = json.loads((await asyncio.to_thread(ask, port, "/api/snapshot"))[2])
                    assert len(alone["loops"]) == 1

        asyncio.run(main())

    threads = [threading.Thread(target=thread, args=(last,)) for last in (True, False)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert seen == [["main", "main-2"]] * 2
    with pytest.raises(ConnectionRefusedError):
        ask(port, "/livez")


def test_without_the_prometheus_exporter_metrics_are_still_served() -> None:
    """The thread server needs no registry of the process."""

    def check(port: int, agent: Agent) -> None:
        body = ask(port, "/metrics")[2]
        assert b"loopwatch_tasks" in body
        assert b"python_info" not in body

    served(check, exporters=["log"])


def test_the_thread_server_sleeps_until_somebody_comes() -> None:
    """No polling: its thread does not run while nobody asks."""

    def check(port: int, agent: Agent) -> None:
        (thread,) = [t for t in threading.enumerate() if t.name == "loopwatch-http"]
        status = Path(f"/proc/self/task/{thread.native_id}/status")

        def switches() -> int:
            lines = status.read_text().splitlines()
            return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

        before = switches()
        time.sleep(1.2)
        assert switches() == before

    served(check)
