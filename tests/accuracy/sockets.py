"""Waits for the network: sockets, TLS, HTTP, names."""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import select
import socket
import ssl
import struct
import threading
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.accuracy.label import NotHereError, Scene, stall
from tests.accuracy.scenes import (
    folder,
    full_backlog,
    slow_server,
    slow_tls_server,
    slow_web_server,
)

wait = partial(stall, causes=("blocking_call",), light=True)


@wait(setup=slow_server, calls=("socket.socket.recv",), waits=("socket",))
def read_from_slow_server(connection: socket.socket) -> None:
    """`recv` from a peer that answers late."""
    connection.recv(1)


@wait(
    setup=full_backlog,
    asked_s=1.0,
    calls=("socket.create_connection",),
    waits=("socket",),
)
def connect_to_full_backlog(address: tuple[str, int]) -> None:
    """`create_connection` to a listener whose backlog is full."""
    socket.create_connection(address, timeout=10).close()


@wait(
    setup=slow_tls_server,
    calls=("ssl.SSLSocket.recv",),
    waits=("socket",),
    needs=("openssl",),
)
def read_over_tls(connection: ssl.SSLSocket) -> None:
    """`recv` on a TLS connection."""
    connection.recv(1)


@wait(setup=slow_server, calls=("select.select",), waits=("socket",))
def select_one(connection: socket.socket) -> None:
    """`select.select` on one socket."""
    select.select([connection], [], [])


@contextlib.contextmanager
def slow_http_connection(asked_s: float) -> Iterator[Scene]:
    """Give a connection that has sent its request."""
    with slow_web_server(asked_s) as (args, _):
        host = args[0].split("/")[2]
        connection = http.client.HTTPConnection(host)
        with contextlib.closing(connection):
            yield Scene((connection,), lambda: connection.request("GET", "/"))


@wait(
    setup=slow_http_connection,
    calls=("http.client.HTTPConnection.getresponse",),
    waits=("socket",),
)
def read_http_response(connection: http.client.HTTPConnection) -> None:
    """`http.client`."""
    connection.getresponse().read()


@wait(setup=slow_web_server, calls=("urllib.request.urlopen",), waits=("socket",))
def open_url(url: str) -> None:
    """`urllib.request.urlopen`."""
    with urllib.request.urlopen(url) as response:
        response.read()


_CLONE_NEWNS, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000


@contextlib.contextmanager
def slow_dns(asked_s: float) -> Iterator[Scene]:
    """Have a resolver that answers late, in a mount namespace of this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    # Two children may run at a time, and the port cannot be chosen.
    address = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
    with folder() as path, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        conf = Path(path, "resolv.conf")
        conf.write_text(f"nameserver {address}\noptions timeout:10 attempts:1\n")
        try:
            server.bind((address, 53))
        except OSError as error:
            raise NotHereError(f"no port 53 for a resolver: {error.strerror}") from None
        if (
            libc.unshare(_CLONE_NEWNS)
            or libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
            or libc.mount(str(conf).encode(), b"/etc/resolv.conf", None, _MS_BIND, None)
        ):
            raise NotHereError(f"no mount namespace: {os.strerror(ctypes.get_errno())}")

        def answer() -> None:
            with contextlib.suppress(OSError):
                query, peer = server.recvfrom(512)
                time.sleep(asked_s)
                # The question comes back with one address, valid for no time at all.
                found = b"\xc0\x0c" + struct.pack("!HHIH4s", 1, 1, 0, 4, bytes([127, 0, 0, 1]))
                server.sendto(
                    query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + query[12:] + found, peer
                )

        answering = threading.Thread(target=answer, daemon=True)
        answering.start()
        yield Scene(("loopwatch-accuracy.test.",))
        answering.join(2)
        libc.umount(b"/etc/resolv.conf")


@wait(
    setup=slow_dns,
    calls=("socket.getaddrinfo",),
    waits=("dns",),
    needs=("root",),
)
def look_up(host: str) -> None:
    """`socket.getaddrinfo` with a resolver that answers late."""
    socket.getaddrinfo(host, 80, socket.AF_INET, socket.SOCK_STREAM)
