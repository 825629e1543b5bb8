"""OpenTelemetry for real: the SDK, OTLP over HTTP, stores that take it, and what can go wrong."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import loopwatch
from loopwatch.catalogue import LAG_BOUNDS_S, METRICS, Kind
from loopwatch.config import Config
from loopwatch.exporters.base import Source
from loopwatch.exporters.prometheus import render_alone
from loopwatch.model import LagHistogram, Request, Snapshot
from tests import otlp
from tests.conftest import FACTORIES, Child, Run, Told, _run, settle, start_child
from tests.servers import (
    ROOT,
    PrometheusApi,
    Receiver,
    receiver,
    victoria_metrics,
    wait_for,
)
from tests.unit.factories import stall as a_stall

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed here")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="no OTLP exporter is installed here"
)

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asyncio import AsyncioInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import (
    Counter,
    Histogram,
    MeterProvider,
    ObservableCounter,
)
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    InMemoryMetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    ConsoleSpanExporter,
    SimpleSpanProcessor,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler

from loopwatch.exporters.otel import OtelExporter, exporter as exporter_module
from loopwatch.exporters.otel.metrics import LagFeed


@dataclass
class Host:
    """What an app sets up for itself: three providers that send to one OTLP endpoint."""

    endpoint: Receiver
    metrics: MeterProvider
    traces: TracerProvider
    logs: LoggerProvider

    def exporter(self) -> OtelExporter:
        return OtelExporter(self.metrics, self.traces, self.logs)

    def flush(self) -> None:
        for provider in (self.metrics, self.traces, self.logs):
            assert provider.force_flush()


def sending_metrics(url: str, *, every_s: float = 3600) -> PeriodicExportingMetricReader:
    return PeriodicExportingMetricReader(
        OTLPMetricExporter(url), export_interval_millis=every_s * 1000
    )


@pytest.fixture
def make_host() -> Iterator[Callable[..., Host]]:
    """Make providers with a real OTLP/HTTP exporter each, and shut them down at the end."""
    hosts = []
    with receiver() as endpoint:

        def make(sampler: Sampler = ALWAYS_ON) -> Host:
            traces = TracerProvider(ParentBased(sampler), shutdown_on_exit=False)
            traces.add_span_processor(
                BatchSpanProcessor(OTLPSpanExporter(f"{endpoint.url}/v1/traces"))
            )
            logs = LoggerProvider(shutdown_on_exit=False)
            logs.add_log_record_processor(
                BatchLogRecordProcessor(OTLPLogExporter(f"{endpoint.url}/v1/logs"))
            )
            reader = sending_metrics(f"{endpoint.url}/v1/metrics")
            hosts.append(
                Host(endpoint, MeterProvider([reader], shutdown_on_exit=False), traces, logs)
            )
            return hosts[-1]

        yield make
        for host in hosts:
            for provider in (host.metrics, host.traces, host.logs):
                provider.shutdown()


@pytest.fixture
def host(make_host: Callable[..., Host]) -> Host:
    """Return an app's providers."""
    return make_host()


@pytest.fixture(scope="module")
def stalled() -> Snapshot:
    """Return the last snapshot of a loop that stalled twice: what all ways out must agree on."""

    async def main() -> Snapshot:
        with loopwatch.install(exporters=[]) as agent:
            await asyncio.sleep(0.1)
            for block_s in (0.15, 0.3):
                await asyncio.create_task(blocked(block_s))
                await asyncio.sleep(0.3)
        return agent.snapshot()

    snapshot: Snapshot = _run(asyncio.SelectorEventLoop, main())
    assert sum(snapshot.stalls_total.values()) == 2
    assert sum(count > 0 for count in snapshot.lag.counts) > 2
    return snapshot


async def blocked(block_s: float = 0.25) -> tuple[int, int]:
    """Block in an iteration of its own; return when, in nanoseconds of unix time."""
    await asyncio.sleep(0)
    began_ns = time.time_ns()
    time.sleep(block_s)
    return began_ns, time.time_ns()


def exported(exporter: OtelExporter, snapshot: Snapshot) -> OtelExporter:
    """Start an exporter on a snapshot that stands still."""
    exporter.start(Source(loopwatch.Config(), lambda: snapshot))
    return exporter


# Metrics.


