"""What `loopwatch top` makes of addresses that are no loopwatch, over real sockets."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from loopwatch.top.address import Address, parse_address
from loopwatch.top.client import Client, GoneError, NotLoopwatchError, TroubleError
from loopwatch.top.fleet import Fleet
from tests.servers import wait_for

Answerer = Callable[[socket.socket], None]


@contextlib.contextmanager
def listening(answerer: Answerer) -> Iterator[Address]:
    """Listen on a port of loopback; each connection is the answerer's, on a thread, then closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    answerer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Address("http", "127.0.0.1", server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(raw: bytes) -> Answerer:
    """Return who reads a request and sends this."""

    def answerer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(raw)

    return answerer


def http(status: str, body: bytes = b"", *headers: str, length: int | None = None) -> bytes:
    size = len(body) if length is None else length
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers])
    return f"{head}\r\n\r\n".encode() + body


def trouble(answerer: Answerer, timeout_s: float = 5.0) -> TroubleError:
    with listening(answerer) as address, pytest.raises(TroubleError) as caught:
        Client(address, timeout_s).get("/api/live")
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize(
    ("raw", "kind", "told"),
    [
        (http("200 OK", b"<html>"), NotLoopwatchError, "it sends no JSON"),
        (http("200 OK", b'{"a": NaN}'), NotLoopwatchError, "it sends no JSON"),
        (http("200 OK", b"[" * 100_000), NotLoopwatchError, "it sends no JSON"),
        (http("200 OK", b"\xff\xfe\x00"), NotLoopwatchError, "it sends no JSON"),
        (http("404 Not Found"), NotLoopwatchError, "is no loopwatch (status 404)"),
        (http("401 Unauthorized"), NotLoopwatchError, "is no loopwatch (status 401)"),
        (http("403 Forbidden"), NotLoopwatchError, "is no loopwatch (status 403)"),
        (
            http("403 Forbidden", b"", "Server: loopwatch"),
            TroubleError,
            "answers to localhost only, not to the name 127.0.0.1",
        ),
        (
            http("500 Oops", b"", "Server: loopwatch"),
            TroubleError,
            "answers with status 500: see the log of the process",
        ),
        (
            http("404 Not Found", b"not found; there is /metrics /livez\n"),
            TroubleError,
            "is a loopwatch too old for this command: update it",
        ),
        (
            http("302 Found", b"", "Location: http://evil\x1b[31m/"),
            NotLoopwatchError,
            r"redirects to http://evil\x1b[31m/, which is not followed",
        ),
        (b"SSH-2.0-OpenSSH\r\n", NotLoopwatchError, "speaks no HTTP"),
        (b"-ERR unknown command\r\n", NotLoopwatchError, "speaks no HTTP"),
        (http("200 OK", b'{"loops": [', length=500), TroubleError, "broke off in the middle"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", TroubleError, "broke off in the middle"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}",
            TroubleError,
            "broke off in the middle",
        ),
        (b"", TroubleError, "closed the connection without an answer"),
        (http("200 OK", b"{}", length=10**30), NotLoopwatchError, "speaks no HTTP"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n{}" % 10**30,
            NotLoopwatchError,
            "speaks no HTTP",
        ),
        (
            http("503 Service Unavailable", b"", "Server: loopwatch"),
            TroubleError,
            "watches no loop any more, or is busy",
        ),
    ],
)
def test_a_wrong_answer_is_one_line(raw: bytes, kind: type[TroubleError], told: str) -> None:
    """Whatever listens there, what is told says what it is and what to do."""
    error = trouble(says(raw))
    assert type(error) is kind
    assert told in str(error)


def test_a_body_in_chunks_is_read() -> None:
    """A proxy may send an answer in pieces without a length."""
    raw = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{"a\r\n5\r\n": 1}\r\n0\r\n\r\n'
    )
    with listening(says(raw)) as address:
        assert Client(address, 5.0).get("/") == {"a": 1}


def test_nobody_listens() -> None:
    """That is told apart from a server in trouble: it may be a process that has ended."""
    with listening(says(b"")) as address:
        pass
    with pytest.raises(GoneError, match=f"nobody listens there.*http_port={address.port}"):
        Client(address, 5.0).get("/")


def test_a_server_that_never_answers() -> None:
    """The time for an answer is limited."""
    over = threading.Event()
    with listening(lambda _: bool(over.wait(10)) and None) as address:
        with pytest.raises(TroubleError, match=r"did not answer within 0\.1 s"):
            Client(address, 0.1).get("/")
        over.set()


