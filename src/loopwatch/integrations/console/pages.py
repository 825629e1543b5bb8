"""What the commands of the console print: records in, lines of text out. Pure.

Names of functions, tasks and files are hostile input; every one of them goes through `clean`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from loopwatch.exporters.log import sentence
from loopwatch.views.flame import flame_tree
from loopwatch.views.text import clean
from loopwatch.views.tree import branches
from loopwatch.views.units import count, counted, duration, moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from loopwatch.model import Census, Culprit, Location, Sample, Snapshot, Stall, TaskGroup

    # Text and the name of a style: `good`, `bad`, `warn`, `strong` or `faint`.
    Paint = Callable[[str, str], str]

__all__ = ["census_page", "flame_page", "lag_page", "loop_page", "stall_page", "stalls_page"]

_ID_SHOWN: Final = 8
# The log's sentence has names, a line of source and advice in it.
_SENTENCE: Final = 1000


def lag_page(now: Snapshot, paint: Paint) -> Iterator[str]:
    """Yield how late the loop is."""
    limit_s = now.thresholds.stall_s
    yield _state(now, paint)
    yield from _rows(
        [
            ("last", _limited(now.lag_last_s, limit_s, paint)),
            ("median", _limited(now.lag_p50_s, limit_s, paint)),
            ("p99", _limited(now.lag_p99_s, limit_s, paint)),
            ("max", _limited(now.lag_max_s, limit_s, paint)),
        ]
    )
    yield paint(f"median, p99 and max of the last minute; limit {duration(limit_s)}", "faint")


def loop_page(now: Snapshot, paint: Paint) -> Iterator[str]:
    """Yield what is true of the loop."""
    limits = now.thresholds
    exact = "" if now.tasks_exact else "about "
    tasks = _over(f"{exact}{count(now.tasks)}", over=now.tasks > limits.tasks, paint=paint)
    cpu = now.cpu_ratio
    cpu_text = _over(_percent(cpu), over=(cpu or 0) > limits.cpu_ratio, paint=paint)
    told = ", ".join(f"{count(n)} {cause}" for cause, n in now.stalls_total.items() if n)
    newest = f", the newest at {moment(now.last_stall_at_s)} UTC" if now.last_stall_at_s else ""
    stalled_s = sum(now.stall_s_total.values())
    yield _state(now, paint)
    yield from _rows(
        [
            ("lag", f"{duration(now.lag_last_s)}, at most {duration(now.lag_max_s)} in a minute"),
            ("tasks", f"{tasks} pending (limit {count(limits.tasks)})"),
            ("utilization", f"{_percent(now.utilization)} of the last 10 s"),
            ("CPU", f"{cpu_text} of the last 10 s (limit {_percent(limits.cpu_ratio)})"),
            ("stalls", f"{told or 'none'}; {duration(stalled_s)} in all{newest}"),
            ("GC", f"{duration(now.gc_pause_s_total)} in all"),
            *(
                (
                    "executor",
                    (
                        f"{clean(pool.name)}: {counted(pool.threads, 'thread')}, "
                        f"{count(pool.queue_length)} waiting"
                    ),
                )
                for pool in now.executors
            ),
            ("runs on", f"{clean(now.loop_impl)}, thread {clean(now.thread)}, process {now.pid}"),
            (
                "watched by",
                (
                    f"loopwatch {now.version} on Python {now.python}, sensor {now.sensor}, native "
                    f"stacks {now.native_sampler}, {duration(now.self_cpu_s_total)} of CPU used"
                ),
            ),
            *_losses(now, paint),
        ]
    )


def stalls_page(
    name: str, stalls: Sequence[Stall], wanted: int, active_s: float, paint: Paint
) -> Iterator[str]:
    """Yield the newest `wanted` stalls, newest last; `active_s` is the age of one in progress."""
    if not stalls:
        yield f"loop {clean(name)}: no stall is on record"
        return
    shown = stalls[-wanted:]
    yield paint(f"{'id':<{_ID_SHOWN}}  {'at (UTC)':<19}  {'lasted':>7}  cause, culprit", "strong")
    for stall in shown:
        ongoing = stall.phase == "ongoing"
        lasted = duration(max(stall.duration_s, active_s) if ongoing else stall.duration_s)
        style = "bad" if ongoing else "faint" if stall.allowed else ""
        end = (
            " (goes on)" if ongoing else f" (allowed: {clean(stall.allowed)})" * bool(stall.allowed)
        )
        line = (
            f"{stall.id[:_ID_SHOWN]}  {moment(stall.started_at_s)}  {lasted:>7}  "
            f"{stall.cause}, {_blamed(stall.culprit)}{end}"
        )
        yield paint(line, style)
    left = len(stalls) - len(shown)
    more = f"; {count(left)} older with -n {len(stalls)}" if left else ""
    yield paint(f"{counted(len(shown), 'stall')}; `stall ID` tells all of one{more}", "faint")


def stall_page(stall: Stall, paint: Paint) -> Iterator[str]:
    """Yield all that a record knows, its samples as a tree."""
    yield paint(clean(sentence(stall), _SENTENCE), "strong")
    yield from _rows([(name, text) for name, text in _record(stall) if text])
    yield from _rows([(f"  {name}", text) for name, text in _evidence(stall) if text])
    if not stall.samples:
        yield "no samples"
        return
    looks = sum(sample.count for sample in stall.samples)
    yield f"{counted(looks, 'sample')}, outermost first; share of the stall"
    yield from _tree(stall.samples, None, paint)


def census_page(name: str, census: Census, paint: Paint) -> Iterator[str]:
    """Yield the pending tasks by what they do."""
    over = census.tasks > census.threshold
    pending = _over(f"{counted(census.tasks, 'pending task')}", over=over, paint=paint)
    looked = (
        "" if census.looked_at >= census.tasks else f", estimated from {count(census.looked_at)}"
    )
    yield f"loop {clean(name)}: {pending} (limit {count(census.threshold)}){looked}"
    if not census.groups:
        return
    yield paint(
        f"{'tasks':>9}  {'a minute':>9}  {'oldest':>8}  coroutine, where it waits", "strong"
    )
    for group in census.groups:
        yield (
            f"{count(group.count):>9}  {_growth(group):>9}  {duration(group.oldest_s):>8}  "
            f"{clean(group.coro)}{_waits(group)}"
        )
    if census.others:
        yield paint(f"{count(census.others):>9}  in other groups", "faint")


def flame_page(
    name: str, samples: Sequence[Sample], looks: int, waits: int, took_s: float, paint: Paint
) -> Iterator[str]:
    """Yield where a burst of looks found the loop; `waits` of them found it waiting."""
    head = f"loop {clean(name)}: {counted(looks, 'look')} in {duration(took_s)}"
    if not looks:
        yield f"{head}; this interpreter shows no other thread's stack"
        return
    worked = sum(sample.count for sample in samples)
    itself = looks - waits - worked
    yield (
        f"{head}: {_percent(waits / looks)} waiting for events, {_percent(worked / looks)} in "
        f"callbacks, {_percent(itself / looks)} in the loop itself"
    )
    yield from _tree(samples, looks, paint)


def _tree(samples: Sequence[Sample], whole: float | None, paint: Paint) -> Iterator[str]:
    tree = flame_tree([sample.to_dict() for sample in samples])
    for branch in branches(tree, whole):
        place = paint(f"  {branch.place}", "faint") if branch.place else ""
        named = paint(branch.name, "strong" if branch.in_app else "")
        yield f"{_percent(branch.share):>5}  {paint(branch.guide, 'faint')}{named}{place}"


def _record(stall: Stall) -> Iterator[tuple[str, str]]:
    yield "id", f"{clean(stall.id)} (fingerprint {clean(stall.fingerprint)})"
    yield "began", f"{moment(stall.started_at_s)} UTC, {_ended(stall)}"
    yield "cause", f"{stall.cause}, {_percent(stall.confidence)} sure"
    yield "allowed", clean(stall.allowed) if stall.allowed else ""
    if stall.culprit is not None:
        yield "culprit", _blamed(stall.culprit)
        yield "call", clean(stall.culprit.call) if stall.culprit.call else ""
        yield "source", clean(stall.culprit.source) if stall.culprit.source else ""
    yield "entry", _place(stall.entry) if stall.entry else ""
    if stall.task is not None:
        yield "task", f"{clean(stall.task.name)} running {clean(stall.task.coro)}"
    if stall.request is not None:
        route = clean(stall.request.route) if stall.request.route else "(route not known)"
        trace = f", trace {clean(stall.request.trace_id)}" if stall.request.trace_id else ""
        yield "request", f"{clean(stall.request.method)} {route}{trace}"
    yield "victims", counted(stall.victims, "other request") if stall.victims else ""
    other = stall.other_thread
    if other is not None:
        at = f" in {clean(other.function)} ({clean(other.file)}:{other.line})"
        used = f"{clean(other.name)} used {duration(other.cpu_s)} of CPU"
        yield "other thread", used + at * (other.function is not None)
    yield "advice", clean(stall.advice.text) if stall.advice else ""
    yield "like it", f"{count(stall.suppressed)} were not told" if stall.suppressed else ""
    yield "loop", f"{clean(stall.loop)} ({clean(stall.loop_impl)}), sensor {clean(stall.sensor)}"
    yield "thread", f"{clean(stall.thread)}, process {stall.pid}"


def _evidence(stall: Stall) -> Iterator[tuple[str, str]]:
    evidence = stall.evidence
    for name, of_s in (
        ("wall", evidence.wall_s),
        ("CPU", evidence.cpu_s),
        ("GC", evidence.gc_s),
        ("without a CPU", evidence.runqueue_wait_s),
        ("throttled", evidence.throttled_s),
        ("process CPU", evidence.process_cpu_s),
        ("overslept", evidence.overslept_s),
    ):
        yield name, duration(of_s) if of_s is not None else "not known"
    detail = f", {clean(evidence.wait_detail)}" if evidence.wait_detail else ""
    yield "waited for", f"{clean(evidence.wait)}{detail}" if evidence.wait else ""


def _ended(stall: Stall) -> str:
    if stall.phase == "ongoing":
        return f"goes on, {duration(stall.duration_s)} when this was written"
    return f"lasted {duration(stall.duration_s)}"


def _state(now: Snapshot, paint: Paint) -> str:
    name = f"loop {clean(now.loop)}: "
    stall = now.active_stall
    if stall is None:
        return name + paint("serving", "good")
    begun = time.strftime("%H:%M:%S", time.gmtime(stall.started_at_s))
    since = paint(f"stalled for {duration(now.active_s)}", "bad")
    return f"{name}{since} since {begun} UTC, {stall.cause}, {_blamed(stall.culprit)}"


def _blamed(culprit: Culprit | None) -> str:
    return _place(culprit) if culprit is not None else "nobody to blame"


def _place(location: Location | Culprit) -> str:
    return f"{clean(location.function)} ({clean(location.file)}:{location.line})"


def _waits(group: TaskGroup) -> str:
    waits = f", waits at {_place(group.waits_at)}" if group.waits_at else ", not begun"
    made = f", made at {_place(group.created_at)}" if group.created_at else ""
    return waits + made


def _growth(group: TaskGroup) -> str:
    per_min = group.growth_per_min
    return "?" if per_min is None else f"{per_min:+,.0f}" if per_min else "0"


def _losses(now: Snapshot, paint: Paint) -> Iterator[tuple[str, str]]:
    for name, counts in (("lost", now.dropped_total), ("our errors", now.errors_total)):
        text = ", ".join(f"{count(n)} {clean(what)}" for what, n in counts.items() if n)
        if text:
            yield name, paint(text, "warn")


def _limited(of_s: float, limit_s: float, paint: Paint) -> str:
    return _over(duration(of_s), over=of_s >= limit_s, paint=paint)


def _over(text: str, *, over: bool, paint: Paint) -> str:
    return paint(text, "warn") if over else text


def _percent(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:.0f} %"


def _rows(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    listed = list(rows)
    width = max((len(name) for name, _ in listed), default=0)
    for name, text in listed:
        yield f"  {name:<{width}}  {text}"
