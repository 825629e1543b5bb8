"""The thread server: what `answers` says, over HTTP, also while the loop is blocked.

Starts, stops and shares the server; `handler` speaks HTTP.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import threading
import time
from dataclasses import replace
from http.server import ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from loopwatch.net import is_loopback
from loopwatch.server.answers import BUSY, Answer, answer, is_long
from loopwatch.server.handler import Handler
from loopwatch.server.places import Places

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.server.answers import View

__all__ = ["HttpServer"]

log = logging.getLogger("loopwatch")

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
        # A pid does not tell who answers: it is 1 for each that a container starts.
        self._token = os.urandom(8).hex()
        self._long_answer = threading.Lock()
        self._server = _Server((host, port), self._answered, self._spent, self._failed)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="loopwatch-http", daemon=True)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Start the thread; say so in the log if others than this machine can come."""
        if not self._server.loopback:
            log.warning(
                "loopwatch: the thread server listens on %s and asks no password: who reaches it "
                "can read stacks and task names; keep its port from strangers, or set "
                "http_host='127.0.0.1'",
                self.host,
            )
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
        """Close the inherited sockets in a forked child; the parent's go on."""
        self._views = ()
        self._server.socket.close()
        self._server.places.forget()

    def _run(self) -> None:
        while not self._stopping:
            self._server.handle_request()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        # An open page would go on asking us, and never find who listens there next.
        self._server.places.close()
        try:
            # Wakes the thread from its wait; it then sees the flag.
            socket.create_connection(self._server.wake_address(), timeout=_STOP_S).close()
        except OSError:
            pass  # nobody listens any more: the thread has ended
        self._thread.join(_STOP_S)
        self._server.server_close()

    def _answered(self, target: str, accept: str) -> Answer:
        if not is_long(target):
            return answer(self._views, target, accept, self._token)
        # One at a time, and until it is sent: a crowd of slow readers would fill the memory.
        if not self._long_answer.acquire(blocking=False):
            return BUSY
        try:
            made = answer(self._views, target, accept, self._token)
        except BaseException:
            self._long_answer.release()
            raise
        return replace(made, over=self._long_answer.release)

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
    ) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self.answer = answer
        self.spent = spent
        self.failed = failed
        self.places = Places(_MAX_CONNECTIONS)
        self._name = address[0].lower()
        super().__init__(address, Handler)
        # Of what was bound: loopback has more spellings than one (127.1, names of /etc/hosts).
        self.loopback = is_loopback(self._bound().removeprefix("::ffff:"))

    def server_bind(self) -> None:
        # HTTPServer's own looks the host name up in DNS, on the thread that installs us.
        socketserver.TCPServer.server_bind(self)

    def answers_to(self, names: list[str]) -> bool:
        """Return whether a request with these `Host` headers is for us."""
        if not self.loopback:
            return True
        return len(names) == 1 and (names[0] == self._name or is_loopback(names[0]))

    def wake_address(self) -> tuple[str, int]:
        name = self._bound()
        port = int(self.server_address[1])
        return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name), port)  # noqa: S104

    def _bound(self) -> str:
        host = self.server_address[0]
        return host.decode() if isinstance(host, (bytes, bytearray)) else str(host)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self.places.take(request):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread could be started: handle_request closes the connection
            self.places.leave(request)
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
            self.places.leave(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Readers that go away in mid-answer are no event; the default prints a traceback."""
