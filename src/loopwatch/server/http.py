"""The thread server: what `answers` says, over HTTP, also while the loop is blocked.

Read-only, GET and HEAD. On a loopback address a request must also *name* a loopback host, which
keeps web pages away that reach us by DNS rebinding.
"""

from __future__ import annotations

import ipaddress
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from loopwatch.server.answers import TEXT, Answer, answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.server.answers import View

__all__ = ["HttpServer"]

_READ_TIMEOUT_S: Final = 5.0
_MAX_CONNECTIONS: Final = 16
_STOP_S: Final = 0.3
_PAUSE_S: Final = 0.1


class HttpServer:
    """Serves all loops of this process that ask for the same address."""

    def __init__(self, host: str, port: int, *, asked_port: int | None = None) -> None:
        """Bind; raises `OSError` if the address cannot be had.

        `asked_port` is the setting, where another port was tried because that one was taken.
        """
        self.host = host
        self.asked_port = port if asked_port is None else asked_port
        self._views: tuple[View, ...] = ()
        self._server = _Server(
            (host, port), self._answered, self._spent, self._failed, loopback=_is_loopback(host)
        )
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="loopwatch-http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def add(self, view: View) -> None:
        """Serve one more loop."""
        self._views = (*self._views, view)

    def remove(self, view: View) -> None:
        """Serve one loop less; with the last one the server stops."""
        self._views = tuple(other for other in self._views if other is not view)
        if not self._views:
            self._stop()

    def forget(self) -> None:
        """Close the inherited socket in a forked child; the parent's goes on."""
        self._views = ()
        self._server.socket.close()

    def _run(self) -> None:
        while not self._stopping:
            self._server.handle_request()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        try:
            # Wakes the thread from its wait; it then sees the flag.
            socket.create_connection(self._server.wake_address(), timeout=_STOP_S).close()
        except OSError:
            pass  # nobody listens any more: the thread has ended
        self._thread.join(_STOP_S)
        self._server.server_close()

    def _answered(self, target: str, accept: str) -> Answer:
        return answer(self._views, target, accept)

    def _failed(self, error: BaseException) -> None:
        for view in self._views[:1]:
            view.failed(error)

    def _spent(self, cpu_ns: int) -> None:
        for view in self._views[:1]:
            view.spent(cpu_ns)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    timeout = None  # handle_request waits without polling
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str, str], Answer],
        spent: Callable[[int], None],
        failed: Callable[[BaseException], None],
        *,
        loopback: bool,
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self.spent = spent
        self.failed = failed
        self.loopback = loopback
        self._places = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own looks the host name up in DNS, on the thread that installs us.
        socketserver.TCPServer.server_bind(self)

    def wake_address(self) -> tuple[str, int]:
        host, port = self.server_address[:2]
        name = host.decode() if isinstance(host, (bytes, bytearray)) else str(host)
        return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name), int(port))  # noqa: S104

    def process_request(self, request: Any, client_address: Any) -> None:
        # A crowd of slow readers costs at most this many threads; the next one is turned away.
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started: handle_request closes the connection
            self._places.release()
            raise

    def get_request(self) -> tuple[Any, Any]:
        try:
            return super().get_request()
        except OSError:
            # Out of file descriptors the connection stays in the queue: do not spin on it.
            time.sleep(_PAUSE_S)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers that go away in mid-answer are no event; the default prints a traceback."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _READ_TIMEOUT_S
    # Headers and body leave in one segment: two would wait for the reader's delayed ACK, 40 ms.
    wbufsize = -1
    disable_nagle_algorithm = True
    server_version = "loopwatch"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with a body."""
        began_ns = time.thread_time_ns()
        self._respond(with_body=True)
        self.server.spent(time.thread_time_ns() - began_ns)

    def do_HEAD(self) -> None:
        """Answer with the headers alone."""
        self._respond(with_body=False)

    def _respond(self, *, with_body: bool) -> None:
        if self.server.loopback and not _names_loopback(self.headers.get("Host", "")):
            text = b"this address answers to localhost only; set http_host to serve other names\n"
            made = Answer(HTTPStatus.FORBIDDEN, TEXT, text)
        else:
            try:
                made = self.server.answer(self.path, self.headers.get("Accept", ""))
            except Exception as error:  # noqa: BLE001 - a collector of the host's may raise
                self.server.failed(error)
                text = f"{type(error).__name__} while reading; see the log\n".encode()
                made = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, text)
        self.send_response(made.status)
        self.send_header("Content-Type", made.content_type)
        self.send_header("Content-Length", str(len(made.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in made.headers:
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(made.body)

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002 - the base's signature
    ) -> None:
        # Any method but GET and HEAD ends here as "unsupported"; HTTP has a better word for it.
        if code == HTTPStatus.NOT_IMPLEMENTED:
            code, message = HTTPStatus.METHOD_NOT_ALLOWED, "use GET or HEAD: this is read-only"
        body = f"{message or HTTPStatus(code).phrase}\n".encode()
        self.close_connection = True
        self.send_response(code)
        if code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Content-Type", TEXT)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing: a scrape a second is no news."""


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _names_loopback(header: str) -> bool:
    host = header.strip()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return _is_loopback(host.lower())
