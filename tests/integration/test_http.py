"""The thread server, spoken to over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

import loopwatch
from loopwatch import Agent
from loopwatch.model import Frame, Sample, Stall
from loopwatch.server import handler, http as server
from loopwatch.server.answers import View, answer
from loopwatch.top.answers import read_live
from tests.conftest import Run
from tests.servers import wait_for
from tests.unit.factories import ledger, stall

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
    """Metrics as text, the rest as JSON, and what is not there says what is."""

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
        assert json.loads(ask(port, "/api/stalls")[2]) == {"stalls": [], "left_out": 0}
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


def test_an_open_address_answers_to_every_name(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever sets http_host to the network decides who may come, and the log says who can."""

    def check(port: int, agent: Agent) -> None:
        assert ask(port, "/livez", headers={"Host": "pod-7.svc"})[0] == 200

    served(check, http_host="0.0.0.0")
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "listens on 0.0.0.0 and asks no password" in warning


@pytest.mark.parametrize("spelt", ["127.1", "LOCALHOST", "127.0.0.2"])
def test_loopback_is_loopback_however_it_is_spelt(
    spelt: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What was bound counts, not what the setting looks like; the setting's own name is known."""

    def check(port: int, agent: Agent) -> None:
        assert agent.server
        for host, status in (("evil.example", 403), ("localhost", 200), (spelt, 200)):
            connection = http.client.HTTPConnection(spelt, port, timeout=5)
            connection.request("GET", "/livez", headers={"Host": host})
            assert connection.getresponse().status == status, host
            connection.close()

    served(check, http_host=spelt)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def test_a_slow_reader_is_let_go_and_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing ends at the read timeout; meanwhile others get answers."""
    monkeypatch.setattr(handler, "_REQUEST_S", 0.3)

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


def handlers() -> int:
    return sum("process_request_thread" in thread.name for thread in threading.enumerate())


def test_a_crowd_costs_a_bounded_number_of_threads() -> None:
    """Beyond the places there are, whoever waited longest has to go; all others are served."""

    def check(port: int, agent: Agent) -> None:
        crowd = []
        for _ in range(server._MAX_CONNECTIONS + 5):
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.sendall(b"GET /livez HTTP/1.1\r\n")
            crowd.append(connection)
        wait_for("the crowd to thin out", lambda: handlers() <= server._MAX_CONNECTIONS)
        assert b" 200 " not in crowd[0].recv(1000)
        crowd[-1].sendall(b"Host: localhost\r\n\r\n")
        assert crowd[-1].recv(100).startswith(b"HTTP/1.1 200")
        for connection in crowd:
            connection.close()
        assert ask(port, "/livez")[0] == 200

    served(check)


def test_open_pages_do_not_lock_a_scraper_out() -> None:
    """Twenty browsers keep a connection each and ask again and again: every scrape is answered."""

    def check(port: int, agent: Agent) -> None:
        tabs = [http.client.HTTPConnection("127.0.0.1", port, timeout=5) for _ in range(20)]
        refused = 0
        for _ in range(3):
            for tab in tabs:
                try:
                    tab.request("GET", "/api/live?since=0")
                    assert tab.getresponse().read().startswith(b'{"loops"')
                except (http.client.RemoteDisconnected, ConnectionError):
                    refused += 1  # let go to make room; a browser connects anew
                    tab.close()
                    tab.request("GET", "/api/live?since=0")
                    assert tab.getresponse().read().startswith(b'{"loops"')
            assert ask(port, "/metrics")[0] == 200
        assert refused
        wait_for("those let go to end", lambda: handlers() <= server._MAX_CONNECTIONS)
        for tab in tabs:
            tab.close()

    served(check)


def test_a_drip_does_not_hold_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is for the whole request: a byte now and then does not begin it anew."""
    monkeypatch.setattr(handler, "_REQUEST_S", 0.5)

    def check(port: int, agent: Agent) -> None:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.settimeout(0.1)
            connection.sendall(b"GET /livez HTTP/1.1\r\n")

            def dripped() -> bool:
                try:
                    connection.sendall(b"X")
                    return connection.recv(10) == b""
                except TimeoutError:
                    return False
                except ConnectionError:
                    return True

            wait_for("the drip to be cut off", dripped, 3)

    served(check)


def test_who_takes_no_answers_does_not_hold_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Megabytes of answers that nobody reads end with the time for an answer."""
    monkeypatch.setattr(handler, "_ANSWER_S", 0.3)

    def check(port: int, agent: Agent) -> None:
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300)
            wait_for("its thread", lambda: handlers() > 0)
            wait_for("its end", lambda: handlers() == 0, 3)

    served(check)


def raw(port: int, request: bytes) -> bytes:
    """Return all that comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.sendall(request)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: %s\r\n" % (b"a" * 900) * 90 + b"\r\n", 431),
        (b"<script>\r\n\r\n", 400),
        (b"GET / <script>/1.1\r\n\r\n", 400),
        (b"GET / HTTP/7.7\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 403),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    ],
    ids=lambda value: str(value[:24]) if isinstance(value, bytes) else None,
)
def test_what_is_no_request_of_ours_is_refused(request_: bytes, status: int) -> None:
    """Oversized, garbled or foreign: a status, a line that quotes nothing, and the end."""

    def check(port: int, agent: Agent) -> None:
        request = request_
        if b"Connection: close" not in request:
            request = request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
        answer = raw(port, request)
        assert re.match(rb"HTTP/1\.[01] %d " % status, answer)
        assert b"X-Content-Type-Options: nosniff" in answer
        assert b"script>" not in answer
        assert b"aaaa" not in answer
        assert b"<html" not in answer
        assert ask(port, "/livez")[0] == 200
        assert agent.snapshot().errors_total["http"] == 0

    served(check)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"Content-Length: 40\r\n\r\n", 413),
        (b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n", 413),
        (b"X: 1\r\nContent-Length : 40\r\n\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n\r\n28\r\n", 413),
    ],
    ids=["length", "two lengths", "space", "chunked"],
)
def test_a_body_is_not_taken_for_a_request(body: bytes, status: int) -> None:
    """GET with a body is refused and the connection ends: nothing in it is answered."""
    hidden = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    def check(port: int, agent: Agent) -> None:
        answer = raw(port, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + body + hidden)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert answer.count(b"HTTP/1.1") == 1

    served(check)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/../../../etc/passwd", 404),
        ("/%2e%2e/%2e%2e/etc/passwd", 404),
        ("/page.html", 404),
        ("/index.html", 404),
        ("/favicon.ico", 404),
        ("/..", 404),
        ("//evil.example/%2f..", 404),
        ("http://[/", 404),
        ("/api/stalls/../../x", 404),
        ("/api/stalls/%00", 404),
        ("*", 404),
        ("/?" + "a=1&" * 500, 200),
        ("//", 200),
        ("/api/live?since=", 200),
        ("/api/live?since=nan&since=1e999", 200),
        ("/api/live?since=%F0%9F&%=%", 200),
        ("/api/live?" + "since=1&" * 500, 200),
    ],
)
def test_nonsense_is_found_or_not_found(path: str, status: int) -> None:
    """No path leads to a file, no query to an error."""

    def check(port: int, agent: Agent) -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = raw(port, request.encode())
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"root:x:" not in answer
        assert agent.snapshot().errors_total["http"] == 0

    served(check)


