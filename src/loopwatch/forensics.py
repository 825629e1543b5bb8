"""Forensics: gathers evidence of a stall while it lasts, and says what it amounts to.

All of it runs on the watchdog thread. On a healthy loop that is a handful of counters twice a
second; stacks, system calls and other threads are only looked at once a stretch is half-way to a
stall.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.clock import NS_PER_S, monotonic_ns, ns_to_s
from loopwatch.diagnosis.cause import Facts
from loopwatch.diagnosis.evidence import (
    Mark,
    Overslept,
    Step,
    gained_ns,
    longest_step_ns,
    overlap_ns,
    weights_ns,
)
from loopwatch.diagnosis.signatures import find
from loopwatch.model import Evidence, Frame, OtherThread
from loopwatch.probes import requests
from loopwatch.probes.backlog import Backlog
from loopwatch.probes.current import current_task
from loopwatch.probes.debugger import DebuggerProbe, is_debugger
from loopwatch.probes.descriptors import detail_of
from loopwatch.probes.kernel import GIL, RUNNABLE, RUNNING, KernelThread, Sleep, ThrottleProbe
from loopwatch.probes.kernel_files import KernelFile
from loopwatch.probes.native_stacks import NativeSampler, NativeSamplerError, Shot
from loopwatch.probes.source_map import SourceMap
from loopwatch.probes.stacks import Capture, FrameNamer, Stack, stacks_work, task_info
from loopwatch.probes.threads import OtherThreads, ThreadShare

try:
    import resource
except ImportError:  # Windows; macOS has it without RUSAGE_THREAD
    resource = None  # type: ignore[assignment]
if not hasattr(resource, "RUSAGE_THREAD"):
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from loopwatch.diagnosis.tracker import Track
    from loopwatch.keeper import Keeper
    from loopwatch.model import Request, TaskInfo
    from loopwatch.probes.cpu import ThreadCpu
    from loopwatch.probes.gc import GcProbe

__all__ = ["Findings", "Forensics", "Seen", "weighted"]

# Counters read around a stall: enough for the time before it and for a long one.
_MARKS: Final = 256
_MARKS_BEFORE: Final = 64
_OVERSLEPT_KEPT: Final = 16
# Below this much CPU time a second, nobody beside the loop is worth a look.
_OTHERS_NS: Final = 20_000_000
_BASELINE_NS: Final = NS_PER_S
# A look may read source files for the first time.
_LOOK_NS: Final = 50_000_000
# Native stacks that are kept of one stall.
_SHOTS: Final = 64
# A thread that waits for the GIL wakes up every switch interval; one in a process that stands
# still does not. This share of the wake-ups tells them apart.
_ASKED: Final = 0.3
# Python code gives the GIL up within one switch interval; who waits for this many waits for C.
_TURNS: Final = 3
# A loop that computed or slept for half of the stall did not wait for another thread.
_HALF: Final = 0.5


class Seen(NamedTuple):
    """One look at the stalled thread.

    `late` means that the watchdog came far later than it wanted to: something held the GIL, and
    what did may be gone from the stack by now. `task_id` is 0 in a plain callback, `None` where
    nobody knows. `in_call` says that the innermost frame was in the middle of a
    C call for sure, and not just between two. `context` is a copy of the context of the task.
    """

    stack: Stack
    task: TaskInfo | None = None
    late: bool = False
    source: str = "watchdog"
    sleep: Sleep | None = None
    detail: str | None = None
    step: Step | None = None
    request: Request | None = None
    victims: int | None = None
    task_id: int | None = None
    in_call: bool = False
    context: Context | None = None


class Findings(NamedTuple):
    """What a stall amounts to."""

    facts: Facts
    evidence: Evidence
    other_thread: OtherThread | None


class _Spent(NamedTuple):
    """Where the time of a stall went, in ns; `None` is not known."""

    wall_ns: int
    cpu_ns: int | None
    runqueue_ns: int | None
    throttled_ns: int | None
    process_ns: int | None
    gc_ns: int
    overslept_ns: int
    wanted_gil: bool


class Forensics:
    """The evidence of one loop."""

    def __init__(
        self,
        loop: AbstractEventLoop,
        namer: FrameNamer,
        cpu: ThreadCpu,
        gc: GcProbe,
        sampler: NativeSampler | None,
        on_fault: Callable[[Exception], None],
        keeper: Keeper,
    ) -> None:
        self._loop = loop
        self._keeper = keeper
        self._on_fault = on_fault
        self._namer = namer
        self._gc = gc
        self._sampler = sampler
        self._kernel = KernelThread(cpu.native_id, cpu.read_ns)
        self._throttle = ThrottleProbe()
        self._threads = OtherThreads()
        self._backlog = Backlog(loop)
        self._debugger = DebuggerProbe()
        self._sources = SourceMap()
        self._sampling = stacks_work()
        self._marks: list[Mark] = []
        self._overslept: deque[Overslept] = deque(maxlen=_OVERSLEPT_KEPT)
        self._switches = 0
        self._own: KernelFile | None = None
        self._waited_ns = 0
        # Who computed while the watchdog could not run, as of when, and where the first was then.
        self._busiest: tuple[int, list[ThreadShare], Frame | None] = (0, [], None)
        # Whether the watchdog, when it woke up last, had to wait for more than Python code.
        self.kept_from_gil = False
        # Whether it did not have to wait for the GIL at all.
        self._gil_was_free = False
        self._baseline_ns = 0
        self._others_ns = 0

    def close(self) -> None:
        """Give back what was opened. Idempotent."""
        self._kernel.close()
        self._throttle.close()
        self._debugger.close()
        if self._own is not None:
            self._own.close()

    def follow(self, native_id: int) -> None:
        """Gather evidence of another thread from now on: the loop was run again there."""
        self._kernel.follow(native_id)
        if self._sampler is not None:
            try:
                self._sampler.follow(native_id)
            except NativeSamplerError:
                pass  # it ended just now: no timer, no stacks from the middle of a call

    # While the loop is watched.

    def sleeps(self) -> None:
        """Note that the watchdog goes to sleep."""
        self._switches = _own_switches()

    def _own_wait_ns(self) -> int:
        """Return how long the watchdog itself has been ready without a CPU."""
        if self._own is None:
            self._own = KernelFile("/proc/thread-self/schedstat", 128)  # the watchdog's: we are it
        fields = self._own.read().split()
        return int(fields[1]) if len(fields) > 1 else 0

    def woke(self, due_ns: int, now_ns: int, loop_ident: int, *, late: bool) -> None:
        """Note a wake-up of the watchdog; `late` if it was due long ago."""
        # Going to sleep was one.
        switches = max(0, _own_switches() - self._switches - 1)
        self.kept_from_gil = switches >= _TURNS
        self._gil_was_free = switches == 0
        if late:
            # What it waited for a CPU it would have waited in any process.
            unexplained_ns = now_ns - due_ns - (self._own_wait_ns() - self._waited_ns)
            if unexplained_ns > 0:
                self._overslept.append(Overslept(due_ns, due_ns + unexplained_ns, switches))
            # At once: a thread that has held the GIL until now may end in the next moment.
            shares = self._threads.since(due_ns, loop_ident)
            self._busiest = (now_ns, shares, self._where(shares))

    def mark(self, now_ns: int, cpu_ns: int | None, idle_ns: int | None, loop_ident: int) -> None:
        """Read the counters."""
        process_ns = time.process_time_ns()
        self._waited_ns = self._own_wait_ns()
        self._keep(
            Mark(
                now_ns,
                cpu_ns,
                idle_ns,
                process_ns,
                self._kernel.runqueue_wait_ns(),
                self._throttle.read_ns(),
            )
        )
        self._threads.remember()
        others_ns = process_ns - (cpu_ns or 0)
        due = now_ns - self._baseline_ns >= _BASELINE_NS
        if due and others_ns - self._others_ns >= _OTHERS_NS:
            self._baseline_ns, self._others_ns = now_ns, others_ns
            self._threads.note(now_ns, loop_ident)

    def beat(self, at_ns: int, cpu_ns: int) -> None:
        """Note what the loop itself read at a beat."""
        self._keep(Mark(at_ns, cpu_ns))

    def _keep(self, mark: Mark) -> None:
        marks = self._marks
        marks.append(mark)
        if len(marks) > _MARKS:
            # Those before a long stall and the latest stay whole, in between every other.
            del marks[_MARKS_BEFORE:-_MARKS_BEFORE:2]

    def settle(self) -> None:
        """Keep the latest counters only: the loop is well, so no stall reaches further back."""
        del self._marks[:-_MARKS_BEFORE]

    # While a stretch may become a stall.

    def see(
        self, ident: int, base_depth: int, is_still_there: Callable[[], bool], *, late: bool
    ) -> Seen | None:
        """Take one look at the loop thread; `None` where that is impossible, or came too late."""
        if not self._sampling:
            return None
        if self._sampler is not None:
            self._sampler.arm(_LOOK_NS)  # the watchdog is at work: nobody need do it for it
        # Up to `is_still_there` nothing gives the GIL away: it all belongs to one moment.
        at_ns = monotonic_ns()
        sleep = self._kernel.sleep()
        if sleep == Sleep(RUNNABLE):
            # It wants a CPU, as we have it. Had it been executing Python it had had the GIL.
            sleep = Sleep(RUNNING if self._gil_was_free else GIL)
        elif sleep == Sleep(GIL) and self._gil_was_free:
            sleep = None  # it did not have it: a short wait for a lock looks just the same
        capture = Capture(ident, base_depth)
        in_call = capture.inside_call or self.kept_from_gil
        seen = Seen(Stack(capture.positions), late=late, sleep=sleep, in_call=in_call)
        context = None
        try:
            seen, context = self._with_task(seen, at_ns)
        except Exception as error:  # noqa: BLE001 - a task class of the host's own may do anything
            self._on_fault(error)
        if not is_still_there():
            return None
        request = requests.read_request(context) if context is not None else None
        copy = self._copy(context) if context is not None else None
        del context  # what follows may take a while, and the task may end meanwhile
        fd = sleep.fd if sleep is not None else None
        return seen._replace(
            request=request,
            context=copy,
            stack=capture.stack(self._namer.is_in_app),
            detail=detail_of(fd) if fd is not None else None,
        )

    def _copy(self, context: Context) -> Context:
        # A copy takes no time whatever is in it, and may be entered: the task's own is taken.
        copy = context.copy()
        self._keeper.keep(copy)
        return copy

    def _with_task(self, seen: Seen, at_ns: int) -> tuple[Seen, Context | None]:
        task = current_task(self._loop)
        task_id = 0 if task is None else id(task)
        known = self._backlog.known
        seen = seen._replace(
            task_id=task_id,
            task=task_info(task) if task is not None else None,
            step=Step(at_ns, self._backlog.front(), task_id) if known else None,
            victims=requests.in_flight(self._loop),
        )
        return seen, requests.context_of(self._loop)

    def shots(self) -> list[Shot]:
        """Return what the native sampler wrote down since the last call."""
        return self._sampler.collect()[:_SHOTS] if self._sampler is not None else []

    def back_off(self) -> None:
        """Shoot later from now on: the watchdog was late for want of a CPU, not of the GIL."""
        if self._sampler is not None:
            self._sampler.back_off()

    def seen_in(self, shot: Shot, base_depth: int) -> Seen | None:
        """Return a shot as a look; `None` if it shows nothing but what runs the loop."""
        frames = shot.frames
        if shot.whole:
            frames = frames[: max(0, len(frames) - base_depth)]
        if not frames:
            return None  # a process that was stopped and goes on
        stack = self._sources.stack(frames, self._namer.is_in_app)
        return Seen(stack, source="native", in_call=True)

    def debugged(self, track: Track[Seen]) -> bool:
        """Return whether a debugger is attached, or stands in the stack of this stall."""
        return self._debugger.attached() or _stack_debugged(track)

    # When a stall is told.

    def findings(self, track: Track[Seen], end_ns: int, loop_ident: int) -> Findings:
        """Return what is known of a stall that has lasted until `end_ns`."""
        spent = self._spent(track.start_ns, end_ns)
        facts = self._facts(track, end_ns, spent)
        other = None
        if facts.cpu is not None and max(facts.cpu, facts.asleep) < _HALF:
            facts, other = self._with_others(facts, track.start_ns, spent, loop_ident)
        return Findings(facts, _evidence(track, spent), other)

    def _spent(self, start_ns: int, end_ns: int) -> _Spent:
        marks = self._marks
        late = [o for o in self._overslept if o.woke_ns > start_ns and o.due_ns < end_ns]
        return _Spent(
            wall_ns=max(1, end_ns - start_ns),
            cpu_ns=gained_ns(marks, "cpu_ns", start_ns, end_ns),
            runqueue_ns=gained_ns(marks, "runqueue_ns", start_ns, end_ns),
            throttled_ns=gained_ns(marks, "throttled_ns", start_ns, end_ns),
            process_ns=gained_ns(marks, "process_ns", start_ns, end_ns, os.cpu_count() or 1),
            gc_ns=overlap_ns(start_ns, end_ns, [*self._gc.long_pauses]),
            overslept_ns=overlap_ns(start_ns, end_ns, [(o.due_ns, o.woke_ns) for o in late]),
            wanted_gil=_wanted_gil(late),
        )

    def _facts(self, track: Track[Seen], end_ns: int, spent: _Spent) -> Facts:
        seen = weighted(track, end_ns)
        # A late look may have come after whatever held the GIL.
        in_time = [look for _, look in seen if not look.late]
        kinds: Counter[str] = Counter()
        for weight, look in seen:
            if look.sleep is not None and not look.late:
                kinds[look.sleep.kind] += weight
        steps = [look.step for look in in_time if look.step is not None]
        longest_ns, changes = longest_step_ns(steps, track.start_ns, end_ns)
        running, at_gil, all_ = kinds[RUNNING], kinds[GIL], max(1, kinds.total())
        wall_ns = spent.wall_ns
        return Facts(
            cpu=_share(spent.cpu_ns, wall_ns),
            gc=spent.gc_ns / wall_ns,
            runqueue=_share(spent.runqueue_ns, wall_ns),
            throttled=_share(spent.throttled_ns, wall_ns),
            process_cpu=_share(spent.process_ns, wall_ns),
            overslept=min(1.0, spent.overslept_ns / wall_ns),
            wanted_gil=spent.wanted_gil,
            asleep=(kinds.total() - running - at_gil) / all_,
            computing=running / all_,
            at_gil=at_gil / all_,
            in_c=_share_in_c(seen),
            looks=len(seen),
            native=_native_share(seen),
            longest_step=longest_ns / wall_ns,
            steps=changes,
            debugged=_stack_debugged(track),
        )

    def _with_others(
        self, facts: Facts, start_ns: int, spent: _Spent, loop_ident: int
    ) -> tuple[Facts, OtherThread | None]:
        """Add what other threads computed, and who computed most."""
        at_ns, shares, frame = self._busiest
        if at_ns < start_ns:
            shares = self._threads.since(start_ns, loop_ident)
            frame = self._where(shares)
        living_ns = sum(min(share.cpu_ns, spent.wall_ns) for share in shares)
        # One that has ended since counts too; nobody can ask it for its share.
        others_ns = max(living_ns, (spent.process_ns or 0) - (spent.cpu_ns or 0))
        other = self._other(shares, frame, others_ns - living_ns, spent.wall_ns)
        return replace(facts, others_cpu=min(1.0, others_ns / spent.wall_ns)), other

    def _where(self, shares: Sequence[ThreadShare]) -> Frame | None:
        """Return where in the host's code the busiest thread is now."""
        if not shares or not self._sampling:
            return None
        positions = Capture(shares[0].ident, 0).positions
        frames = map(self._namer.name, positions)
        return next((frame for frame in frames if frame.in_app), None)

    def _other(
        self, shares: Sequence[ThreadShare], frame: Frame | None, ended_ns: int, wall_ns: int
    ) -> OtherThread | None:
        """Name the thread that used most CPU, and where it was seen."""
        if not shares or sum(share.cpu_ns for share in shares) < ended_ns:
            name = self._threads.vanished()
            return OtherThread(name, ns_to_s(ended_ns)) if name is not None else None
        first, *rest = shares
        if not first.at_least_ns and any(2 * share.cpu_ns > first.cpu_ns for share in rest):
            return None  # all of it may have been before the stall: who can tell them apart
        cpu_s = ns_to_s(min(first.cpu_ns, wall_ns))
        if frame is None:
            return OtherThread(first.name, cpu_s)
        return OtherThread(first.name, cpu_s, frame.function, frame.file, frame.line)


