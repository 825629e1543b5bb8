"""What is new in the lag histogram comes out whole, whatever a reader saw in between."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("opentelemetry.metrics", reason="the extra otel is not installed here")

from loopwatch import Config, ConfigError
from loopwatch.catalogue import LAG_BOUNDS_S
from loopwatch.clock import NS_PER_S
from loopwatch.exporters.otel.attributes import attributes, to_ns
from loopwatch.exporters.otel.metrics import Untold
from loopwatch.lag import LagRecorder
from loopwatch.model import LagHistogram
from tests.unit.factories import stall


class Recorded:
    """Sorts values into buckets as OpenTelemetry does: upper bounds belong to their bucket."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum_s = 0.0

    def record(self, taken: list[tuple[float, int]]) -> int:
        for value, count in taken:
            index = next((n for n, b in enumerate(self.bounds) if value <= b), len(self.bounds))
            self.counts[index] += count
            self.sum_s += value * count
        return sum(count for _, count in taken)


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_sum_are_those_of_the_recorder(seed: int) -> None:
    """Ticks and stretches of all lengths, taken in helpings at any time, add up to the same."""
    rng = random.Random(seed)
    now_ns = 0
    recorder = LagRecorder(LAG_BOUNDS_S, now_ns)
    untold, recorded = Untold(LAG_BOUNDS_S), Recorded(LAG_BOUNDS_S)
    for _ in range(200):
        length_ns = rng.randrange(10 ** rng.randrange(6, 12))
        now_ns += length_ns
        if rng.random() < 0.5:
            recorder.stretch(length_ns, now_ns)
        else:
            recorder.tick(now_ns - min(length_ns, 3 * NS_PER_S), now_ns)
        recorded.record(untold.take(recorder.histogram(), rng.randrange(50)))
    while recorded.record(untold.take(recorder.histogram(), 1000)):
        pass
    lag = recorder.histogram()
    assert tuple(recorded.counts) == lag.counts
    assert recorded.sum_s == pytest.approx(lag.sum_s, rel=1e-9)


def test_the_sums_of_the_buckets_are_within_their_bounds() -> None:
    """Each bucket's mean lies in it, and all together they are the sum."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.stretch(200 * NS_PER_S, 200 * NS_PER_S)
    lag = recorder.histogram()
    assert sum(lag.sums_s) == pytest.approx(lag.sum_s)
    edges = zip((0.0, *LAG_BOUNDS_S), (*LAG_BOUNDS_S, 1e9), strict=True)
    for (low, high), count, sum_s in zip(edges, lag.counts, lag.sums_s, strict=True):
        if count:
            assert low < sum_s / count <= high


def test_a_sum_that_ran_ahead_of_its_count_is_made_up_for() -> None:
    """A reader between the two writes gets a mean beyond the bucket: told inside it, then right."""
    bounds = (1.0, 2.0)
    untold, recorded = Untold(bounds), Recorded(bounds)
    recorded.record(untold.take(LagHistogram(bounds, (0, 1, 0), 3.5, (0.0, 3.5, 0.0)), 10))
    assert recorded.counts == [0, 1, 0]
    recorded.record(untold.take(LagHistogram(bounds, (0, 2, 0), 3.5, (0.0, 3.5, 0.0)), 10))
    assert recorded.counts == [0, 2, 0]
    assert recorded.sum_s == pytest.approx(3.5)


def test_a_mean_on_a_lower_bound_stays_in_its_bucket() -> None:
    """Rounding must not move counts to the bucket below."""
    bounds = (1.0, 2.0)
    untold, recorded = Untold(bounds), Recorded(bounds)
    recorded.record(untold.take(LagHistogram(bounds, (0, 4, 0), 4.0, (0.0, 4.0, 0.0)), 10))
    assert recorded.counts == [0, 4, 0]


def test_attributes_are_plain_and_leave_out_what_is_not_known() -> None:
    """Only what OpenTelemetry takes; semantic conventions where there is one."""
    got = attributes(stall(task=None))
    assert all(isinstance(value, (str, int, float)) for value in got.values())
    assert got["code.function.name"] == "app.slow"
    assert got["code.line.number"] == 4
    assert got["loopwatch.cause"] == "unknown"
    assert "loopwatch.task" not in got
    assert not [name for name in got if "." not in name]


def test_the_switch_is_read_from_the_environment_and_nothing_else_is_taken() -> None:
    """`true`, `1`, `yes`, `on` and their opposites, in any case; a number is no switch in code."""
    name = "LOOPWATCH_OTEL_INSTRUMENT_ASYNCIO"
    for text, expected in (("true", True), ("1", True), ("On", True), ("no", False), ("0", False)):
        assert Config.from_env({name: text}).otel_instrument_asyncio is expected
    with pytest.raises(ConfigError, match=f"{name}='maybe' is not allowed: use True or False"):
        Config.from_env({name: "maybe"})
    with pytest.raises(ConfigError, match="otel_instrument_asyncio=1 is not allowed"):
        Config.of(otel_instrument_asyncio=1)


def test_a_moment_is_exact_to_a_microsecond() -> None:
    """Unix time as a float has no more."""
    assert abs(to_ns(1795246203.250001) - 1795246203250001000) < 1000
