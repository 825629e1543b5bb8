"""Lag, weighted by time."""

from __future__ import annotations

import pytest

from loopwatch.catalogue import LAG_BOUNDS_S
from loopwatch.lag import STEP_NS, LagRecorder, quantile

S = 1_000_000_000


def counted(recorder: LagRecorder) -> dict[float, int]:
    histogram = recorder.histogram()
    bounds = [*histogram.bounds, float("inf")]
    return {b: n for b, n in zip(bounds, histogram.counts, strict=True) if n}


@pytest.mark.parametrize("duration_s", [0.001, 0.05, 0.1, 0.12, 0.25, 0.5, 0.512, 3.0, 200.0])
def test_the_closed_form_equals_the_sum_it_stands_for(duration_s: float) -> None:
    """Per bucket and in the sum, the stretch counts like lags of d, d - step, d - 2 step …"""
    duration_ns = round(duration_s * S)
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.stretch(duration_ns, duration_ns)
    lags = list(range(duration_ns, 0, -STEP_NS))
    expected: dict[float, int] = {}
    for lag in lags:
        bound = next((b for b in LAG_BOUNDS_S if lag <= round(b * S)), float("inf"))
        expected[bound] = expected.get(bound, 0) + 1
    assert counted(recorder) == expected
    assert recorder.histogram().sum_s == pytest.approx(sum(lags) / S)


def test_a_long_stall_is_not_one_sample_among_thousands() -> None:
    """30 s of stall in 5 minutes are 10 % of the time, and the quantile shows it."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    for beat in range(1, 4 * 270):
        recorder.tick(beat * S // 4, beat * S // 4 + 1000)
    recorder.stretch(30 * S, 300 * S)
    histogram = recorder.histogram()
    assert quantile(0.92, histogram.bounds, histogram.counts, 30.0) > 5.0


def test_ticks_speak_for_the_time_since_the_one_before() -> None:
    """A minute of healthy ticks is a minute of counts, whatever the interval."""
    for interval_ns in (S // 4, S // 40, 2 * S):
        recorder = LagRecorder(LAG_BOUNDS_S, 0)
        for due_ns in range(interval_ns, 60 * S + 1, interval_ns):
            recorder.tick(due_ns, due_ns + 300_000)
        assert counted(recorder) == {0.001: 60 * S // STEP_NS}


def test_time_in_a_stall_is_not_counted_twice() -> None:
    """The tick after a stall speaks only for the time that the stall left."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.stretch(S, S)
    recorder.tick(2 * S, 2 * S)
    assert sum(recorder.histogram().counts) == 2 * S // STEP_NS


def test_time_without_a_running_loop_is_left_out() -> None:
    """An hour between two runs of the loop is not an hour of perfect service."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.skip(3600 * S)
    recorder.tick(3601 * S, 3601 * S)
    assert sum(recorder.histogram().counts) == S // STEP_NS


def test_the_maximum_slides_out_after_a_minute_and_reading_keeps_it() -> None:
    """Two readers see the same maximum, and neither resets it."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.stretch(2 * S, 10 * S)
    assert recorder.max_ns(30 * S) == recorder.max_ns(60 * S) == 2 * S
    recorder.tick(80 * S, 80 * S + 5)
    assert recorder.max_ns(80 * S) == 5


def test_quantiles_of_the_last_minute_forget() -> None:
    """What is older than a minute is out of p99, and stays in the totals."""
    recorder = LagRecorder(LAG_BOUNDS_S, 0)
    recorder.stretch(10 * S, 10 * S)
    assert recorder.quantiles_s(12 * S, 0.99)[0] > 5
    for due_ns in range(11 * S, 100 * S, S):
        recorder.tick(due_ns, due_ns)
    assert recorder.quantiles_s(100 * S, 0.99)[0] == 0
    assert sum(recorder.histogram().counts) > 60 * S // STEP_NS


def test_no_data_is_zero() -> None:
    """A quantile of nothing is 0, not an error."""
    assert LagRecorder(LAG_BOUNDS_S, 0).quantiles_s(S, 0.5, 0.99) == (0.0, 0.0)
