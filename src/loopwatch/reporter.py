"""Tells a stall: to the ledger, and to the exporters unless it is excused or told often."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from loopwatch.recorder import WARM_UP

if TYPE_CHECKING:
    from contextvars import Context

    from loopwatch.delivery import Delivery
    from loopwatch.diagnosis.limits import RateLimit
    from loopwatch.diagnosis.tracker import Track
    from loopwatch.forensics import Forensics, Seen
    from loopwatch.ledger import Ledger
    from loopwatch.model import Stall
    from loopwatch.recorder import Recorder

__all__ = ["Reporter"]

_DEBUGGER: Final = "debugger"


class Reporter:
    """Decides once per stall, when it is told first; the final record follows the ongoing one."""

    def __init__(
        self,
        recorder: Recorder,
        forensics: Forensics,
        ledger: Ledger,
        delivery: Delivery,
        limit: RateLimit,
    ) -> None:
        self._recorder = recorder
        self._forensics = forensics
        self._ledger = ledger
        self._delivery = delivery
        self._limit = limit

    def follow(self, ident: int) -> None:
        """Tell stalls of the thread `ident` from now on."""
        self._recorder.follow(ident)

    def opened(self, track: Track[Seen], now_ns: int) -> None:
        """Tell a stall that has crossed the threshold and went on at `now_ns`."""
        record = self._first_record(track, now_ns)
        if track.excuse is not None:
            self._ledger.excused(track.excuse, record)
            return
        self._ledger.opened(track.start_ns, record)
        self._deliver(track, record)

    def reconsider(self, track: Track[Seen], now_ns: int) -> None:
        """Take another view of a stall that goes on.

        An excused one is told after all if it has outgrown its excuse. One that was told is not
        told again, but whoever asks meanwhile finds the record of all that was seen so far: what
        blocked at first need not be what blocks now.
        """
        record = self._outgrown(track, now_ns)
        if record is not None:
            self._ledger.opened(track.start_ns, record)
            self._deliver(track, record)
        elif track.excuse is None and track.id and len(track.samples) > track.recorded:
            track.recorded = len(track.samples)
            self._ledger.revised(self._recorder.record(track, now_ns))

    def closed(self, track: Track[Seen], now_ns: int) -> None:
        """Tell a stall that is over."""
        end_ns = track.end_ns if track.end_ns is not None else now_ns
        self._outgrown(track, now_ns)
        if track.id:
            record = self._recorder.record(track, now_ns)
        else:
            record = self._first_record(track, now_ns)
            if track.excuse is not None:
                self._ledger.excused(track.excuse, record)
        if track.excuse is None:
            self._ledger.closed(track.start_ns, end_ns, record)
            self._deliver(track, record)
        else:
            # What a debugger stopped was not late for anybody's sake.
            late_ns = 0 if track.excuse == _DEBUGGER else end_ns - track.start_ns
            self._ledger.excused_closed(end_ns, record, late_ns)

    def _outgrown(self, track: Track[Seen], now_ns: int) -> Stall | None:
        """Take the excuse from a stall that it no longer covers; return the record if so."""
        if track.excuse in (None, _DEBUGGER):
            return None
        allowed, track.allowed = track.allowed, None
        record = self._recorder.record(track, now_ns)
        if record.allowed is not None:
            track.allowed = allowed
            return None
        track.excuse = None
        return self._limited(track, record, now_ns)

    def _first_record(self, track: Track[Seen], now_ns: int) -> Stall:
        record = self._recorder.record(track, now_ns)
        if self._forensics.debugged(track):
            track.excuse = _DEBUGGER
        elif record.allowed is not None:
            track.excuse = "warm_up" if record.allowed == WARM_UP else "allowed"
            track.allowed = record.allowed
        else:
            record = self._limited(track, record, now_ns)
        return record

    def _limited(self, track: Track[Seen], record: Stall, now_ns: int) -> Stall:
        suppressed = self._limit.admit(record.fingerprint, now_ns)
        track.told = suppressed is not None
        track.suppressed = suppressed or 0
        return replace(record, suppressed=track.suppressed)

    def _deliver(self, track: Track[Seen], record: Stall) -> None:
        if track.told:
            self._delivery.deliver(record, _context(track, record))
        else:
            self._ledger.drop("rate_limited")


def _context(track: Track[Seen], record: Stall) -> Context | None:
    """Return the context of the task that the record names, as it was when last seen."""
    for _, look in reversed(track.samples):
        if look.context is not None and look.task == record.task:
            return look.context
    return None
