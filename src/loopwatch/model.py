"""The records: what a stall is, what is true now. Frozen, numeric, free of values of the host.

Durations are seconds as `float` (suffix `_s`), moments are unix time in seconds. Function names,
file names and lines are kept; locals, arguments and payloads never get here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from loopwatch.clock import iso_utc

__all__ = [
    "STALL_SCHEMA",
    "Advice",
    "Cause",
    "Census",
    "Culprit",
    "Evidence",
    "Executor",
    "Frame",
    "LagHistogram",
    "Location",
    "OtherThread",
    "Phase",
    "Point",
    "Request",
    "Sample",
    "Snapshot",
    "Stall",
    "TaskGroup",
    "TaskInfo",
    "Thresholds",
    "Trace",
]

STALL_SCHEMA: Final = "loopwatch.stall/1"


class Cause(StrEnum):
    """Why a loop stood still. Closed: also the values of the `cause` label."""

    BLOCKING_CALL = "blocking_call"
    CPU = "cpu"
    NATIVE_CALL = "native_call"
    GC = "gc"
    GIL_CONTENTION = "gil_contention"
    CONGESTION = "congestion"
    CPU_STARVED = "cpu_starved"
    PROCESS_PAUSED = "process_paused"
    UNKNOWN = "unknown"


class Phase(StrEnum):
    """Whether a record was written during the stall or after it."""

    ONGOING = "ongoing"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack: dotted function name, file, line, and whether it is the host's code."""

    function: str
    file: str
    line: int
    in_app: bool


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack seen `count` times, first `at_s` after the start. Frames: innermost to outermost."""

    at_s: float
    count: int
    source: str
    frames: tuple[Frame, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the sample as it stands in a record."""
        return {
            "at_s": round(self.at_s, 6),
            "count": self.count,
            "source": self.source,
            # By hand: `asdict` takes ten times as long, and records have hundreds of frames.
            "frames": [
                {
                    "function": frame.function,
                    "file": frame.file,
                    "line": frame.line,
                    "in_app": frame.in_app,
                }
                for frame in self.frames
            ],
        }


@dataclass(frozen=True, slots=True)
class Location:
    """A function and a line in it."""

    function: str
    file: str
    line: int


@dataclass(frozen=True, slots=True)
class Culprit:
    """The frame that is blamed, the call it made, and the text of its line.

    `call` is the dotted name of what was called, as it is known in its own module: an alias or a
    method has the name of what it stands for. `None` where the frame itself was at work, or where
    the name cannot be told; so is `source` where the file cannot be read.
    """

    function: str
    file: str
    line: int
    call: str | None
    source: str | None
    in_app: bool


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """The task that was running: its name and the function of its coroutine."""

    name: str
    coro: str


