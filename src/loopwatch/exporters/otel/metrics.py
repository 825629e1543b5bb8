"""The catalogue as OpenTelemetry instruments.

One set per meter provider serves all agents that export to it: an instrument can be made once and
never be taken back. Observable instruments read snapshots; the lag histogram has no observable
form and is fed with what is new since last time.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from opentelemetry import metrics

from loopwatch._version import __version__
from loopwatch.catalogue import LAG_BOUNDS_S, METRICS, Kind, Metric
from loopwatch.forklock import ForkLock

if TYPE_CHECKING:
    from loopwatch.model import LagHistogram, Snapshot

__all__ = ["Instruments", "LagFeed", "Untold", "forget_all", "instruments_of"]

Read = Callable[[], "Snapshot"]

# All callbacks of one collection see the same snapshots.
_SAME_COLLECTION_S: Final = 0.05


# Values by loop and the metric's own labels.
Totals = dict[tuple[str, ...], float]


class _Loops(NamedTuple):
    """Whom to observe, and what the counters of agents that stopped had reached, by metric."""

    reads: tuple[Read, ...]
    reached: dict[str, Totals]


class Instruments:
    """All metrics of the catalogue on one meter, for a set of loops."""

    def __init__(self, meter: metrics.Meter) -> None:
        self._loops = _Loops((), {})
        self._taken: tuple[float, _Loops, tuple[Snapshot, ...]] = (-math.inf, self._loops, ())
        for metric in METRICS:
            if metric.kind is Kind.HISTOGRAM:
                self.lag = meter.create_histogram(
                    metric.otel,
                    unit=metric.unit,
                    description=metric.help,
                    explicit_bucket_boundaries_advisory=LAG_BOUNDS_S,
                )
                continue
            create = (
                meter.create_observable_counter
                if metric.kind is Kind.COUNTER
                else meter.create_observable_gauge
            )
            create(
                metric.otel,
                callbacks=[self._observer(metric)],
                unit=metric.unit,
                description=metric.help,
            )

    def add(self, read: Read) -> None:
        """Observe one more loop."""
        with _LOCK:
            self._loops = self._loops._replace(reads=(*self._loops.reads, read))
            self._taken = (-math.inf, self._loops, ())

    def remove(self, read: Read) -> None:
        """Observe one loop less: its gauges are gone, its counters stay where they are.

        So the flush at the end of a process still has what came since the one before, as it has
        for the histogram; and if the loop is watched again they go on: a counter that fell would
        be a negative difference to readers that want differences.
        """
        with _LOCK:
            reads, reached = self._loops
            if read not in reads:
                return
            last = read()
            then: dict[str, Totals] = {}
            for metric in METRICS:
                if metric.kind is Kind.COUNTER:
                    then[metric.name] = dict(reached.get(metric.name, ()))
                    _add(then[metric.name], metric, last)
            # One store: a collection in progress counts the loop as running or as stopped, not
            # twice.
            self._loops = _Loops(tuple(other for other in reads if other != read), then)
            self._taken = (-math.inf, self._loops, ())

    def forget(self) -> None:
        """Observe nothing, in a forked child."""
        self._loops = _Loops((), {})
        self._taken = (-math.inf, self._loops, ())

    def _observer(
        self, metric: Metric
    ) -> Callable[[metrics.CallbackOptions], list[metrics.Observation]]:
        names = ("loop", *metric.labels)
        # Made once: they are the same at each collection, and half of what one would cost.
        named: dict[tuple[str, ...], dict[str, str]] = {}

        def observe(_: metrics.CallbackOptions) -> list[metrics.Observation]:
            loops, snapshots = self._now()
            totals = dict(loops.reached.get(metric.name, ()))
            for snapshot in snapshots:
                _add(totals, metric, snapshot)
            for labels in totals.keys() - named.keys():
                named[labels] = dict(zip(names, labels, strict=True))
            return [metrics.Observation(value, named[key]) for key, value in totals.items()]

        return observe

    def _now(self) -> tuple[_Loops, tuple[Snapshot, ...]]:
        now_s = time.monotonic()
        at_s, loops, snapshots = self._taken
        if now_s - at_s > _SAME_COLLECTION_S:
            loops = self._loops
            snapshots = tuple(read() for read in loops.reads)
            self._taken = (now_s, loops, snapshots)
        return loops, snapshots


def _add(totals: Totals, metric: Metric, snapshot: Snapshot) -> None:
    """Add one loop's values to the totals."""
    for labels, value in metric.read(snapshot):
        key = (snapshot.loop, *labels)
        totals[key] = totals.get(key, 0) + value


class Untold:
    """What is new in a cumulative lag histogram, as values to record one by one."""

    def __init__(self, bounds_s: tuple[float, ...]) -> None:
        lows = (0.0, *(math.nextafter(bound, math.inf) for bound in bounds_s))
        self._edges = tuple(zip(lows, (*bounds_s, math.inf), strict=True))
        self._counts = [0] * len(self._edges)
        self._sums_s = [0.0] * len(self._edges)

    def take(self, lag: LagHistogram, most: int) -> list[tuple[float, int]]:
        """Return values and how often each came, at most `most` altogether.

        New counts of a bucket come at their mean, so that counts per bucket and the sum are the
        histogram's own.
        """
        taken = []
        for index, (low, high) in enumerate(self._edges):
            new = lag.counts[index] - self._counts[index]
            if new <= 0 or most <= 0:
                continue
            mean = (lag.sums_s[index] - self._sums_s[index]) / new
            value, count = min(max(mean, low), high), min(new, most)
            # What was told, not what was true: the next mean makes up for what the edges cut off.
            self._counts[index] += count
            self._sums_s[index] += count * value
            most -= count
            taken.append((value, count))
        return taken


class LagFeed:
    """Records the lag of one loop in the histogram that loops share."""

    def __init__(self, histogram: metrics.Histogram, read: Read) -> None:
        first = read()
        self._histogram = histogram
        self._read = read
        self._attributes = {"loop": first.loop}
        self._untold = Untold(first.lag.bounds)
        self._lock = threading.Lock()

    def feed(self, most: int) -> bool:
        """Record at most `most` counts; return whether that many were there."""
        with self._lock:
            left = most
            for value, count in self._untold.take(self._read().lag, most):
                left -= count
                for _ in range(count):
                    self._histogram.record(value, self._attributes)
            return left == 0

    def finish(self, for_s: float) -> None:
        """Record all there is, for so long at most."""
        until_s = time.monotonic() + for_s
        while self.feed(500) and time.monotonic() < until_s:
            pass


# The set of each provider, and under the API itself that of the process's own provider, which may
# be set after us. The lock is only taken when an agent starts or stops.
_SETS: Final[weakref.WeakKeyDictionary[object, Instruments]] = weakref.WeakKeyDictionary()
_LOCK: Final = ForkLock()


def instruments_of(provider: metrics.MeterProvider | None) -> Instruments:
    """Return the instruments of a provider, by default of the process's own."""
    with _LOCK:
        of_process = metrics.get_meter_provider()
        found = _SETS.get(of_process if provider is None else provider)
        if found is None and (provider is None or provider is of_process):
            found = _SETS.get(metrics)
        if found is None:
            found = Instruments(metrics.get_meter("loopwatch", __version__, provider))
            _SETS[metrics if provider is None else provider] = found
        return found


def forget_all() -> None:
    """Observe nothing in a forked child, which must not tell its parent's numbers."""
    for instruments in _SETS.values():
        instruments.forget()
