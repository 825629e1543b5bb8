"""Makes records: puts names on what was sampled and asks diagnosis whom to blame."""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from loopwatch.clock import ns_to_s, unix_s
from loopwatch.diagnosis.culprit import blame, entry_of, in_app_rule
from loopwatch.diagnosis.fingerprint import fingerprint
from loopwatch.model import (
    Cause,
    Culprit,
    Evidence,
    Frame,
    Location,
    Phase,
    Sample,
    Stall,
    TaskInfo,
)
from loopwatch.probes.stacks import FrameNamer, Position, source_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.diagnosis.tracker import Track
    from loopwatch.ledger import Identity

__all__ = ["Recorder", "Seen"]


class Seen(NamedTuple):
    """One look at the stalled thread: its stack, innermost first, and its task.

    `late` means that the watchdog came far later than it wanted to: something held the GIL, and
    what did may be gone from the stack by now.
    """

    stack: tuple[Position, ...]
    task: TaskInfo | None
    late: bool = False


class Recorder:
    """Writes the records of one loop. Watchdog thread."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._namer = FrameNamer(in_app_rule())

    def follow(self, ident: int) -> None:
        """Name the thread `ident` in the records from now on."""
        names = [thread.name for thread in threading.enumerate() if thread.ident == ident]
        if names:
            self._identity = replace(self._identity, thread=names[0])

    def record(self, track: Track[Seen], now_ns: int) -> Stall:
        """Return the record of a stall: final if it has ended, else ongoing."""
        if not track.id:
            track.id = os.urandom(8).hex()
            track.started_at_s = unix_s(track.start_ns)
        over = track.end_ns is not None
        duration_s = ns_to_s(
            (track.end_ns if track.end_ns is not None else now_ns) - track.start_ns
        )
        samples, files = self._samples(track)
        culprit = self._culprit(samples, files)
        cause = Cause.UNKNOWN
        commonest = max(samples, key=lambda sample: sample.count, default=None)
        entry = entry_of(commonest.frames) if commonest else None
        who = self._identity
        return Stall(
            id=track.id,
            phase=Phase.FINAL if over else Phase.ONGOING,
            started_at_s=track.started_at_s,
            duration_s=duration_s,
            loop=who.loop,
            loop_impl=who.loop_impl,
            pid=who.pid,
            thread=who.thread,
            sensor=who.sensor,
            cause=cause,
            confidence=0.0,
            evidence=Evidence(wall_s=duration_s, samples=len(track.samples)),
            fingerprint=fingerprint(cause, culprit),
            culprit=culprit,
            entry=Location(entry.function, entry.file, entry.line) if entry else None,
            task=_commonest_task(track),
            samples=samples,
        )

    def _samples(self, track: Track[Seen]) -> tuple[tuple[Sample, ...], dict[Frame, str]]:
        """Return like stacks counted together, and the full path of each frame's file."""
        first_at_ns: dict[tuple[Frame, ...], int] = {}
        counts: Counter[tuple[Frame, ...]] = Counter()
        files: dict[Frame, str] = {}
        for at_ns, seen in track.samples:
            if not seen.stack:
                continue
            frames = tuple(self._namer.name(position) for position in seen.stack)
            if seen.late and not any(frame.in_app for frame in frames):
                continue  # the host's code has returned already: better nobody than a library
            files.update(
                (frame, position.code.co_filename)
                for frame, position in zip(frames, seen.stack, strict=True)
            )
            first_at_ns.setdefault(frames, at_ns)
            counts[frames] += 1
        samples = tuple(
            Sample(ns_to_s(at_ns - track.start_ns), counts[frames], "watchdog", frames)
            for frames, at_ns in first_at_ns.items()
        )
        return samples, files

    @staticmethod
    def _culprit(samples: Sequence[Sample], files: dict[Frame, str]) -> Culprit | None:
        frame = blame([(sample.count, sample.frames) for sample in samples])
        if frame is None:
            return None
        return Culprit(
            function=frame.function,
            file=frame.file,
            line=frame.line,
            call=None,
            source=source_line(files[frame], frame.line),
            in_app=frame.in_app,
        )


def _commonest_task(track: Track[Seen]) -> TaskInfo | None:
    tasks = Counter(seen.task for _, seen in track.samples)
    return tasks.most_common(1)[0][0] if tasks else None
