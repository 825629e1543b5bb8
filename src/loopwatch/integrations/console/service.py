"""The console of one loop: a socket, and a thread that runs aiomonitor on it.

The socket is bound where the agent starts, so a taken port is told there; importing aiomonitor
takes half a second, so that is left to the thread. Nothing here runs on the loop.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import threading
from functools import partial
from typing import TYPE_CHECKING, Final

from loopwatch.errors import MissingExtraError
from loopwatch.exporters.base import Exporter, Source
from loopwatch.net import first_free, is_loopback
from loopwatch.patience import patience_s

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from loopwatch.config import Config
    from loopwatch.integrations.console.monitor import LoopMonitor

__all__ = ["Console", "require_aiomonitor"]

log = logging.getLogger("loopwatch")

# `install` comes to its end before the import competes with it.
_GRACE_S: Final = 0.05
# In order, then by force.
_STOP_S: Final = 0.2
_CUT_OFF_S: Final = 0.2
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
        # The port that is listened on; `None` where none could be had, and after `stop`.
        self.port: int | None = None

    def start(self, source: Source) -> None:
        """Listen, and have the thread do the rest. Loop thread; takes less than a millisecond."""
        config = source.config
        try:
            self._listener = first_free(
                partial(_bound, config.console_host), config.console_port, config.console_port_count
            )
        except OSError as error:
            log.error(  # noqa: TRY400 - a traceback adds nothing to "port taken"
                "loopwatch: the console cannot listen on %s:%d (%s); set console_port to a free "
                "port, or console_port_count to the number of workers. The loop is watched, but "
                "has no console",
                config.console_host,
                config.console_port,
                os.strerror(error.errno) if error.errno else type(error).__name__,
            )
            return
        self.port = int(self._listener.getsockname()[1])
        self._ident = threading.get_ident()
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="loopwatch-console", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Hang up, and wait for the thread for at most 0.4 s. Idempotent, any thread.

        While somebody uses Python's console the thread ends once the loop has come round.
        """
        self._stopping.set()
        self.port = None
        monitor, thread = self._monitor, self._thread
        if monitor is not None:
            monitor.request_stop()
        if thread is None:
            self._close()
        elif monitor is not None and monitor.needs_loop and self._ident == threading.get_ident():
            pass  # the thread waits for this one
        elif thread is not threading.current_thread():
            thread.join(patience_s(_STOP_S))
            if monitor is not None and thread.is_alive():
                monitor.cut_off()
                thread.join(patience_s(_CUT_OFF_S))

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
            # Here and not at the top: half a second, and what fails here must not fail the host.
            from loopwatch.integrations.console.commands import add_commands  # noqa: PLC0415
            from loopwatch.integrations.console.monitor import LoopMonitor  # noqa: PLC0415

            if self._stopping.is_set() or self._listener is None:
                return
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
