"""The watchdog: a thread that sleeps until the next moment that could matter.

Each wake-up costs the host 30 to 50 µs of its GIL, so there is no fixed fine period: while the
loop waits the next look is half a threshold away, while it is busy it is due when the busy period
reaches half the threshold, and then the threshold itself.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from loopwatch.clock import NS_PER_S, monotonic_ns
from loopwatch.patience import patience_s
from loopwatch.sensors.sidecar import DENSE
from loopwatch.sensors.tick import TickSensor, late_periods

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

    from loopwatch.census import TaskCensus
    from loopwatch.delivery import Delivery
    from loopwatch.diagnosis.tracker import Decision, Track, Tracker
    from loopwatch.forensics import Forensics, Seen
    from loopwatch.ledger import Ledger
    from loopwatch.probes.cpu import ThreadCpu
    from loopwatch.probes.executors import ExecutorProbe
    from loopwatch.probes.gc import GcProbe
    from loopwatch.probes.tasks import TaskCount
    from loopwatch.reporter import Reporter
    from loopwatch.sensors.alarm import Alarm
    from loopwatch.sensors.base import Reading, Sensor
    from loopwatch.sensors.sidecar import Beat, Sidecar

__all__ = ["Watchdog", "Watched"]

# Tasks and executors are counted once a second: at every other full look, which may come early.
_CENSUS_NS: Final = NS_PER_S * 9 // 10
# Counters are this fresh on a loop that does nothing and whose beats are rare.
_FULL_LOOK_NS: Final = NS_PER_S // 2
# Waking up this much too late is not the scheduler's doing: the GIL could not be had.
_OVERSLEPT_NS: Final = 25_000_000
# A timer on a loop is one iteration, or two on uvloop.
_ITERATIONS_PER_BEAT: Final = 2
# Waking up this much too late means that many want the GIL.
_CROWDED_NS: Final = 10_000_000
_SHORTEST_NAP_NS: Final = 1_000_000
_NAP_AFTER_FAILURE_NS: Final = NS_PER_S
# A census is gone on with so soon: 10,000 tasks in a second, for a fortieth of the GIL meanwhile.
_BETWEEN_SLICES_NS: Final = 20_000_000
_JOIN_S: Final = 0.3
# Stalls remembered to tell which beats they made late.
_SPANS: Final = 32


@dataclass(frozen=True, slots=True)
class Watched:
    """One loop and what reads it."""

    loop: AbstractEventLoop
    thread: threading.Thread
    sensor: Sensor
    tick: TickSensor
    sidecar: Sidecar
    alarm: Alarm
    cpu: ThreadCpu
    gc: GcProbe
    executors: ExecutorProbe
    count_tasks: Callable[[], TaskCount]
    census: TaskCensus


class Watchdog:
    """Watches one loop until `stop`, or until the loop is closed."""

    def __init__(
        self,
        watched: Watched,
        tracker: Tracker[Seen],
        forensics: Forensics,
        reporter: Reporter,
        ledger: Ledger,
        delivery: Delivery,
        on_closed: Callable[[], None],
    ) -> None:
        self._watched = watched
        self._tracker = tracker
        self._forensics = forensics
        self._reporter = reporter
        self._ledger = ledger
        self._delivery = delivery
        self._on_closed = on_closed
        self._asked_ns: int | None = None
        self._set_naps()
        self._iteration = 0
        self._late = False
        self._spans: deque[tuple[int, int]] = deque(maxlen=_SPANS)
        self._census_ns = 0
        self._full_look_ns = 0
        self._stopping = False
        self._context = contextvars.Context()
        self._thread = threading.Thread(target=self._run, name="loopwatch-watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Take a last look and end. Any thread; waits for at most 0.3 s."""
        self._stopping = True
        self._watched.sidecar.relied_on_until_ns = 0
        self._watched.alarm.wake()
        if self._thread.ident is None:
            self.forget()  # never started, so nobody else will
        elif self._thread is not threading.current_thread():
            self._thread.join(patience_s(_JOIN_S))

    def forget(self) -> None:
        """Give back what is open: by the thread as it ends, or where it does not exist."""
        self._watched.alarm.close()
        self._forensics.close()

    def _run(self) -> None:
        try:
            self._watch()
        finally:
            self.forget()

    def _watch(self) -> None:
        self._tracker.begin(monotonic_ns())
        while not self._stopping:
            if self._is_over():
                self._on_closed()
                return
            next_ns = self._guarded_look()
            if self._watched.census.is_walking:
                self._look_at_tasks(monotonic_ns())
                next_ns = min(next_ns, monotonic_ns() + _BETWEEN_SLICES_NS)
            # With a high threshold the numbers must still move.
            nap_ns = min(_FULL_LOOK_NS, max(_SHORTEST_NAP_NS, next_ns - monotonic_ns()))
            self._sleep_until(monotonic_ns() + nap_ns)
        self._guarded_look()

    def _sleep_until(self, at_ns: int) -> None:
        try:
            self._forensics.sleeps()
            self._watched.alarm.sleep_until(at_ns)
        except Exception as error:  # noqa: BLE001 - nor must the watch end, nor begin to spin
            self._delivery.fault("watchdog", "going to sleep", error)
            time.sleep(_NAP_AFTER_FAILURE_NS / NS_PER_S)

    def _is_over(self) -> bool:
        """Whether the loop is closed, or was left behind unclosed by a thread that has ended."""
        watched = self._watched
        if watched.loop.is_closed():
            return True
        moved = watched.sidecar.ident != watched.thread.ident
        return not moved and not watched.thread.is_alive() and not watched.loop.is_running()

    def _guarded_look(self) -> int:
        try:
            return self._look()
        except Exception as error:  # noqa: BLE001 - a failure of ours must not end the watch
            self._delivery.fault("watchdog", "a look at the loop", error)
            return monotonic_ns() + _NAP_AFTER_FAILURE_NS

    def retune(self, threshold_ns: int) -> None:
        """Have another threshold from the next look on. Any thread."""
        self._asked_ns = threshold_ns
        self._watched.alarm.wake()

    def _set_naps(self) -> None:
        self._limit_ns = self._tracker.half_ns
        # On a loop that nothing happens on, the first sample of a stall may come at nine tenths
        # of the threshold instead of half: almost half the wake-ups less (decision 0008).
        self._idle_nap_ns = self._tracker.half_ns * 9 // 5

    def _apply_threshold(self) -> None:
        asked_ns, self._asked_ns = self._asked_ns, None
        if asked_ns is None:
            return
        self._tracker.retune(asked_ns)
        self._watched.sensor.retune(self._tracker.half_ns)
        self._watched.sidecar.retune(asked_ns)
        self._watched.sidecar.hasten()
        self._set_naps()

    def _look(self) -> int:
        watched = self._watched
        self._note_wake_up()
        if self._asked_ns is not None:
            self._apply_threshold()
        running = watched.loop.is_running()
        # Beats first: a period that made a drained beat late is then in the reading.
        beats = watched.sidecar.drain()
        reading = watched.sensor.read(monotonic_ns())
        now_ns = monotonic_ns()
        if (
            running
            and reading.busy_since_ns is None
            and not beats
            and not reading.ended
            and not self._tracker.tracking
            and now_ns < min(watched.sidecar.due_ns + self._limit_ns, self._full_look_ns)
            and not self._stopping
        ):
            # A loop that waits: nothing to decide, and what is counted can wait for a beat. Most
            # looks end here; woken from cold, the rest costs the host three times as much.
            if self._at_work(reading, beats):
                return self._rely_on_beats(now_ns, now_ns + self._limit_ns)
            return now_ns + self._idle_nap_ns
        self._full_look_ns = now_ns + _FULL_LOOK_NS
        crowded = now_ns - watched.alarm.at_ns > _CROWDED_NS
        decision = self._decide(now_ns, reading, beats, running=running)
        # At once: whatever gives the GIL back lets the loop go on.
        if decision.sample is not None:
            self._sample(decision.sample)
        # None of these may keep the others from being done: the tracker has moved on already.
        self._guarded(self._measure, now_ns, reading, beats, running)
        self._guarded(self._attach_shots, decision)
        self._tell(now_ns, decision)
        if not self._tracker.tracking:
            self._forensics.settle()
        self._count_lag(now_ns, beats, running=running)
        self._ledger.settled(now_ns)
        self._ledger.spent("watchdog", time.thread_time_ns())
        at_work = self._at_work(reading, beats)
        if at_work and running and not self._tracker.stalled:
            if crowded and not watched.alarm.can_be_put_off:
                # On a saturated loop each wake-up costs dozens of GIL hand-overs (decision 0009).
                return max(decision.next_ns, (reading.busy_since_ns or now_ns) + 2 * self._limit_ns)
            return self._rely_on_beats(now_ns, decision.next_ns)
        # The beat that ends a stall must not leave the loop to itself for a whole interval.
        watched.sidecar.relied_on_until_ns = DENSE if self._tracker.stalled else 0
        return decision.next_ns

    def _at_work(self, reading: Reading, beats: list[Beat]) -> bool:
        """Whether the loop did more since the last look than run our own beats."""
        moved = reading.iteration - self._iteration
        self._iteration = reading.iteration
        return moved - _ITERATIONS_PER_BEAT * len(beats) > _ITERATIONS_PER_BEAT

    def _rely_on_beats(self, now_ns: int, next_ns: int) -> int:
        """Let the beats of a loop at work put off the next look; return when that is at first."""
        watched = self._watched
        if watched.sensor is watched.tick or not watched.alarm.can_be_put_off or self._stopping:
            return next_ns
        watched.sidecar.relied_on_until_ns = now_ns + _FULL_LOOK_NS
        return next_ns

    def _decide(
        self, now_ns: int, reading: Reading, beats: list[Beat], *, running: bool
    ) -> Decision[Seen]:
        if self._stopping or not running:
            return self._tracker.stopped(now_ns, reading.ended, for_good=self._stopping)
        watched = self._watched
        late = late_periods(beats, self._limit_ns)
        if watched.sensor is watched.tick:
            return self._tracker.observe(
                now_ns, reading.iteration, reading.busy_since_ns, (*reading.ended, *late)
            )
        number, due_ns = watched.sidecar.number, watched.sidecar.due_ns
        return self._tracker.observe(
            now_ns,
            reading.iteration,
            reading.busy_since_ns,
            reading.ended,
            late,
            (number, due_ns) if due_ns and now_ns > due_ns else None,
        )

    def _note_wake_up(self) -> None:
        alarm = self._watched.alarm
        now_ns = monotonic_ns()
        missed, alarm.missed = alarm.missed, None
        due_ns, woke_ns = missed or (alarm.at_ns, now_ns)
        self._late = woke_ns - due_ns > _OVERSLEPT_NS
        self._forensics.woke(due_ns, woke_ns, self._watched.sidecar.ident, late=self._late)

    def _guarded(self, step: Callable[..., None], *arguments: object) -> None:
        try:
            step(*arguments)
        except Exception as error:  # noqa: BLE001 - a failure of ours must not lose a stall
            self._delivery.fault("watchdog", "a look at the loop", error)

    def _measure(self, now_ns: int, reading: Reading, beats: list[Beat], running: bool) -> None:
        watched, ledger = self._watched, self._ledger
        ledger.iterations = reading.iterations
        if watched.cpu.native_id != watched.sidecar.native_id:
            # The loop was run again, on another thread.
            watched.cpu.follow(watched.sidecar.native_id)
            watched.gc.follow(watched.sidecar.ident)
            self._reporter.follow(watched.sidecar.ident)
            self._forensics.follow(watched.sidecar.native_id)
        for beat in beats:
            self._forensics.beat(beat.ran_ns, watched.cpu.since_start_ns(beat.cpu_ns))
        cpu_ns = watched.cpu.read_ns()
        self._forensics.mark(now_ns, cpu_ns, reading.idle_ns, watched.sidecar.ident)
        if cpu_ns is not None:
            ledger.cpu_ns = cpu_ns
        ledger.gc_pause_ns = watched.gc.read_ns()
        ledger.looked(now_ns, reading.idle_ns, running=running)
        self._count(now_ns)

    def _count(self, now_ns: int) -> None:
        watched, ledger = self._watched, self._ledger
        try:
            if now_ns - self._census_ns >= _CENSUS_NS:
                self._census_ns = now_ns
                ledger.tasks, ledger.tasks_exact = watched.count_tasks()
                ledger.executors = watched.executors.read()
        except Exception as error:  # noqa: BLE001 - these read private state of the host
            self._delivery.fault("probe", "counting tasks and executors", error)
        if not watched.census.is_walking and not self._stopping:
            self._look_at_tasks(now_ns)

    def _look_at_tasks(self, now_ns: int) -> None:
        try:
            self._watched.census.look(now_ns)
        except Exception as error:  # noqa: BLE001 - reads private state of the host
            self._delivery.fault("probe", "looking at what tasks do", error)

    def _attach_shots(self, decision: Decision[Seen]) -> None:
        """Give the stacks that were taken without us to the stretch they must be of."""
        shots = self._forensics.shots()
        if shots and not self._forensics.kept_from_gil:
            self._forensics.back_off()
        tracks = [*decision.closed]
        if self._tracker.current is not None:
            tracks.append(self._tracker.current)
        if not shots or not tracks:
            return
        now_ns = monotonic_ns()
        longest = max(tracks, key=lambda track: (track.end_ns or now_ns) - track.start_ns)
        if longest.samples and not self._forensics.kept_from_gil:
            return  # Python code, and we were a moment late: our own looks are as good
        for shot in shots:
            seen = self._forensics.seen_in(shot, self._watched.sidecar.base_depth)
            # The thread computed all along, or there would be no shot: its CPU time is the clock.
            at_ns = min(longest.start_ns + shot.cpu_ns, longest.end_ns or now_ns)
            if seen is not None:
                self._tracker.add(longest, at_ns, seen)

    def _tell(self, now_ns: int, decision: Decision[Seen]) -> None:
        for track in decision.closed:
            self._spans.append((track.start_ns, track.end_ns or now_ns))
            self._guarded(self._reporter.closed, track, now_ns)
        if decision.opened is not None:
            self._guarded(self._reporter.opened, decision.opened, now_ns)
            self._ask_for_the_end()
        elif self._tracker.current is not None:
            self._guarded(self._reporter.reconsider, self._tracker.current, now_ns)

    def _sample(self, track: Track[Seen]) -> None:
        watched = self._watched
        if track.iteration < 0 and watched.sensor is not watched.tick:
            return  # the loop waits to be woken up: its stack is the selector, nobody's fault
        at_ns = monotonic_ns()
        sidecar = watched.sidecar
        try:
            # Only what is still going on at that moment is known to belong to this stretch.
            seen = self._forensics.see(
                sidecar.ident,
                sidecar.base_depth,
                lambda: watched.sensor.is_at(track.iteration),
                late=self._late,
            )
        except Exception as error:  # noqa: BLE001 - reads private state of the interpreter
            self._delivery.fault("probe", "sampling the stack", error)
            return
        if seen is not None:
            self._tracker.add(track, at_ns, seen)

    def _ask_for_the_end(self) -> None:
        """Have the loop say when it serves again; runs nothing on a loop that does not stall."""
        try:
            self._watched.loop.call_soon_threadsafe(self._served, context=self._context)
        except RuntimeError:
            pass  # closed in this very moment; the next look finds out

    def _served(self) -> None:
        self._watched.sensor.served(monotonic_ns())
        self._watched.alarm.wake()

    def _count_lag(self, now_ns: int, beats: list[Beat], *, running: bool) -> None:
        lag = self._ledger.lag
        if not running:
            lag.skip(now_ns)
            return
        for beat in beats:
            if not any(start <= beat.due_ns <= end for start, end in self._spans):
                lag.tick(beat.due_ns, beat.ran_ns)
