"""From what was read at moments around a stall to what happened in it. Pure arithmetic.

Counters are read when the watchdog looks, seldom at the very start or end of a stall. Each reading
still bounds the truth: what a counter gained between two readings around the stall is at most what
it gained in the stall, and what it gained between two readings inside is at least that.
"""

from __future__ import annotations

from itertools import pairwise, product
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

__all__ = ["Mark", "Overslept", "Step", "gained_ns", "longest_step_ns", "overlap_ns", "weights_ns"]

# Counters that stand still while the loop waits. The quota is everybody's: it may run out then.
_OF_THE_LOOP: Final = frozenset({"cpu_ns", "runqueue_ns"})


class Mark(NamedTuple):
    """Counters at one moment; `None` is not known.

    `idle_ns` is the time the loop has waited, `cpu_ns` the CPU time of its thread, `runqueue_ns`
    its time without a CPU though it wanted one, `process_ns` the CPU time of the process and
    `throttled_ns` that of its cgroup's quota.
    """

    at_ns: int
    cpu_ns: int | None = None
    idle_ns: int | None = None
    process_ns: int | None = None
    runqueue_ns: int | None = None
    throttled_ns: int | None = None


class Overslept(NamedTuple):
    """The watchdog wanted to wake up at `due_ns` and did so at `woke_ns`.

    `switches` counts how often it was put to sleep meanwhile: a thread that waits for the GIL asks
    for it all the time, one in a process that stands still does nothing.
    """

    due_ns: int
    woke_ns: int
    switches: int


class Step(NamedTuple):
    """What the loop was at: `front` names the next callback in its queue, `task` the running task.

    A `front` of `None` says that nothing waited behind the callback that ran.
    """

    at_ns: int
    front: Hashable
    task: Hashable


def weights_ns(at_ns: Sequence[int], start_ns: int, end_ns: int) -> list[int]:
    """Return how much of a stretch each look speaks for: half-way to its neighbours.

    Looks are dense where most stalls end and sparse in long ones, so counting them would let the
    first moments outvote the rest. `at_ns` is in order; each weight is at least 1.
    """
    borders = [start_ns]
    borders += [(one + other) // 2 for one, other in pairwise(at_ns)]
    borders.append(end_ns)
    return [max(1, end - begin) for begin, end in pairwise(borders)]


def overlap_ns(start_ns: int, end_ns: int, spans: Sequence[tuple[int, int]]) -> int:
    """Return how much of a stretch the spans cover; they do not overlap each other."""
    return sum(max(0, min(end_ns, end) - max(start_ns, start)) for start, end in spans)


def gained_ns(
    marks: Sequence[Mark], field: str, start_ns: int, end_ns: int, lanes: int = 1
) -> int | None:
    """Return how much a counter grew from `start_ns` to `end_ns`; `None` if nobody knows.

    `marks` are in order of time. `lanes` is how much faster than the clock the counter can grow:
    the CPU time of a process does on several CPUs. Between the bounds the rate inside decides.
    """
    read = [mark for mark in marks if getattr(mark, field) is not None]
    inside = [mark for mark in read if start_ns <= mark.at_ns <= end_ns]
    # The nearest mark may not know the idle time, the one beyond it does.
    before = [mark for mark in read if mark.at_ns <= start_ns][-2:]
    after = [mark for mark in read if mark.at_ns >= end_ns][:2] or inside[-1:]
    wall_ns = end_ns - start_ns
    inside_ns = inside[-1].at_ns - inside[0].at_ns if inside else 0
    if not after or not (before or inside_ns):
        return None

    inner = getattr(inside[-1], field) - getattr(inside[0], field) if inside else 0
    lower, upper = inner, inner + lanes * (wall_ns - inside_ns)
    for first, last in product([*before, *inside[:1]], [*inside[-1:], *after]):
        total = getattr(last, field) - getattr(first, field)
        covered_ns = min(last.at_ns, end_ns) - max(first.at_ns, start_ns)
        elsewhere_ns = last.at_ns - first.at_ns - covered_ns
        if first.idle_ns is not None and last.idle_ns is not None and field in _OF_THE_LOOP:
            # While the loop waits its thread neither computes nor wants to.
            elsewhere_ns = max(0, elsewhere_ns - (last.idle_ns - first.idle_ns))
        lower = max(lower, total - lanes * elsewhere_ns)
        upper = min(upper, total + lanes * (wall_ns - covered_ns))
    # Readings are microseconds apart; of two bounds that disagree the clock's is certain.
    lower = min(lower, upper)
    if inside_ns:
        return min(max(inner * wall_ns // inside_ns, lower), upper)
    if lanes > 1:
        return upper  # other threads are idle most of the time: what they did, they did here
    # Bounds this far apart say nothing, and their middle would look like an answer.
    return (lower + upper) // 2 if 2 * (upper - lower) <= wall_ns else None


def longest_step_ns(steps: Sequence[Step], start_ns: int, end_ns: int) -> tuple[int, int]:
    """Return how long the longest callback took at least, and how many others were seen begin.

    Two looks saw the same callback unless its successor in the queue, or the task, has changed.
    """
    if not steps:
        return end_ns - start_ns, 0
    changes = 0
    longest_ns = 0
    began_ns = start_ns
    for earlier, later in pairwise(steps):
        popped = earlier.front is not None and earlier.front != later.front
        if popped or earlier.task != later.task:
            longest_ns = max(longest_ns, earlier.at_ns - began_ns)
            began_ns = later.at_ns
            changes += 1
    # Whether the last one seen went on to the end nobody saw, unless it is the only one.
    last_ns = steps[-1].at_ns if changes else end_ns
    return max(longest_ns, last_ns - began_ns), changes