def test_every_metric_arrives_as_the_catalogue_says(host: Host, stalled: Snapshot) -> None:
    """Name, unit, kind, description, attributes and values are those of the table."""
    exporter = exported(host.exporter(), stalled)
    wait_for("the lag", lambda: lag_count(host) == sum(stalled.lag.counts))
    got = otlp.metrics(host.endpoint)
    exporter.stop()
    assert set(got) == {metric.otel for metric in METRICS}
    for metric in METRICS:
        message = got[metric.otel]
        assert (message.unit, message.description) == (metric.unit, metric.help)
        kind = {Kind.COUNTER: "sum", Kind.GAUGE: "gauge", Kind.HISTOGRAM: "histogram"}[metric.kind]
        assert message.WhichOneof("data") == kind
        if metric.kind is Kind.HISTOGRAM:
            continue
        if metric.kind is Kind.COUNTER:
            assert message.sum.is_monotonic
        expected = {
            tuple(
                sorted({"loop": "main", **dict(zip(metric.labels, labels, strict=True))}.items())
            ): float(value)
            for labels, value in metric.read(stalled)
        }
        assert {key: otlp.value(p) for key, p in otlp.points(message).items()} == expected


def lag_point(host: Host) -> Any:
    host.metrics.force_flush()
    message = otlp.metrics(host.endpoint).get("loopwatch.lag")
    return None if message is None else otlp.points(message)[(("loop", "main"),)]


def lag_count(host: Host) -> int:
    point = lag_point(host)
    return 0 if point is None else int(point.count)


def test_the_lag_histogram_is_that_of_the_scrape(host: Host, stalled: Snapshot) -> None:
    """Our bounds, and in each bucket the same count; the sum is the same to rounding."""
    exported(host.exporter(), stalled).stop()
    point = lag_point(host)
    assert tuple(point.explicit_bounds) == LAG_BOUNDS_S
    assert tuple(point.bucket_counts) == stalled.lag.counts
    assert point.sum == pytest.approx(stalled.lag.sum_s, rel=1e-9)


def test_a_long_stall_arrives_whole_and_in_helpings(host: Host, stalled: Snapshot) -> None:
    """Thousands of counts at once are told a hundred at a time, and none is lost."""
    long = after_a_long_stall(stalled)
    apart = LagFeed(host.metrics.get_meter("app").create_histogram("apart"), lambda: long)
    assert apart.feed(100)
    assert sum(count for _, count in apart._untold.take(long.lag, 10_000)) == 2900
    exporter = exported(host.exporter(), long)
    wait_for("all of them", lambda: lag_count(host) == 3000)
    exporter.stop()
    point = lag_point(host)
    assert point.bucket_counts[16] == point.count == 3000
    assert point.sum == pytest.approx(3000 * 135.0, rel=1e-9)
    assert (point.min, point.max) == (pytest.approx(135.0), pytest.approx(135.0))


def test_what_is_left_at_the_end_is_recorded(host: Host, stalled: Snapshot) -> None:
    """A stop right after a long stall waits for its counts."""
    exported(host.exporter(), after_a_long_stall(stalled)).stop()
    assert lag_count(host) == 3000