@dataclass(frozen=True, slots=True)
class Request:
    """The HTTP request that was served: method and route template, never the path or the query.

    `trace_id` and `span_id` are those of the OpenTelemetry span, as 32 and 16 hex digits.
    """

    method: str
    route: str | None
    trace_id: str | None = None
    span_id: str | None = None


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do instead, and the row of the table of signatures that says so."""

    signature: str
    text: str


@dataclass(frozen=True, slots=True)
class OtherThread:
    """The thread that held the GIL: its name, CPU time during the stall, and where it was."""

    name: str
    cpu_s: float
    function: str | None = None
    file: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured over the stall, in seconds; `None` is not known, never a guess.

    `cpu_s` and `runqueue_wait_s` are the loop thread's, `process_cpu_s` is everybody's.
    `overslept_s` is how much longer than it wanted the watchdog slept. `wait` is what kind of
    thing the loop thread slept for, `wait_detail` which one.
    """

    wall_s: float
    cpu_s: float | None = None
    gc_s: float | None = None
    runqueue_wait_s: float | None = None
    throttled_s: float | None = None
    wait: str | None = None
    wait_detail: str | None = None
    samples: int = 0
    process_cpu_s: float | None = None
    overslept_s: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the evidence as it stands in a record."""
        return {
            name: _rounded(value) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """One stall. The record of `phase` ongoing and the final one carry the same `id`.

    `allowed` is the reason given to `allow_blocking`. `victims` is how many requests were in
    flight and had to wait, beside the one that stalled; `None` without the middleware.
    `suppressed` counts like stalls that were not told before this one, by the rate limits.
    """

    id: str
    phase: Phase
    started_at_s: float
    duration_s: float
    loop: str
    loop_impl: str
    pid: int
    thread: str
    sensor: str
    cause: Cause
    confidence: float
    evidence: Evidence
    fingerprint: str
    culprit: Culprit | None = None
    entry: Location | None = None
    task: TaskInfo | None = None
    request: Request | None = None
    victims: int | None = None
    advice: Advice | None = None
    other_thread: OtherThread | None = None
    allowed: str | None = None
    suppressed: int = 0
    samples: tuple[Sample, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON-ready data, schema `loopwatch.stall/1`."""
        return {
            "schema": STALL_SCHEMA,
            "id": self.id,
            "phase": self.phase.value,
            "started_at": iso_utc(self.started_at_s),
            "duration_s": _rounded(self.duration_s),
            "loop": self.loop,
            "loop_impl": self.loop_impl,
            "pid": self.pid,
            "thread": self.thread,
            "sensor": self.sensor,
            "cause": self.cause.value,
            "confidence": self.confidence,
            "allowed": self.allowed,
            "culprit": asdict(self.culprit) if self.culprit else None,
            "entry": asdict(self.entry) if self.entry else None,
            "task": asdict(self.task) if self.task else None,
            "request": asdict(self.request) if self.request else None,
            "advice": asdict(self.advice) if self.advice else None,
            "evidence": self.evidence.to_dict(),
            "other_thread": asdict(self.other_thread) if self.other_thread else None,
            "samples": [sample.to_dict() for sample in self.samples],
            "fingerprint": self.fingerprint,
            "victims": self.victims,
            "suppressed": self.suppressed,
        }

    def summary(self) -> dict[str, Any]:
        """Return the record without what makes it long: samples, evidence, source lines."""
        record = replace(self, samples=()).to_dict()  # building them is what takes the time
        for name in ("samples", "evidence", "other_thread", "entry"):
            del record[name]
        return record


@dataclass(frozen=True, slots=True)
class LagHistogram:
    """Lag weighted by time: `counts[i]` has `bounds[i-1] < lag <= bounds[i]`, the last the rest.

    `sums_s[i]` is the lag of those counts added up, `sum_s` that of all.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum_s: float
    sums_s: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where the newest traced stall of a cause is to be found: ids, duration, start (unix time)."""

    trace_id: str
    span_id: str | None
    duration_s: float
    at_s: float


