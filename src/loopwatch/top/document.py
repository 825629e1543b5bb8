"""What is known of the loops, as JSON for scripts: schema `loopwatch.top/1`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from loopwatch.clock import iso_utc
from loopwatch.top.rows import last_stall, rows, state_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.top.fleet import Known, Seen

__all__ = ["TOP_SCHEMA", "document"]

TOP_SCHEMA: Final = "loopwatch.top/1"


def document(known: Sequence[Known], problems: Sequence[str], now_s: float) -> dict[str, Any]:
    """Return all loops, worst first, and what gave no answer. `now_s` is `time.monotonic()`.

    `state_s` is for how long the state has lasted, 0 for serving. `snapshot` is what the process
    said last, as at `/api/snapshot`, and `last_stall` its newest record without the samples.
    """
    return {
        "schema": TOP_SCHEMA,
        "at": iso_utc(time.time()),
        "loops": [_loop(row.known, row.seen, now_s) for row in rows(known, now_s)],
        "problems": list(problems),
    }


def _loop(known: Known, seen: Seen, now_s: float) -> dict[str, Any]:
    state, for_s = state_of(known, seen, now_s)
    last = last_stall(seen)
    return {
        "url": known.address.url,
        "pid": seen.now.pid,
        "loop": seen.now.loop,
        "state": state.value,
        "state_s": round(for_s, 3),
        "trouble": known.trouble or None,
        "snapshot": seen.now.raw,
        "last_stall": last.raw if last else None,
    }