def after_a_long_stall(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot of a loop that stood still for 150 s beyond the last bound."""
    counts, sums = (*(0,) * 16, 3000), (*(0.0,) * 16, 3000 * 135.0)
    lag = LagHistogram(LAG_BOUNDS_S, counts, sum(sums), sums)
    return dataclasses.replace(snapshot, lag=lag)


def test_a_stopped_loop_has_no_gauges_and_counters_that_never_fall(
    host: Host, stalled: Snapshot
) -> None:
    """After `stop` totals stay, so that a last flush has them; watched again they go on."""
    key = (("cause", "blocking_call"), ("loop", "main"))
    stall_s = stalled.stall_s_total[loopwatch.Cause.BLOCKING_CALL]
    assert stall_s > 0
    for times in (1, 2):
        exported(host.exporter(), stalled).stop()
        host.metrics.force_flush()
        got = otlp.metrics(host.endpoint)
        assert set(got) == {metric.otel for metric in METRICS if metric.kind is not Kind.GAUGE}
        point = otlp.points(got["loopwatch.stall"])[key]
        assert otlp.value(point) == pytest.approx(times * stall_s)


def test_a_reader_of_differences_never_gets_a_negative_one(stalled: Snapshot) -> None:
    """With delta temporality an agent that stops and starts again counts up, as it must."""
    delta = dict.fromkeys((Counter, ObservableCounter, Histogram), AggregationTemporality.DELTA)
    reader = InMemoryMetricReader(preferred_temporality=delta)
    provider = MeterProvider([reader], shutdown_on_exit=False)
    values = []
    for _ in range(2):
        exporter = exported(OtelExporter(provider), stalled)
        values += [point.value for point in in_memory(reader, "loopwatch.iterations")]
        exporter.stop()
        values += [point.value for point in in_memory(reader, "loopwatch.iterations")]
    provider.shutdown()
    assert values == [stalled.iterations_total, 0, stalled.iterations_total, 0]


def in_memory(reader: InMemoryMetricReader, name: str) -> Sequence[Any]:
    data = reader.get_metrics_data()
    found: list[Any] = []
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found += metric.data.data_points if metric.name == name else ()
    return found


def test_two_loops_and_many_restarts_are_silent(
    host: Host, run_exact: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """One set of instruments serves all: no word of duplicates, each loop with its own series."""

    async def main() -> None:
        for _ in range(2):
            with loopwatch.install(exporters=[host.exporter()]):
                await asyncio.to_thread(_run, FACTORIES["asyncio"], beside())

    async def beside() -> None:
        with loopwatch.install(exporters=[host.exporter()]):
            await asyncio.to_thread(host.metrics.force_flush)

    run_exact(main())
    tasks = otlp.points(otlp.metrics(host.endpoint)["loopwatch.tasks"])
    assert set(tasks) == {(("loop", "main"),), (("loop", "main-2"),)}
    assert [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING] == []


# Spans and log records.


async def request(tracer: trace.Tracer) -> tuple[Any, tuple[int, int]]:
    """Do what an instrumented web framework does, and block; return the span and when."""
    with tracer.start_as_current_span("GET /export") as span:
        return span.get_span_context(), await blocked()


def run_requests(run: Run, host: Host, told: Told, work: Callable[[], Any]) -> Any:
    """Run `work` as a task on a watched loop, tell everything, and return its result."""

    async def main() -> Any:
        async with loopwatch.install(exporters=[host.exporter()], on_stall=told):
            await asyncio.sleep(0.05)
            result = await asyncio.create_task(work())
            await settle(told)
        return result

    result = run(main())
    host.flush()
    return result


def test_a_stall_is_a_span_in_the_trace_of_its_request(
    host: Host, run_exact: Run, told: Told
) -> None:
    """A child of the blocked request's span, from true start to true end, with line and cause."""
    tracer = host.traces.get_tracer("app")
    parent, (began_ns, ended_ns) = run_requests(run_exact, host, told, lambda: request(tracer))
    (stall,) = told.final
    by_name = {span.name: span for span in otlp.spans(host.endpoint)}
    span = by_name["event loop stall"]
    assert int.from_bytes(span.trace_id, "big") == parent.trace_id
    assert int.from_bytes(span.parent_span_id, "big") == parent.span_id
    # As exact as the sensor: uvloop's clock is a millisecond off at most.
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    assert abs(start_ns / 1e9 - stall.started_at_s) < 1e-5
    assert abs((end_ns - start_ns) / 1e9 - stall.duration_s) < 1e-5
    assert start_ns <= began_ns + 2e6
    assert end_ns >= ended_ns - 2e6
    got = otlp.plain(span.attributes)
    expected = {
        "code.function.name": f"{__name__}.blocked",
        "loopwatch.call": "time.sleep",
        "loopwatch.cause": "blocking_call",
        "loopwatch.confidence": stall.confidence,
        "loopwatch.loop": "main",
        "loopwatch.sensor": stall.sensor,
        "loopwatch.wait": "sleep",
        "loopwatch.coro": f"{__name__}.request",
        "thread.name": "MainThread",
    }
    assert got.items() >= expected.items()
    assert got["code.file.path"].endswith("test_otel.py")
    assert got["code.line.number"] == blocked.__code__.co_firstlineno + 4
    assert "asyncio.sleep" in got["loopwatch.advice"]


def test_the_samples_are_events_of_the_span(host: Host, run_exact: Run, told: Told) -> None:
    """Each stack at the time it was taken, outermost first, without a value of the app."""
    secret = "hunter2"

    async def work() -> None:
        password = secret
        await blocked()
        del password

    run_requests(run_exact, host, told, work)
    (stall,) = told.final
    (span,) = otlp.spans(host.endpoint)
    assert len(span.events) == len(stall.samples) > 0
    for event, sample in zip(span.events, stall.samples, strict=True):
        got = otlp.plain(event.attributes)
        assert abs(event.time_unix_nano / 1e9 - stall.started_at_s - sample.at_s) < 1e-5
        assert span.start_time_unix_nano <= event.time_unix_nano <= span.end_time_unix_nano
        lines = got["code.stacktrace"].splitlines()
        assert lines[-1].endswith(f", in {__name__}.blocked")
        assert len(lines) == len(sample.frames) + 1
        assert got["loopwatch.count"] == sample.count
    assert not [r for r in host.endpoint.requests if secret.encode() in r.body]


def test_a_stall_is_log_records_in_the_trace_of_its_request(
    host: Host, run_exact: Run, told: Told
) -> None:
    """One while it lasts, one at its end; the whole record, and the ids that join it to traces."""
    tracer = host.traces.get_tracer("app")
    parent, _ = run_requests(run_exact, host, told, lambda: request(tracer))
    records = otlp.log_records(host.endpoint)
    assert len(records) == len(told.records) == 2
    for record, stall in zip(records, told.records, strict=True):
        assert record.event_name == "loopwatch.stall"
        assert (record.severity_number, record.severity_text) == (13, "WARN")
        assert record.body.string_value.startswith("event loop 'main' ")
        assert int.from_bytes(record.trace_id, "big") == parent.trace_id
        assert int.from_bytes(record.span_id, "big") == parent.span_id
        end_s = stall.started_at_s + stall.duration_s
        assert abs(record.time_unix_nano / 1e9 - end_s) < 1e-5
        got = otlp.plain(record.attributes)
        assert json.loads(got["loopwatch.stall.record"]) == stall.to_dict()
        assert got["loopwatch.phase"] == stall.phase
        assert got["code.function.name"] == f"{__name__}.blocked"
        assert got["loopwatch.cause"] == stall.cause


def test_the_sampler_of_the_app_decides(
    make_host: Callable[..., Host], run_exact: Run, told: Told
) -> None:
    """No span of ours in a trace that was not sampled; log records have the trace's id still."""
    host = make_host(ALWAYS_OFF)
    tracer = host.traces.get_tracer("app")
    parent, _ = run_requests(run_exact, host, told, lambda: request(tracer))
    assert otlp.spans(host.endpoint) == []
    records = otlp.log_records(host.endpoint)
    assert {int.from_bytes(record.trace_id, "big") for record in records} == {parent.trace_id}


def test_without_a_request_the_span_is_a_root(host: Host, run_exact: Run, told: Told) -> None:
    """A plain callback that blocks has a trace of its own, and log records without one."""

    async def work() -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.25)

    run_requests(run_exact, host, told, work)
    (span,) = otlp.spans(host.endpoint)
    assert span.parent_span_id == b""
    assert {record.trace_id for record in otlp.log_records(host.endpoint)} == {b""}