def _evidence(track: Track[Seen], spent: _Spent) -> Evidence:
    asleep = [
        (look.sleep.kind, look.detail)
        for _, look in track.samples
        if not look.late and look.sleep is not None and look.sleep.kind not in (RUNNING, GIL)
    ]
    wait = Counter(kind for kind, _ in asleep).most_common(1)[0][0] if asleep else None
    return Evidence(
        wall_s=ns_to_s(spent.wall_ns),
        cpu_s=_seconds(spent.cpu_ns),
        gc_s=ns_to_s(spent.gc_ns),
        runqueue_wait_s=_seconds(spent.runqueue_ns),
        throttled_s=_seconds(spent.throttled_ns),
        wait=wait,
        wait_detail=next((detail for kind, detail in asleep if kind == wait and detail), None),
        samples=len(track.samples),
        process_cpu_s=_seconds(spent.process_ns),
        overslept_s=ns_to_s(spent.overslept_ns),
    )


def weighted(track: Track[Seen], end_ns: int) -> list[tuple[int, Seen]]:
    """Return the looks at a stall, in order, each with the time it speaks for."""
    looks = sorted(track.samples, key=lambda row: row[0])
    weights = weights_ns([at_ns for at_ns, _ in looks], track.start_ns, end_ns)
    return [(weight, look) for weight, (_, look) in zip(weights, looks, strict=False)]


