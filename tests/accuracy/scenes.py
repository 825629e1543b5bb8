"""What helpers meet: slow peers, held locks, work of a known length."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from tests.accuracy.label import F, Scene, Setup, stall

# A measured piece must be this share of what is asked before it is scaled up.
_SHARE: Final = 0.4
# Near the threshold a piece is measured so often.
_NEAR_S: Final = 0.2
_LOOKS: Final = 3
_SELF_SIGNED: Final = (
    "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1"
    " -subj /CN=localhost -days 1"
)


def after(wait_s: float, action: Callable[..., object], *args: Any) -> threading.Timer:
    """Do something on another thread, once the loop has been blocked for `wait_s`."""
    timer = threading.Timer(wait_s, action, args)
    timer.daemon = True
    timer.start()
    return timer


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection over the loopback interface."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        yield near, far


@contextlib.contextmanager
def slow_server(asked_s: float) -> Iterator[Scene]:
    """Give a connection to a peer that answers late."""
    with tcp_pair() as (near, far):
        yield Scene((near,), lambda: after(asked_s, far.send, b"x"))


@contextlib.contextmanager
def slow_tls_server(asked_s: float) -> Iterator[Scene]:
    """Give a TLS connection to a peer that answers late."""
    with tempfile.TemporaryDirectory() as folder, tcp_pair() as (near, far):
        key, certificate = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        subprocess.run(
            [*_SELF_SIGNED.split(), "-keyout", str(key), "-out", str(certificate)],
            check=True,
            capture_output=True,
        )
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        theirs.load_cert_chain(certificate, key)
        ours = ssl.create_default_context(cafile=str(certificate))
        ours.check_hostname = False
        ends: list[ssl.SSLSocket] = []
        accept = threading.Thread(
            target=lambda: ends.append(theirs.wrap_socket(far, server_side=True))
        )
        accept.start()
        with ours.wrap_socket(near) as client:
            accept.join()
            with ends[0] as server:
                yield Scene((client,), lambda: after(asked_s, server.send, b"x"))


@contextlib.contextmanager
def full_backlog(asked_s: float) -> Iterator[Scene]:
    """Give the address of a listener that has no room yet: the kernel asks again after 1 s."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = server.getsockname()
        for _ in range(2):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(address)

        def make_room() -> None:
            for _ in range(2):
                server.accept()[0].close()

        yield Scene((address,), lambda: after(asked_s / 2, make_room))


@contextlib.contextmanager
def slow_web_server(asked_s: float) -> Iterator[Scene]:
    """Give the URL of a web server that takes its time."""

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(asked_s)
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield Scene((f"http://127.0.0.1:{server.server_port}/",))
        server.shutdown()
        serving.join()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Give a folder of one's own."""
    path = Path(tempfile.mkdtemp(prefix="loopwatch-accuracy-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sized(make: Callable[[int], Any], helper: Callable[..., object], power: float = 1.0) -> Setup:
    """Give the helper as much as it takes about the asked time for; it grows with size**power."""

    @contextlib.contextmanager
    def setup(asked_s: float) -> Iterator[Scene]:
        size, looks = 500, 0
        while True:
            given = make(size)
            # CPU time: other processes must not make the work look longer than it is.
            began_s = time.thread_time()
            helper(given)
            took_s = time.thread_time() - began_s
            factor = (asked_s / max(took_s, 1e-6)) ** (1 / power)
            # Small pieces tell too little: get near in steps.
            size = max(size + 1, round(size * min(4.0, factor)))
            looks += took_s >= asked_s * _SHARE
            if looks >= (_LOOKS if asked_s < _NEAR_S else 1):
                break
        yield Scene((make(size),))

    return setup


def sized_stall(make: Callable[[int], Any], power: float = 1.0, **label: Any) -> Callable[[F], F]:
    """Register a helper whose time grows with the size of what it is given, to this power."""

    def register(helper: F) -> F:
        return stall(setup=sized(make, helper, power), **label)(helper)

    return register


def number(size: int) -> int:
    """Give the size itself."""
    return size


def rows(count: int) -> list[dict[str, Any]]:
    """Give records as a web service has them."""
    return [
        {"id": n, "name": f"customer {n}", "tags": ["a", "b"], "paid": True} for n in range(count)
    ]
