"""OpenTelemetry: metrics, a span and log records, through providers that belong to the host."""

from loopwatch.errors import MissingExtraError

try:
    import opentelemetry.trace  # noqa: F401 - all modules here need it
except ImportError:
    raise MissingExtraError("exporter otel", "otel") from None

# It imports OpenTelemetry: the message above comes first.
from loopwatch.exporters.otel.exporter import OtelExporter

__all__ = ["OtelExporter"]