def test_ids_alone_are_linked_not_claimed(host: Host, stalled: Snapshot, told: Told) -> None:
    """Where the ids are known but the context could not be read, the span links to them."""
    stall = a_stall(request=Request("GET", "/export", "ab" * 16, "cd" * 8))
    exporter = exported(host.exporter(), stalled)
    exporter.export(stall)
    exporter.stop()
    host.flush()
    (span,) = otlp.spans(host.endpoint)
    assert span.parent_span_id == b""
    assert [(link.trace_id.hex(), link.span_id.hex()) for link in span.links] == [
        ("ab" * 16, "cd" * 8)
    ]
    assert otlp.plain(span.attributes)["http.route"] == "/export"
    (record,) = otlp.log_records(host.endpoint)
    assert (record.trace_id.hex(), record.span_id.hex()) == ("ab" * 16, "cd" * 8)


# Providers of the process.


def test_providers_may_be_set_after_us(child: Child) -> None:
    """By name, the providers of the process are used; set later, the metrics miss nothing."""
    with receiver() as endpoint:
        done = child(SETUP + LATE_PROVIDERS, endpoint.url)
        assert done.returncode == 0, done.stderr
        assert set(otlp.metrics(endpoint, 0)) == {metric.otel for metric in METRICS}
        (point,) = otlp.points(otlp.metrics(endpoint)["loopwatch.lag"]).values()
        assert list(point.bucket_counts) == json.loads(done.stdout)
        # Sent by the providers themselves when the process ended, after ours had stopped.
        stalls = otlp.points(otlp.metrics(endpoint)["loopwatch.stalls"]).values()
        assert sum(otlp.value(stall) for stall in stalls) == 2
        assert [span.name for span in otlp.spans(endpoint)] == ["event loop stall"]
        assert len(otlp.log_records(endpoint)) == 2
        assert "WARNING" not in done.stderr


