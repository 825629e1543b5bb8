"""HTTP clients that are not in the standard library."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.accuracy.label import Scene, stall
from tests.accuracy.scenes import slow_web_server

try:
    import requests
    from requests import get
except ImportError:
    requests = get = None
try:
    import httpx
except ImportError:
    httpx = None

wait = partial(
    stall, causes=("blocking_call",), waits=("socket",), setup=slow_web_server, light=True
)


@wait(calls=("requests.get", "requests.api.get"), needs=("requests",))
def request(url: str) -> None:
    """`requests.get`."""
    requests.get(url, timeout=10)


@wait(calls=("requests.get", "requests.api.get"), needs=("requests",))
def request_by_name(url: str) -> None:
    """`from requests import get`, `get()`."""
    get(url, timeout=10)


@contextlib.contextmanager
def prices(asked_s: float) -> Iterator[Scene]:
    """Give an object that has a session."""
    with slow_web_server(asked_s) as (args, _), requests.Session() as session:
        yield Scene((Prices(session, args[0]),))


class Prices:
    """Asks another service with a session."""

    def __init__(self, session: Any, url: str) -> None:
        self.session = session
        self.url = url

    @wait(
        calls=("requests.Session.get", "requests.sessions.Session.get"),
        needs=("requests",),
        setup=prices,
    )
    def fetch(self) -> None:
        """`get` of a session of requests in an attribute."""
        self.session.get(self.url, timeout=10)


@wait(calls=("httpx.get", "httpx._api.get"), needs=("httpx",))
def request_with_httpx(url: str) -> None:
    """`httpx.get`."""
    httpx.get(url, timeout=10)


@contextlib.contextmanager
def httpx_client(asked_s: float) -> Iterator[Scene]:
    """Give a client of httpx."""
    with slow_web_server(asked_s) as (args, _), httpx.Client(timeout=10) as client:
        yield Scene((client, args[0]))


@wait(
    setup=httpx_client,
    calls=("httpx.Client.get", "httpx._client.Client.get"),
    needs=("httpx",),
)
def request_with_client(client: Any, url: str) -> None:
    """`get` of a client of httpx."""
    client.get(url)
