"""The exporter: hands records over to a thread of its own, which tells the providers.

Nothing here makes, flushes or shuts down a provider. What the host's processors do with a span or
a log record happens on a thread of ours, so that a slow one delays neither the other exporters nor
the loop.
"""

from __future__ import annotations

import contextvars
import importlib.util
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from opentelemetry import metrics

from loopwatch.errors import ConfigError
from loopwatch.exporters.base import Exporter, Source
from loopwatch.exporters.otel.asyncio_switch import AsyncioSwitch
from loopwatch.exporters.otel.logs import LogRecords
from loopwatch.exporters.otel.metrics import LagFeed, forget_all, instruments_of
from loopwatch.exporters.otel.traces import Spans
from loopwatch.exporters.pulse import Pulse
from loopwatch.patience import patience_s

if TYPE_CHECKING:
    from opentelemetry import _logs, trace

    from loopwatch.model import Stall

__all__ = ["OtelExporter"]

log = logging.getLogger("loopwatch")

# Each record that waits keeps the host's objects in its context alive.
_MOST_WAITING: Final = 100
# Counts are as new as that when they are collected; half as often is half the wake-ups.
_BEAT_S: Final = 2.0
# An hour's stall is 72,000 counts at once. A helping takes less than a millisecond of the GIL.
_HELPING: Final = 100
_NEXT_HELPING_S: Final = 0.02
# Delivery may have waited for half a second before: together less than one.
_FLUSH_S: Final = 0.25
_REST_S: Final = 0.2
# So long an app may take to set its providers before somebody is told that there are none.
_PATIENT_S: Final = 10.0


class OtelExporter(Exporter):
    """Exports through the given providers, by default through those of the process.

    The app may set those later: the metrics have what happened until then all the same.
    """

    name = "otel"

    def __init__(
        self,
        meter_provider: metrics.MeterProvider | None = None,
        tracer_provider: trace.TracerProvider | None = None,
        logger_provider: _logs.LoggerProvider | None = None,
    ) -> None:
        self._meter_provider = meter_provider
        self._tracer_provider = tracer_provider
        self._logger_provider = logger_provider
        self._work: _Work | None = None

    def start(self, source: Source) -> None:
        """Create the instruments. Raises `MissingExtraError`, and `ConfigError` if used already."""
        if self._work is not None:
            raise ConfigError("this OtelExporter exports another loop: make one for each loop")
        switch = None
        if source.config.otel_instrument_asyncio:
            switch = AsyncioSwitch(self._tracer_provider, self._meter_provider)
        self._work = _Work(
            source,
            self._meter_provider,
            (Spans(self._tracer_provider), LogRecords(self._logger_provider)),
            switch,
        )
        self._work.start()

    def export(self, stall: Stall) -> None:
        """Hand the record over to the exporter's thread, with a copy of the context."""
        if self._work is not None:
            self._work.put(stall)

    def stop(self) -> None:
        """Export what is left, for half a second at most, and let go."""
        work, self._work = self._work, None
        if work is not None:
            work.stop()

    def forget(self) -> None:
        """Tell nothing of the parent in a forked child."""
        work, self._work = self._work, None
        if work is not None:
            work.forget()

    def explain(self, error: Exception) -> str:
        """Return what to do if too many records wait; of other failures the type."""
        if isinstance(error, _TooManyWaitError):
            return (
                f"{_MOST_WAITING} records wait for the app's span and log processors; "
                "use BatchSpanProcessor and BatchLogRecordProcessor, and see if their endpoint "
                "answers"
            )
        return super().explain(error)


class _TooManyWaitError(Exception):
    """The host's processors are slower than stalls come."""


class _Work:
    """What one running exporter does, on a thread of its own."""

    def __init__(
        self,
        source: Source,
        meter_provider: metrics.MeterProvider | None,
        tellers: tuple[Spans, LogRecords],
        switch: AsyncioSwitch | None,
    ) -> None:
        self._source = source
        self._tellers = tellers
        self._switch = switch
        self._meter_provider = meter_provider
        self._waiting: deque[tuple[contextvars.Context, Stall]] = deque()
        self._instruments = instruments_of(meter_provider)
        self._feed = LagFeed(self._instruments.lag, source.snapshot)
        self._stopping = False
        self._patient_until_s: float | None = time.monotonic() + _PATIENT_S
        self._told_all = threading.Event()
        self._pulse = Pulse(OtelExporter.name, source, self._beat)

    def start(self) -> None:
        if self._switch is not None:
            self._switch.on()
        self._instruments.add(self._source.snapshot)
        self._pulse.start()

    def put(self, stall: Stall) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            raise _TooManyWaitError
        context = contextvars.copy_context()
        self._source.keep(context)
        self._waiting.append((context, stall))
        self._pulse.soon()

    def stop(self) -> None:
        if self._switch is not None:
            self._switch.off()
        self._stopping = True
        self._pulse.soon()
        if not self._pulse.running or self._told_all.wait(patience_s(_FLUSH_S)):
            self._pulse.stop()
        else:
            # It is held up in a processor of the host: not waited for, it ends with its call.
            self._pulse.forget()
            lost = len(self._waiting)
            self._waiting.clear()
            self._source.drop("shutdown", lost)
        self._feed.finish(patience_s(_REST_S))
        self._instruments.remove(self._source.snapshot)

    def forget(self) -> None:
        self._pulse.forget()
        forget_all()
        if self._switch is not None:
            self._switch.forget()

    def _beat(self) -> float:
        while self._waiting:
            try:
                context, stall = self._waiting.popleft()
            except IndexError:
                break  # `stop` has given up on the rest
            # In the context of the blocked task its span is current, for the host's processors too.
            context.run(self._tell, stall)
            del context  # its keeper is to be the last that has it
        if self._stopping:
            self._told_all.set()
        if _is_waited_for(self._meter_provider):
            self._say_what_is_missing()
            return _BEAT_S  # what is recorded now would be lost: the counts wait as well
        return _NEXT_HELPING_S if self._feed.feed(_HELPING) else _BEAT_S

    def _say_what_is_missing(self) -> None:
        until_s = self._patient_until_s
        if until_s is None or time.monotonic() < until_s:
            return  # apps set it up in their own time
        self._patient_until_s = None
        sdk = importlib.util.find_spec("opentelemetry.sdk") is not None
        log.warning(
            "loopwatch: exporter otel has nowhere to send to: %s",
            "the app has not called set_meter_provider(), see docs/how-to/export-to-opentelemetry"
            if sdk
            else "the OpenTelemetry SDK is not installed: run pip install 'loopwatch[otel]', and "
            "have the app set its providers",
        )

    def _tell(self, stall: Stall) -> None:
        for teller in self._tellers:
            try:
                teller.tell(stall)
            except Exception as error:  # noqa: BLE001 - samplers and processors are the host's
                self._source.fault(f"exporter otel, a {teller.what},", error)


def _is_waited_for(provider: metrics.MeterProvider | None) -> bool:
    """Return whether the process's own provider is wanted and the app has not set it yet."""
    # A private class of opentelemetry-api, called so from 1.38 to 1.45. Unknown, the lag from
    # before the app set its provider would be lost.
    return provider is None and type(metrics.get_meter_provider()).__name__ == "_ProxyMeterProvider"
