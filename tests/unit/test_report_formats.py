"""What a report is written as, for programs and for people who named things badly."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
from html.parser import HTMLParser
from typing import Any

from loopwatch.model import Advice, Culprit, Frame, Phase, Request, Sample, TaskInfo
from loopwatch.report import data, table
from loopwatch.report.collapsed import as_collapsed
from loopwatch.report.page import as_page
from loopwatch.report.reading import Line, LogFile
from loopwatch.report.record import NotARecordError, told
from loopwatch.report.speedscope import as_speedscope
from loopwatch.report.summary import SORTS, Choice, Summary
from tests.unit.factories import stall

EVIL = "</script><script>document.title='pwned'</script>\ud800\u202e\x1b[31m;\n\"'&<img src=x>"
FRAMES = (Frame("app.slow", "app.py", 4, in_app=True), Frame("lib.run", "lib.py", 9, in_app=False))


def summary_of(*records: dict[str, Any], limit_s: float | None = None) -> Summary:
    """Return a finished summary; like a file, it takes only what JSON can hold."""
    summary = Summary(Choice(limit_s=limit_s))
    for record in records:
        text = json.dumps(record)
        try:
            read = told(json.loads(text))
            summary.add(Line(read.key, read, text.encode(), LogFile("/log"), 1))
        except NotARecordError:
            pass
    summary.finish()
    return summary


def evil() -> dict[str, Any]:
    return stall(
        id=EVIL,
        loop=EVIL,
        culprit=Culprit(EVIL, EVIL, 4, EVIL, EVIL, in_app=True),
        task=TaskInfo(EVIL, EVIL),
        request=Request(EVIL, EVIL, EVIL, EVIL),
        advice=Advice(EVIL, EVIL),
        samples=(Sample(0.1, 2, "watchdog", (Frame(EVIL, EVIL, 4, in_app=True),)),),
        fingerprint=EVIL,
    ).to_dict()


def good(**changes: Any) -> dict[str, Any]:
    samples = (Sample(0.05, 3, "watchdog", FRAMES), Sample(0.2, 1, "watchdog", FRAMES[1:]))
    return stall(**{"samples": samples, "duration_s": 0.4, **changes}).to_dict()


class Document(HTMLParser):
    """The elements a browser would make of it, with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def test_collapsed_stacks() -> None:
    """Outermost first, whole microseconds, which add up to the time of all stalls."""
    summary = summary_of(good(id="a"), good(id="b"), good(id="c", samples=(), fingerprint="x"))
    lines = "".join(as_collapsed(summary.groups())).splitlines()
    assert lines == [
        "lib.run (lib.py:9) 200000",
        "lib.run (lib.py:9);app.slow (app.py:4) 600000",
        "(no stack) 400000",
    ]


def test_collapsed_stacks_of_hostile_names() -> None:
    """A name cannot add a frame, a line or a figure."""
    (line,) = "".join(as_collapsed(summary_of(evil()).groups())).splitlines()
    stack, value = line.rsplit(" ", 1)
    assert value == "512000"
    assert stack.isprintable()
    assert ";" not in stack


