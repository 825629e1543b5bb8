"""The log: one readable line per record with the fields beside it.

structlog where the host has configured it, else `logging`, logger `loopwatch`.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any, Final

from loopwatch.exporters.base import Exporter
from loopwatch.exporters.task_lines import census_fields, census_sentence
from loopwatch.model import Cause, Phase

if TYPE_CHECKING:
    from loopwatch.model import Census, Culprit, Stall

__all__ = ["LogExporter", "sentence"]


class LogExporter(Exporter):
    """Writes a warning when a stall opens and another when it is over; so for too many tasks."""

    name = "log"

    def __init__(self) -> None:
        self._log = logging.getLogger("loopwatch")

    def export(self, stall: Stall) -> None:
        """Write one line."""
        self._write("warning", sentence(stall), event_fields(stall))

    def census(self, census: Census, loop: str) -> None:
        """Write one line: a warning above the limit, for information when it is over."""
        level = "warning" if census.tasks > census.threshold else "info"
        fields = census_fields(census, loop, os.getpid())
        self._write(level, census_sentence(census, loop), fields)

    def _write(self, level: str, line: str, fields: dict[str, Any]) -> None:
        # Asked at each record: hosts configure structlog after they import us, or never.
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            getattr(structlog.get_logger("loopwatch"), level)(line, **fields)
        else:
            getattr(self._log, level)("%s", line, extra={"loopwatch": fields})


# What `evidence.wait` says, in words.
_WAITED: Final = {
    "dns": "waited for DNS",
    "file": "waited for a file",
    "lock": "waited for a lock",
    "pipe": "waited for a pipe",
    "process": "waited for a process",
    "signal": "waited for a signal",
    "sleep": "slept",
    "socket": "waited for a socket",
    "terminal": "waited for a terminal",
}


def sentence(stall: Stall) -> str:
    """Return what happened in one line, for people: why, where, in which request."""
    if stall.phase is Phase.ONGOING:
        state = f"is stalled, {stall.duration_s:.3f} s so far"
    else:
        state = f"was stalled for {stall.duration_s:.3f} s"
    blamed, request = stall.culprit, stall.request
    parts = [f"event loop {stall.loop!r} {state}: {_why(stall)}"]
    if request is not None:
        parts.append(f", in {request.method} {request.route or '(route not known)'}")
        parts.append(f", trace {request.trace_id}" if request.trace_id else "")
    if stall.task is not None:
        parts.append(f", task {stall.task.name} running {stall.task.coro}")
    if stall.victims:
        parts.append(f"; {stall.victims} other request{'s' * (stall.victims > 1)} had to wait")
    if blamed is not None and blamed.source:
        parts.append(f": {blamed.source}")
    if stall.advice is not None:
        parts.append(f" -> {stall.advice.text}")
    if stall.suppressed:
        parts.append(f" (+{stall.suppressed} like it were not told)")
    return "".join(parts)


def _why(stall: Stall) -> str:
    """Return the cause with its evidence, and whose code it was."""
    evidence, other = stall.evidence, stall.other_thread
    where = _where(stall.culprit)
    call = stall.culprit.call if stall.culprit is not None else None
    match stall.cause:
        case Cause.BLOCKING_CALL:
            detail = f" ({evidence.wait_detail})" if evidence.wait_detail else ""
            waited = _WAITED.get(evidence.wait or "", "waited")
            return f"{where} {_called(call)} and {waited}{detail}"
        case Cause.CPU:
            return f"{where} computed in Python"
        case Cause.NATIVE_CALL:
            return f"{where} {_called(call)}, which computed in C"
        case Cause.GC:
            return f"garbage collection took {evidence.gc_s or 0:.3f} s of it"
        case Cause.GIL_CONTENTION:
            at = f" in {other.function} ({other.file}:{other.line})" if other else ""
            name = f"thread {other.name!r}" if other else "another thread"
            return f"{name} held the GIL{at if other and other.function else ''}"
        case Cause.CONGESTION:
            return f"many callbacks, most often {where}"
        case Cause.CPU_STARVED:
            ready_s, throttled_s = evidence.runqueue_wait_s or 0, evidence.throttled_s or 0
            kind = "throttled by its cgroup" if throttled_s > ready_s else "ready without a CPU"
            waited_s = min(stall.duration_s, max(ready_s, throttled_s))
            return f"not this line's doing, the thread was {kind} for {waited_s:.3f} s of it"
        case Cause.PROCESS_PAUSED:
            return "not your code, the whole process stood still"
        case Cause.UNKNOWN:
            return f"cause unknown, last seen in {where}" if stall.culprit else "cause unknown"


def _where(blamed: Culprit | None) -> str:
    return f"{blamed.function} ({blamed.file}:{blamed.line})" if blamed else "a callback"


def _called(call: str | None) -> str:
    return f"called {call}" if call else "made a call"


def event_fields(stall: Stall) -> dict[str, Any]:
    """Return the record as flat fields with stable names; samples stay in the stall log."""
    blamed = stall.culprit
    return {
        "stall_id": stall.id,
        "phase": stall.phase.value,
        "loop": stall.loop,
        "pid": stall.pid,
        "duration_s": round(stall.duration_s, 6),
        "cause": stall.cause.value,
        "confidence": stall.confidence,
        "function": blamed.function if blamed else None,
        "file": blamed.file if blamed else None,
        "line": blamed.line if blamed else None,
        "call": blamed.call if blamed else None,
        "wait": stall.evidence.wait,
        "method": stall.request.method if stall.request else None,
        "route": stall.request.route if stall.request else None,
        "trace_id": stall.request.trace_id if stall.request else None,
        "advice": stall.advice.text if stall.advice else None,
        "task": stall.task.name if stall.task else None,
        "coro": stall.task.coro if stall.task else None,
        "fingerprint": stall.fingerprint,
        "suppressed": stall.suppressed,
    }