def test_who_never_sets_a_provider_is_told_so(
    stalled: Snapshot, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After ten seconds (here none) one line says that nothing is exported, and what to do."""
    monkeypatch.setattr(exporter_module, "_PATIENT_S", 0.0)
    exporter = OtelExporter()
    exporter.start(Source(Config(), lambda: stalled))
    deadline = time.monotonic() + 5
    while not caplog.records and time.monotonic() < deadline:
        time.sleep(0.01)
    exporter.stop()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "nowhere to send to" in record.getMessage()
    assert "set_meter_provider()" in record.getMessage()


# What an app does at its start. The providers' own handlers at exit flush them.
SETUP = """
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", force=True)
from opentelemetry import _logs, metrics, trace
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs import export as log_export
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace import export as span_export

def set_providers(url, kind="Batch", on_exit=True):
    reader = PeriodicExportingMetricReader(OTLPMetricExporter(url + "/v1/metrics"), 3_600_000)
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=on_exit))
    traces = TracerProvider(shutdown_on_exit=on_exit)
    spans = getattr(span_export, kind + "SpanProcessor")
    traces.add_span_processor(spans(OTLPSpanExporter(url + "/v1/traces")))
    trace.set_tracer_provider(traces)
    logs = LoggerProvider(shutdown_on_exit=on_exit)
    records = getattr(log_export, kind + "LogRecordProcessor")
    logs.add_log_record_processor(records(OTLPLogExporter(url + "/v1/logs")))
    _logs.set_logger_provider(logs)

async def stalls(agent, count):
    while len([s for s in agent.stalls if s.phase == "final"]) < count:
        await asyncio.sleep(0.01)
"""

LATE_PROVIDERS = """
async def main():
    agent = loopwatch.install(exporters=["otel"])
    await asyncio.sleep(0.1)
    time.sleep(0.3)
    await stalls(agent, 1)
    while agent._exporters[0]._work._waiting:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    set_providers(sys.argv[1])
    time.sleep(0.3)
    await stalls(agent, 2)
    await asyncio.to_thread(metrics.get_meter_provider().force_flush)
    agent.stop()
    print(json.dumps(agent.snapshot().lag.counts))

