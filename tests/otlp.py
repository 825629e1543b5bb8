"""What an OTLP/HTTP endpoint received, decoded from its protobuf."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.servers import Receiver


def metrics(receiver: Receiver, number: int = -1) -> dict[str, Any]:
    """Return our metrics of one request, the newest by default, by name: `Metric` messages."""
    requests = list(_decoded(receiver, "/v1/metrics", ExportMetricsServiceRequest))
    found = {}
    for resource in requests[number].resource_metrics:
        for scope in resource.scope_metrics:
            if scope.scope.name == "loopwatch":
                found |= {metric.name: metric for metric in scope.metrics}
    return found


def spans(receiver: Receiver) -> list[Any]:
    """Return all `Span` messages, in the order in which they came."""
    return [
        span
        for request in _decoded(receiver, "/v1/traces", ExportTraceServiceRequest)
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def log_records(receiver: Receiver) -> list[Any]:
    """Return all `LogRecord` messages, in the order in which they came."""
    return [
        record
        for request in _decoded(receiver, "/v1/logs", ExportLogsServiceRequest)
        for resource in request.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]


def plain(attributes: Any) -> dict[str, Any]:
    """Return `KeyValue` messages as a dictionary."""
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


def points(metric: Any) -> dict[tuple[tuple[str, Any], ...], Any]:
    """Return the data points of a metric by their sorted attributes."""
    data = getattr(metric, metric.WhichOneof("data"))
    return {tuple(sorted(plain(point.attributes).items())): point for point in data.data_points}


def value(point: Any) -> float:
    """Return the number of a data point."""
    return float(getattr(point, point.WhichOneof("value")))


def _decoded(receiver: Receiver, path: str, message: Any) -> Iterator[Any]:
    for request in list(receiver.requests):
        if request.path == path:
            packed = request.headers.get("Content-Encoding") == "gzip"
            yield message.FromString(gzip.decompress(request.body) if packed else request.body)
