"""The console of one loop: a socket, and a thread that runs aiomonitor on it.

The socket is bound where the agent starts, so a taken port is told there; importing aiomonitor
takes half a second, so that is left to the thread. Nothing here runs on the loop.
"""

from __future__ import annotations

import errno
import importlib.util
import logging
import os
import socket
import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Final

from loopwatch.errors import MissingExtraError
from loopwatch.exporters.base import Exporter, Source
from loopwatch.forklock import ForkLock
from loopwatch.integrations.console.forkgate import IMPORTING
from loopwatch.net import first_free, is_loopback, what_to_set
from loopwatch.patience import patience_s

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from loopwatch.config import Config
    from loopwatch.integrations.console.monitor import LoopMonitor

__all__ = ["Console", "require_aiomonitor"]

log = logging.getLogger("loopwatch")

# `install` comes to its end before the import competes with it.
_GRACE_S: Final = 0.05
# What a command of aiomonitor's that is at work may delay the end by.
_STOP_S: Final = 0.4
_BACKLOG: Final = 8


def require_aiomonitor() -> None:
    """Raise `MissingExtraError` if aiomonitor is not installed. Imports nothing."""
    if importlib.util.find_spec("aiomonitor") is None:
        raise MissingExtraError("the aiomonitor console", "console")


class Console(Exporter):
    """A monitor for one loop, from `start` to `stop`. Records are asked for, not delivered."""

    name = "console"

    def __init__(self, loop: AbstractEventLoop) -> None:
        """Take the loop; raises `MissingExtraError` without aiomonitor."""
        require_aiomonitor()
        self._loop = loop
        self._listener: socket.socket | None = None
        self._monitor: LoopMonitor | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._ident = 0
        # Whose the listener is: until the thread takes it over, `stop` closes it.
        self._handover = ForkLock()
        self._taken_over = False
        # The address that is listened on; no port where none could be had, and after `stop`.
        self.host = ""
        self.port: int | None = None

    def start(self, source: Source) -> None:
        """Listen, and have the thread do the rest. Loop thread; takes less than a millisecond."""
        config = source.config
        try:
            self._listener = first_free(
                partial(_bound, config.console_host), config.console_port, config.console_port_count
            )
        except OSError as error:
            shared = _port_of_ours(config) if error.errno == errno.EADDRINUSE else None
            if shared is not None:
                log.info(
                    "loopwatch: this loop has no console of its own: port %d is the console of "
                    "another loop of this process, and answers for this one with --loop NAME; "
                    "console_port=0 gives each loop a console",
                    shared,
                )
                return
            log.error(  # noqa: TRY400 - a traceback adds nothing to "port taken"
                "loopwatch: the console cannot listen on %s:%d (%s); %s. The loop is watched, but "
                "has no console",
                config.console_host,
                config.console_port,
                os.strerror(error.errno) if error.errno else type(error).__name__,
                what_to_set(error, "console"),
            )
            return
        self.host = config.console_host
        self.port = int(self._listener.getsockname()[1])
        _CONSOLES.add(self)
        self._ident = threading.get_ident()
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="loopwatch-console", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Hang up, and wait for the thread, for at most 0.4 s. Idempotent, any thread.

        A thread that is still importing is not waited for: it ends by itself when that is done.
        While somebody uses Python's console the thread ends once the loop has come round.
        """
        self._stopping.set()
        self.port = None
        with self._handover:
            if not self._taken_over:
                self._close()
                return
        monitor, thread = self._monitor, self._thread
        if monitor is not None:
            monitor.request_stop()
            monitor.cut_off()
            if monitor.needs_loop and self._ident == threading.get_ident():
                return  # the thread waits for this one
        if thread is not None and thread is not threading.current_thread():
            thread.join(patience_s(_STOP_S))

    def forget(self) -> None:
        """Close the inherited sockets in a forked child; the parent's console goes on."""
        self.port = None
        self._close()
        if self._monitor is not None:
            self._monitor.forget()

    def _close(self) -> None:
        if self._listener is not None:
            self._listener.close()

    def _run(self, source: Source) -> None:
        try:
            if self._stopping.wait(_GRACE_S):
                return
            with IMPORTING:
                if self._stopping.is_set():
                    return
                # Here and not at the top: half a second, and what fails here must not fail the
                # host.
                from loopwatch.integrations.console.commands import add_commands  # noqa: PLC0415
                from loopwatch.integrations.console.monitor import LoopMonitor  # noqa: PLC0415

            with self._handover:
                if self._stopping.is_set() or self._listener is None:
                    return
                self._taken_over = True
            add_commands()
            monitor = LoopMonitor(self._loop, self._ident, self._listener, source.config)
            self._monitor = monitor
            if self._stopping.is_set():
                return  # `stop` did not see the monitor
            self._announce(source.config, monitor.port)
            monitor.serve()
        except Exception as error:  # noqa: BLE001 - a foreign UI: without it the loop is watched on
            source.fault("running the console", error)
            log.error(  # noqa: TRY400 - a message may carry values of the host
                "loopwatch: the console does not work with aiomonitor %s (%s); try "
                "`pip install -U 'loopwatch[console]'`, or set console=False. Everything else "
                "goes on",
                _version(),
                _named(error),
            )
        finally:
            self.port = None
            self._close()

    def _announce(self, config: Config, port: int) -> None:
        host = config.console_host
        log.info(
            "loopwatch: console on %s:%d; connect with `telnet %s %d` or "
            "`python -m aiomonitor.cli -H %s -p %d`",
            *(host, port) * 3,
        )
        if not is_loopback(host):
            log.warning(
                "loopwatch: the console listens on %s and asks no password: who reaches it can "
                "cancel tasks and send signals%s; set console_host='127.0.0.1'",
                host,
                ", and run code" if config.console_repl else "",
            )


# A port can be another loop's of this process; forked children and stopped consoles have none.
_CONSOLES: Final[weakref.WeakSet[Console]] = weakref.WeakSet()


def _port_of_ours(config: Config) -> int | None:
    """Return the port that another console of this process has of those that are wanted."""
    wanted = range(config.console_port, config.console_port + config.console_port_count)
    for console in tuple(_CONSOLES):
        if console.host == config.console_host and console.port in wanted:
            return console.port
    return None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def _version() -> str:
    from importlib import metadata  # noqa: PLC0415 - 20 ms, and only a failure needs it

    try:
        return metadata.version("aiomonitor")
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _named(error: Exception) -> str:
    # The name of a module that is missing is no value of the host's.
    missing = error.name if isinstance(error, ImportError) and error.name else None
    return f"{type(error).__name__}: {missing}" if missing else type(error).__name__
