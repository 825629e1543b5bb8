"""The stalls of a loop and one record of them, as lines of text: pure."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from loopwatch.top.rows import Cell, Tone, blamed
from loopwatch.views import units
from loopwatch.views.flame import flame_tree
from loopwatch.views.text import clean
from loopwatch.views.tree import branches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from loopwatch.top.answers import StallLine

__all__ = ["STALL_COLUMNS", "record_lines", "stall_cells"]

STALL_COLUMNS: Final = ("started, UTC", "lasted", "cause", "culprit", "request", "task")

# In the order of a record; what was not measured, or was nothing, is left out.
_EVIDENCE: Final = (
    ("cpu_s", "CPU of the loop thread"),
    ("gc_s", "garbage collection"),
    ("runqueue_wait_s", "ready without a CPU"),
    ("throttled_s", "throttled"),
    ("process_cpu_s", "CPU of all threads"),
    ("overslept_s", "watchdog overslept"),
)
_LABEL: Final = 10
_LARGEST: Final = 1e15
# From there on calls of libraries, one below the other, are told by the innermost.
_LONG_RUN: Final = 2


def stall_cells(stall: StallLine) -> tuple[Cell, ...]:
    """Return a stall as a row of `STALL_COLUMNS`."""
    tone = Tone.DIM if stall.allowed is not None else Tone.PLAIN
    lasted = f"{units.duration(stall.duration_s)}{' so far' if stall.ongoing else ''}"
    cause = clean(stall.cause)
    where = blamed(stall).removesuffix(cause).rstrip() or "-"
    return (
        Cell(units.moment(stall.started_at_s), tone),
        Cell(lasted, Tone.BAD if stall.ongoing else tone),
        Cell(f"{cause} (allowed)" if stall.allowed is not None else cause, tone),
        Cell(where, tone),
        Cell(clean(stall.request) if stall.request else "-", tone),
        Cell(clean(stall.task) if stall.task else "-", tone),
    )


def record_lines(stall: StallLine) -> list[Cell]:
    """Return a record as lines: what happened, who did it, what to do instead, the evidence.

    Reads from `stall.raw` what it finds there; a summary has no evidence and no samples.
    """
    return list(_lines(stall, stall.raw))


def _lines(stall: StallLine, raw: Mapping[str, Any]) -> Iterator[Cell]:
    lasted = units.duration(stall.duration_s)
    since = f"{units.moment(stall.started_at_s)} UTC"
    head = f"stalled for {lasted} so far, since {since}" if stall.ongoing else (
        f"stalled for {lasted} from {since}"
    )  # fmt: skip
    yield Cell(f"{head}, loop {clean(stall.loop)}", Tone.BAD if stall.ongoing else Tone.PLAIN)
    yield Cell("")
    yield from _labelled(_facts(stall, raw))
    evidence = _section(raw, "evidence")
    measured = [
        f"{units.duration(value)} {meaning}"
        for name, meaning in _EVIDENCE
        if (value := _number(evidence.get(name))) > 0
    ]
    if measured:
        yield from _labelled([("evidence", ", ".join(measured))])
    yield Cell("")
    if "samples" not in raw:
        yield Cell("no samples: the process does not tell the whole record", Tone.DIM)
        return
    yield from _samples(raw["samples"])


def _facts(stall: StallLine, raw: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    culprit, evidence = _section(raw, "culprit"), _section(raw, "evidence")
    sure = _number(raw.get("confidence"))
    share = f", explains {sure:.0%} of it" if 0 < sure <= 1 else ""
    yield "cause", f"{clean(stall.cause)}{share}"
    if stall.function is not None:
        yield "culprit", f"{clean(stall.function)} at {clean(stall.file)}:{stall.line}"
    if culprit.get("source"):
        yield "", clean(culprit["source"])
    if culprit.get("call"):
        yield "called", clean(culprit["call"])
    if evidence.get("wait"):
        detail = f": {clean(evidence['wait_detail'])}" if evidence.get("wait_detail") else ""
        yield "waited for", f"{clean(evidence['wait'])}{detail}"
    other = _section(raw, "other_thread")
    if other:
        at = (
            f" in {clean(other['function'])} at {clean(other.get('file'))}"
            f":{_number(other.get('line')):.0f}"
            if other.get("function")
            else ""
        )
        yield "GIL held", f"by thread {clean(other.get('name'))}{at}"
    advice = _section(raw, "advice")
    if advice:
        yield "instead", clean(advice.get("text"))
    if stall.request is not None:
        trace = _section(raw, "request").get("trace_id")
        yield "request", clean(stall.request) + (f", trace {clean(trace)}" if trace else "")
    if stall.task is not None:
        yield "task", f"{clean(stall.task)} running {clean(_section(raw, 'task').get('coro'))}"
    if stall.allowed is not None:
        yield "allowed", clean(stall.allowed)


def _samples(samples: object) -> Iterator[Cell]:
    tree = flame_tree(samples if isinstance(samples, list) else [])
    if not tree["children"]:
        yield Cell("no samples: it was over before anybody could look", Tone.DIM)
        return
    yield Cell(f"{units.counted(tree['value'], 'look')} at the stack, outermost call first:")
    # A request comes through some twenty functions of its framework.
    alike = itertools.groupby(branches(tree), lambda b: (b.share, b.guide, b.in_app))
    for (share, guide, in_app), group in alike:
        run = list(group)
        if not in_app and len(run) > _LONG_RUN:
            skipped = units.counted(len(run) - 1, "call")
            yield Cell(f"{share:>4.0%}  {guide}({skipped} of libraries)", Tone.DIM)
            run = run[-1:]
        for branch in run:
            text = f"{share:>4.0%}  {guide}{branch.name}  {branch.place}".rstrip()
            yield Cell(text, Tone.PLAIN if in_app else Tone.DIM)


def _labelled(facts: Iterable[tuple[str, str]]) -> Iterator[Cell]:
    for label, text in facts:
        yield Cell(f"{label:<{_LABEL}}  {text}")


def _number(value: object) -> float:
    """Return what was measured; 0 for what is no number, or so large that it is none."""
    fits = isinstance(value, (int, float)) and abs(value) <= _LARGEST
    return float(value) if fits and isinstance(value, (int, float)) else 0.0


def _section(raw: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = raw.get(name)
    return section if isinstance(section, dict) else {}
