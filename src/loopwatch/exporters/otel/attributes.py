"""A stall as OpenTelemetry attributes: the same on its span and on its log records.

Semantic conventions of 2025 (code.*, http.*, thread.*) where there is one, else `loopwatch.` and
the name the field has in the log. What is not known has no attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from loopwatch.exporters.log import event_fields

if TYPE_CHECKING:
    from loopwatch.model import Stall

__all__ = ["attributes", "to_ns"]

_BY_CONVENTION: Final = {
    "function": "code.function.name",
    "file": "code.file.path",
    "line": "code.line.number",
    "method": "http.request.method",
    "route": "http.route",
}
# OpenTelemetry has its own place for these.
_LEFT_OUT: Final = frozenset({"trace_id"})


def attributes(stall: Stall) -> dict[str, Any]:
    """Return the attributes of a record: texts and numbers, no values of the host."""
    fields = event_fields(stall)
    fields["sensor"] = stall.sensor
    found = {
        _BY_CONVENTION.get(name, f"loopwatch.{name}"): value
        for name, value in fields.items()
        if value is not None and name not in _LEFT_OUT
    }
    return {**found, "thread.name": stall.thread}


def to_ns(unix_s: float) -> int:
    """Return unix time in whole nanoseconds."""
    return round(unix_s * 1e9)
