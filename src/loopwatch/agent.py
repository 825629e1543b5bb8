"""The agent: wires one loop together, starts it, stops it, and keeps the registry of agents."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from loopwatch._version import __version__
from loopwatch.clock import NS_PER_S, monotonic_ns
from loopwatch.config import Config
from loopwatch.delivery import Delivery
from loopwatch.diagnosis.tracker import Tracker
from loopwatch.errors import ConfigError, LoopwatchError, NoRunningLoopError
from loopwatch.exporters import Exporter, Source, make_exporters
from loopwatch.ledger import Identity, Ledger
from loopwatch.probes.cpu import ThreadCpu
from loopwatch.probes.executors import ExecutorProbe
from loopwatch.probes.gc import GcProbe
from loopwatch.probes.tasks import task_counter
from loopwatch.recorder import Recorder
from loopwatch.sensors import Sensor, Sidecar, TickSensor, start_sensor
from loopwatch.watchdog import Watchdog, Watched

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Executor as HostExecutor
    from types import TracebackType

    from loopwatch.model import Snapshot, Stall
    from loopwatch.server.http import HttpServer, View

__all__ = ["Agent", "current", "install"]

log = logging.getLogger("loopwatch")

# The `tick` sensor knows nothing between two beats, so there they are this dense.
_BEATS_PER_THRESHOLD: Final = 4

OnStall = Callable[["Stall"], object]


class Agent:
    """Everything about one watched loop. Made by `install`, never directly.

    A sync and an async context manager: leaving it stops the agent.
    """

    def __init__(
        self,
        loop: AbstractEventLoop,
        config: Config,
        loop_name: str,
        exporters: Sequence[Exporter],
        on_stall: OnStall | None,
    ) -> None:
        self.config = config
        self._loop = loop
        self._exporters = exporters
        self._on_stall = on_stall
        self._stop_lock = threading.Lock()
        self._stopped = False
        self._close_hook: Callable[[], None] | None = None
        self._http: HttpServer | None = None
        self._view: View | None = None
        self._started: list[Exporter] = []

        ident = threading.get_ident()
        threshold_ns = round(config.stall_threshold_s * NS_PER_S)
        self._sidecar, tick, self._sensor = _start_sensor(loop, config, threshold_ns)
        identity = Identity(
            loop=loop_name,
            loop_impl=type(loop).__module__.partition(".")[0],
            pid=os.getpid(),
            thread=threading.current_thread().name,
            sensor=self._sensor.name,
            version=__version__,
            python=".".join(map(str, sys.version_info[:3])),
        )
        self._ledger = Ledger(identity, config, monotonic_ns())
        self._gc = GcProbe(ident)
        self._executor_probe = ExecutorProbe(loop)
        self._delivery = Delivery(self._ledger, self._started, on_stall, config.queue_size)
        self._watchdog = Watchdog(
            Watched(
                loop=loop,
                ident=ident,
                sensor=self._sensor,
                tick=tick,
                sidecar=self._sidecar,
                cpu=ThreadCpu(ident),
                gc=self._gc,
                executors=self._executor_probe,
                count_tasks=task_counter(loop),
            ),
            Tracker(threshold_ns, round(config.sample_interval_s * NS_PER_S), config.max_samples),
            self._ledger,
            Recorder(identity),
            self._delivery,
            on_closed=self.stop,
        )

    @property
    def loop_name(self) -> str:
        """The `loop` label: the setting, with a number if another loop has it already."""
        return self._ledger.identity.loop

    @property
    def http_port(self) -> int | None:
        """The port of the thread server; `None` if it does not run."""
        return self._http.port if self._http is not None else None

    @property
    def stalls(self) -> tuple[Stall, ...]:
        """The newest stalls, at most `history`, newest last. Any thread."""
        return tuple(self._ledger.stalls.copy())

    def snapshot(self) -> Snapshot:
        """Return what is true now. Any thread, also after `stop` (the last state then)."""
        return self._ledger.snapshot()

    def register_executor(self, name: str, executor: HostExecutor) -> None:
        """Report threads and queue length of one more executor, under the label `name`."""
        self._executor_probe.register(name, executor)

    def stop(self) -> None:
        """Stop watching and put back everything that was touched.

        Idempotent, from any thread, also after the loop closed. Waits for at most a second, and
        only if an exporter or `on_stall` blocks.
        """
        with self._stop_lock:
            if self._stopped:
                return
            self._stopped = True
        _unregister(self)
        self._watchdog.stop()
        self._restore_close()
        self._sensor.stop()
        self._sidecar.stop()
        self._gc.stop()
        if self._http is not None and self._view is not None:
            self._http.remove(self._view)
        self._delivery.stop()
        for exporter in self._started:
            exporter.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "stopped" if self._stopped else "watching"
        return f"<loopwatch.Agent {self.loop_name!r} {state} by {self._sensor.name}>"

    def _start(self) -> None:
        """Start everything that `__init__` made. Loop thread."""
        try:
            self._start_exporters()
            self._hook_close()
            self._gc.start()
            self._sidecar.start()
            self._delivery.start()
            self._watchdog.start()
            self._start_http()
        except BaseException:
            self.stop()
            raise

    def _start_exporters(self) -> None:
        source = Source(self.config, self.snapshot)
        for exporter in self._exporters:
            try:
                exporter.start(source)
            except LoopwatchError:
                raise  # a setting that cannot work: whoever made it should see it now
            except Exception as error:  # noqa: BLE001 - the app matters more than one exporter
                self._ledger.error("exporter")
                log.error(  # noqa: TRY400 - explain() says what may be told
                    "loopwatch: exporter %s cannot start and is left out: %s",
                    exporter.name,
                    exporter.explain(error),
                )
            else:
                self._started.append(exporter)

    def _start_http(self) -> None:
        port = self.config.http_port
        if port is None:
            return
        from loopwatch.server.http import HttpServer, View  # noqa: PLC0415 - costs 20 ms, rare

        server = _shared_server(self.config.http_host, port)
        try:
            if server is None:
                server = HttpServer(self.config.http_host, port)
                server.start()
        except OSError as error:
            # The app matters more than its metrics: one clear line, and it runs on.
            log.error(  # noqa: TRY400 - a traceback adds nothing to "port taken"
                "loopwatch: cannot listen on %s:%d (%s); set http_port to a free port, or 0 to "
                "have one picked. The loop is watched, but not served here",
                self.config.http_host,
                port,
                error.strerror or error,
            )
            return
        self._view = View(self.snapshot, lambda: self.stalls, self._metrics, self._spent_on_http)
        server.add(self._view)
        self._http = server
        log.info("loopwatch: serving on http://%s:%d", server.host, server.port)

    def _metrics(self, accept: str) -> tuple[bytes, str]:
        from loopwatch.exporters import prometheus  # noqa: PLC0415 - third-party, only if served

        for exporter in self._started:
            if isinstance(exporter, prometheus.PrometheusExporter):
                return prometheus.render(exporter.registry, accept)
        return prometheus.render_alone(self.snapshot, accept)

    def _spent_on_http(self, cpu_ns: int) -> None:
        self._ledger.add_spent("http", cpu_ns)

    def _hook_close(self) -> None:
        """Stop before the loop closes: nobody may look into a loop that is being torn down."""
        loop: Any = self._loop
        close = loop.close

        def close_watched() -> None:
            self.stop()
            close()

        try:
            loop.close = close_watched
        except AttributeError:
            return  # a loop without a __dict__: the watchdog sees that it is closed
        self._close_hook = close_watched

    def _restore_close(self) -> None:
        hook, self._close_hook = self._close_hook, None
        if hook is not None and self._loop.__dict__.get("close") is hook:
            del self._loop.close

    def _forget(self) -> None:
        """Fall silent in a forked child: no thread of ours is left there, and no lock is safe."""
        self._stopped = True
        self._restore_close()
        self._gc.stop()
        for exporter in self._started:
            exporter.forget()
        if self._http is not None:
            self._http.forget()


def install(
    config: Config | None = None,
    /,
    *,
    on_stall: OnStall | None = None,
    exporters: Sequence[str | Exporter] | None = None,
    **settings: Any,
) -> Agent:
    """Start watching the running loop and return its agent.

    Settings are keywords, on top of the `LOOPWATCH_*` variables; or a whole `Config`, which is
    taken as it is. `exporters` are names or `Exporter` objects. `on_stall` is called off the
    loop, once while a stall is ongoing and once when it is over.

    A second call on the same loop returns the same agent. Raises `ConfigError` for settings that
    cannot work, or that differ from those the agent runs with, and `NoRunningLoopError` where no
    loop runs.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise NoRunningLoopError(
            "no event loop runs in this thread: call loopwatch.install() inside a coroutine, "
            "or use lifespan=loopwatch.lifespan()"
        ) from None
    if config is not None and settings:
        raise ConfigError(
            f"{', '.join(sorted(settings))}: pass settings as keywords or as a Config, not both"
        )
    with _LOCK:
        agent = _AGENTS.get(id(loop))
        if agent is not None:
            _check_same(agent, config, on_stall, exporters, settings)
            return agent
        if config is None:
            config = Config.from_env(**settings)
        agent = Agent(
            loop,
            config,
            _free_name(config.loop_name),
            make_exporters(_wanted(config, exporters)),
            on_stall,
        )
        agent._start()  # noqa: SLF001 - install is the agent's factory
        _AGENTS[id(loop)] = agent
        return agent