run(main())
"""


def test_the_example_of_the_how_to_sends_what_it_says(tmp_path: Path) -> None:
    """The app of the page, as it stands there, sends metrics, the span and both log records."""
    pytest.importorskip("fastapi", reason="the demo's packages are not installed here")
    page = (ROOT / "docs" / "how-to" / "export-to-opentelemetry.md").read_text()
    app = next(block for block in page.split("```python\n")[1:] if "import time" in block)
    (tmp_path / "page.py").write_text(app.partition("```")[0])
    with receiver() as endpoint:
        script = """
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = sys.argv[1]
        sys.path.insert(0, os.getcwd())
        import page, uvicorn, urllib.request
        server = uvicorn.Server(uvicorn.Config(page.app, port=0, log_level="warning"))
        def ask():
            while not server.started:
                time.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            urllib.request.urlopen(f"http://127.0.0.1:{port}/export").read()
            while [s.phase for a in loopwatch.registry._AGENTS.values() for s in a.stalls] != [
                "final"
            ]:
                time.sleep(0.01)
            server.should_exit = True
        threading.Thread(target=ask).start()
        server.run()
        """
        with start_child(tmp_path, script, endpoint.url) as process:
            _, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors
        # A recent FastAPI adds spans of its own.
        by_name = {span.name: span for span in otlp.spans(endpoint)}
        parent, stall = by_name["collect rows"], by_name["event loop stall"]
        assert stall.parent_span_id == parent.span_id
        attributes = otlp.plain(stall.attributes)
        assert attributes["http.route"] == "/export"
        assert attributes["code.function.name"] == "page.export"
        assert [r.span_id for r in otlp.log_records(endpoint)] == [parent.span_id] * 2
        stalls = otlp.points(otlp.metrics(endpoint)["loopwatch.stalls"])
        key = (("cause", "blocking_call"), ("loop", "main"))
        assert otlp.value(stalls[key]) == 1


# A store.


def test_a_store_has_the_names_labels_and_values_of_the_scrape(
    stalled: Snapshot, tmp_path: Path
) -> None:
    """VictoriaMetrics, fed by OTLP, has each series of the text exposition and no other."""
    with victoria_metrics(tmp_path, "-opentelemetry.usePrometheusNaming") as store:
        reader = sending_metrics(f"{store.url}/opentelemetry/v1/metrics")
        provider = MeterProvider([reader], resource=Resource({}), shutdown_on_exit=False)
        exporter = exported(OtelExporter(provider), stalled)
        exporter._work._feed.finish(5)  # type: ignore[union-attr]
        assert provider.force_flush()
        exporter.stop()
        scraped = series_of_scrape(stalled)
        wait_for("the series", lambda: len(series_of_store(store)) >= len(scraped))
        stored = series_of_store(store)
        provider.shutdown()
    assert set(stored) == set(scraped)
    for key, value in scraped.items():
        assert stored[key] == pytest.approx(value, rel=1e-9), key


Series = tuple[str, tuple[tuple[str, str], ...]]


def series_of_scrape(snapshot: Snapshot) -> dict[Series, float]:
    text = render_alone("", [lambda: snapshot])[0].decode()
    return {
        series(sample.name, sample.labels): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def series_of_store(store: PrometheusApi) -> dict[Series, float]:
    found = {}
    for row in store.query('{__name__=~"loopwatch.*"}'):
        labels = dict(row["metric"])
        name = labels.pop("__name__")
        # The SDK's own, of its resource.
        kept = {n: v for n, v in labels.items() if not n.startswith(("telemetry_", "service_"))}
        found[series(name, kept)] = float(row["value"][1])
    return found


def series(name: str, labels: dict[str, str]) -> Series:
    # 1 and 1.0 are the same bound, written by two programs.
    same = {n: str(float(v)) if n == "le" else v for n, v in labels.items()}
    return name, tuple(sorted(same.items()))


# opentelemetry-instrumentation-asyncio.


def test_asyncio_is_instrumented_while_an_agent_wants_it(
    host: Host, run_exact: Run, told: Told
) -> None:
    """On with the first agent, off with the last; culprit and task are named as without it."""
    plain = asyncio.create_task

    async def main() -> None:
        setting = {"otel_instrument_asyncio": True}
        async with loopwatch.install(exporters=[host.exporter()], on_stall=told, **setting):
            assert asyncio.create_task is not plain
            await asyncio.to_thread(_run, FACTORIES["asyncio"], beside(setting))
            assert asyncio.create_task is not plain
            await asyncio.sleep(0.05)
            await asyncio.create_task(blocked())
            await settle(told)

    async def beside(setting: dict[str, bool]) -> None:
        loopwatch.install(exporters=[host.exporter()], **setting).stop()

    run_exact(main())
    assert asyncio.create_task is plain
    host.flush()
    (stall,) = told.final
    assert stall.culprit is not None
    assert stall.culprit.function == f"{__name__}.blocked"
    assert stall.task is not None
    assert stall.task.coro == f"{__name__}.blocked"
    sent = [r.body for r in host.endpoint.requests if r.path == "/v1/metrics"]
    assert any(b"asyncio.process.duration" in body for body in sent)


def test_what_the_app_instrumented_stays_so(host: Host, run_exact: Run) -> None:
    """Where the app switched it on, we neither do that again nor switch it off."""

    async def main() -> None:
        setting = {"otel_instrument_asyncio": True}
        loopwatch.install(exporters=[host.exporter()], **setting).stop()

    instrumentor = AsyncioInstrumentor()
    instrumentor.instrument()
    try:
        run_exact(main())
        assert instrumentor.is_instrumented_by_opentelemetry
    finally:
        instrumentor.uninstrument()


# Faults.


@pytest.mark.parametrize(
    ("hidden", "settings", "feature"),
    [
        ("opentelemetry", "{}", "exporter otel"),
        (
            "opentelemetry.instrumentation.asyncio",
            "{'otel_instrument_asyncio': True}",
            "otel_instrument_asyncio",
        ),
    ],
)
def test_a_missing_package_says_what_to_install(
    child: Child, hidden: str, settings: str, feature: str
) -> None:
    """Asked for and not there: `install` fails with the command, and leaves nothing running."""
    done = child(
        """
        sys.modules[sys.argv[1]] = None
        async def main():
            try:
                loopwatch.install(exporters=["otel"], **eval(sys.argv[2]))
            except loopwatch.MissingExtraError as error:
                print(error)
            print([t.name for t in threading.enumerate() if t is not threading.main_thread()])
        run(main())
        """,
        hidden,
        settings,
    )
    assert done.stdout.splitlines() == [
        f"{feature} needs an extra: run `pip install 'loopwatch[otel]'`",
        "[]",
    ], done.stderr


def test_a_dead_endpoint_harms_nobody(tmp_path: Path) -> None:
    """It never answers and each span waits for it: the log goes on, and the process ends."""
    with silent_endpoint() as url, start_child(tmp_path, SETUP + DEAD_ENDPOINT, url) as process:
        assert process.stdout is not None
        stop_s = float(process.stdout.readline())
        # Far below the 10 s that the span processor waits for.
        _, errors = process.communicate(timeout=3)
    assert process.returncode == 0, errors
    assert len([line for line in errors.splitlines() if "was stalled" in line]) == 2, errors
    assert stop_s < 1


DEAD_ENDPOINT = """
async def main():
    agent = loopwatch.install(exporters=["otel", "log"])
    set_providers(sys.argv[1], "Simple", on_exit=False)
    await asyncio.sleep(0.1)
    for count in (1, 2):
        await asyncio.create_task(asyncio.sleep(0))
        time.sleep(0.2)
        await stalls(agent, count)
    began_s = time.monotonic()
    agent.stop()
    print(time.monotonic() - began_s, flush=True)

