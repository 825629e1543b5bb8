"""The log: one readable line per record with the fields beside it.

structlog where the host has configured it, else `logging`, logger `loopwatch`.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from loopwatch.exporters.base import Exporter
from loopwatch.model import Phase

if TYPE_CHECKING:
    from loopwatch.model import Stall

__all__ = ["LogExporter", "sentence"]


class LogExporter(Exporter):
    """Writes a warning when a stall opens and another when it is over."""

    name = "log"

    def __init__(self) -> None:
        self._log = logging.getLogger("loopwatch")

    def export(self, stall: Stall) -> None:
        """Write one line."""
        fields = event_fields(stall)
        # Asked at each record: hosts configure structlog after they import us, or never.
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            structlog.get_logger("loopwatch").warning(sentence(stall), **fields)
        else:
            self._log.warning("%s", sentence(stall), extra={"loopwatch": fields})


def sentence(stall: Stall) -> str:
    """Return what happened in one line, for people."""
    blamed = stall.culprit
    where = f" in {blamed.function} ({blamed.file}:{blamed.line})" if blamed else ""
    task = f", task {stall.task.name} running {stall.task.coro}" if stall.task else ""
    source = f": {blamed.source}" if blamed and blamed.source else ""
    if stall.phase is Phase.ONGOING:
        state = f"is stalled, {stall.duration_s:.3f} s so far"
    else:
        state = f"was stalled for {stall.duration_s:.3f} s"
    return f"event loop {stall.loop!r} {state}{where}{task}{source}"


def event_fields(stall: Stall) -> dict[str, Any]:
    """Return the record as flat fields with stable names; samples stay in the stall log."""
    blamed = stall.culprit
    return {
        "stall_id": stall.id,
        "phase": stall.phase.value,
        "loop": stall.loop,
        "duration_s": round(stall.duration_s, 6),
        "cause": stall.cause.value,
        "function": blamed.function if blamed else None,
        "file": blamed.file if blamed else None,
        "line": blamed.line if blamed else None,
        "task": stall.task.name if stall.task else None,
        "coro": stall.task.coro if stall.task else None,
        "fingerprint": stall.fingerprint,
    }
