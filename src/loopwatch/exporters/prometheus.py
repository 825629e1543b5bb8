"""Prometheus: the catalogue as a collector that reads snapshots at scrape time.

One collector per registry serves all agents that export to it, because a metric name may be
registered once. It leaves the registry with the last agent.
"""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar, Sample

from loopwatch.catalogue import METRICS, Kind, Metric
from loopwatch.errors import ConfigError
from loopwatch.exporters.base import Exporter, Source
from loopwatch.forklock import ForkLock

if TYPE_CHECKING:
    from loopwatch.exporters.multiprocess import SharedFiles
    from loopwatch.model import Snapshot, Stall, Trace

__all__ = ["LoopwatchCollector", "PrometheusExporter", "render", "render_alone"]

Read = Callable[[], "Snapshot"]


class LoopwatchCollector(Collector):
    """All metrics of the catalogue for a set of loops."""

    def __init__(self) -> None:
        self._reads: tuple[Read, ...] = ()

    def add(self, read: Read) -> None:
        """Serve one more loop."""
        self._reads = (*self._reads, read)

    def remove(self, read: Read) -> bool:
        """Serve one loop less; return whether any is left."""
        self._reads = tuple(other for other in self._reads if other != read)
        return bool(self._reads)

    def clear(self) -> None:
        """Serve nothing; for a forked child, which must not tell its parent's numbers."""
        self._reads = ()

    def describe(self) -> Iterable[Family]:
        """Yield the families without samples, so that registering twice fails at once."""
        for metric in METRICS:
            yield _family(metric)

    def collect(self) -> Iterator[Family]:
        """Yield every family with the samples of all loops as of now."""
        snapshots = [read() for read in self._reads]
        if not snapshots:
            return
        for metric in METRICS:
            family = _family(metric)
            samples = _buckets if metric.kind is Kind.HISTOGRAM else _samples
            for snapshot in snapshots:
                family.samples += samples(metric, snapshot)
            yield family


class PrometheusExporter(Exporter):
    """Puts the metrics into `registry`, by default the process's own.

    Where `PROMETHEUS_MULTIPROC_DIR` is set they are in the files there, too.
    """

    name = "prometheus"

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.registry = registry
        self._read: Read | None = None
        self._shared: SharedFiles | None = None

    def start(self, source: Source) -> None:
        """Register; a name that is already taken in the registry raises `ValueError`.

        Raises `ConfigError` if another loop uses this exporter.
        """
        if self._read is not None:
            raise ConfigError("this PrometheusExporter serves another loop: make one for each loop")
        _join(self.registry, source.snapshot)
        self._read = source.snapshot
        self._share(source)

    def export(self, stall: Stall) -> None:  # noqa: ARG002 - readers ask for a snapshot
        """Write the files of several workers now; anybody else reads when they want to."""
        if self._shared is not None:
            self._shared.soon()

    def stop(self) -> None:
        """Leave the registry, and the files of several workers."""
        read, self._read = self._read, None
        shared, self._shared = self._shared, None
        try:
            if read is not None:
                _leave(self.registry, read)
        finally:
            if shared is not None:
                shared.stop()
                _SHARED.discard(shared.read)

    def _share(self, source: Source) -> None:
        folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
        if not folder or source.snapshot in _SHARED:
            return  # twice in the files, a loop would count double
        from loopwatch.exporters.multiprocess import SharedFiles  # noqa: PLC0415 - few have it

        # Absolute: the host may change its working directory.
        shared = SharedFiles(Path(folder).absolute(), source)
        try:
            shared.start()
        except Exception as error:  # noqa: BLE001 - the page of this worker alone still serves
            shared.stop()
            text = error.strerror or str(error) if isinstance(error, OSError) else ""
            reason = text or type(error).__name__
            source.fault(
                f"writing to PROMETHEUS_MULTIPROC_DIR={folder} ({reason}; it has to be a directory "
                "that every worker can write to)",
                error,
            )
        else:
            self._shared = shared
            _SHARED.add(shared.read)

    def explain(self, error: Exception) -> str:
        """Return the registry's own words: they hold metric names, no values."""
        return str(error)

    def forget(self) -> None:
        """Tell nothing of the parent in a forked child."""
        collector = _COLLECTORS.get(self.registry)
        if collector is not None:
            collector.clear()
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.forget()
            _SHARED.discard(shared.read)


def render(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """Return the exposition of a registry and its content type, as the reader asked for it."""
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def render_alone(accept: str, reads: Iterable[Read]) -> tuple[bytes, str]:
    """Return the exposition of loops that export to no registry, and its content type."""
    registry = CollectorRegistry()
    collector = LoopwatchCollector()
    for read in reads:
        collector.add(read)
    registry.register(collector)
    return render(registry, accept)


# Which collector serves which registry: the registry itself offers no way to ask. Empty whenever
# no agent runs; the lock is only taken when an agent starts or stops.
_COLLECTORS: Final[weakref.WeakKeyDictionary[CollectorRegistry, LoopwatchCollector]] = (
    weakref.WeakKeyDictionary()
)
_LOCK: Final = ForkLock()
# The loops that are in the files of several workers.
_SHARED: Final[set[Read]] = set()


def _join(registry: CollectorRegistry, read: Read) -> None:
    with _LOCK:
        collector = _COLLECTORS.get(registry)
        if collector is None:
            collector = LoopwatchCollector()
            registry.register(collector)
            _COLLECTORS[registry] = collector
        collector.add(read)


def _leave(registry: CollectorRegistry, read: Read) -> None:
    with _LOCK:
        collector = _COLLECTORS.get(registry)
        if collector is not None and not collector.remove(read):
            del _COLLECTORS[registry]
            try:
                registry.unregister(collector)
            except KeyError:
                pass  # the host has emptied its registry


def _family(metric: Metric) -> Family:
    return Family(metric.name.removesuffix("_total"), metric.help, metric.kind.value)


def _samples(metric: Metric, snapshot: Snapshot) -> Iterator[Sample]:
    names = ("loop", *metric.labels)
    traced = metric.exemplars(snapshot)
    for values, value in metric.read(snapshot):
        labels = _labels(names, (snapshot.loop, *values))
        example = _exemplar(*traced[values]) if values in traced else None
        yield Sample(metric.name, labels, value, None, example)


def _buckets(metric: Metric, snapshot: Snapshot) -> Iterator[Sample]:
    """Yield the cumulative buckets, their count and their sum."""
    lag = snapshot.lag
    total = 0
    for bound, count in zip((*lag.bounds, "+Inf"), lag.counts, strict=True):
        total += count
        labels = _labels(("loop", "le"), (snapshot.loop, str(bound)))
        yield Sample(f"{metric.name}_bucket", labels, total)
    labels = _labels(("loop",), (snapshot.loop,))
    yield Sample(f"{metric.name}_count", labels, total)
    yield Sample(f"{metric.name}_sum", labels, lag.sum_s)


@functools.lru_cache(maxsize=4096)
def _labels(names: tuple[str, ...], values: tuple[str, ...]) -> dict[str, str]:
    """Return the labels of a sample; they are the same at each scrape, and nobody writes there."""
    return dict(zip(names, values, strict=True))


def _exemplar(trace: Trace, value: float) -> Exemplar:
    """Return an example; only the OpenMetrics format shows it."""
    labels = {"trace_id": trace.trace_id}
    if trace.span_id is not None:
        labels["span_id"] = trace.span_id
    return Exemplar(labels, value, trace.at_s)
