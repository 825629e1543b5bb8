"""A socket as a stream with limits on the whole of a request and of its answer.

A socket's own timeout begins anew with each byte: whoever sends or takes one every other second
could stay for ever.
"""

from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket

__all__ = ["TooLongError", "Wire"]


class TooLongError(Exception):
    """A request is longer than allowed."""


class Wire(io.RawIOBase):
    """Both ways of a connection. Raises `TimeoutError` after the time that `allow` set."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__()
        self._connection = connection
        self._until_s = 0.0
        self._bytes = 0
        self._broken = False

    def allow(self, seconds: float, most_bytes: int = 0) -> None:
        """Let what follows take so long, and so many bytes to read."""
        self._until_s = time.monotonic() + seconds
        self._bytes = most_bytes

    def readable(self) -> bool:
        """Return `True`: a connection has both ways."""
        return True

    def writable(self) -> bool:
        """Return `True`: a connection has both ways."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes; raises `TooLongError` after as many as were allowed."""
        if self._bytes <= 0:
            raise TooLongError
        self._limit_time()
        got = self._connection.recv_into(buffer)
        self._bytes -= got
        return got

    def write(self, data: Any) -> int:
        """Send all of it."""
        # Once broken, what a buffer still holds is dropped: closing it must not wait again.
        if not self._broken:
            self._broken = True
            self._limit_time()
            self._connection.sendall(data)
            self._broken = False
        return memoryview(data).nbytes

    def _limit_time(self) -> None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)
