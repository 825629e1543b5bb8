"""What `loopwatch top` makes of answers: pure, from what the real server says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from loopwatch import Cause, ConfigError, Frame, Sample, Snapshot, Stall
from loopwatch.model import Culprit, Evidence, Phase, Point, TaskInfo
from loopwatch.server.answers import View, answer
from loopwatch.top.address import Address, parse_address
from loopwatch.top.answers import LoopNow, StallLine, read_live, read_record, read_stall
from loopwatch.top.client import NotLoopwatchError, TroubleError
from loopwatch.top.detail import record_lines, stall_cells
from loopwatch.top.document import document
from loopwatch.top.fleet import Known, Seen
from loopwatch.top.rows import (
    COLUMNS,
    SPARKS,
    SPARKS_ASCII,
    Order,
    Tone,
    blamed,
    rows,
    spark,
    table,
)
from loopwatch.views import units
from tests.unit.factories import ledger, stall
from tests.watched import HOSTILE

NOW_S = 1000.0


def told(*stalls: Stall, points: tuple[Point, ...] = (), **changes: Any) -> dict[str, Any]:
    """Return what the real server answers at /api/live for one loop."""
    snapshot: Snapshot = replace(ledger().snapshot(), **changes)
    view = View(
        snapshot=lambda: snapshot,
        stalls=lambda: stalls,
        timeline=lambda: points,
        registry=None,
        metrics=lambda *_: (b"", ""),
        spent=lambda _: None,
        failed=lambda _: None,
    )
    body = answer((view,), "/api/live?since=0", "").body
    return dict(json.loads(body))


def known(
    data: dict[str, Any],
    port: int = 9464,
    *,
    trouble: str = "",
    gone: bool = False,
    ago_s: float = 0.0,
) -> Known:
    live = read_live(data)
    seen = tuple(Seen(now, now.points, live.stalls) for now in live.loops)
    at_s = NOW_S - ago_s
    return Known(Address("http", "127.0.0.1", port), seen, at_s, at_s, trouble, gone)


def cells(each: Known) -> dict[str, tuple[str, Tone]]:
    (row,) = rows([each], NOW_S)
    return {name: (c.text, c.tone) for name, c in zip(COLUMNS, row.cells, strict=True)}


def order(*every: Known, by: Order = Order.WORST) -> list[int]:
    return [row.known.address.port for row in rows(every, NOW_S, by)]


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:9464", "http://127.0.0.1:9464"),
        ("http://localhost:9464/", "http://localhost:9464"),
        ("HTTP://Pod.example", "http://pod.example:80"),
        ("https://pod.example", "https://pod.example:443"),
        ("http://[::1]:9464", "http://[::1]:9464"),
    ],
)
def test_an_address_is_scheme_host_and_port(text: str, url: str) -> None:
    """What is left out is what the scheme says; the whole can be given again."""
    assert parse_address(text).url == url
    assert parse_address(url) == parse_address(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("127.0.0.1:9464", "has no scheme: write http://127.0.0.1:9464"),
        ("[::1]:9464", "has no scheme: write http://[::1]:9464"),
        ("app", "is neither a URL nor a PID"),
        ("-1", "is neither a URL nor a PID"),
        ("ftp://host", "is neither http nor https"),
        ("http://", "names no host and port"),
        ("http://host:0", "names no host and port"),
        ("http://host:65536", "names no host and port"),
        ("http://host:http", "names no host and port"),
        ("http://[::1", "names no host and port"),
        ("http://ho st:1", "names no host and port"),
        ("http://host\r\nX: y:1", "names no host and port"),
        ("http://host:1/metrics", "is more than an address: write http://host:1"),
        ("http://host:1?x", "is more than an address: write http://host:1"),
        ("http://host:1#x", "is more than an address: write http://host:1"),
        ("http://me:secret@host:1", "a user or a password is no use here"),
        ("\x1b[31mred", r"\x1b[31mred"),
    ],
)
def test_a_wrong_address_is_one_line(text: str, says: str) -> None:
    """It says what is wrong and what to write, keeps passwords, and cannot act on a terminal."""
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert says in str(caught.value)
    assert str(caught.value).isprintable()
    assert "secret" not in str(caught.value)


def test_a_healthy_loop_is_a_calm_line() -> None:
    """Address and pid, name, figures with units, and nothing in a colour."""
    line = cells(known(told(lag_max_s=0.0012, utilization=0.374, cpu_ratio=None, tasks=1234 - 500)))
    assert {name: text for name, (text, _) in line.items() if name != "lag, last minute"} == {
        "process": "127.0.0.1:9464 (42)",
        "loop": "main",
        "state": "serving",
        "max": "1.2 ms",
        "busy": "37%",
        "cpu": "-",
        "tasks": "734/1,000",
        "stalls": "0",
        "last stall": "-",
    }
    assert {tone for _, tone in line.values()} == {Tone.PLAIN}


def test_limits_are_those_of_the_process() -> None:
    """What is over a limit has its tone, and the limit is the one that was set there."""
    limits = replace(ledger(tasks_threshold=5).snapshot().thresholds, cpu_ratio=0.1)
    line = cells(known(told(lag_max_s=0.3, cpu_ratio=0.2, tasks=6, thresholds=limits)))
    assert line["tasks"] == ("6/5", Tone.OVER)
    assert line["max"] == ("300 ms", Tone.OVER)
    assert line["cpu"] == ("20%", Tone.OVER)
    assert line["busy"][1] is Tone.PLAIN


def test_a_stall_in_progress_is_named_with_its_age() -> None:
    """The state says for how long, the last column where and why; then it is the last stall."""
    ongoing = stall(phase=Phase.ONGOING, cause=Cause.CPU)
    line = cells(known(told(ongoing, active_stall=ongoing, active_s=3.21)))
    assert line["state"] == ("STALLED 3.2 s", Tone.BAD)
    assert line["last stall"][0] == "slow app.py:4 cpu"
    line = cells(known(told(stall(cause=Cause.GC))))
    assert line["state"][0] == "serving"
    assert line["last stall"][0] == "slow app.py:4 gc"


def test_an_allowed_stall_is_nobody_s_fault() -> None:
    """It is in the list of stalls, dimmed, but is not the last culprit."""
    allowed = stall(id="a", allowed="nightly export", started_at_s=1795246209.0)
    each = known(told(stall(id="b"), allowed))
    assert cells(each)["last stall"][0] == "slow app.py:4 unknown"
    (seen,) = each.loops
    assert [stall_cells(line)[2].text for line in seen.stalls] == ["unknown", "unknown (allowed)"]
    assert {cell.tone for cell in stall_cells(seen.stalls[1])} == {Tone.DIM}


def test_silence_and_absence_differ() -> None:
    """Who listens and does not answer is in trouble now; where nobody listens is over and dim."""
    silent = cells(known(told(), trouble="did not answer within 3 s", ago_s=12))
    assert silent["state"] == ("no answer for 12 s", Tone.BAD)
    gone = cells(known(told(), trouble="nobody listens", gone=True, ago_s=300))
    assert gone["state"] == (f"gone for {units.duration(300)}", Tone.DIM)
    assert {tone for _, tone in gone.values()} == {Tone.DIM}


def test_an_open_question_becomes_silence() -> None:
    """A process is told to be silent while it is asked; for how long is since the question."""
    each = replace(known(told()), asked_at_s=NOW_S - 0.5, answered_at_s=NOW_S - 1)
    assert cells(each)["state"][0] == "serving"
    each = replace(each, asked_at_s=NOW_S - 1.5, answered_at_s=NOW_S - 2)
    assert cells(each)["state"][0] == "no answer for 1.5 s"


def test_the_worst_come_first() -> None:
    """Silent, hung, lagged for long, lagged, over a limit, fine, gone."""
    every = [
        known(told(), 1, trouble="x", gone=True),
        known(told(), 2),
        known(told(tasks=1001), 3),
        known(told(lag_max_s=0.2), 4),
        known(told(lag_max_s=2), 5),
        known(told(lag_max_s=0, active_s=11.0, active_stall=stall(phase=Phase.ONGOING)), 6),
        known(told(), 7, trouble="x"),
    ]
    assert order(*every) == [7, 6, 5, 4, 3, 2, 1]


def test_silence_is_remembered_for_a_minute() -> None:
    """One that is silent at each call that holds the GIL stays above one that is only slow."""
    slow = known(told(lag_max_s=12.0), 1)
    silent = replace(known(told(lag_max_s=1.7), 2), silent_at_s=NOW_S - 50)
    assert cells(silent)["state"][0] == "serving"
    assert order(slow, silent) == [2, 1]
    assert order(slow, replace(silent, silent_at_s=NOW_S - 61)) == [1, 2]


def test_rows_do_not_jump() -> None:
    """A loop that is stalled and one that was a moment ago are equally bad: order of addresses."""
    ongoing = {"active_stall": stall(phase=Phase.ONGOING), "active_s": 0.4, "lag_max_s": 0.4}
    first, second = known(told(lag_max_s=0.3), 1), known(told(**ongoing), 2)
    assert order(second, first) == [1, 2]
    first, second = known(told(**ongoing), 1), known(told(lag_max_s=0.9), 2)
    assert order(second, first) == [1, 2]


def test_other_orders() -> None:
    """By process is by address with numbers as numbers; by stalls has the most first."""
    many = dict.fromkeys(Cause, 3)
    every = [
        known(told(lag_max_s=2), 10000),
        known(told(), 9464),
        known(told(stalls_total=many), 9999),
    ]
    assert order(*every, by=Order.NAME) == [9464, 9999, 10000]
    assert order(*every, by=Order.STALLS) == [9999, 9464, 10000]


def test_the_sparkline_is_the_last_minute() -> None:
    """20 letters, the newest at the right, the largest of each 3 s; a space where nobody looked."""
    points = [(940.5, 9.0), (941.0, 0.001), (970.1, 0.1), (998.5, 0.001), (999.9, 0.3)]
    assert spark(points, NOW_S) == "█" + " " * 9 + "▅" + " " * 8 + "▆"
    assert spark([*points, (930.0, 9.0), (1003.0, 9.0)], NOW_S) == spark(points, NOW_S)
    assert spark([(999.0, 0.0)], NOW_S, SPARKS_ASCII).strip() == "_"
    assert len(SPARKS) == len(SPARKS_ASCII)


def test_the_plain_table_is_aligned_text() -> None:
    """A heading and a line for each loop, columns below each other, no colour."""
    points = tuple(Point(ledger().snapshot().at_s - s, 0.2, None, None, 0, 1.0) for s in range(60))
    lines = table(rows([known(told(points=points), 1), known(told(loop="second"), 10000)], NOW_S))
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert (
        len(
            {
                line.index(word)
                for line, word in zip(lines, ("state", *["serving"] * 2), strict=True)
            }
        )
        == 1
    )
    assert "▅▅▅▅" in lines[1]


def test_names_cannot_act() -> None:
    """Control characters in any name of another process are spelt out, wherever it is shown."""
    evil = stall(
        loop=HOSTILE,
        culprit=Culprit(HOSTILE, HOSTILE, 1, HOSTILE, HOSTILE, in_app=True),
        task=TaskInfo(HOSTILE, HOSTILE),
        evidence=Evidence(wall_s=1.0, wait=HOSTILE, wait_detail=HOSTILE),
    )
    each = known(told(evil, loop=HOSTILE))
    (row,) = rows([each], NOW_S)
    shown = [
        *row.cells,
        *stall_cells(each.loops[0].stalls[0]),
        *record_lines(read_record(evil.to_dict())),
    ]
    assert all(cell.text.isprintable() for cell in shown)
    assert sum("pwned" in cell.text for cell in shown) > 8
    assert all(line.isprintable() for line in table([row]))


def test_the_record_has_everything() -> None:
    """What, who, why, what instead, the evidence and the samples; summaries say what is missing."""
    lines = [cell.text for cell in record_lines(read_record(stall(confidence=0.98).to_dict()))]
    text = "\n".join(lines)
    assert lines[0] == "stalled for 512 ms from 2026-11-21 07:30:03 UTC, loop main"
    for part in (
        "unknown, explains 98% of it",
        "app.slow at app.py:4",
        "time.sleep(0.5)",
        "Task-1",
    ):
        assert part in text
    assert lines[-2:] == ["3 looks at the stack, outermost call first:", "100%  app.slow  app.py:4"]
    summary = [cell.text for cell in record_lines(read_stall(stall().summary()))]
    assert summary[-1] == "no samples: the process does not tell the whole record"


@pytest.mark.parametrize(
    "odd", [10**400, -(10**400), 1e308, "x", True, [1], None], ids=lambda odd: str(odd)[:6]
)
def test_figures_that_are_none_are_left_out(odd: object) -> None:
    """A record from elsewhere may have any figure: none of them ends the view."""
    record = stall().to_dict()
    record["confidence"] = record["evidence"]["cpu_s"] = odd
    record["other_thread"] = {"name": "t", "function": "f", "file": "f.py", "line": odd}
    text = "\n".join(cell.text for cell in record_lines(read_record(record)))
    assert len(text) < 1000
    assert "cause       unknown\n" in text or odd is True


def test_runs_of_library_calls_are_told_by_the_innermost() -> None:
    """What a framework does on the way is one line; what your code does is told call by call."""

    def frames(*names: str) -> tuple[Frame, ...]:
        return tuple(Frame(name, f"{name[0]}.py", 1, in_app=name[0] == "a") for name in names)

    sample = Sample(0.1, 4, "watchdog", frames("l9", "l8", "l7", "a2", "a1", "l3", "l2", "l1"))
    lines = record_lines(read_record(stall(samples=(sample,)).to_dict()))
    assert [(cell.text, cell.tone) for cell in lines[-6:]] == [
        ("100%  (2 calls of libraries)", Tone.DIM),
        ("100%  l3  l.py:1", Tone.DIM),
        ("100%  a1  a.py:1", Tone.PLAIN),
        ("100%  a2  a.py:1", Tone.PLAIN),
        ("100%  (2 calls of libraries)", Tone.DIM),
        ("100%  l9  l.py:1", Tone.DIM),
    ]


def test_blame_without_a_culprit() -> None:
    """Nobody is blamed where nobody is known, and the module is left out that the file names."""
    assert blamed(read_stall(stall(culprit=None).summary())) == "unknown"
    culprit = Culprit("app.views.Shop.export", "app/views.py", 4, None, None, in_app=True)
    assert (
        blamed(read_stall(stall(culprit=culprit).summary())) == "Shop.export app/views.py:4 unknown"
    )


def test_the_document_for_scripts() -> None:
    """Its schema, a loop with state and snapshot as told, the newest stall, and who was silent."""
    made = document([known(told(stall()))], ["no process 7"], NOW_S)
    assert made["schema"] == "loopwatch.top/1"
    (loop,) = made["loops"]
    assert (loop["url"], loop["pid"], loop["loop"]) == ("http://127.0.0.1:9464", 42, "main")
    assert (loop["state"], loop["state_s"], loop["trouble"]) == ("serving", 0.0, None)
    assert loop["snapshot"]["thresholds"]["tasks"] == 1000
    assert loop["last_stall"]["id"] == stall().id
    assert made["problems"] == ["no process 7"]


@pytest.mark.parametrize("data", [None, [], {}, {"loops": 1}, {"loops": None}, "x", 3])
def test_other_json_is_no_loopwatch(data: object) -> None:
    """An answer without a list of loops is somebody else's."""
    with pytest.raises(NotLoopwatchError, match="is no loopwatch"):
        read_live(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda now: now.pop("lag"),
        lambda now: now.update(tasks="many"),
        lambda now: now.update(tasks=True),
        lambda now: now.update(tasks=10**400),
        lambda now: now.update(utilization="high"),
        lambda now: now.update(at="yesterday"),
        lambda now: now.update(at="2026-11-21T10:00:00"),
        lambda now: now.update(loop=None),
        lambda now: now.update(thresholds=[]),
        lambda now: now["totals"].update(stalls=3),
        lambda now: now.update(active_stall={"id": 1}),
    ],
)
def test_another_version_is_one_line(damage: Any) -> None:
    """What cannot be understood names both versions."""
    data = told()
    data["loops"][0]["snapshot"]["version"] = "9.9\x1b"
    damage(data["loops"][0]["snapshot"])
    with pytest.raises(TroubleError, match=r"answers as loopwatch 9\.9\\x1b does") as caught:
        read_live(data)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data["loops"][0].update(points=[[1.0]]),
        lambda data: data["loops"][0].update(points=[[]]),
        lambda data: data["loops"][0].update(points=[{}]),
        lambda data: data["stalls"][0].update(duration_s=10**400),
        lambda data: data.update(stalls=None),
    ],
)
def test_damage_beside_the_snapshot_is_one_line(damage: Any) -> None:
    """Points and stalls of any shape are trouble, and nothing else."""
    data = told(stall())
    damage(data)
    with pytest.raises(TroubleError, match="does not understand"):
        read_live(data)


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"id": "x"},
        "x",
        {**stall().to_dict(), "culprit": 3},
    ],
)
def test_a_record_that_is_none(data: object) -> None:
    """It is told, not raised through."""
    with pytest.raises(TroubleError, match="something else than a record"):
        read_record(data)


def test_unknown_keys_do_no_harm() -> None:
    """A newer version may tell more."""
    data = told(stall())
    data["loops"][0]["snapshot"]["new"] = data["new"] = {}
    data["stalls"][0]["new"] = 1
    live = read_live(data)
    assert isinstance(live.loops[0], LoopNow)
    assert isinstance(live.stalls[0], StallLine)