run(main())
"""


@contextmanager
def silent_endpoint() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_more_records_than_the_app_takes_are_dropped_and_counted(
    host: Host, run_exact: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """A processor that hangs costs its own records, with one line that says what to do."""
    hangs = threading.Event()

    class Hanging(SimpleSpanProcessor):
        def on_end(self, span: Any) -> None:
            hangs.wait(10)

    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(Hanging(ConsoleSpanExporter()))

    async def main() -> None:
        exporter = OtelExporter(host.metrics, traces, host.logs)
        with loopwatch.install(exporters=[exporter]) as agent:
            for _ in range(110):
                agent._delivery.deliver(a_stall())
            while agent.snapshot().dropped_total["export_failed"] < 8:
                await asyncio.sleep(0.01)
            hangs.set()

    run_exact(main())
    traces.shutdown()
    (line,) = [r.getMessage() for r in caplog.records if "exporter otel" in r.getMessage()]
    assert "use BatchSpanProcessor and BatchLogRecordProcessor" in line


def test_what_is_given_up_at_the_end_is_counted(host: Host, run_exact: Run) -> None:
    """Behind a processor that hangs: stopping does not wait for it, and says what was lost."""
    hangs, begun = threading.Event(), threading.Event()

    class Hanging(SimpleSpanProcessor):
        def on_end(self, span: Any) -> None:
            begun.set()
            hangs.wait(10)

    traces = TracerProvider(shutdown_on_exit=False)
    traces.add_span_processor(Hanging(ConsoleSpanExporter()))

    async def main() -> int:
        exporter = OtelExporter(host.metrics, traces, host.logs)
        with loopwatch.install(exporters=[exporter]) as agent:
            for _ in range(6):
                agent._delivery.deliver(a_stall())
            await asyncio.to_thread(begun.wait, 5)
        hangs.set()
        return agent.snapshot().dropped_total["shutdown"]

    assert run_exact(main()) == 5
    traces.shutdown()


def test_a_processor_that_raises_costs_nothing_else(
    host: Host, run_exact: Run, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """The span fails; its log record, the metrics and the app go on; one line, one count."""

    class Raising(SimpleSpanProcessor):
        def on_start(self, span: Any, parent_context: Any = None) -> None:
            raise ValueError("secret")

    host.traces.add_span_processor(Raising(ConsoleSpanExporter()))

    async def main() -> loopwatch.Agent:
        async with loopwatch.install(exporters=[host.exporter()], on_stall=told) as agent:
            await asyncio.sleep(0.05)
            await asyncio.create_task(blocked())
            await settle(told)
            while not agent.snapshot().errors_total["exporter"]:
                await asyncio.sleep(0.01)
        return agent

    agent = run_exact(main())
    host.flush()
    assert len(otlp.log_records(host.endpoint)) == 2
    assert agent.snapshot().errors_total["exporter"] == 1
    (line,) = [r.getMessage() for r in caplog.records if "otel" in r.getMessage()]
    assert "a span" in line
    assert "ValueError" in line
    assert "secret" not in line


@pytest.mark.parametrize(
    ("view", "name"),
    [
        (View(instrument_name="loopwatch.lag", aggregation=DropAggregation()), None),
        (View(instrument_name="loopwatch.lag", name="app.lag"), "app.lag"),
        (
            View(
                instrument_name="loopwatch.lag",
                aggregation=ExponentialBucketHistogramAggregation(),
            ),
            "loopwatch.lag",
        ),
        (View(instrument_name="loopwatch.*", attribute_keys=set()), "loopwatch.lag"),
    ],
    ids=["drops", "renames", "exponential", "without_attributes"],
)
def test_a_view_of_the_app_is_obeyed(
    view: View, name: str | None, stalled: Snapshot, caplog: pytest.LogCaptureFixture
) -> None:
    """What a view drops, renames or reshapes comes out so; the other metrics as ever."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], views=[view], shutdown_on_exit=False)
    exported(OtelExporter(provider), stalled).stop()
    lag = in_memory(reader, name) if name else []
    exporter = exported(OtelExporter(provider), stalled)
    (tasks,) = in_memory(reader, "loopwatch.tasks")
    exporter.stop()
    provider.shutdown()
    assert [point.count for point in lag] == ([sum(stalled.lag.counts)] if name else [])
    assert [point.sum for point in lag] == ([pytest.approx(stalled.lag.sum_s)] if name else [])
    assert tasks.value == stalled.tasks
    assert caplog.records == []


