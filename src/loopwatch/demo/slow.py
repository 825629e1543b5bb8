"""The slow neighbour: an HTTP server that takes its time over every answer."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["SlowServer"]


class SlowServer:
    """Answers every GET with a price after `delay_s`, on a free loopback port, as a context."""

    def __init__(self, delay_s: float) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.delay_s = delay_s
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="demo-slow-server", daemon=True
        )

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    delay_s: float

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a reader that left, as at the end of the demo, is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:
        time.sleep(self.server.delay_s)
        body = b'{"price": 9.95}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Log nothing: the demo's screen is for stalls."""