@dataclass(frozen=True, slots=True)
class Executor:
    """A pool of the host: threads (or processes) alive, and work items that wait for one."""

    name: str
    threads: int
    queue_length: int


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The limits in force: seconds, tasks, and CPU seconds per second."""

    stall_s: float
    hang_s: float
    tasks: int
    cpu_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskGroup:
    """Pending tasks that run one coroutine and wait at one line.

    `waits_at` is the innermost line of the coroutine's `await`s, the host's own where there is one;
    `None` for tasks that have not begun. `growth_per_min` is the change of `count` over the last
    minutes; `None` until there are two censuses. `oldest_s` is for how long at least the oldest
    has been there, as its birth may not have been seen. `created_at` is the line that made them,
    where creation sites are recorded.
    """

    coro: str
    waits_at: Location | None
    count: int
    growth_per_min: float | None
    oldest_s: float
    created_at: Location | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """The pending tasks of a loop by what they do, at `at_s` (unix time); largest groups first.

    `looked_at` of `tasks` were looked at: where those are fewer, the counts of the groups are
    estimates. `others` are in groups that are not listed.
    """

    at_s: float
    tasks: int
    threshold: int
    looked_at: int
    groups: tuple[TaskGroup, ...]
    others: int

    def to_dict(self) -> dict[str, Any]:
        """Return the census as JSON-ready data."""
        return {
            "at": iso_utc(self.at_s),
            "tasks": self.tasks,
            "threshold": self.threshold,
            "looked_at": self.looked_at,
            "groups": [
                {**asdict(group), "oldest_s": _rounded(group.oldest_s)} for group in self.groups
            ],
            "others": self.others,
        }


@dataclass(frozen=True, slots=True)
class Point:
    """A second of a loop that ends at `at_s` (unix time): largest lag, and ratios of it.

    It is longer (`wall_s`) where nobody could look in time, as while another thread held the GIL.
    """

    at_s: float
    lag_s: float
    utilization: float | None
    cpu_ratio: float | None
    tasks: int
    wall_s: float

    def to_list(self) -> list[float | int | None]:
        """Return the point as a row of JSON: the fields in their order."""
        return [
            round(self.at_s, 3),
            _rounded(self.lag_s),
            _rounded(self.utilization),
            _rounded(self.cpu_ratio),
            self.tasks,
            round(self.wall_s, 3),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What is true of one loop at `at_s` (unix time). `None` where this sensor cannot know.

    `lag_*` cover the last minute, `utilization` and `cpu_ratio` the last ten seconds; totals
    count since the agent started.
    """

    at_s: float
    loop: str
    loop_impl: str
    pid: int
    thread: str
    sensor: str
    version: str
    python: str
    native_sampler: str
    lag_last_s: float
    lag_p50_s: float
    lag_p99_s: float
    lag_max_s: float
    lag: LagHistogram
    tasks: int
    tasks_exact: bool
    utilization: float | None
    cpu_ratio: float | None
    active_stall: Stall | None
    active_s: float
    stalls_total: dict[Cause, int]
    stall_s_total: dict[Cause, float]
    last_stall_at_s: float
    iterations_total: int | None
    busy_s_total: float | None
    idle_s_total: float | None
    cpu_s_total: float | None
    gc_pause_s_total: float
    executors: tuple[Executor, ...]
    heartbeat_at_s: float
    self_cpu_s_total: float
    excused_total: dict[str, int]
    dropped_total: dict[str, int]
    errors_total: dict[str, int]
    thresholds: Thresholds = field(repr=False)
    traces: dict[Cause, Trace] = field(default_factory=dict, repr=False)
    census: Census | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the snapshot as JSON-ready data."""
        return {
            "at": iso_utc(self.at_s),
            "loop": self.loop,
            "loop_impl": self.loop_impl,
            "pid": self.pid,
            "thread": self.thread,
            "sensor": self.sensor,
            "version": self.version,
            "python": self.python,
            "native_sampler": self.native_sampler,
            "lag": {
                "last_s": _rounded(self.lag_last_s),
                "p50_s": _rounded(self.lag_p50_s),
                "p99_s": _rounded(self.lag_p99_s),
                "max_s": _rounded(self.lag_max_s),
            },
            "tasks": self.tasks,
            "tasks_exact": self.tasks_exact,
            "census": self.census.to_dict() if self.census else None,
            "utilization": _rounded(self.utilization),
            "cpu_ratio": _rounded(self.cpu_ratio),
            "active_stall": self.active_stall.to_dict() if self.active_stall else None,
            "active_s": _rounded(self.active_s),
            "totals": {
                "stalls": {cause.value: n for cause, n in self.stalls_total.items()},
                "stall_s": {cause.value: _rounded(s) for cause, s in self.stall_s_total.items()},
                "iterations": self.iterations_total,
                "busy_s": _rounded(self.busy_s_total),
                "idle_s": _rounded(self.idle_s_total),
                "cpu_s": _rounded(self.cpu_s_total),
                "gc_pause_s": _rounded(self.gc_pause_s_total),
                "self_cpu_s": _rounded(self.self_cpu_s_total),
                "excused": dict(self.excused_total),
                "dropped": dict(self.dropped_total),
                "errors": dict(self.errors_total),
            },
            "last_stall_at": iso_utc(self.last_stall_at_s) if self.last_stall_at_s else None,
            "heartbeat_at": iso_utc(self.heartbeat_at_s),
            "executors": [asdict(executor) for executor in self.executors],
            "thresholds": asdict(self.thresholds),
        }


def _rounded(seconds: float | None) -> float | None:
    # Microseconds: below that the clocks of a busy machine say nothing.
    return None if seconds is None else round(seconds, 6)
