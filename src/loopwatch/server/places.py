"""How many connections may be open at a time, and who has to go when one more comes."""

from __future__ import annotations

import socket
import threading

__all__ = ["Places"]


class Places:
    """A limit on connections that nobody can use up by staying.

    Browsers keep connections open between their questions, and others say nothing at all. When all
    places are taken, the connection that has been waiting for a request for longest makes room; one
    that is being answered never does. Any thread.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        # In the order in which they began to wait.
        self._waiting: dict[socket.socket, None] = {}
        self._answered: set[socket.socket] = set()
        self._closed = False

    def take(self, connection: socket.socket) -> bool:
        """Give a new connection a place; `False` if all others are being answered, or all ended."""
        evicted = None
        with self._lock:
            if self._closed:
                return False
            if len(self._waiting) + len(self._answered) >= self._limit:
                evicted = next(iter(self._waiting), None)
                if evicted is None:
                    return False
                del self._waiting[evicted]
            self._waiting[connection] = None
        if evicted is not None:
            _end(evicted)
        return True

    def answers(self, connection: socket.socket) -> bool:
        """Note that a request has come; `False` if it must be the last of this connection."""
        with self._lock:
            if connection not in self._waiting:
                return False
            del self._waiting[connection]
            self._answered.add(connection)
            return not self._closed

    def waits(self, connection: socket.socket) -> None:
        """Note that an answer is out and the next request may come."""
        with self._lock:
            if connection in self._answered:
                self._answered.remove(connection)
                self._waiting[connection] = None

    def leave(self, connection: socket.socket) -> None:
        """Free the place of a connection, if it still has one."""
        with self._lock:
            self._waiting.pop(connection, None)
            self._answered.discard(connection)

    def close(self) -> None:
        """End all connections, after the answers that are on their way, and take no other."""
        with self._lock:
            self._closed = True
            for connection in (*self._waiting, *self._answered):
                _end(connection)

    def forget(self) -> None:
        """Close our copies in a forked child; the parent's connections go on."""
        # Nobody else runs here, and whoever had the lock at the fork never gives it back.
        for connection in (*self._waiting, *self._answered):
            connection.close()


def _end(connection: socket.socket) -> None:
    try:
        # Its thread reads the end, after a request that is on its way already.
        connection.shutdown(socket.SHUT_RD)
    except OSError:
        pass  # gone by itself
