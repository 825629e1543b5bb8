"""Addresses of thread servers, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from loopwatch.errors import ConfigError
from loopwatch.views.text import clean

__all__ = ["Address", "parse_address"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?").fullmatch
_EXAMPLE: Final = "http://127.0.0.1:9464"


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """Where a thread server listens. `scheme` is http or https."""

    scheme: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """Host and port, `127.0.0.1:9464` or `[::1]:9464`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole of it, as it may be given on a command line."""
        return f"{self.scheme}://{self.place}"


def parse_address(text: str) -> Address:
    """Return the address that a URL names; raises `ConfigError` that says how to write it."""
    shown = clean(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        bare = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", text)
        if bare:
            raise ConfigError(f"{shown!r} has no scheme: write http://{text}")
        raise ConfigError(f"{shown!r} is neither a URL nor a PID: write it like {_EXAMPLE}")
    if scheme.lower() not in _DEFAULT_PORTS:
        raise ConfigError(f"{shown!r} is neither http nor https: write it like {_EXAMPLE}")
    if "@" in rest:
        # Not shown: it may be a password.
        raise ConfigError(f"a URL with a user or a password is no use here: write just {_EXAMPLE}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    if not host or not _HOST(host) or port == 0:
        raise ConfigError(f"{shown!r} names no host and port: write it like {_EXAMPLE}")
    found = Address(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme])
    if parts.path not in ("", "/") or "?" in text or "#" in text:
        raise ConfigError(f"{shown!r} is more than an address: write {found.url}")
    return found
