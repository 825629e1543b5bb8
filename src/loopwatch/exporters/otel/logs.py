"""A stall as log records: one while it lasts and one when it is over, with the whole record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from opentelemetry import _logs, context as otel_context, trace

from loopwatch._version import __version__
from loopwatch.exporters.log import sentence
from loopwatch.exporters.otel.attributes import attributes, to_ns
from loopwatch.exporters.otel.traces import span_of_request

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from loopwatch.model import Stall

__all__ = ["LogRecords"]


class LogRecords:
    """Writes the records, with the trace and the span of the blocked request."""

    what = "log record"

    def __init__(self, provider: _logs.LoggerProvider | None) -> None:
        self._logger = _logs.get_logger("loopwatch", __version__, provider)

    def tell(self, stall: Stall) -> None:
        """Write one record; its time is the moment up to which it tells."""
        # The logs API of Python is public in all but name. A record that is made by keyword and
        # given as an object works from 1.38 to 1.45: `emit` with keywords came later, and
        # `trace_id` instead of `context` is going away. (1.37 warns about its own use of that.)
        self._logger.emit(
            _logs.LogRecord(
                timestamp=to_ns(stall.started_at_s + stall.duration_s),
                context=_context(stall),
                severity_text="WARN",
                severity_number=_logs.SeverityNumber.WARN,
                body=sentence(stall),
                attributes={
                    **attributes(stall),
                    "loopwatch.stall.record": json.dumps(stall.to_dict(), separators=(",", ":")),
                },
                event_name="loopwatch.stall",
            )
        )


def _context(stall: Stall) -> Context:
    """Return the current context; with the request's span where it has none."""
    request = span_of_request(stall.request)
    if request is None or trace.get_current_span().get_span_context().is_valid:
        return otel_context.get_current()
    return trace.set_span_in_context(trace.NonRecordingSpan(request))
