"""Makes records: asks diagnosis for the cause, whom to blame and what to do instead."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeVar

from loopwatch.clock import ns_to_s, unix_s
from loopwatch.diagnosis.cause import NOT_THE_LINE, Verdict, decide
from loopwatch.diagnosis.culprit import blame, entry_of
from loopwatch.diagnosis.fingerprint import fingerprint
from loopwatch.diagnosis.signatures import CAUSE_ADVICE, Signature, first_match
from loopwatch.model import (
    Advice,
    Cause,
    Culprit,
    Evidence,
    Frame,
    Location,
    Phase,
    Request,
    Sample,
    Stall,
)
from loopwatch.probes.allowed import Stretch, reason_for
from loopwatch.probes.callees import public_name
from loopwatch.probes.kernel import GIL, RUNNING
from loopwatch.probes.stacks import source_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loopwatch.diagnosis.tracker import Track
    from loopwatch.forensics import Forensics, Seen
    from loopwatch.ledger import Identity
    from loopwatch.probes.stacks import FrameNamer, Position

__all__ = ["WARM_UP", "Recorder"]

T = TypeVar("T")

# When, what was seen, and its frames with their names.
_Look = tuple[int, "Seen", tuple[Frame, ...]]

# What `Stall.allowed` says of an import during the warm-up.
WARM_UP: Final = "warm-up"

_GC_COLLECT: Final = "gc.collect"
# Kinds of wait that a system call does not show: it polls a socket or reads a pipe for them.
_SEEN_AS_ANOTHER: Final = frozenset({"dns", "process"})


class Recorder:
    """Writes the records of one loop. Watchdog thread."""

    def __init__(
        self,
        identity: Identity,
        namer: FrameNamer,
        forensics: Forensics,
        warm_until_ns: int,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self._identity = identity
        self._namer = namer
        self._forensics = forensics
        self._warm_until_ns = warm_until_ns
        self._on_fault = on_fault
        self._ident = threading.get_ident()

    def follow(self, ident: int) -> None:
        """Name the thread `ident` in the records from now on."""
        self._ident = ident
        names = [thread.name for thread in threading.enumerate() if thread.ident == ident]
        if names:
            self._identity = replace(self._identity, thread=names[0])

    def record(self, track: Track[Seen], now_ns: int) -> Stall:
        """Return the record of a stall: final if it has ended, else ongoing."""
        if not track.id:
            track.id = os.urandom(8).hex()
            track.started_at_s = unix_s(track.start_ns)
        over = track.end_ns is not None
        end_ns = track.end_ns if track.end_ns is not None else now_ns
        who = self._identity
        bare = Stall(
            id=track.id,
            phase=Phase.FINAL if over else Phase.ONGOING,
            started_at_s=track.started_at_s,
            duration_s=ns_to_s(end_ns - track.start_ns),
            loop=who.loop,
            loop_impl=who.loop_impl,
            pid=who.pid,
            thread=who.thread,
            sensor=who.sensor,
            cause=Cause.UNKNOWN,
            confidence=0.0,
            evidence=Evidence(ns_to_s(end_ns - track.start_ns), samples=len(track.samples)),
            fingerprint=fingerprint(Cause.UNKNOWN, None),
            suppressed=track.suppressed,
        )
        try:
            return self._explained(bare, track, end_ns)
        except Exception as error:  # noqa: BLE001 - reads the host's objects; the stall is true
            self._on_fault(error)
            return bare

    def _explained(self, bare: Stall, track: Track[Seen], end_ns: int) -> Stall:
        findings = self._forensics.findings(track, end_ns, self._ident)
        verdict = decide(findings.facts)
        case = _Case(self._namer, track.samples, verdict.cause)
        culprit = case.culprit()
        signature = case.signature(culprit)
        request = _commonest([look.request for look in case.witnesses])
        contended = verdict.cause is Cause.GIL_CONTENTION
        return replace(
            bare,
            cause=verdict.cause,
            confidence=verdict.confidence,
            evidence=_with_wait(findings.evidence, verdict, signature),
            fingerprint=fingerprint(verdict.cause, culprit),
            culprit=culprit,
            entry=case.entry(),
            task=_commonest([look.task for look in case.witnesses]),
            request=request,
            victims=_victims([look for _, look in track.samples], request),
            advice=_advice(verdict.cause, signature),
            other_thread=findings.other_thread if contended else None,
            allowed=track.allowed or self._allowed(track, end_ns),
            samples=case.samples(track.start_ns),
        )

    def _allowed(self, track: Track[Seen], end_ns: int) -> str | None:
        task_ids = [look.task_id for _, look in track.samples if look.task_id is not None]
        reason = reason_for(
            Stretch(self._ident, task_ids[-1] if task_ids else None, track.start_ns, end_ns)
        )
        if reason is not None:
            return reason
        importing = [_is_import(look.stack.positions) for _, look in track.samples]
        if track.start_ns < self._warm_until_ns and 2 * sum(importing) > len(importing):
            return WARM_UP
        return None


class _Case:
    """What the looks at one stall say under one cause."""

    def __init__(self, namer: FrameNamer, looks: Sequence[tuple[int, Seen]], cause: Cause) -> None:
        self._cause = cause
        # Named frames of each look, beside the look itself.
        named: list[_Look] = []
        for at_ns, seen in sorted(looks, key=lambda row: row[0]):
            frames = tuple(namer.name(position) for position in seen.stack.positions)
            if seen.late and not any(frame.in_app for frame in frames):
                continue  # the host's code has returned already: better nobody than a library
            if frames:
                named.append((at_ns, seen, frames))
        # Stacks from the middle of a call beat those from after it.
        native = [row for row in named if row[1].source == "native"]
        self._looks = [row for row in named if not row[1].late] if native else named
        self._late = [row for row in named if row[1].late] if native else []
        # The signal handler's stacks know neither task nor request; a late look does, if it is
        # still in the same callback.
        entries = {_entry_name(row) for row in native}
        self.witnesses = [
            row[1]
            for row in named
            if row[1].source != "native"
            and (not row[1].late or not native or _entry_name(row) in entries)
        ]

    def samples(self, start_ns: int) -> tuple[Sample, ...]:
        """Return like stacks counted together."""
        first_at_ns: dict[tuple[str, tuple[Frame, ...]], int] = {}
        counts: Counter[tuple[str, tuple[Frame, ...]]] = Counter()
        for at_ns, look, frames in self._looks:
            first_at_ns.setdefault((look.source, frames), at_ns)
            counts[look.source, frames] += 1
        return tuple(
            Sample(ns_to_s(max(0, at_ns - start_ns)), counts[source, frames], source, frames)
            for (source, frames), at_ns in first_at_ns.items()
        )

    def entry(self) -> Location | None:
        """Return where the loop went into the host's code, in most looks."""
        frames = _commonest([frames for _, _, frames in self._looks])
        entry = entry_of(frames) if frames else None
        return Location(entry.function, entry.file, entry.line) if entry else None

    def culprit(self) -> Culprit | None:
        """Return the frame to blame; nobody where the cause lies elsewhere."""
        looks = self._blamed_looks()
        if self._cause is Cause.CONGESTION:
            # The callbacks that ran most, not what they happened to be doing.
            entries = [entry for _, _, frames in looks if (entry := entry_of(frames)) is not None]
            frame = blame([(1, [entry]) for entry in entries])
        else:
            frame = blame([(1, frames) for _, _, frames in looks])
        if frame is None:
            return None
        mine = [(look, frames) for _, look, frames in looks if frame in frames]
        call = None
        if frame.in_app and self._cause is not Cause.CONGESTION:
            call = _call_of([look for look, _ in mine]) or self._call_seen_late(frame)
        if self._cause in NOT_THE_LINE and call != _GC_COLLECT:
            return None
        file = next(
            position.code.co_filename
            for look, frames in mine
            for position, named in zip(look.stack.positions, frames, strict=True)
            if named == frame
        )
        return Culprit(
            function=frame.function,
            file=frame.file,
            line=frame.line,
            call=call,
            source=source_line(file, frame.line),
            in_app=frame.in_app,
        )

    def _call_seen_late(self, frame: Frame) -> str | None:
        """Return the call that a look after a native stack saw just ending on the same line.

        The signal handler tells a line only, and who is in a variable is not to be had from that.
        """
        return _call_of([look for _, look, frames in self._late if frame in frames])

    def signature(self, culprit: Culprit | None) -> Signature | None:
        """Return the row of the table that this call is known by.

        The culprit's own call first, then the functions below it, down to what sleeps in the end.
        """
        if self._cause in NOT_THE_LINE or self._cause is Cause.CONGESTION or culprit is None:
            return None
        for _, look, frames in self._blamed_looks():
            functions = [(frame.function, frame.line) for frame in frames]
            if (culprit.function, culprit.line) not in functions:
                continue
            below = look.stack.positions[: functions.index((culprit.function, culprit.line))]
            names = [culprit.call, *map(_public, reversed(below)), look.stack.last_call]
            return first_match([name for name in names if name is not None])
        return None

    def _blamed_looks(self) -> list[_Look]:
        """Return the looks that saw what the cause says."""
        if self._cause is Cause.BLOCKING_CALL:
            asleep = [row for row in self._looks if _is_asleep(row[1])]
            return asleep or self._looks
        return self._looks