def test_speedscope() -> None:
    """As its file format says: stacks of indices, outermost first, as many weights, in seconds."""
    summary = summary_of(good(id="a"), good(id="b", samples=(), fingerprint="x"), evil())
    written = json.loads("".join(as_speedscope(summary.groups(), "stalls")))
    assert written["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    frames = written["shared"]["frames"]
    assert {"name": "lib.run", "file": "lib.py", "line": 9} in frames
    assert len(written["profiles"]) == 3
    for profile in written["profiles"]:
        assert set(profile) == {
            "type", "name", "unit", "startValue", "endValue", "samples", "weights",
        }  # fmt: skip
        assert (profile["type"], profile["unit"], profile["startValue"]) == (
            "sampled",
            "seconds",
            0,
        )
        assert len(profile["samples"]) == len(profile["weights"])
        assert abs(sum(profile["weights"]) - profile["endValue"]) < 1e-9
        assert all(0 <= index < len(frames) for stack in profile["samples"] for index in stack)
    stacks = {
        tuple(frames[index]["name"] for index in stack): weight
        for profile in written["profiles"]
        for stack, weight in zip(profile["samples"], profile["weights"], strict=True)
    }
    assert stacks["lib.run", "app.slow"] == 0.3
    assert stacks["(no stack)",] == 0.4


def test_json_has_everything() -> None:
    """The totals, each group with its tree, each file and what was wrong in it."""
    summary = summary_of(good(id="a"), good(id="b", phase=Phase.ONGOING), limit_s=0.3)
    file = LogFile("s.jsonl", read=True, lines=3, records=2)
    file.note("text", 2, "not JSON")
    written = json.loads("".join(data.as_json(summary, summary.groups(), [file], 0.3)))
    assert written["schema"] == "loopwatch.report/1"
    assert (written["stalls"], written["total_s"], written["worst_s"]) == (2, 0.8, 0.4)
    assert (written["unfinished"], written["limit_s"], written["over_limit"]) == (1, 0.3, 2)
    assert written["files"][0]["notes"] == [{"line": 2, "what": "not JSON", "count": 1}]
    (group,) = written["groups"]
    assert (group["count"], group["culprit"]["function"]) == (2, "app.slow")
    assert group["flame"]["value"] == 0.8
    assert group["flame"]["children"][0]["name"] == "lib.run"
    assert group["over_limit"] == 2
    (group,) = json.loads("".join(data.as_json(summary, summary.groups(), [], None)))["groups"]
    assert group["over_limit"] is None


def test_the_page_asks_nobody_and_runs_only_its_own_script() -> None:
    """No address is in it, and its policy names the hashes of its script and style."""
    summary = summary_of(good(), evil(), limit_s=0.1)
    html = as_page(summary, summary.groups(), [LogFile(EVIL)], 0.1)
    page = Document(html)
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv")) or ""
    assert "default-src 'none'" in policy
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    for tag, attributes in page.elements:
        assert tag not in {"img", "iframe", "object", "base", "form"}
        assert not {"src", "style", "onload", "onerror", "onclick"} & set(attributes)
        assert (attributes.get("href") or "data:").startswith("data:")
    kinds = [attributes.get("type") for tag, attributes in page.elements if tag == "script"]
    assert kinds == ["application/json", "application/json", None]


def test_names_stay_text_in_the_page() -> None:
    """What looks like markup is shown, and the data of the graphs is still the tree."""
    summary = summary_of(evil())
    html = as_page(summary, summary.groups(), [], None)
    assert html.encode()
    assert "<script>document" not in html
    trees = re.findall(r'<script type="application/json">(.*?)</script>', html)
    child = json.loads(trees[0])["children"][0]
    assert child["name"].startswith("</script><script>document.title='pwned'</script>\\ud800")


def test_a_page_of_nothing() -> None:
    """No stall is said, not an error."""
    assert "No stall." in as_page(summary_of(), [], [], 0.2)


def test_the_words_of_the_table() -> None:
    """Every figure with its unit; what is not known is said or left out."""
    summary = summary_of(good(id="a"), good(id="b", culprit=None, fingerprint="y", pid=0))
    first, second = sorted((table.row(g) for g in summary.groups()), key=lambda row: row.culprit)
    assert second == (
        "1", "400 ms", "400 ms", "unknown", "app.slow (app.py:4)", "", "", "",
        "2026-11-21 07:30:03", "2026-11-21 07:30:03", "1",
    )  # fmt: skip
    assert (first.culprit, first.workers) == ("(nobody blamed)", "-")


def test_sentences_below_the_table() -> None:
    """What is not in the table is told: the rest, the unfinished, the allowed."""
    summary = summary_of(
        good(id="a"),
        good(id="b", fingerprint="y", phase=Phase.ONGOING),
        good(id="c", allowed="reading the model"),
    )
    assert table.totals_lines(summary, 1) == [
        (
            "2 stalls of 2 fingerprints, 800 ms in all, the worst 400 ms; "
            "2026-11-21 07:30:03 to 2026-11-21 07:30:03 UTC."
        ),
        "1 stall without an end: counted with the duration last told.",
        "1 more fingerprint: --top 0 shows all.",
        "Not in it: 1 allowed stall, 400 ms: reading the model (1).",
    ]


def test_mutated_records_never_fail() -> None:
    """Whatever types the fields have, every format can be written."""
    rng = random.Random(11)
    junk = [
        None, True, -1, 0, 3, 10**40, 1.5, float("nan"), float("-inf"), "", "final", "x\ud800\n",
        EVIL, [], [1], [[]], {}, {"function": 1}, {"frames": {}}, "2026-11-21T10:00:00Z",
    ]  # fmt: skip

    def mutate(value: Any, depth: int = 0) -> Any:
        if rng.random() < (0.02 if depth < 2 else 0.08):
            return rng.choice(junk)
        if isinstance(value, dict):
            return {k: mutate(v, depth + 1) for k, v in value.items() if rng.random() > 0.02}
        if isinstance(value, list):
            return [mutate(v, depth + 1) for v in value for _ in range(rng.choice((1, 1, 1, 2)))]
        return value

    for _ in range(40):
        phases = (Phase.ONGOING, Phase.FINAL)
        records = [
            mutate(good(id=str(rng.randrange(20)), phase=rng.choice(phases))) for _ in range(10)
        ]
        summary = summary_of(*records, limit_s=0.1)
        for sort in SORTS:
            groups = summary.groups(sort)
        json.loads("".join(data.as_json(summary, groups, [], 0.1)))
        json.loads("".join(as_speedscope(groups, "x")))
        for line in "".join(as_collapsed(groups)).splitlines():
            assert int(line.rsplit(" ", 1)[1]) > 0
        assert as_page(summary, groups, [], 0.1).encode()
        assert "\n".join([*table.totals_lines(summary, 0), *table.over_lines(groups, 0.1)]).encode()