def test_a_server_that_drips() -> None:
    """A byte now and then does not prolong it."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nX-Padding: ")
        while not over.wait(0.02):
            connection.sendall(b"x")

    with listening(drip) as address:
        with pytest.raises(TroubleError, match=r"did not answer within 0\.2 s"):
            Client(address, 0.2).get("/")
        over.set()


def test_an_endless_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than any answer of ours is not read to its end."""
    monkeypatch.setattr("loopwatch.top.client._MAX_BYTES", 2**20)

    def flood(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b" " * 65536)

    assert "answers with more than 1 MB" in str(trouble(flood))


def test_an_aborted_question_fails_at_once() -> None:
    """Whoever waits for a server that does not answer can be told to stop."""
    asked, over = threading.Event(), threading.Event()
    failed: list[str] = []

    def never(connection: socket.socket) -> None:
        connection.recv(65536)
        asked.set()
        over.wait(10)

    def ask(client: Client) -> None:
        try:
            client.get("/")
        except TroubleError as error:
            failed.append(str(error))

    with listening(never) as address:
        client = Client(address, 60.0)
        thread = threading.Thread(target=ask, args=(client,))
        thread.start()
        assert asked.wait(5)
        client.abort()
        thread.join(5)
        over.set()
    assert len(failed) == 1


def test_names_that_cannot_be_found() -> None:
    """A host name that is none, or is not known, is one line."""
    for host in ("no-such-host.invalid", "x" * 300, "a..b"):
        with pytest.raises(TroubleError, match=r"check the (name|URL)"):
            Client(Address("http", host, 80), 5.0).get("/")


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """The server's side of TLS, and the file of the authority that vouches for it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    return context, file


def encrypted(context: ssl.SSLContext, raw: bytes) -> Answerer:
    def answerer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as inner:
            says(raw)(inner)

    return answerer


def test_a_certificate_that_nobody_vouches_for(tls: tuple[ssl.SSLContext, Path]) -> None:
    """It is refused, with the reason and where to put the CA."""
    with listening(encrypted(tls[0], http("200 OK", b"{}"))) as address:
        at = Address("https", "localhost", address.port)
        with pytest.raises(TroubleError, match=r"no valid certificate \(.*SSL_CERT_FILE"):
            Client(at, 5.0).get("/")


def test_a_certificate_that_is_vouched_for(
    tls: tuple[ssl.SSLContext, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the certificate in SSL_CERT_FILE the answer is read."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    with listening(encrypted(tls[0], http("200 OK", b'{"fine": 1}'))) as address:
        assert Client(Address("https", "localhost", address.port), 5.0).get("/") == {"fine": 1}


def test_https_where_there_is_none() -> None:
    """A server without TLS is told as that."""
    with listening(says(http("400 Bad Request"))) as address:
        at = Address("https", "127.0.0.1", address.port)
        with pytest.raises(TroubleError, match=r"speaks no TLS .*write http://"):
            Client(at, 5.0).get("/")


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is meant for loopback goes to loopback."""
    proxied: list[bytes] = []

    def proxy(connection: socket.socket) -> None:
        proxied.append(connection.recv(65536))

    with listening(proxy) as other, listening(says(http("200 OK", b'{"direct": 1}'))) as address:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, other.url)
        monkeypatch.delenv("no_proxy", raising=False)
        assert Client(address, 5.0).get("/") == {"direct": 1}
    assert proxied == []


def test_each_wrong_address_is_a_problem_of_its_own() -> None:
    """Those that never answered are told by their URL; one that hangs delays no other."""
    over = threading.Event()
    with (
        listening(lambda _: bool(over.wait(10)) and None) as hangs,
        listening(says(http("200 OK", b"<html>"))) as web,
        listening(says(http("200 OK", json.dumps({"loops": [{}]}).encode()))) as newer,
    ):
        fleet = Fleet([hangs, web, newer, web], interval_s=0.05)
        fleet.start()
        told = wait_for("two problems", lambda: fleet.problems()[1:] and fleet.problems())
        over.set()
        fleet.stop()
    first, second = told
    assert first.startswith(f"{web.url}: is no loopwatch, it sends no JSON")
    assert second.startswith(f"{newer.url}: answers as loopwatch ? does")
    assert parse_address(web.url) == web
