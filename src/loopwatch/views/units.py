"""Figures as people write them: 512 ms, 3.2 s, 40 min; 1,512 tasks; and durations read back."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Final

from loopwatch.views.text import clean

__all__ = ["count", "counted", "duration", "moment", "seconds"]

_US_PER_S: Final = 1e6
_MS_PER_S: Final = 1e3
_S_PER_MIN: Final = 60.0
_S_PER_H: Final = 3600.0
_S_PER_DAY: Final = 86400.0

# From there on the next larger unit says it better: (seconds, seconds per unit, unit).
_LARGER: Final = (
    (2 * _S_PER_DAY, _S_PER_DAY, "d"),
    (2 * _S_PER_H, _S_PER_H, "h"),
    (2 * _S_PER_MIN, _S_PER_MIN, "min"),
)
_UNITS: Final = {
    "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": _S_PER_MIN, "min": _S_PER_MIN,
    "h": _S_PER_H, "d": _S_PER_DAY,
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-zµ]+)", re.ASCII)
# Below it a digit after the point says something; 9.96 would be 10.0.
_FEW: Final = 9.95
_SHOWN: Final = 40
# 999.6 ms would be 1000 ms.
_NO_MS: Final = 0.9995


def duration(of_s: float) -> str:
    """Return seconds in the unit that suits them, with about two digits: `512 ms`, `40 min`."""
    try:
        if not math.isfinite(of_s):
            return "?"
    except OverflowError:  # an int that no float can hold
        return "?"
    if of_s == 0:
        return "0 s"
    size_s = abs(of_s)
    for from_s, per_unit_s, unit in _LARGER:
        if size_s >= from_s:
            return f"{_digits(of_s / per_unit_s)} {unit}"
    if size_s >= _NO_MS:
        return f"{_digits(of_s)} s"
    return f"{_digits(of_s * _MS_PER_S)} ms"


def _digits(value: float) -> str:
    return f"{value:.1f}" if abs(value) < _FEW else f"{value:.0f}"


def count(number: int) -> str:
    """Return a whole number with its thousands apart: `1,512`."""
    return f"{number:,}"


def counted(number: int, what: str) -> str:
    """Return a number of things: `1 stall`, `1,512 stalls`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def moment(at_unix_s: float) -> str:
    """Return a unix time to the second, in UTC: `2026-11-21 10:00:00`; `?` outside the calendar."""
    try:
        return datetime.fromtimestamp(at_unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return "?"


def seconds(text: str) -> float:
    """Return the seconds of a duration with a unit: `200ms`, `1.5s`, `2min`, `2h`, `1d`.

    Raises `ValueError` for anything else, a number without a unit included: it could be either.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is not None and found[2] in _UNITS:
        of_s = float(found[1]) * _UNITS[found[2]]
        # Whoever counts microseconds has to be able to.
        if math.isfinite(of_s * _US_PER_S):
            return of_s
    shown = clean(text, _SHOWN)
    raise ValueError(f"{shown!r} is no duration: write it like 200ms, 1.5s, 2min, 2h or 1d")
