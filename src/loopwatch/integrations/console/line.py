"""What stands between prompt_toolkit's telnet and the host: a socket and a loop that keep quiet.

prompt_toolkit reads and writes without expecting errors, and shows those that come on the terminal
it was started from, which here is the host's. Checked on 3.0.53.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import logging
import socket
import termios
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Line", "QuietLoop", "cut"]

log = logging.getLogger("loopwatch")

_IAC: Final = b"\xff"
_ONLY_TELNET: Final = b"this console speaks telnet: connect with a telnet client\r\n"
# A client that does not read keeps the thread, and with it the other sessions, for so long.
_SEND_S: Final = 5.0
# prompt_toolkit writes what is typed into a pipe of 64 kB that nobody reads while a command is at
# work; at the end of that it would wait for itself.
_TYPED_AHEAD: Final = 8192
# A peer that is gone without a word is noticed after a minute and a half, not after two hours.
_KEEPALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))


class Line:
    """A connection as `TelnetConnection` uses one: raises nothing, and is for telnet clients only.

    Any web page can have a browser send what it likes to a port of 127.0.0.1, but not as the first
    byte: that is the method's, or TLS's. A telnet client begins with IAC, as the answer to what the
    server offers as soon as it is connected; whoever begins otherwise is hung up on.
    """

    def __init__(self, connection: socket.socket, keys: int, ended: Callable[[], None]) -> None:
        """Take the connection, and what to call when nothing more will come from it.

        `keys` is the descriptor of the pipe that what is received goes into.
        """
        self._connection = connection
        self._keys = keys
        self._ended = ended
        self._is_telnet = False
        connection.settimeout(_SEND_S)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def fileno(self) -> int:
        """Return the descriptor, for the loop's selector."""
        return self._connection.fileno()

    def recv(self, size: int) -> bytes:
        """Return what came; nothing if the other side is gone, or does not speak telnet."""
        try:
            data = self._connection.recv(size)
        except OSError:
            data = b""  # a reset is an end
        if data and not self._is_telnet:
            if data.startswith(_IAC):
                self._is_telnet = True
            else:
                self.send(_ONLY_TELNET)
                data = b""
        if data and _waiting(self._keys) > _TYPED_AHEAD:
            data = b""
        if not data:
            self._ended()
        return data

    def send(self, data: bytes) -> int:
        """Send all of it, or break the connection."""
        try:
            self._connection.sendall(data)
        except OSError:
            cut(self._connection)
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class QuietLoop(asyncio.SelectorEventLoop):
    """A loop whose unhandled errors are a line at debug.

    An application of prompt_toolkit sets a handler while it runs: it prints to the host's stdout,
    waits for ENTER on the host's stdin and turns the echo of the host's terminal off.
    """

    def set_exception_handler(self, handler: object) -> None:
        """Keep to the one below."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the type of the error: its message may carry values of the host."""
        error = context.get("exception")
        log.debug("loopwatch: an error in the console's loop: %s", type(error).__name__)


def cut(connection: socket.socket) -> None:
    """Break a connection: whoever waits in a read or write of it, on any thread, goes on."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # broken already


def _waiting(pipe: int) -> int:
    """Return how many bytes a pipe holds."""
    size = array.array("i", [0])
    fcntl.ioctl(pipe, termios.FIONREAD, size)
    return size[0]
