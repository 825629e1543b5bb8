"""Makes records: asks diagnosis for the cause, whom to blame and what to do instead."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from loopwatch.clock import ns_to_s, unix_s
from loopwatch.diagnosis.cause import NOT_THE_LINE, Verdict, decide
from loopwatch.diagnosis.culprit import blame, entry_of
from loopwatch.diagnosis.fingerprint import fingerprint
from loopwatch.diagnosis.signatures import CAUSE_ADVICE, Signature, first_match
from loopwatch.forensics import Seen, weighted
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
    from loopwatch.forensics import Forensics
    from loopwatch.ledger import Identity
    from loopwatch.probes.stacks import FrameNamer, Position

__all__ = ["WARM_UP", "Recorder"]

T = TypeVar("T")


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
        case = _Case(self._namer, track, end_ns, verdict.cause)
        culprit = case.culprit()
        signature = case.signature(culprit)
        request = _commonest([(weight, look.request) for weight, look in case.witnesses])
        contended = verdict.cause is Cause.GIL_CONTENTION
        return replace(
            bare,
            cause=verdict.cause,
            confidence=verdict.confidence,
            evidence=_with_wait(findings.evidence, verdict, signature),
            fingerprint=fingerprint(verdict.cause, culprit),
            culprit=culprit,
            entry=case.entry(),
            task=_commonest([(weight, look.task) for weight, look in case.witnesses]),
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


class _Look(NamedTuple):
    """One look at the stall: when, the time it speaks for, and its frames with their names."""

    at_ns: int
    weight: int
    seen: Seen
    frames: tuple[Frame, ...]

    @property
    def blamed(self) -> Frame | None:
        """The innermost frame of the host's code."""
        return next((frame for frame in self.frames if frame.in_app), None)


class _Case:
    """What the looks at one stall say under one cause."""

    def __init__(self, namer: FrameNamer, track: Track[Seen], end_ns: int, cause: Cause) -> None:
        self._cause = cause
        named: list[_Look] = []
        names: dict[Position, Frame] = {}  # stacks of one stall are much alike
        at_ns = sorted(at_ns for at_ns, _ in track.samples)
        for moment_ns, (weight, seen) in zip(at_ns, weighted(track, end_ns), strict=True):
            for position in seen.stack.positions:
                if position not in names:
                    names[position] = namer.name(position)
            frames = tuple(names[position] for position in seen.stack.positions)
            if seen.late and not any(frame.in_app for frame in frames):
                continue  # the host's code has returned already: better nobody than a library
            if frames:
                named.append(_Look(moment_ns, weight, seen, frames))
        # Stacks from the middle of a call beat those from after it.
        native = [look for look in named if look.seen.source == "native"]
        self._looks = [look for look in named if not look.seen.late] if native else named
        self._late = [look for look in named if look.seen.late] if native else []
        # The signal handler's stacks know neither task nor request; a late look does, if it is
        # still in the same callback.
        entries = {_entry_name(look) for look in native}
        self.witnesses = [
            (look.weight, look.seen)
            for look in named
            if look.seen.source != "native"
            and (not look.seen.late or not native or _entry_name(look) in entries)
        ]

    def samples(self, start_ns: int) -> tuple[Sample, ...]:
        """Return like stacks counted together."""
        first_at_ns: dict[tuple[str, tuple[Frame, ...]], int] = {}
        counts: Counter[tuple[str, tuple[Frame, ...]]] = Counter()
        for look in self._looks:
            first_at_ns.setdefault((look.seen.source, look.frames), look.at_ns)
            counts[look.seen.source, look.frames] += 1
        return tuple(
            Sample(ns_to_s(max(0, at_ns - start_ns)), counts[source, frames], source, frames)
            for (source, frames), at_ns in first_at_ns.items()
        )

    def entry(self) -> Location | None:
        """Return where the loop went into the host's code, for most of the time."""
        frames = _commonest([(look.weight, look.frames) for look in self._looks])
        entry = entry_of(frames) if frames else None
        return Location(entry.function, entry.file, entry.line) if entry else None

    def culprit(self) -> Culprit | None:
        """Return the frame to blame; nobody where the cause lies elsewhere."""
        looks = self._blamed_looks()
        if self._cause is Cause.CONGESTION:
            # The callbacks that ran most, not what they happened to be doing.
            entries = [(look.weight, entry_of(look.frames)) for look in looks]
            frame = blame([(weight, [entry]) for weight, entry in entries if entry is not None])
        else:
            frame = blame([(look.weight, look.frames) for look in looks])
        if frame is None:
            return None
        call = None
        if frame.in_app and self._cause is not Cause.CONGESTION:
            call = _call_of([k for k in looks if k.blamed == frame]) or _call_of(
                # The signal handler tells a line only; a look after it may have seen the call end.
                [k for k in self._late if k.blamed == frame]
            )
        if self._cause in NOT_THE_LINE and call != _GC_COLLECT:
            return None
        file = next(
            position.code.co_filename
            for look in looks
            for position, named in zip(look.seen.stack.positions, look.frames, strict=True)
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

    def signature(self, culprit: Culprit | None) -> Signature | None:
        """Return the row of the table that this call is known by, for most of the time.

        The culprit's own call first, then the functions below it, down to what sleeps in the end.
        """
        if self._cause in NOT_THE_LINE or self._cause is Cause.CONGESTION or culprit is None:
            return None
        rows = []
        for look in self._blamed_looks():
            functions = [(frame.function, frame.line) for frame in look.frames]
            if (culprit.function, culprit.line) in functions:
                depth = functions.index((culprit.function, culprit.line))
                rows.append((look.weight, self._signature_of(look, culprit, depth)))
        return _commonest(rows)

    def _signature_of(self, look: _Look, culprit: Culprit, depth: int) -> Signature | None:
        below = look.seen.stack.positions[:depth]
        names = [culprit.call, *map(_public, reversed(below))]
        if self._cause is not Cause.CPU:
            names.append(look.seen.stack.last_call)  # Python code calls many a thing in passing
        return first_match([name for name in names if name is not None])

    def _blamed_looks(self) -> list[_Look]:
        """Return the looks that saw what the cause says."""
        asleep = [look for look in self._looks if _is_asleep(look.seen)]
        if self._cause is Cause.BLOCKING_CALL:
            return asleep or self._looks
        if self._cause in (Cause.CPU, Cause.NATIVE_CALL):
            return [look for look in self._looks if look not in asleep] or self._looks
        return self._looks


def _commonest(things: Sequence[tuple[int, T | None]]) -> T | None:
    """Return what was seen for the longest time."""
    counts: Counter[T | None] = Counter()
    for weight, thing in things:
        counts[thing] += weight
    return counts.most_common(1)[0][0] if counts else None


def _call_of(looks: Sequence[_Look]) -> str | None:
    """Return the call that was seen for more than half of the time."""
    calls: Counter[str | None] = Counter()
    for look in looks:
        calls[look.seen.stack.call] += look.weight
    call, most = calls.most_common(1)[0] if calls else (None, 0)
    return call if 2 * most > calls.total() else None


def _entry_name(look: _Look) -> str | None:
    entry = entry_of(look.frames)
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