def test_the_page_carries_a_policy_that_fits_it() -> None:
    """Nothing but its own style and script, by their hashes; HEAD tells the same without it."""

    def check(port: int, agent: Agent) -> None:
        status, headers, body = ask(port, "/")
        assert status == 200
        assert headers["Content-Type"] == "text/html; charset=utf-8"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
        assert policy["frame-ancestors"] == "'none'"
        assert policy["connect-src"] == "'self'"
        for tag in ("script", "style"):
            (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>".encode(), body, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
            assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
        assert not re.search(rb"https?://(?!www\.w3\.org/2000/svg)", body)
        head = ask(port, "/", "HEAD")
        assert head[2] == b""
        assert head[1]["Content-Length"] == str(len(body))

    served(check)


def test_live_tells_what_has_changed_and_keeps_it_short() -> None:
    """A stall in progress comes without its samples, an old one not again; points are new ones."""

    def check(port: int, agent: Agent) -> None:
        agent._loop.call_soon_threadsafe(lambda: time.sleep(0.8))

        def live(since: float) -> Any:
            return json.loads(ask(port, f"/api/live?since={since}")[2])

        during = wait_for(
            "a stall", lambda: (d := live(0))["loops"][0]["snapshot"]["active_stall"] and d
        )
        active = during["loops"][0]["snapshot"]["active_stall"]
        assert "samples" not in active
        assert active["evidence"]["wall_s"] > 0
        assert [stall["id"] for stall in during["stalls"]] == [active["id"]]
        assert {len(row) for row in during["loops"][0]["points"]} <= {6}
        assert read_live(during).loops[0].active
        wait_for("its end", lambda: live(0)["stalls"][0]["phase"] == "final")
        whole = json.loads(ask(port, f"/api/stalls/{active['id']}")[2])
        assert whole["samples"]
        later = live(time.time() + 60)
        assert later["stalls"] == later["loops"][0]["points"] == []

    served(check)


def test_a_stopped_server_answers_nobody() -> None:
    """A connection that is kept open ends with the server; a question in between is 503."""
    kept: list[http.client.HTTPConnection] = []

    def check(port: int, agent: Agent) -> None:
        kept.append(http.client.HTTPConnection("127.0.0.1", port, timeout=5))
        kept[0].request("GET", "/livez")
        assert kept[0].getresponse().read() == b"ok\n"

    served(check)
    assert kept[0].sock.recv(1) == b""
    kept[0].close()
    for path in ("/", "/livez", "/metrics", "/api/live"):
        made = answer((), path, "")
        assert (made.status, dict(made.headers)["Retry-After"]) == (503, "1")


_FORKS: Final = """
import asyncio, os, sys, time, loopwatch
async def main():
    with loopwatch.install(http_port=0) as agent:
        print(agent.http_port, flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        child = os.fork()
        if not child:
            print(os.getpid(), flush=True)
            sys.stdin.readline()
            os._exit(0)
        await asyncio.Event().wait()
asyncio.run(main())
"""


def test_a_forked_child_keeps_no_connection_open() -> None:
    """The parent goes on with an open page, and with the parent ends the connection."""
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _FORKS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin
        assert parent.stdout
        try:
            port = int(parent.stdout.readline())
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            for first in (True, False):
                connection.request("GET", "/livez")
                assert connection.getresponse().read() == b"ok\n"
                if first:
                    parent.stdin.write("fork\n")
                    parent.stdin.flush()
                    parent.stdout.readline()
            parent.kill()
            assert connection.sock.recv(1) == b""
            connection.close()
        finally:
            parent.kill()


@pytest.fixture
def long_lists() -> Iterator[int]:
    """Serve a loop with 12 MB of records; give the port."""
    frames = tuple(Frame(f"app.work_{n}", "app/work.py", n, in_app=True) for n in range(40))
    samples = tuple(Sample(0.1 * n, 1, "watchdog", frames) for n in range(60))
    stalls = tuple(stall(id=str(n), started_at_s=float(n), samples=samples) for n in range(60))
    book = ledger()

    def nothing(_: Any) -> None:
        """Take no notice."""

    view = View(
        snapshot=book.snapshot,
        stalls=lambda: stalls,
        timeline=tuple,
        registry=None,
        metrics=lambda _accept, _reads: (b"", ""),
        spent=nothing,
        failed=nothing,
    )
    running = server.HttpServer("127.0.0.1", 0)
    running.add(view)
    running.start()
    yield running.port
    running.remove(view)


def test_all_records_are_bounded_and_read_by_one_at_a_time(long_lists: int) -> None:
    """The newest that fit, and how many do not; who comes meanwhile is told when to ask again."""
    with socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", long_lists))
        slow.sendall(b"GET /api/stalls HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert slow.recv(12) == b"HTTP/1.1 200"
        status, headers, _ = ask(long_lists, "/api/stalls")
        assert (status, headers["Retry-After"]) == (503, "1")
        assert ask(long_lists, "/api/stalls/7")[0] == 200
    body = wait_for("its turn", lambda: (a := ask(long_lists, "/api/stalls"))[0] == 200 and a[2])
    assert len(body) < 8.1 * 2**20
    told = json.loads(body)
    ids = [int(record["id"]) for record in told["stalls"]]
    assert ids == [*range(told["left_out"], 60)]
    assert 0 < told["left_out"] < 60


def test_a_poll_looks_at_the_newest_alone() -> None:
    """However long the history, what is old is not walked through; what is late is found."""
    seen = 0

    class Counted(tuple[Stall, ...]):
        __slots__ = ()

        def __reversed__(self) -> Iterator[Stall]:
            nonlocal seen
            for n in range(len(self) - 1, -1, -1):
                seen += 1
                yield self[n]

        def __iter__(self) -> Iterator[Stall]:
            nonlocal seen
            seen += len(self)
            return super().__iter__()

    old = stall(started_at_s=1.0)
    late = replace(old, id="late", duration_s=50_000.0)
    stalls = Counted((*[old] * 20_000, late, *[old] * 100))
    view = View(
        snapshot=ledger().snapshot,
        stalls=lambda: stalls,
        timeline=tuple,
        registry=None,
        metrics=lambda _accept, _reads: (b"", ""),
        spent=lambda _: None,
        failed=lambda _: None,
    )
    body = json.loads(answer((view,), "/api/live?since=40000", "").body)
    assert [each["id"] for each in body["stalls"]] == ["late"]
    assert seen < 500


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
