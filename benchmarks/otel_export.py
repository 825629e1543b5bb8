"""Export to OpenTelemetry once a second: at most 0.1 % of a core for one loop.

A child watches loops in threads of their own and measures the CPU time of the thread that does the
work, which has the GIL for all of it. Ours are the callbacks of one collection and a second's share
of feeding the lag histogram, with what the SDK does inside `record`. Beside it stands what the SDK
needs for a whole collection, callbacks included, and for encoding it as OTLP: every metric of an
app costs that. The last figure is what a stall costs: a span and a log record.
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Figure, in_child, need

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.exporters.otel.metrics import Instruments
    from loopwatch.model import LagHistogram, Snapshot

WANTED_CPU: Final = 0.001
_ROUNDS: Final = 300
_PAUSE_S: Final = 0.01
# What comes between two beats of the exporter, in steps of 50 ms.
_BEAT_S: Final = 2.0
_COUNTS: Final = 40


def measure() -> list[Figure]:
    """Return the steady cost of one loop and of five, and the cost of a stall."""
    need("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.common")
    figures = []
    for loops in (1, 5):
        got = in_child("benchmarks.otel_export:export", loops=loops)
        median_s = {name: statistics.median(taken_s) for name, taken_s in got.items()}
        feed_s = median_s["feed"] / _BEAT_S
        ours_s = median_s["callbacks"] + loops * feed_s
        figures.append(
            Figure(
                f"OpenTelemetry once a second, {loops} loop{'s' * (loops > 1)}",
                f"{ours_s * 100:.3f} % of a core: callbacks {_us(median_s['callbacks'])}, "
                f"lag {_us(feed_s)} a loop (SDK collects in "
                f"{_us(median_s['collection'])}, encodes in {_us(median_s['encoding'])})",
                f"<= {WANTED_CPU * 100} %" if loops == 1 else "",
                ours_s <= WANTED_CPU if loops == 1 else None,
                got,
            )
        )
    return [
        *figures,
        Figure("a stall as span and log record", f"{_us(median_s['stall'])} off the loop"),
    ]


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def export(loops: int) -> dict[str, list[float]]:
    """Watch so many loops and measure. Child."""
    import loopwatch  # noqa: PLC0415 - only in the child

    agents: list[loopwatch.Agent] = []
    ready, done = threading.Barrier(loops + 1), threading.Event()

    async def watched() -> None:
        async with loopwatch.install(exporters=[]) as agent:
            agents.append(agent)
            await asyncio.sleep(0.5)
            time.sleep(0.3)
            await asyncio.sleep(0.5)
            ready.wait()
            await asyncio.to_thread(done.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(watched())) for _ in range(loops)]
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        return _measured(agents)
    finally:
        done.set()
        for thread in threads:
            thread.join()


def _measured(agents: list[Any]) -> dict[str, list[float]]:
    from opentelemetry.exporter.otlp.proto.common.metrics_encoder import (  # noqa: PLC0415
        encode_metrics,
    )
    from opentelemetry.sdk._logs import LoggerProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415

    from loopwatch.exporters.otel.logs import LogRecords  # noqa: PLC0415
    from loopwatch.exporters.otel.metrics import LagFeed, instruments_of  # noqa: PLC0415
    from loopwatch.exporters.otel.traces import Spans  # noqa: PLC0415

    reader = InMemoryMetricReader()
    instruments = instruments_of(MeterProvider([reader], shutdown_on_exit=False))
    for agent in agents:
        instruments.add(agent.snapshot)
    growing = _Growing(agents[0].snapshot)
    feed = LagFeed(instruments.lag, growing)
    feed.finish(10)
    tellers = Spans(TracerProvider(shutdown_on_exit=False)), LogRecords(LoggerProvider())
    stall = agents[0].stalls[-1]
    data = reader.get_metrics_data()
    return {
        "callbacks": _times(_observing(instruments)),
        "feed": _times(lambda: feed.feed(100)),
        "collection": _times(reader.get_metrics_data),
        "encoding": _times(lambda: encode_metrics(data).SerializeToString()),
        "stall": _times(lambda: [teller.tell(stall) for teller in tellers]),
    }


def _observing(instruments: Instruments) -> Callable[[], None]:
    """Return what calls all callbacks, as a collection does."""
    from loopwatch.catalogue import METRICS, Kind  # noqa: PLC0415 - only in the child

    callbacks: list[Callable[[Any], object]] = [
        instruments._observer(metric) for metric in METRICS if metric.kind is not Kind.HISTOGRAM
    ]

    def observe() -> None:
        instruments._taken = (0.0, *instruments._taken[1:])  # snapshots of the last are too old
        for callback in callbacks:
            callback(None)

    return observe


class _Growing:
    """Reads a loop whose lag goes on by a beat each time."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read
        self._more = 0

    def __call__(self) -> Snapshot:
        self._more += _COUNTS
        snapshot = self._read()
        return dataclasses.replace(snapshot, lag=_with_more(snapshot.lag, self._more))


def _with_more(lag: LagHistogram, more: int) -> LagHistogram:
    sums_s = (lag.sums_s[0] + more * 0.0005, *lag.sums_s[1:])
    return dataclasses.replace(
        lag, counts=(lag.counts[0] + more, *lag.counts[1:]), sum_s=sum(sums_s), sums_s=sums_s
    )


def _times(work: Callable[[], object]) -> list[float]:
    taken_s = []
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE_S)  # caches are as cold as between two real collections, or nearly so
        began_s = time.thread_time()
        work()
        taken_s.append(time.thread_time() - began_s)
    return taken_s