def _commonest(things: Sequence[T | None]) -> T | None:
    return Counter(things).most_common(1)[0][0] if things else None


def _call_of(looks: Sequence[Seen]) -> str | None:
    """Return the call that more than half of the looks saw."""
    calls = Counter(look.stack.call for look in looks)
    call, count = calls.most_common(1)[0] if calls else (None, 0)
    return call if 2 * count > len(looks) else None


def _entry_name(look: _Look) -> str | None:
    entry = entry_of(look[2])
    return entry.function if entry is not None else None


def _is_asleep(look: Seen) -> bool:
    return look.sleep is not None and look.sleep.kind not in (RUNNING, GIL) and not look.late


def _is_import(positions: Sequence[Position]) -> bool:
    return any(p.code.co_filename.startswith("<frozen importlib") for p in positions)


def _public(position: Position) -> str:
    return public_name(position.module, position.code.co_qualname)


def _victims(looks: Sequence[Seen], request: Request | None) -> int | None:
    known = [look.victims for look in looks if look.victims is not None]
    # The one that stalled is in the count, unless it is a websocket: these are no victims.
    itself = request is not None and request.method != "WEBSOCKET"
    return max(0, max(known) - itself) if known else None


def _with_wait(evidence: Evidence, verdict: Verdict, signature: Signature | None) -> Evidence:
    if verdict.cause is not Cause.BLOCKING_CALL or signature is None:
        return evidence
    if evidence.wait is not None and signature.wait in _SEEN_AS_ANOTHER:
        return replace(evidence, wait=signature.wait)
    return evidence


def _advice(cause: Cause, signature: Signature | None) -> Advice | None:
    if signature is not None:
        return Advice(signature.target, signature.text)
    text = CAUSE_ADVICE.get(cause)
    return Advice(cause.value, text) if text is not None else None
