"""A report as one HTML file with flame graphs: it loads nothing, and no server has to send it.

Every text in it may come from whoever can write a stall log or name a function: nothing gets into
the markup but through `escape`, and nothing into the data of the graphs but as JSON without `<`.
"""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from loopwatch._version import __version__
from loopwatch.report import table
from loopwatch.report.data import US_PER_S, Totals
from loopwatch.views.colours import cause_css
from loopwatch.views.text import clean
from loopwatch.views.units import count, counted, duration, moment
from loopwatch.web import document, piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from loopwatch.report.group import Blamed, Group, Worst
    from loopwatch.report.reading import LogFile
    from loopwatch.report.summary import Summary

__all__ = ["as_page"]

_FILES: Final = 20
# In JSON these are the same; in HTML they could end the element that holds it.
_IN_MARKUP: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def as_page(
    summary: Summary, groups: Sequence[Group], files: Sequence[LogFile], limit_s: float | None
) -> str:
    """Return the document; `groups` are those shown, the first of them open."""
    made = document(
        "Stalls · loopwatch report",
        "\n".join(_body(summary, groups, files, limit_s)),
        style="\n".join((piece("style.css"), cause_css(), _own("page.css"))),
        script="\n".join((piece("flame.js"), piece("format.js"), _own("page.js"))),
        meta=True,
    )
    return made.html


def _own(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _body(
    summary: Summary, groups: Sequence[Group], files: Sequence[LogFile], limit_s: float | None
) -> Iterator[str]:
    yield "<main>\n<header>\n<h1>Stalls</h1>"
    for line in table.totals_lines(summary, len(groups)):
        yield f"<p>{escape(line)}</p>"
    if limit_s is not None:
        over = Totals.of(summary.groups()).over
        mark = ' class="over"' if over else ""
        told = f"{counted(over, 'stall')} lasted longer than {duration(limit_s)}."
        yield f"<p{mark}>{escape(told)}</p>"
    yield "</header>\n<noscript><p>The flame graphs need JavaScript.</p></noscript>"
    if groups:
        largest_us = max(group.total_us for group in groups)
        yield '<ol class="stalls">'
        for number, group in enumerate(groups):
            yield from _group(group, largest_us, is_open=number == 0)
        yield "</ol>"
    yield from _sources(files)
    yield f'<footer class="dim">loopwatch {escape(__version__)}</footer>\n</main>'


def _group(group: Group, largest_us: int, *, is_open: bool) -> Iterator[str]:
    told = table.row(group)
    yield (
        f"<li><details{' open' if is_open else ''}><summary>"
        f'<span><span class="total">{escape(told.total)}</span>'
        f'<progress max="{largest_us}" value="{group.total_us}" '
        'aria-label="share of the largest total"></progress></span>'
        f"<span>{escape(counted(group.count, 'stall'))}<br>"
        f'<span class="dim">worst {escape(told.worst)}</span></span>'
        f'<span class="blamed"><span class="cause" data-cause="{escape(told.cause)}">'
        f"{escape(told.cause)}</span><br><code>{escape(told.culprit)}</code></span>"
        '</summary><div class="told">'
    )
    yield from _culprit(group.culprit, group.advice)
    facts = [
        ("first seen", f"{told.first} UTC"),
        ("last seen", f"{told.last} UTC"),
        ("workers", told.workers),
        *_worst(group.worst, told.worst),
        ("unfinished", f"{told.note}: counted with the duration last told" if told.note else ""),
        ("over the limit", counted(group.over, "stall") if group.over else ""),
        ("fingerprint", clean(group.fingerprint)),
    ]
    yield "<dl>"
    for name, text in facts:
        if text:
            yield f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"
    if group.flame is not None:
        tree = {**group.flame.to_dict(US_PER_S), "name": told.cause}
        yield f'<div class="graph"></div><script type="application/json">{_json(tree)}</script>'
    yield "</div></details></li>"


def _culprit(culprit: Blamed | None, advice: str | None) -> Iterator[str]:
    if culprit is not None and culprit.call:
        yield f"<p>called <code>{escape(culprit.call)}</code></p>"
    if culprit is not None and culprit.source:
        yield f"<pre><code>{escape(culprit.source)}</code></pre>"
    if advice:
        yield f'<p class="advice">→ {escape(advice)}</p>'


def _worst(worst: Worst | None, lasted: str) -> Iterator[tuple[str, str]]:
    if worst is None:
        return
    when = moment(worst.started_at_s)
    yield "worst stall", f"{lasted} at {when} UTC, id {worst.id}"
    yield "its request", worst.request or ""
    yield "its trace", worst.trace_id or ""
    running = f" running {worst.coro}" if worst.coro else ""
    yield "its task", f"{worst.task}{running}" if worst.task else ""


def _sources(files: Sequence[LogFile]) -> Iterator[str]:
    yield '<h2>Read</h2>\n<ul class="dim">'
    for file in files[:_FILES]:
        lines = f"{counted(file.records, 'record')} in {counted(file.lines, 'line')}"
        yield f"<li>{escape(clean(file.path))}: {lines if file.read else 'not read'}</li>"
    if len(files) > _FILES:
        yield f"<li>and {count(len(files) - _FILES)} more files</li>"
    yield "</ul>"
    notes = [note for file in files for note in file.said]
    if notes:
        yield "<h2>Not counted</h2>\n<ul>"
        yield from (f"<li>{escape(str(note))}</li>" for note in notes)
        yield "</ul>"


def _json(tree: Mapping[str, Any]) -> str:
    return json.dumps(tree, separators=(",", ":")).translate(_IN_MARKUP)
