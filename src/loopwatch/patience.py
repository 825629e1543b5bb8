"""How long stopping may wait.

Each thing for its own time; at exit all together, for less than a second however many loops run.
"""

from __future__ import annotations

import time

__all__ = ["exit_within", "patience_s"]

# Set once, when the process ends: it is the one thing that all agents share then.
_until_s: float | None = None


def exit_within(seconds: float) -> None:
    """Have all that is stopped from now on be done in `seconds` altogether."""
    global _until_s  # noqa: PLW0603 - see above
    _until_s = time.monotonic() + seconds


def patience_s(wanted_s: float) -> float:
    """Return how long to wait for something that deserves `wanted_s`, seconds."""
    if _until_s is None:
        return wanted_s
    return min(wanted_s, max(0.0, _until_s - time.monotonic()))
