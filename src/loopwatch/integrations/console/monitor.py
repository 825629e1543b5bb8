"""aiomonitor's `Monitor` with a way to run that cannot hurt the host.

Its own `start` waits for ever if its web page's port is taken, does not notice if the telnet port
is; its `close` waits without a limit and puts back a task factory it never replaced. And it cannot
go without the web page, where whoever reaches the port can cancel tasks. So its constructor and its
commands are used, and what runs them is here: no web page, a socket that is bound already, and a
task factory only if asked for.

Not promised by aiomonitor, checked on 0.7.1: the attributes its commands read (`_ui_loop`,
`_termui_tasks`, `_event_loop_thread_id`), and those of the task hook. If they change, commands of
aiomonitor's own fail in the terminal of whoever types them; ours do not need them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import janus
from aiomonitor import Monitor  # type: ignore[import-untyped]
from aiomonitor.termui.commands import interact  # type: ignore[import-untyped]
from prompt_toolkit.contrib.telnet.server import TelnetConnection
from prompt_toolkit.input import create_pipe_input

from loopwatch.integrations.console.line import Line, QuietLoop, cut

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Coroutine

    from loopwatch.config import Config

__all__ = ["LoopMonitor"]

log = logging.getLogger("loopwatch")

_MAX_SESSIONS: Final = 16
# A telnet client has said what terminal it has in a few milliseconds.
_GREETING_S: Final = 10.0
# Python's console closes its server on the watched loop: that has to come round, or be closed.
_GOODBYE_S: Final = 5.0
_POLL_S: Final = 0.05


class LoopMonitor(Monitor):  # type: ignore[misc] # untyped
    """A monitor of one loop on a socket that is bound already."""

    def __init__(
        self, loop: AbstractEventLoop, loop_ident: int, listener: socket.socket, config: Config
    ) -> None:
        """Take the loop and the thread it runs on."""
        super().__init__(
            loop,
            host=config.console_host,
            termui_port=int(listener.getsockname()[1]),
            console_port=_free_port(config.console_host) if config.console_repl else 0,
            webui_port=0,
            console_enabled=config.console_repl,
        )
        self._event_loop_thread_id = loop_ident
        self._started = True
        self._listener = listener
        self._wants_hook = config.console_task_hook
        self._sessions: dict[asyncio.Task[None], socket.socket] = {}
        self._stop_lock = threading.Lock()
        self._stop_asked = False
        self._wake: asyncio.Event | None = None

    def serve(self) -> None:
        """Serve until `request_stop`. Runs a loop of its own on the calling thread."""
        # Not what the host's policy makes: its loops may have properties of their own.
        with asyncio.Runner(loop_factory=QuietLoop) as runner:
            runner.run(self._serve())

    def request_stop(self) -> None:
        """Have `serve` return soon. Any thread."""
        with self._stop_lock:
            self._stop_asked = True
            if self._wake is not None:
                self._ui_loop.call_soon_threadsafe(self._wake.set)

    @property
    def needs_loop(self) -> bool:
        """Whether somebody uses Python's console, which ends with the help of the watched loop."""
        return bool(len(self._termui_tasks))

    def cut_off(self) -> None:
        """Break the connections: a client that does not read keeps the thread in `send`."""
        for connection in list(self._sessions.values()):
            cut(connection)

    def forget(self) -> None:
        """Close what a forked child inherited, and leave its copy of the loop as it was."""
        for connection in list(self._sessions.values()):
            connection.close()
        self._unhook()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        wake = asyncio.Event()
        with self._stop_lock:
            if self._stop_asked:
                return
            self._ui_loop, self._wake = loop, wake
        self._listener.setblocking(False)
        loop.add_reader(self._listener, self._accept)
        keepers = self._hook() if self._wants_hook else []
        try:
            await wake.wait()
        finally:
            with self._stop_lock:
                self._wake = None
            self._unhook()
            loop.remove_reader(self._listener)
            await self._hang_up([*self._termui_tasks, *self._sessions, *keepers])

    async def _hang_up(self, tasks: list[asyncio.Task[Any]]) -> None:
        for task in tasks:
            task.cancel()
        until_s = time.monotonic() + _GOODBYE_S
        pending = set(tasks)
        while pending and time.monotonic() < until_s and not self._monitored_loop.is_closed():
            _, pending = await asyncio.wait(pending, timeout=_POLL_S)
        # Whatever is left is cancelled once more as the loop of this thread ends.

    def _accept(self) -> None:
        try:
            connection, address = self._listener.accept()
        except OSError:
            return  # gone again, or no descriptor left: the next one may have more luck
        if len(self._sessions) >= _MAX_SESSIONS:
            connection.close()
            return
        task = self._ui_loop.create_task(self._session(connection, address))
        self._sessions[task] = connection
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        connection = self._sessions.pop(task, None)
        if connection is not None:
            connection.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            # prompt_toolkit's own server prints it to the host's terminal.
            log.debug("loopwatch: a console session ended with %s", type(error).__name__)

    async def _session(self, connection: socket.socket, address: Any) -> None:
        async with asyncio.timeout(_GREETING_S) as greeting:

            async def begin(telnet: TelnetConnection) -> None:
                greeting.reschedule(None)
                await interact(self, telnet)

            def ended() -> None:
                # Once `interact` runs it sees the end itself; until then nobody would.
                if greeting.when() is not None and not greeting.expired():
                    greeting.reschedule(self._ui_loop.time())

            with create_pipe_input() as keys:
                telnet = TelnetConnection(
                    Line(connection, keys.fileno(), ended),  # type: ignore[arg-type] # all it uses of a socket
                    address,
                    interact=begin,
                    server=None,  # type: ignore[arg-type] # it is kept and never asked
                    encoding="utf-8",
                    style=None,
                    vt100_input=keys,
                    # It would wait a second for the answer of a client that goes or knows none.
                    enable_cpr=False,
                )
                await telnet.run_application()

    # aiomonitor's task hook, where it is asked for.

    def _hook(self) -> list[asyncio.Task[None]]:
        loop = self._monitored_loop
        if loop.get_task_factory() is not None:
            log.warning(
                "loopwatch: console_task_hook stays off: the loop has a task factory already, and "
                "aiomonitor would put its own in place of it"
            )
            return []
        # The tasks write into these, so they come first.
        self._termination_info_queue: janus.Queue[Any] = janus.Queue()
        self._cancellation_chain_queue: janus.Queue[Any] = janus.Queue()
        keepers = [
            self._ui_loop.create_task(self._ui_handle_termination_updates()),
            self._ui_loop.create_task(self._ui_handle_cancellation_updates()),
        ]
        self._hook_task_factory = True
        loop.set_task_factory(self._create_task)
        return keepers

    def _unhook(self) -> None:
        # Only what is still ours: the host may have set another one meanwhile.
        if self._hook_task_factory and self._monitored_loop.get_task_factory() == self._create_task:
            self._monitored_loop.set_task_factory(None)

    def _create_task(
        self,
        loop: AbstractEventLoop,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Any = None,
        **others: Any,
    ) -> asyncio.Future[Any]:
        if any(others.values()):
            # aiomonitor 0.7.1 knows no `eager_start`: such a task is made as if we were not here.
            # uvloop passes it with every task, mostly as `None`.
            return asyncio.Task(coro, loop=loop, name=name, context=context, **others)
        made: asyncio.Future[Any] = super()._create_task(loop, coro, name=name, context=context)
        del self._created_tracebacks[made][-1:]  # this frame
        return made


def _free_port(host: str) -> int:
    """Return a port that is free now: Python's console listens on it while somebody uses it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as free:
        return int(free.getsockname()[1])
