"""Addresses to listen on: which are this machine's alone, and the first port that is free."""

from __future__ import annotations

import errno
import ipaddress
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["first_free", "is_loopback", "what_to_set"]

T = TypeVar("T")


def first_free(bind: Callable[[int], T], port: int, count: int) -> T:
    """Return what `bind` makes of the first of `count` ports from `port` on that is not taken.

    Port 0 picks a free one, whatever the count. Raises the `OSError` of the last one, or of any
    that fails for another reason.
    """
    last = port + (count - 1 if port else 0)
    for candidate in range(port, last):
        try:
            return bind(candidate)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return bind(last)


def what_to_set(error: OSError, what: str) -> str:
    """Return which of the settings `what_host`, `what_port`, `what_port_count` to change."""
    if error.errno in {errno.EADDRINUSE, errno.EACCES}:
        return (
            f"set {what}_port to a free port, or 0 to have one picked, and {what}_port_count to "
            "the number of workers or more"
        )
    return f"set {what}_host to an address of this machine"


def is_loopback(host: str) -> bool:
    """Return whether an address or host name means this machine and nobody else's."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
