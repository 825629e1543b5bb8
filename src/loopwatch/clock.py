"""The clocks loopwatch reads, and the way from one to the other.

Intervals are taken from the monotonic clock as integer nanoseconds. Unix time is derived only
when a record is formatted, so a step of the wall clock never changes a duration.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["NS_PER_S", "iso_utc", "monotonic_ns", "ns_to_s", "unix_s"]

NS_PER_S = 1_000_000_000

monotonic_ns = time.monotonic_ns


def ns_to_s(ns: int) -> float:
    """Return nanoseconds as seconds."""
    return ns / NS_PER_S


def unix_s(at_ns: int) -> float:
    """Return the unix time, in seconds, of a moment of the monotonic clock."""
    return time.time() - (monotonic_ns() - at_ns) / NS_PER_S


def iso_utc(at_unix_s: float) -> str:
    """Return a unix time as ISO 8601 in UTC with microseconds and a `Z`."""
    return datetime.fromtimestamp(at_unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
