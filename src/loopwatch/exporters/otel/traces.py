"""A stall as a span: from its true start to its true end, in the trace of the blocked request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from opentelemetry import trace

from loopwatch._version import __version__
from loopwatch.exporters.otel.attributes import attributes, to_ns
from loopwatch.model import Phase

if TYPE_CHECKING:
    from loopwatch.model import Request, Sample, Stall

__all__ = ["Spans", "span_of_request"]

# Innermost frames that the text of a stack has; the record has them all.
_FRAMES: Final = 50


class Spans:
    """Makes the spans. A span is made when its stall is over: before, its end is not known."""

    what = "span"

    def __init__(self, provider: trace.TracerProvider | None) -> None:
        self._tracer = trace.get_tracer("loopwatch", __version__, provider)

    def tell(self, stall: Stall) -> None:
        """Make the span of a final record, a child of the span that is current.

        So the host's sampler decides: what it left out of a trace stays out. Where the current
        span could not be read, the request's is linked, as nobody knows whether it was sampled.
        """
        if stall.phase is not Phase.FINAL:
            return
        links = []
        if not trace.get_current_span().get_span_context().is_valid:
            request = span_of_request(stall.request)
            links = [trace.Link(request)] if request is not None else []
        span = self._tracer.start_span(
            "event loop stall",
            attributes=attributes(stall),
            links=links,
            start_time=to_ns(stall.started_at_s),
        )
        if span.is_recording():
            for sample in stall.samples:
                span.add_event(
                    "loopwatch.sample",
                    {
                        "code.stacktrace": _stacktrace(sample),
                        "loopwatch.count": sample.count,
                        "loopwatch.source": sample.source,
                    },
                    to_ns(stall.started_at_s + sample.at_s),
                )
        span.end(to_ns(stall.started_at_s + stall.duration_s))


def span_of_request(request: Request | None) -> trace.SpanContext | None:
    """Return the ids of a request's span as OpenTelemetry has them; `None` if it has none."""
    if request is None or request.trace_id is None or request.span_id is None:
        return None
    return trace.SpanContext(int(request.trace_id, 16), int(request.span_id, 16), is_remote=False)


def _stacktrace(sample: Sample) -> str:
    """Return a stack as Python writes one: outermost first, files and lines, no source."""
    frames = sample.frames[:_FRAMES]
    lines = ["Stack (most recent call last):"]
    if len(frames) < len(sample.frames):
        lines.append(f"  … {len(sample.frames) - len(frames)} more")
    lines += [f'  File "{f.file}", line {f.line}, in {f.function}' for f in reversed(frames)]
    return "\n".join(lines)
