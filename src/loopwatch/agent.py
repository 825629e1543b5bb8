"""The agent: wires one loop together, starts it, stops it and puts everything back."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from loopwatch._version import __version__
from loopwatch.census import TaskCensus
from loopwatch.clock import NS_PER_S, monotonic_ns
from loopwatch.config import Config
from loopwatch.delivery import Delivery
from loopwatch.diagnosis.culprit import in_app_rule
from loopwatch.diagnosis.limits import RateLimit
from loopwatch.diagnosis.tracker import Tracker
from loopwatch.errors import ConfigError, LoopwatchError
from loopwatch.exporters import Exporter, Source
from loopwatch.forensics import Forensics
from loopwatch.keeper import Keeper
from loopwatch.ledger import Identity, Ledger
from loopwatch.net import first_free, what_to_set
from loopwatch.patch import Patch
from loopwatch.probes.burst import Burst
from loopwatch.probes.cpu import ThreadCpu
from loopwatch.probes.executors import ExecutorProbe
from loopwatch.probes.gc import GcProbe
from loopwatch.probes.native_stacks import NativeSampler, NativeSamplerError, why_not
from loopwatch.probes.stacks import FrameNamer
from loopwatch.probes.task_sites import TaskSites
from loopwatch.probes.tasks import task_counter
from loopwatch.recorder import Recorder
from loopwatch.reporter import Reporter
from loopwatch.sensors import Alarm, Sensor, Sidecar, TickSensor, start_sensor
from loopwatch.watchdog import Watchdog, Watched

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from concurrent.futures import Executor as HostExecutor
    from contextlib import AbstractContextManager
    from types import TracebackType

    from loopwatch.model import Census, Point, Snapshot, Stall
    from loopwatch.server.answers import View
    from loopwatch.server.http import HttpServer

__all__ = ["Agent", "OnStall"]

log = logging.getLogger("loopwatch")

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
        leaving: Callable[[Agent], AbstractContextManager[None]],
    ) -> None:
        self.config = config
        self._loop = loop
        self._exporters = exporters
        self._on_stall = on_stall
        self._leaving = leaving
        self._stop_lock = threading.RLock()
        self._stopped = False
        self._close_patch: Patch | None = None
        self._http: HttpServer | None = None
        self._view: View | None = None
        self._started: list[Exporter] = []

        threshold_ns = round(config.stall_threshold_s * NS_PER_S)
        self._alarm = Alarm()
        self._keeper = Keeper(loop)
        self._sidecar, tick, self._sensor = _start_sensor(
            loop, config, threshold_ns, self._alarm, self._keeper.release
        )
        self._sampler, self._sampler_state = _start_sampler(config, self._alarm)
        try:
            self._wire(tick, loop_name, threshold_ns)
        except BaseException:
            self._sensor.stop()
            self._stop_sampler()
            self._alarm.close()
            raise

    def _wire(self, tick: TickSensor, loop_name: str, threshold_ns: int) -> None:
        """Make all parts; nothing runs yet but the sensor."""
        config, loop = self.config, self._loop
        ident = threading.get_ident()
        identity = Identity(
            loop=loop_name,
            loop_impl=type(loop).__module__.partition(".")[0],
            pid=os.getpid(),
            thread=threading.current_thread().name,
            sensor=self._sensor.name,
            version=__version__,
            python=".".join(map(str, sys.version_info[:3])),
            native_sampler=self._sampler_state,
        )
        self._ledger = Ledger(identity, config, monotonic_ns())
        self._gc = GcProbe(ident)
        self._executor_probe = ExecutorProbe(loop)
        self._delivery = Delivery(self._ledger, self._started, self._on_stall, config.queue_size)
        self._namer = namer = FrameNamer(
            in_app_rule(include=config.in_app_include, exclude=config.in_app_exclude)
        )
        fault = partial(self._delivery.fault, "probe", "looking at a stall")
        cpu = ThreadCpu(threading.get_native_id())
        forensics = Forensics(
            loop,
            namer,
            cpu,
            self._gc,
            self._sampler,
            fault,
            self._keeper,
        )
        self._sites = TaskSites(loop, namer.is_in_app) if config.task_sites else None
        self._census = TaskCensus(
            loop,
            namer,
            self._ledger,
            self._sites,
            self._delivery.census,
            self._keeper.keep,
            partial(self._delivery.fault, "probe"),
        )
        warm_until_ns = monotonic_ns() + round(config.warm_up_s * NS_PER_S)
        recorder = Recorder(identity, namer, forensics, warm_until_ns, fault)
        self._watchdog = Watchdog(
            Watched(
                loop=loop,
                thread=threading.current_thread(),
                sensor=self._sensor,
                tick=tick,
                sidecar=self._sidecar,
                alarm=self._alarm,
                cpu=cpu,
                gc=self._gc,
                executors=self._executor_probe,
                count_tasks=task_counter(
                    loop, self._sites.references if self._sites is not None else None
                ),
                census=self._census,
            ),
            Tracker(threshold_ns, round(config.sample_interval_s * NS_PER_S), config.max_samples),
            forensics,
            Reporter(
                recorder,
                forensics,
                self._ledger,
                self._delivery,
                RateLimit(config.like_stalls_per_minute, config.stalls_per_minute),
            ),
            self._ledger,
            self._delivery,
            on_closed=self.stop,
        )

    @property
    def loop_name(self) -> str:
        """The `loop` label: the setting, with a number if another loop has it already."""
        return self._ledger.identity.loop

    @property
    def server(self) -> HttpServer | None:
        """The thread server that serves this loop, maybe with others of the process."""
        return self._http

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

    def census(self) -> Census:
        """Return what the pending tasks do, found out now: `snapshot().census` may be older.

        Any thread, also while the loop is blocked. It takes this thread some 40 ms of CPU time for
        10,000 tasks, the most that are looked at, with as long pauses for others. On the loop's
        own thread the loop has to wait for it.
        """
        return self._census.now()

    def set_stall_threshold(self, threshold_s: float) -> None:
        """Take another threshold (seconds) from the next look on, until `stop`. Any thread.

        The setting itself stays as it was. Raises `ConfigError` if the setting does not allow it,
        or the hang threshold is lower: a hang is a long stall.
        """
        replace(self.config, stall_threshold_s=threshold_s)  # checked as the setting is
        before_s = self._ledger.thresholds.stall_s
        self._ledger.thresholds = replace(self._ledger.thresholds, stall_s=float(threshold_s))
        log.warning(
            "loopwatch: stall threshold of loop %r is %g s from now on, it was %g s",
            self.loop_name,
            threshold_s,
            before_s,
        )
        self._watchdog.retune(round(threshold_s * NS_PER_S))

    @property
    def timeline(self) -> tuple[Point, ...]:
        """The last five minutes, a point a second, newest last. Any thread."""
        return tuple(self._ledger.points.copy())

    def burst(self) -> Burst:
        """Return what takes stacks of the loop thread, one for each call of its `look`.

        Any thread but the loop's own; close it afterwards.
        """
        sidecar = self._sidecar
        return Burst(lambda: (sidecar.ident, sidecar.base_depth), sidecar.native_id, self._namer)

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
        with self._leaving(self):
            self._stop()

    def _stop(self) -> None:
        self._stop_sampler()
        self._watchdog.stop()
        if self._close_patch is not None:
            self._close_patch.restore()
        self._sensor.stop()
        self._sidecar.stop()
        if self._sites is not None:
            self._sites.stop()
        self._gc.stop()
        if self._http is not None and self._view is not None:
            self._http.remove(self._view)
        self._delivery.stop()
        for exporter in self._started:
            self._stop_exporter(exporter)
        self._keeper.close()

    def _stop_exporter(self, exporter: Exporter) -> None:
        try:
            exporter.stop()
        except Exception:  # noqa: BLE001 - stopping must not fail the host's shutdown
            self._ledger.error("exporter")

    def _stop_sampler(self) -> None:
        self._alarm.on_set = None
        if self._sampler is not None:
            self._sampler.stop()

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

    def start(self, others: Sequence[Agent] = ()) -> None:
        """Start everything that `__init__` made. Loop thread; `install` does this.

        `others` are the agents of other loops: a thread server of theirs is shared.
        """
        try:
            self._start_exporters()
            self._hook_close()
            self._gc.start()
            self._sidecar.start()
            self._start_sites()
            self._delivery.start()
            self._start_http(others)
            self._watchdog.start()
        except BaseException:
            self.stop()
            raise

    def _start_sites(self) -> None:
        try:
            if self._sites is not None:
                self._sites.start(self._sidecar.base_depth)
        except Exception as error:  # noqa: BLE001 - a loop of another kind may have no factories
            self._sites = None
            log.warning("loopwatch: task_sites does not work here: %s", type(error).__name__)

    def _start_exporters(self) -> None:
        source = Source(
            self.config,
            self.snapshot,
            spent=self._ledger.spent,
            fault=partial(self._delivery.fault, "exporter"),
            drop=self._ledger.drop,
            keep=self._keeper.keep,
        )
        for exporter in self._exporters:
            try:
                exporter.start(source)
            except LoopwatchError:
                raise  # a setting that cannot work: whoever made it should see it now
            except Exception as error:  # noqa: BLE001 - the app matters more than one exporter
                self._stop_exporter(exporter)  # what it had begun
                self._ledger.error("exporter")
                log.error(  # noqa: TRY400 - explain() says what may be told
                    "loopwatch: exporter %s cannot start and is left out: %s",
                    exporter.name,
                    exporter.explain(error),
                )
            else:
                self._started.append(exporter)

    def _start_http(self, others: Sequence[Agent]) -> None:
        port = self.config.http_port
        if port is None:
            return
        from loopwatch.exporters.prometheus import render_alone  # noqa: PLC0415 - third-party
        from loopwatch.server.answers import View  # noqa: PLC0415
        from loopwatch.server.http import HttpServer  # noqa: PLC0415 - costs 20 ms, rare

        host = self.config.http_host
        servers = [other.server for other in others if other.server is not None]
        shared = [s for s in servers if port and (s.host, s.asked_port) == (host, port)]
        try:
            if shared:
                server = shared[0]
            else:
                bind = partial(HttpServer, host, asked_port=port)
                server = first_free(bind, port, self.config.http_port_count)
            if not shared:
                server.start()
        except OSError as error:
            # The app matters more than its metrics: one clear line, and it runs on.
            log.error(  # noqa: TRY400 - a traceback adds nothing to "port taken"
                "loopwatch: cannot listen on %s:%s (%s); %s. The loop is watched, but not served "
                "here",
                host,
                self._ports(),
                error.strerror or error,
                what_to_set(error, "http"),
            )
            return
        self._view = View(
            snapshot=self.snapshot,
            stalls=lambda: self.stalls,
            timeline=lambda: self.timeline,
            registry=self._registry(),
            metrics=render_alone,
            spent=self._spent_on_http,
            failed=self._failed_on_http,
        )
        server.add(self._view)
        self._http = server
        log.info("loopwatch: serving on http://%s:%d", server.host, server.port)

    def _ports(self) -> str:
        port, count = self.config.http_port or 0, self.config.http_port_count
        return f"{port} to {port + count - 1}" if port and count > 1 else str(port)

    def _registry(self) -> Callable[[str], tuple[bytes, str]] | None:
        """Return what renders the registry this agent exports to, if it does."""
        from loopwatch.exporters.prometheus import PrometheusExporter, render  # noqa: PLC0415

        for exporter in self._started:
            if isinstance(exporter, PrometheusExporter):
                return partial(render, exporter.registry)
        return None

    def _failed_on_http(self, error: BaseException) -> None:
        self._delivery.fault("http", "answering on the thread server", error)

    def _spent_on_http(self, cpu_ns: int) -> None:
        self._ledger.add_spent("http", cpu_ns)

    def _hook_close(self) -> None:
        """Stop before the loop closes: nobody may look into a loop that is being torn down."""
        loop: Any = self._loop
        close = loop.close

        def close_watched() -> None:
            try:
                self.stop()
            finally:
                # Also when another thread is in the middle of `stop`, or an interrupt came.
                self._sensor.stop()
                close()

        try:
            self._close_patch = Patch(loop, "close", close_watched)
        except AttributeError:
            pass  # a loop that takes no attributes: the watchdog sees that it is closed

    def check_same(
        self,
        config: Config,
        on_stall: OnStall | None,
        exporters: Sequence[str | Exporter] | None,
    ) -> None:
        """Raise `ConfigError` naming what differs from what this agent runs with."""
        same = {
            name: getattr(config, name) == getattr(self.config, name)
            for name in Config.__dataclass_fields__
        }
        same["on_stall"] = on_stall is None or on_stall is self._on_stall
        if exporters is not None:
            kept = {exporter.name for exporter in self._exporters} | set(self._exporters)
            same["exporters"] = all(item in kept for item in exporters)
        different = [name for name, equal in same.items() if not equal]
        if different:
            raise ConfigError(
                f"this loop is watched already, with another {', '.join(different)}: "
                "install loopwatch once, or call current().stop() first"
            )

    def forget(self) -> None:
        """Fall silent in a forked child: no thread of ours is left there, and no lock is safe."""
        self._stopped = True
        if self._close_patch is not None:
            self._close_patch.restore()
        if self._sites is not None:
            self._sites.stop()
        self._watchdog.forget()
        if self._sampler is not None:
            self._sampler.forget()
        self._gc.stop()
        for exporter in self._started:
            exporter.forget()
        if self._http is not None:
            self._http.forget()


def _start_sampler(config: Config, alarm: Alarm) -> tuple[NativeSampler | None, str]:
    """Return the sampler of native stacks, if it is wanted and works, and what to say of it."""
    if config.native_sampler == "off":
        return None, "off"
    wanted = config.native_sampler == "on"
    reason = why_not(accept_risk=wanted)
    if reason is not None:
        log.log(
            logging.WARNING if wanted else logging.DEBUG, "loopwatch: no native stacks: %s", reason
        )
        return None, "unavailable"
    try:
        sampler = NativeSampler(threading.get_native_id())
    except NativeSamplerError as error:
        log.debug("loopwatch: native stacks do not work here: %s", error)
        return None, "unavailable"
    except Exception as error:  # noqa: BLE001 - private API of the host: it must run on
        log.warning("loopwatch: native stacks failed with %s", type(error).__name__)
        return None, "unavailable"
    alarm.on_set = sampler.arm
    return sampler, "on"


def _start_sensor(
    loop: AbstractEventLoop,
    config: Config,
    threshold_ns: int,
    alarm: Alarm,
    on_beat: Callable[[], None],
) -> tuple[Sidecar, TickSensor, Sensor]:
    interval_ns = round(config.tick_interval_s * NS_PER_S)
    sidecar = Sidecar(loop, interval_ns, threshold_ns, alarm, on_beat=on_beat)
    tick = TickSensor(sidecar)
    sensor = start_sensor(loop, tick, threshold_ns // 2)
    if sensor is tick:
        sidecar = Sidecar(loop, interval_ns, threshold_ns, alarm, alone=True, on_beat=on_beat)
        tick = sensor = TickSensor(sidecar)
    return sidecar, tick, sensor
