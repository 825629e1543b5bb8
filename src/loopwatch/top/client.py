"""Asks one address of a thread server; every way in which that can fail is one line.

One connection a question, as a server that is asked once a second should keep no thread for us.
Nothing else is ever connected to: no proxy, wherever the environment names one, and no redirect.
"""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, NoReturn

from loopwatch.errors import LoopwatchError
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from loopwatch.top.address import Address

__all__ = ["Client", "GoneError", "NotLoopwatchError", "TroubleError"]

# A full history of long records is some megabytes.
_MAX_BYTES: Final = 64 * 2**20
_CHUNK: Final = 65536
_NOT_OURS: Final = "give the port of the setting http_port, not the app's own"
_HALF: Final = "broke off in the middle of its answer"
# What the server of this project says to a path that it does not know.
_UNKNOWN_PATH: Final = b"not found; there is /"


class TroubleError(LoopwatchError):
    """Why an address gave no answer, in one line without the address."""


class GoneError(TroubleError):
    """Nobody listens there."""


class NotLoopwatchError(TroubleError):
    """Somebody listens there who is no thread server of loopwatch."""


class Client:
    """Asks one address. One thread asks; `abort` is for any other."""

    def __init__(self, address: Address, timeout_s: float) -> None:
        """`timeout_s` is for the whole of an answer, however slowly it comes."""
        self.address = address
        self._timeout_s = timeout_s
        self._aborted = False
        self._socket: socket.socket | None = None
        # Reads every certificate of the system, so once.
        self._tls = ssl.create_default_context() if address.scheme == "https" else None

    def get(self, path: str) -> Any:
        """Return the JSON at `path`; raises `TroubleError`."""
        deadline_s = time.monotonic() + self._timeout_s
        try:
            raw = self._exchange(path, deadline_s)
        except TimeoutError:
            raise TroubleError(f"did not answer within {self._timeout_s:g} s") from None
        except ssl.SSLError as error:
            raise TroubleError(_tls_trouble(error)) from None
        except ConnectionRefusedError:
            raise GoneError(
                f"nobody listens there: is the process running, with http_port={self.address.port}?"
            ) from None
        except OSError as error:
            raise TroubleError(_network_trouble(error)) from None
        except UnicodeError:  # a host name that DNS has no letters for
            raise TroubleError("is no host name: check the URL") from None
        return self._understood(raw)

    def abort(self) -> None:
        """Let a question in progress fail now, and every later one."""
        self._aborted = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # over already

    def _exchange(self, path: str, deadline_s: float) -> bytes:
        plain = socket.create_connection(
            (self.address.host, self.address.port), timeout=_left(deadline_s)
        )
        with plain:
            self._socket = plain
            if self._aborted:
                raise TimeoutError
            if self._tls is None:
                return self._ask(plain, path, deadline_s)
            plain.settimeout(_left(deadline_s))
            with self._tls.wrap_socket(plain, server_hostname=self.address.host) as encrypted:
                self._socket = encrypted
                return self._ask(encrypted, path, deadline_s)

    def _ask(self, connected: socket.socket, path: str, deadline_s: float) -> bytes:
        connected.settimeout(_left(deadline_s))
        connected.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {self.address.place}\r\nAccept: application/json\r\n"
            "User-Agent: loopwatch-top\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        received = bytearray()
        while len(received) <= _MAX_BYTES:
            connected.settimeout(_left(deadline_s))
            part = connected.recv(_CHUNK)
            if not part:
                return bytes(received)
            received += part
        raise NotLoopwatchError(f"answers with more than {_MAX_BYTES // 2**20} MB: {_NOT_OURS}")

    def _understood(self, raw: bytes) -> Any:
        if not raw:
            raise TroubleError("closed the connection without an answer: is it https, or busy?")
        if raw.startswith(b"HTTP/") and b"\r\n\r\n" not in raw:
            raise TroubleError(_HALF)
        response = http.client.HTTPResponse(_Received(raw))  # type: ignore[arg-type]
        try:
            response.begin()
            body = response.read()
        except http.client.IncompleteRead:
            raise TroubleError(_HALF) from None
        except (http.client.HTTPException, ValueError, OverflowError):
            raise NotLoopwatchError(f"speaks no HTTP: {_NOT_OURS}") from None
        if response.status != http.client.OK:
            self._refused(response, body)
        try:
            return json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise NotLoopwatchError(f"is no loopwatch, it sends no JSON: {_NOT_OURS}") from None

    def _refused(self, response: http.client.HTTPResponse, body: bytes) -> NoReturn:
        status = response.status
        ours = (response.headers.get("Server") or "").startswith("loopwatch")
        if body.startswith(_UNKNOWN_PATH):
            raise TroubleError("is a loopwatch too old for this command: update it")
        if 300 <= status < 400:  # noqa: PLR2004 - redirects
            target = clean(response.headers.get("Location"))
            raise NotLoopwatchError(f"redirects to {target}, which is not followed: {_NOT_OURS}")
        if status == http.client.FORBIDDEN and ours:
            raise TroubleError(
                f"answers to localhost only, not to the name {self.address.host}: forward its "
                "port and ask 127.0.0.1, or set http_host"
            )
        if status == http.client.SERVICE_UNAVAILABLE and ours:
            raise TroubleError("watches no loop any more, or is busy: it is asked again")
        if ours:
            raise TroubleError(f"answers with status {status}: see the log of the process")
        raise NotLoopwatchError(f"is no loopwatch (status {status}): {_NOT_OURS}")


class _Received:
    """All that came, as `HTTPResponse` wants it."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def makefile(self, _mode: str) -> io.BytesIO:
        return io.BytesIO(self._raw)


def _left(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON


def _tls_trouble(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"has no valid certificate ({clean(error.verify_message)}): name the file of its CA "
            "in SSL_CERT_FILE"
        )
    return f"speaks no TLS ({clean(error.reason or 'broken off')}): write http:// if it has none"


def _network_trouble(error: OSError) -> str:
    reason = clean(error.strerror or type(error).__name__)
    if isinstance(error, socket.gaierror):
        return f"is not found ({reason}): check the name"
    if isinstance(error, ConnectionError):
        return f"closed the connection ({reason})"
    return f"cannot be reached ({reason})"