def _native_share(seen: Sequence[tuple[int, Seen]]) -> float:
    native = sum(weight for weight, look in seen if look.source == "native")
    in_time = sum(weight for weight, look in seen if look.source != "native" and not look.late)
    return native / (native + in_time) if native else 0.0


def _share_in_c(seen: Sequence[tuple[int, Seen]]) -> float:
    calls: Counter[str] = Counter()
    for weight, look in seen:
        if look.in_call and look.stack.last_call is not None:
            calls[look.stack.last_call] += weight
    call, most = calls.most_common(1)[0] if calls else ("", 0)
    row = find(call)
    all_ = sum(weight for weight, _ in seen)
    return most / all_ if row is not None and row.wait == "cpu" else 0.0


def _stack_debugged(track: Track[Seen]) -> bool:
    return any(
        is_debugger(position.module)
        for _, seen in track.samples
        for position in seen.stack.positions
    )


def _wanted_gil(overslept: Sequence[Overslept]) -> bool:
    if resource is None:
        return True  # nobody knows: better that than a pause which was none
    for late in overslept:
        asked = late.switches * sys.getswitchinterval() * NS_PER_S
        if asked >= _ASKED * (late.woke_ns - late.due_ns):
            return True
    return False


def _share(part_ns: int | None, wall_ns: int) -> float | None:
    return None if part_ns is None else part_ns / wall_ns


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns_to_s(ns)


def _own_switches() -> int:
    """Return how often the calling thread has given up the CPU of its own accord."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
