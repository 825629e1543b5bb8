"""The metrics catalogue against the contract and against what Prometheus reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from loopwatch import Cause
from loopwatch.catalogue import LAG_BOUNDS_S, METRICS, Kind
from loopwatch.exporters import prometheus
from loopwatch.model import Executor
from tests.unit.factories import ledger, stall

CONTRACT = {
    "loopwatch_lag_seconds": ("histogram", ()),
    "loopwatch_lag_max_seconds": ("gauge", ()),
    "loopwatch_iterations_total": ("counter", ()),
    "loopwatch_loop_time_seconds_total": ("counter", ("state",)),
    "loopwatch_loop_cpu_seconds_total": ("counter", ()),
    "loopwatch_tasks": ("gauge", ()),
    "loopwatch_stalls_total": ("counter", ("cause",)),
    "loopwatch_stall_seconds_total": ("counter", ("cause",)),
    "loopwatch_stall_active_seconds": ("gauge", ()),
    "loopwatch_last_stall_timestamp_seconds": ("gauge", ()),
    "loopwatch_gc_pause_seconds_total": ("counter", ()),
    "loopwatch_executor_threads": ("gauge", ("executor",)),
    "loopwatch_executor_queue_length": ("gauge", ("executor",)),
    "loopwatch_heartbeat_timestamp_seconds": ("gauge", ()),
    "loopwatch_self_cpu_seconds_total": ("counter", ()),
    "loopwatch_dropped_records_total": ("counter", ("reason",)),
    "loopwatch_errors_total": ("counter", ("component",)),
    "loopwatch_build_info": (
        "gauge",
        ("version", "python", "loop_impl", "sensor", "native_sampler"),
    ),
    "loopwatch_lag_threshold_seconds": ("gauge", ()),
    "loopwatch_hang_threshold_seconds": ("gauge", ()),
    "loopwatch_tasks_threshold": ("gauge", ()),
    "loopwatch_cpu_threshold_ratio": ("gauge", ()),
    "loopwatch_excused_stalls_total": ("counter", ("reason",)),
}

# How the usual translation spells a unit at the end of a Prometheus name.
UNITS = {"s": "seconds", "1": "ratio"}


def scraped(accept: str = "text/plain") -> dict[str, Any]:
    book = ledger()
    book.iterations, book.cpu_ns = 5, 20
    book.looked(10, 5, running=True)
    book.executors = (Executor("default", 1, 2),)
    book.closed(10**9, 13 * 10**8, stall())
    text, _ = prometheus.render_alone(accept, [book.snapshot])
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def test_the_catalogue_is_the_contract() -> None:
    """Names, kinds and labels, nothing more and nothing less."""
    assert {m.name: (m.kind.value, m.labels) for m in METRICS} == CONTRACT


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_the_otel_name_translates_to_the_prometheus_name(metric: Any) -> None:
    """Dots to underscores, unit and `_total` appended where they are not there yet."""
    name = metric.otel.replace(".", "_")
    unit = UNITS.get(metric.unit)
    if unit and not name.endswith(f"_{unit}"):
        name += f"_{unit}"
    if metric.kind is Kind.COUNTER:
        name += "_total"
    assert name == metric.name


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: m.name)
def test_help_says_something(metric: Any) -> None:
    """One or two sentences, not the name again."""
    assert metric.help.endswith(".")
    assert len(metric.help) > 20


def test_the_lag_bounds_hold_what_rules_compare_with() -> None:
    """0.1, 0.25 and 0.5 exactly, at least 60 s, ascending."""
    assert {0.1, 0.25, 0.5} <= set(LAG_BOUNDS_S)
    assert max(LAG_BOUNDS_S) >= 60
    assert list(LAG_BOUNDS_S) == sorted(LAG_BOUNDS_S)


def test_a_scrape_has_every_metric_with_its_labels() -> None:
    """What Prometheus reads is the catalogue; `loop` is on every sample."""
    families = scraped()
    for metric in METRICS:
        family = families[metric.name.removesuffix("_total")]
        assert family.type == metric.kind.value
        assert family.documentation == metric.help
        assert family.samples, metric.name
        for sample in family.samples:
            labels = set(sample.labels) - {"le"}
            assert labels == {"loop", *metric.labels}, sample


def test_each_cause_is_a_child_from_the_start() -> None:
    """`increase()` sees the first stall of each cause."""
    for name in ("loopwatch_stalls", "loopwatch_stall_seconds"):
        samples = scraped()[name].samples
        assert {s.labels["cause"] for s in samples} == {cause.value for cause in Cause}


def test_the_histogram_is_cumulative_and_complete() -> None:
    """Buckets rise to +Inf, which is the count, and the sum is there."""
    samples = scraped()["loopwatch_lag_seconds"].samples
    buckets = [s for s in samples if s.name.endswith("_bucket")]
    assert [float(s.labels["le"]) for s in buckets] == [*LAG_BOUNDS_S, math.inf]
    values = [s.value for s in buckets]
    assert values == sorted(values)
    by_name = {s.name: s.value for s in samples}
    assert by_name["loopwatch_lag_seconds_count"] == values[-1] == 6
    assert by_name["loopwatch_lag_seconds_sum"] == pytest.approx(
        0.3 + 0.25 + 0.2 + 0.15 + 0.1 + 0.05
    )


def test_openmetrics_is_served_where_it_is_asked_for() -> None:
    """The content type follows the Accept header."""
    _, plain = prometheus.render_alone("text/plain", [ledger().snapshot])
    body, open_metrics = prometheus.render_alone(
        "application/openmetrics-text; version=1.0.0", [ledger().snapshot]
    )
    assert plain.startswith("text/plain")
    assert open_metrics.startswith("application/openmetrics-text")
    assert body.rstrip().endswith(b"# EOF")


def test_a_registry_that_has_our_names_refuses_clearly() -> None:
    """Registering a second collector fails at registration, not at some scrape."""
    registry = CollectorRegistry()
    registry.register(prometheus.LoopwatchCollector())
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(prometheus.LoopwatchCollector())
