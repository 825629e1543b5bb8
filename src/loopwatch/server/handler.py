"""One connection to the thread server: reads requests, refuses what is none of ours, answers.

Read-only, GET and HEAD. On a loopback address a request must also *name* a loopback host, which
keeps web pages away that reach us by DNS rebinding. What comes in is limited in size and in time.
"""

from __future__ import annotations

import io
import socket
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final, Protocol

from loopwatch.server.answers import TEXT, Answer
from loopwatch.server.wire import TooLongError, Wire

if TYPE_CHECKING:
    from loopwatch.server.places import Places

__all__ = ["Handler"]

# From the answer before to the end of the next request; and for an answer to be taken.
_REQUEST_S: Final = 5.0
_ANSWER_S: Final = 5.0
# Browsers send a page the cookies of everything else that is served on localhost.
_MAX_REQUEST: Final = 32 * 1024
_DRAIN_S: Final = 0.2
_MAX_DRAIN: Final = 256 * 1024

# Nobody frames or reads an answer from another origin, and no browser guesses what it is.
_FOR_ALL: Final = (
    ("Cache-Control", "no-store"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
)


class _Asked(Protocol):
    """What a handler needs of its server."""

    places: Places

    def answers_to(self, names: list[str]) -> bool: ...

    def answer(self, target: str, accept: str) -> Answer: ...

    def spent(self, cpu_ns: int) -> None: ...

    def failed(self, error: BaseException) -> None: ...


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection, one after the other."""

    server: _Asked  # type: ignore[assignment]
    disable_nagle_algorithm = True
    server_version = "loopwatch"
    protocol_version = "HTTP/1.1"
    # Also what is no HTTP gets an answer with a status.
    default_request_version = "HTTP/1.0"
    request_version = default_request_version
    requestline = ""
    command = ""

    def setup(self) -> None:
        """Put limits between the socket and the parser."""
        super().setup()
        self.rfile.close()
        self._wire = Wire(self.connection)
        self.rfile = io.BufferedReader(self._wire)
        # Headers and body leave in one go, if they are short.
        self.wfile = io.BufferedWriter(self._wire, 64 * 1024)
        self._in_first_line = True
        self._unread = False

    def handle_one_request(self) -> None:
        """Read a request and answer it; what it cost counts as ours."""
        began_ns = time.thread_time_ns()
        self._in_first_line = True
        self._wire.allow(_REQUEST_S, _MAX_REQUEST)
        try:
            super().handle_one_request()
            self.server.places.waits(self.request)
        except TooLongError:
            self.send_error(
                HTTPStatus.REQUEST_URI_TOO_LONG
                if self._in_first_line
                else HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            )
        finally:
            self.server.spent(time.thread_time_ns() - began_ns)

    def version_string(self) -> str:
        """Return our name; of what version we are `/api/snapshot` tells."""
        return self.server_version

    def parse_request(self) -> bool:
        """Parse what follows the first line."""
        self._in_first_line = False
        return super().parse_request()

    def handle_expect_100(self) -> bool:
        """Ask for no body: the answer tells that none is wanted."""
        return True

    def finish(self) -> None:
        """Let a refused sender read why, before the connection is reset for what it still sends."""
        super().finish()
        if self._unread:
            try:
                self.connection.shutdown(socket.SHUT_WR)
                self.connection.settimeout(_DRAIN_S)
                left = _MAX_DRAIN
                until_s = time.monotonic() + _DRAIN_S
                while left > 0 and time.monotonic() < until_s:
                    left -= len(self.connection.recv(left)) or left
            except OSError:
                pass  # it has gone

    def do_GET(self) -> None:
        """Answer with a body."""
        self._respond(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        if not self.server.places.answers(self.request):
            self.close_connection = True
        self._wire.allow(_ANSWER_S)
        made = self._refusal() or self._answer()
        try:
            self.send_response(made.status)
            self.send_header("Content-Type", made.content_type)
            self.send_header("Content-Length", str(len(made.body)))
            for name, value in (*_FOR_ALL, *made.headers):
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if with_body:
                self.wfile.write(made.body)
        finally:
            made.over()

    def _refusal(self) -> Answer | None:
        """Return what is said to a request that is not answered."""
        lengths = self.headers.get_all("Content-Length", [])
        if any(length.strip() != "0" for length in lengths) or "Transfer-Encoding" in self.headers:
            # Not read, so it would be taken for the next request.
            self.close_connection = self._unread = True
            text = b"send no body: this is read-only\n"
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TEXT, text)
        if self.headers.defects:
            # Somebody else may read them in another way, and find a body.
            self.close_connection = self._unread = True
            return Answer(HTTPStatus.BAD_REQUEST, TEXT, b"these headers cannot be read\n")
        names = [_name(host) for host in self.headers.get_all("Host", [])]
        if not self.server.answers_to(names):
            text = b"this address answers to localhost only; set http_host to serve other names\n"
            return Answer(HTTPStatus.FORBIDDEN, TEXT, text)
        return None

    def _answer(self) -> Answer:
        try:
            return self.server.answer(self.path, self.headers.get("Accept", ""))
        except Exception as error:  # noqa: BLE001 - a collector of the host's may raise
            self.server.failed(error)
            text = f"{type(error).__name__} while reading; see the log\n".encode()
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, text)

    def send_error(
        self,
        code: int,
        message: str | None = None,  # noqa: ARG002 - may quote the request, which is not ours
        explain: str | None = None,  # noqa: ARG002 - the base's signature
    ) -> None:
        """Say why a request is refused, and close."""
        said = HTTPStatus(code).phrase
        # Any method but GET and HEAD ends here as "unsupported"; HTTP has a better word for it.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, said = HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD: this is read-only"
        body = f"{said}\n".encode()
        self.close_connection = self._unread = True
        self._wire.allow(_ANSWER_S)
        self.send_response(code)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        for name, value in _FOR_ALL:
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing: a scrape a second is no news."""


def _name(header: str) -> str:
    """Return the host of a `Host` header, without its port."""
    host = header.strip()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return host.lower()