def current() -> Agent | None:
    """Return the agent of the running loop; `None` without one, or without a running loop."""
    try:
        return _AGENTS.get(id(asyncio.get_running_loop()))
    except RuntimeError:
        return None


# The one registry of agents, by the id of their loop: an agent keeps its loop alive, so the id
# cannot be taken by another one. The lock is held while agents start, never by the watchdog.
_AGENTS: Final[dict[int, Agent]] = {}
_LOCK = threading.RLock()


def _start_sensor(
    loop: AbstractEventLoop, config: Config, threshold_ns: int
) -> tuple[Sidecar, TickSensor, Sensor]:
    interval_ns = round(config.tick_interval_s * NS_PER_S)
    sidecar = Sidecar(loop, interval_ns)
    tick = TickSensor(sidecar)
    sensor = start_sensor(loop, tick, threshold_ns // 2)
    if sensor is tick:
        sidecar = Sidecar(loop, min(interval_ns, threshold_ns // _BEATS_PER_THRESHOLD))
        tick = sensor = TickSensor(sidecar)
    return sidecar, tick, sensor


def _wanted(config: Config, exporters: Sequence[str | Exporter] | None) -> Sequence[str | Exporter]:
    wanted = list(config.exporters if exporters is None else exporters)
    if config.stall_log is not None and "jsonl" not in wanted:
        wanted.append("jsonl")
    return wanted


def _check_same(
    agent: Agent,
    config: Config | None,
    on_stall: OnStall | None,
    exporters: Sequence[str | Exporter] | None,
    settings: dict[str, Any],
) -> None:
    if config is None:
        config = Config.from_env(**settings) if settings else agent.config
    asked = {"on_stall": on_stall is None or on_stall is agent._on_stall}  # noqa: SLF001
    for name in Config.__dataclass_fields__:
        asked[name] = getattr(config, name) == getattr(agent.config, name)
    if exporters is not None:
        kept = {e.name for e in agent._exporters} | set(agent._exporters)  # noqa: SLF001
        asked["exporters"] = all(item in kept for item in exporters)
    different = [name for name, same in asked.items() if not same]
    if different:
        raise ConfigError(
            f"this loop is watched already, with another {', '.join(different)}: "
            "install loopwatch once, or call current().stop() first"
        )


def _free_name(name: str) -> str:
    taken = {agent.loop_name for agent in _AGENTS.values()}
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _shared_server(host: str, port: int) -> HttpServer | None:
    for agent in _AGENTS.values():
        server = agent._http  # noqa: SLF001 - agents of one process share
        if port and server is not None and (server.host, server.asked_port) == (host, port):
            return server
    return None


def _unregister(agent: Agent) -> None:
    # No lock: `stop` may run on a watchdog thread while another loop installs and waits for it.
    for key, other in list(_AGENTS.items()):
        if other is agent:
            _AGENTS.pop(key, None)


def _stop_all() -> None:
    for agent in list(_AGENTS.values()):
        agent.stop()


def _forget_all() -> None:
    global _LOCK  # noqa: PLW0603 - another thread of the parent may have held it
    _LOCK = threading.RLock()
    for agent in list(_AGENTS.values()):
        agent._forget()  # noqa: SLF001
    _AGENTS.clear()


# Both once per process: neither can be taken back without a trace, and without agents they do
# nothing. A child watches its own loops or nothing; records on their way are flushed at exit.
atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