def test_two_readers_see_the_same(stalled: Snapshot) -> None:
    """Nothing is reset by being read: a second reader gets what the first got."""
    readers = [InMemoryMetricReader(), InMemoryMetricReader()]
    provider = MeterProvider(readers, shutdown_on_exit=False)
    exporter = exported(OtelExporter(provider), stalled)
    exporter._work._feed.finish(5)  # type: ignore[union-attr]
    for metric in METRICS:
        first, second = ([*in_memory(reader, metric.otel)] for reader in readers)
        assert len(first) == len(second) > 0
        for one, other in zip(first, second, strict=True):
            assert one.attributes == other.attributes
            if metric.kind is Kind.HISTOGRAM:
                assert (one.bucket_counts, one.sum) == (other.bucket_counts, other.sum)
            else:
                assert one.value == other.value
    exporter.stop()
    provider.shutdown()


def test_providers_that_are_shut_down_already_harm_nobody(
    make_host: Callable[..., Host], run_exact: Run, told: Told
) -> None:
    """The stall is told elsewhere, `stop` returns, and nothing of ours is counted as failed."""
    host = make_host()
    dead = Host(host.endpoint, MeterProvider(), TracerProvider(), LoggerProvider())
    for provider in (dead.metrics, dead.traces, dead.logs):
        provider.shutdown()

    async def main() -> loopwatch.Agent:
        async with loopwatch.install(exporters=[dead.exporter()], on_stall=told) as agent:
            await asyncio.sleep(0.05)
            await asyncio.create_task(blocked())
            await settle(told)
        return agent

    agent = run_exact(main())
    assert len(told.final) == 1
    assert agent.snapshot().errors_total["exporter"] == 0


def test_we_never_flush_or_shut_down_what_is_the_apps(host: Host, run_exact: Run) -> None:
    """After `stop` nothing was sent on our account, and the app's providers work on."""

    async def main() -> None:
        loopwatch.install(exporters=[host.exporter()]).stop()

    run_exact(main())
    assert host.endpoint.requests == []
    host.traces.get_tracer("app").start_span("later").end()
    host.flush()
    assert [span.name for span in otlp.spans(host.endpoint)] == ["later"]


def test_a_forked_child_tells_nothing_of_its_parent(child: Child) -> None:
    """The child has none of the parent's series and patches; its own agent starts at zero."""
    with receiver() as endpoint:
        done = child(SETUP + FORK, endpoint.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout, done.stderr
    assert json.loads(done.stdout) == {"silent": True, "plain": True, "own_stalls": 0}


FORK = """
import warnings
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

def values(reader, name):
    data = reader.get_metrics_data()
    metrics_ = data.resource_metrics[0].scope_metrics[0].metrics if data else ()
    return [p.value for m in metrics_ if m.name == name for p in m.data.data_points]

async def own(reader):
    with loopwatch.install(exporters=["otel"]):
        return sum(values(reader, "loopwatch.stalls"))

async def main():
    plain = asyncio.create_task
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
    agent = loopwatch.install(exporters=["otel"], otel_instrument_asyncio=True)
    assert asyncio.create_task is not plain
    await asyncio.sleep(0.1)
    time.sleep(0.2)
    await stalls(agent, 1)
    assert sum(values(reader, "loopwatch.stalls")) == 1
    warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
    pid = os.fork()
    if pid == 0:
        silent = values(reader, "loopwatch.stalls") == []
        result = {}
        thread = threading.Thread(target=lambda: result.update(own_stalls=asyncio.run(own(reader))))
        thread.start()
        thread.join()
        patched = asyncio.create_task is not plain
        result |= {"silent": silent, "plain": not patched}
        print(json.dumps(result), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    agent.stop()

run(main())
"""


def test_importing_loopwatch_leaves_opentelemetry_alone(child: Child) -> None:
    """Neither the import nor an agent without the exporter loads it."""
    done = child(
        """
        async def main():
            loopwatch.install(exporters=["log", "prometheus"]).stop()
        run(main())
        print([name for name in sys.modules if name.startswith("opentelemetry")])
        """
    )
    assert done.stdout == "[]\n", done.stderr
