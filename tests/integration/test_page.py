"""The live page in a real browser, on real processes whose loop is really blocked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from loopwatch.model import (
    Census,
    Culprit,
    Location,
    Phase,
    Point,
    Request,
    Sample,
    Snapshot,
    Stall,
    TaskGroup,
)
from loopwatch.server.answers import View
from loopwatch.server.http import HttpServer
from loopwatch.views.flame import flame_tree
from tests.browser import App, Visit, chromium
from tests.servers import wait_for
from tests.unit.factories import ledger, stall

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Route

Open = Callable[..., Visit]
Serve = Callable[..., str]

DESK = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
HOSTILE = "<img src=x onerror='window.hacked=1'><script>window.hacked=1</script>"
# Turns the rest of a line around, ends it, and is longer than any screen is wide.
ODD = "\u202e\n\x1b[2J" + "x" * 5000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def app(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    # After the browser: without one no process is started.
    started = App(tmp_path_factory.mktemp("shop"))
    yield started
    started.close()


@pytest.fixture
def crowded() -> Iterator[Serve]:
    """Serve views from this process; give the URL."""
    running: list[tuple[HttpServer, list[View]]] = []

    def serve(views: list[View], port: int = 0) -> str:
        server = HttpServer("127.0.0.1", port)
        for view in views:
            server.add(view)
        server.start()
        running.append((server, views))
        return f"http://127.0.0.1:{server.port}/"

    yield serve
    for server, views in running:
        for view in views:
            server.remove(view)


@pytest.fixture
def visit(browser: Browser, crowded: Serve) -> Iterator[Open]:
    """Open pages; afterwards each is checked for what it must not do."""
    del crowded  # only so that it serves until the pages are closed
    visits: list[Visit] = []

    def open_page(url: str, **context: Any) -> Visit:
        visits.append(Visit(browser, url, **{"viewport": DESK, **context}))
        return visits[-1]

    yield open_page
    for each in visits:
        each.check()
        each.close()


def stalled(page: Visit) -> None:
    page.page.wait_for_selector(".loop[data-state=stalled] .culprit")


def serving(page: Visit) -> None:
    page.page.wait_for_selector(".loop[data-state=serving]")


def stalled_once(app: App, **orders: str) -> dict[str, Any]:
    """Block the loop until it is a stall, and return the final record."""
    app.block(**orders)
    begun = wait_for("a stall", lambda: app.get("api/live")["loops"][0]["snapshot"]["active_stall"])
    app.release()

    def ended() -> Any:
        record = app.get(f"api/stalls/{begun['id']}")
        return record["phase"] == "final" and record

    record: dict[str, Any] = wait_for("its end", ended)
    return record


def row_of(page: Visit, record: dict[str, Any]) -> Locator:
    """Return the row of a stall; there may be newer ones, of a machine that is busy."""
    return page.page.locator(f".row[data-stall='{record['id']}']")


def test_a_stall_appears_while_it_lasts(app: App, visit: Open) -> None:
    """The loop waits for the test, and the test for the page: it names line, call and task."""
    page = visit(app.url)
    serving(page)
    assert page.page.title() == "serving · loopwatch"
    app.block(task="checkout-7")
    stalled(page)
    assert page.text(".word").startswith("STALLED for ")
    what = page.text(".what")
    assert "wait_for_payment" in what
    assert f"shop.py:{app.line}" in what
    assert "time.sleep(0.02)" in what
    assert "calls time.sleep" in what
    assert "task checkout-7" in what
    assert "blocking_call" in what
    assert page.page.title().startswith("STALLED ")
    assert "is stalled at" in page.text("#news")
    assert app.get("api/live")["loops"][0]["snapshot"]["active_stall"]["phase"] == "ongoing"
    app.release()
    serving(page)
    assert "Last stall" in page.text(".what")
    assert page.page.title() == "serving · loopwatch"


def test_values_move_during_a_block(app: App, visit: Open) -> None:
    """Age, lag and the chart of the last seconds go on while the loop does not."""
    app.block()
    page = visit(app.url)
    stalled(page)
    lag = page.page.locator("[data-tile=lag]")
    assert "over" in str(lag.get_attribute("class"))
    before = {
        "age": page.text(".word"),
        "lag": page.text("[data-tile=lag] .value"),
        "chart": lag.locator(".over").get_attribute("d"),
        "length": page.text(".row .long"),
    }
    now: dict[str, Any] = {}
    while not now or any(now[name] == before[name] for name in before):
        page.page.wait_for_timeout(50)
        now = {
            "age": page.text(".word"),
            "lag": page.text("[data-tile=lag] .value"),
            "chart": lag.locator(".over").get_attribute("d"),
            "length": page.text(".row .long"),
        }
    assert page.page.locator(".loop[data-state=stalled]").count() == 1
    assert now["length"].endswith("so far")
    app.release()
    serving(page)


@pytest.mark.parametrize("way", ["click", "keyboard"])
def test_a_stall_opens_with_its_flame_graph(app: App, visit: Open, way: str) -> None:
    """Its row, by mouse or by Tab and Enter; frames zoom, Escape goes back and then closes."""
    record = stalled_once(app)
    page = visit(app.url)
    row = row_of(page, record)
    if way == "click":
        row.click()
    else:
        page.page.locator("summary").first.focus()
        while not row.evaluate("row => row === document.activeElement"):
            page.page.keyboard.press("Tab")
        page.page.keyboard.press("Enter")
    page.page.wait_for_selector("dialog[open] .flame")
    sheet = page.text("dialog")
    for told in ("wait_for_payment", record["advice"]["text"], "Wall time", record["id"]):
        assert told in sheet
    labels = [
        frame.get_attribute("aria-label") or "" for frame in page.page.locator(".flame-frame").all()
    ]
    assert any("wait_for_payment" in label and f"shop.py:{app.line}" in label for label in labels)
    culprit = page.page.locator(".flame-frame.in-app[aria-label*=wait_for_payment]").first
    zoomed = page.page.locator(".flame-zoomed")
    if way == "click":
        culprit.click()
    else:
        culprit.focus()
        page.page.keyboard.press("ArrowDown")
        assert "check_out" in page.page.evaluate("document.activeElement.ariaLabel")
        page.page.keyboard.press("Enter")
    assert zoomed.count() == 1
    page.page.locator(".flame-frame[tabindex='0']").focus()
    page.page.keyboard.press("Escape")
    assert zoomed.count() == 0
    page.page.keyboard.press("Escape")
    page.page.wait_for_selector("dialog", state="hidden")
    assert row.evaluate("row => row === document.activeElement")


def test_a_stall_opened_while_it_lasts_is_told_to_its_end(app: App, visit: Open) -> None:
    """Its end is in the title and on a button; focus, zoom and scroll stay until that is used."""
    app.block()
    page = visit(app.url, viewport=PHONE)
    stalled(page)
    more = page.page.locator(".what button")
    more.focus()
    more.click()
    page.page.wait_for_selector("dialog[open] .flame")
    assert "so far" in page.text("#stall-title")
    assert "Still going on" in page.text("#stall-note")
    page.page.locator(".flame-frame[tabindex='0']").focus()
    page.page.keyboard.press("Enter")
    page.page.evaluate("document.querySelector('dialog').scrollTop = 200")
    reading = """() => [document.activeElement.dataset.node,
      document.querySelectorAll(".flame-zoomed").length,
      Math.round(document.activeElement.getBoundingClientRect().top)]"""
    before = page.page.evaluate(reading)
    assert before[1] == 1
    app.release()
    page.page.wait_for_selector("#stall-title:not(:text('so far'))")
    newer = page.page.locator("#stall-newer:text('It is over')")
    newer.wait_for()
    assert page.page.evaluate(reading) == before
    newer.click()
    page.page.wait_for_selector("#stall-note", state="hidden")
    assert newer.is_hidden()
    assert page.page.evaluate("document.activeElement.id") == "stall-close"
    page.page.keyboard.press("Escape")
    # The banner's button is the same while what it opens changes.
    assert more.evaluate("button => button === document.activeElement")


def test_copy_gives_the_record(app: App, visit: Open) -> None:
    """What is in the clipboard is what /api/stalls/ID says."""
    record = stalled_once(app)
    page = visit(app.url, permissions=["clipboard-read", "clipboard-write"])
    row_of(page, record).click()
    page.page.locator("#stall-copy").click()
    page.page.wait_for_selector("#stall-copy:text('Copied')")
    assert json.loads(page.page.evaluate("navigator.clipboard.readText()")) == record


def test_names_are_text(app: App, visit: Open) -> None:
    """A task and a function that are called like markup are shown so, and do nothing."""
    app.block(task=HOSTILE, function=HOSTILE)
    page = visit(app.url)
    stalled(page)
    assert HOSTILE in page.text(".what .culprit")
    assert f"task {HOSTILE}" in page.text(".what")
    page.page.locator(".what button").click()
    page.page.wait_for_selector("dialog[open] .flame")
    assert HOSTILE in page.text("dialog")
    assert page.page.locator("img, main script, dialog script").count() == 0
    assert page.page.evaluate("window.hacked") is None
    app.release()
    serving(page)


def test_it_says_when_the_process_stands_still_and_goes_on_by_itself(app: App, visit: Open) -> None:
    """It tells since when, a stall opens with what is known, and all comes with the next answer."""
    record = stalled_once(app)
    page = visit(app.url)
    serving(page)
    row = row_of(page, record)
    row.wait_for()
    app.process.send_signal(signal.SIGSTOP)
    try:
        row.click()
        page.page.wait_for_selector("#stall-note:text('Asking for the whole record')")
        assert "wait_for_payment" in page.text("dialog .culprit")
        page.page.wait_for_selector("#trouble:not([hidden])")
        assert "No answer for" in page.text("#trouble")
        assert "one C call may hold the GIL" in page.text("#trouble")
        assert page.text(".word").startswith("No answer for")
        assert page.page.title() == "no answer · loopwatch"
        page.page.wait_for_selector("#stall-note:text('The process does not answer')")
    finally:
        app.process.send_signal(signal.SIGCONT)
    page.page.wait_for_selector("dialog .flame")
    page.page.wait_for_selector("#trouble", state="hidden")
    assert page.text("#link") == "live"


def test_two_loops_of_a_process_that_is_killed(
    browser: Browser, visit: Open, tmp_path: Path
) -> None:
    """Each loop has its own state; when nothing listens any more, the page says so."""
    app = App(tmp_path, "worker")
    try:
        page = visit(app.url)
        page.page.wait_for_selector(".loop >> nth=1")
        app.block()
        stalled(page)
        assert sorted(page.text("#jump").split("\n")) == ["main: STALLED", "worker: serving"]
        states = {
            loop.get_attribute("aria-label"): loop.get_attribute("data-state")
            for loop in page.page.locator(".loop").all()
        }
        assert states == {"Loop main": "stalled", "Loop worker": "serving"}
        os.kill(app.process.pid, signal.SIGKILL)
        page.page.wait_for_selector("#trouble:not([hidden])")
        assert "the process has ended" in page.text("#trouble")
        assert "before that stalled" in page.text(".word")
        assert page.page.title() == "no answer · loopwatch"
    finally:
        app.close()
    # The browser itself tells of each question that found nobody.
    assert all("ERR_" in complaint for complaint in page.complaints)
    page.complaints.clear()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_buttons_have_names_and_focus_is_seen(app: App, visit: Open, scheme: str) -> None:
    """Whatever Tab reaches has a name and an outline, in both colour schemes."""
    page = visit(app.url, color_scheme=scheme)
    serving(page)
    seen = set()
    for _ in range(12):
        page.page.keyboard.press("Tab")
        tag, name, outline, colour = page.page.evaluate(
            """() => {
              const { activeElement: at } = document;
              const style = getComputedStyle(at);
              return [at.tagName, at.innerText, style.outlineStyle, style.outlineColor];
            }"""
        )
        if tag == "BODY":
            continue  # between two rounds
        assert name.strip()
        assert outline == "solid"
        seen.add(colour)
    assert len(seen) == 1
    assert page.page.evaluate("document.documentElement.lang") == "en"


def test_motion_stops_for_who_wants_none(app: App, visit: Open) -> None:
    """The lamp of a stalled loop blinks, but not with prefers-reduced-motion."""
    app.block()
    moves = {}
    for motion in ("reduce", "no-preference"):
        page = visit(app.url, reduced_motion=motion)
        stalled(page)
        moves[motion] = page.page.evaluate(
            "getComputedStyle(document.querySelector('.lamp')).animationName"
        )
    app.release()
    assert moves == {"reduce": "none", "no-preference": "blink"}


# What no process does at once: a server of ours with records made up.

AT_S = 1_000_000_000.0  # the year 2001: the clocks of server and browser are far apart


def made_up(name: str, number: int) -> View:
    """Return a loop with a hundred stalls, odd names and a task leak."""
    frame = replace(stall().samples[0].frames[0], function=HOSTILE + ODD, file=ODD)
    stalls = tuple(
        stall(
            id=f"{name}-{n}",
            started_at_s=AT_S - 290 + 2.9 * n,
            loop=name,
            culprit=Culprit(ODD, ODD, 7, HOSTILE, ODD, in_app=True),
            request=Request("GET", ODD),
            samples=(Sample(0.1, 3, "watchdog", (frame,) * 40),),
        )
        for n in range(number)
    )
    group = TaskGroup(
        coro=HOSTILE,
        waits_at=Location("f", ODD, 12),
        count=1430,
        growth_per_min=25.0,
        oldest_s=2400.0,
    )
    census = Census(
        at_s=AT_S, tasks=1512, threshold=1000, looked_at=500, groups=(group,) * 3, others=82
    )
    book = ledger()
    snapshot = replace(book.snapshot(), loop=name, at_s=AT_S, census=census if number else None)
    points = tuple(
        Point(AT_S - 300 + n, 0.01 * n, 0.5, None, n, 1.0) for n in range(301 if number else 0)
    )

    def nothing(_: Any) -> None:
        """Take no notice."""

    return View(
        snapshot=lambda: snapshot,
        stalls=lambda: stalls,
        timeline=lambda: points,
        registry=None,
        metrics=lambda _accept, _reads: (b"", ""),
        spent=nothing,
        failed=nothing,
    )


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_much_of_everything_fits(visit: Open, crowded: Serve, size: dict[str, int]) -> None:
    """Five loops, 500 stalls, endless names: nothing is wider than the window, nothing runs."""
    page = visit(crowded([made_up(f"loop-{n}", 100) for n in range(5)]), viewport=size)
    page.page.wait_for_selector(".loop >> nth=4")
    assert page.page.locator(".row").count() == 100
    assert page.page.locator(".loop").first.locator(".mark").count() == 100
    # The newest began 2.9 s before now and took 0.512 s: by the server's clock, whatever ours says.
    assert page.text(".ago").startswith("Last stall 2.0 s ago, 512 ms")
    assert "What the 1,512 pending tasks wait for (limit 1,000)" in page.text("summary")
    assert "Estimated from 500 of 1,512 tasks. 82 tasks in smaller groups." in page.text(".tasks")
    assert "+25/min" in page.text(".census")
    assert "40 min" in page.text(".census")
    assert page.overflow() <= 0
    page.page.locator(".row").first.click()
    page.page.wait_for_selector("dialog[open] .flame")
    assert page.overflow() <= 0
    close, copy = (page.page.locator(f"#stall-{n}").bounding_box() for n in ("close", "copy"))
    assert close
    assert copy
    assert close["y"] == copy["y"]
    assert close["x"] < copy["x"]
    assert (
        page.page.evaluate("(d => d.scrollWidth - d.clientWidth)(document.querySelector('dialog'))")
        <= 0
    )
    shown = page.text("dialog .culprit")
    assert "\\u202e\\n\\x1b[2J" in shown
    assert len(shown) < 1000
    assert page.page.evaluate("window.hacked") is None


def changing(name: str = "main", **now: Any) -> tuple[View, dict[str, Any]]:
    """Return a loop whose snapshot has what is in the dict, which may change; also `stalls`."""
    view = made_up(name, 0)
    still = view.snapshot()

    def snapshot() -> Snapshot:
        told = {key: value for key, value in now.items() if key not in ("stalls", "points")}
        return replace(still, **told)

    return (
        replace(
            view,
            snapshot=snapshot,
            stalls=lambda: tuple(now.get("stalls", ())),
            timeline=lambda: tuple(now.get("points", ())),
        ),
        now,
    )


def ongoing(function: str, **fields: Any) -> Stall:
    """Return a stall of two seconds so far."""
    culprit = Culprit(function, "shop.py", 7, "time.sleep", "time.sleep(5)", in_app=True)
    at = {"id": "now", "phase": Phase.ONGOING, "started_at_s": AT_S - 2, "duration_s": 2.0}
    return stall(**{**at, "culprit": culprit, "loop": "main", **fields})


def test_what_blocks_now_is_what_is_shown(visit: Open, crowded: Serve) -> None:
    """A stall that is seen elsewhere: the banner and the row follow, an open dialog offers it."""
    first = ongoing("first_step")
    view, now = changing(active_stall=first, active_s=2.0, stalls=(first,))
    page = visit(crowded([view]))
    page.page.wait_for_selector(".what .culprit:has-text('first_step')")
    page.page.locator(".what button").click()
    page.page.wait_for_selector("dialog .flame")
    assert page.page.locator("#stall-newer").is_hidden()
    second = ongoing("second_step")
    now.update(active_stall=second, stalls=(second,))
    newer = page.page.locator("#stall-newer:text('More is known')")
    newer.wait_for()
    assert "second_step" in page.text(".what .culprit")
    assert "second_step" in page.text(".row .where")
    assert "first_step" in page.text("dialog .culprit")
    newer.click()
    page.page.wait_for_selector("dialog .culprit:has-text('second_step')")


def test_what_is_allowed_to_block_is_told_so(visit: Open, crowded: Serve) -> None:
    """It does not serve, nor is it stalled; how it ends is not asked for with every answer."""
    view, _ = changing(stalls=(ongoing("migrate", allowed="migration", started_at_s=AT_S - 7),))
    page = visit(crowded([view]))
    page.page.wait_for_selector(".loop[data-state=allowed]")
    assert page.text(".word").startswith("Blocked for 7.")
    assert page.text(".word").endswith(", as allowed")
    assert "allowed: migration" in page.text(".what")
    assert page.page.title() == "blocked, as allowed · loopwatch"
    page.asked.clear()
    page.page.evaluate(
        """async () => {
          const other = new Page();
          const stall = { id: "now", phase: "ongoing" };
          other.keep({ ...stall, started_at: "2001-09-09T01:46:33Z", duration_s: 7 });
          await Promise.all([1, 2, 3].map(() => other.fetchEnd(stall)));
          for (const _ of [1, 2, 3]) await other.fetchEnd(stall);
        }"""
    )
    # One of ours, and at most one of the page's own.
    assert 1 <= sum("/api/stalls/now" in url for url in page.asked) <= 2


def test_the_next_server_on_the_port_is_another_process(visit: Open, crowded: Serve) -> None:
    """Same pid, same loop: a page that is open begins anew, with nothing of the one before."""
    before, after = made_up("main", 3), made_up("main", 1)
    (late,) = after.stalls()
    after = replace(after, stalls=lambda: (replace(late, id="late"),))
    server = HttpServer("127.0.0.1", 0)
    server.add(before)
    server.start()
    page = visit(f"http://127.0.0.1:{server.port}/")
    page.page.wait_for_selector(".row >> nth=2")
    server.remove(before)
    crowded([after], server.port)
    page.page.wait_for_selector(".row[data-stall=late]")
    assert page.page.locator(".row").count() == 1
    assert page.page.locator(".mark").count() == 1
    # The browser tells of a question in between.
    assert all("ERR_" in complaint for complaint in page.complaints)
    page.complaints.clear()


def test_a_bar_is_as_long_as_what_it_tells_of(visit: Open, crowded: Serve) -> None:
    """Fifteen seconds without a look are fifteen seconds of lag; times to come are not drawn."""
    group = TaskGroup(coro="poll", waits_at=None, count=1, growth_per_min=None, oldest_s=1.0)
    census = Census(at_s=AT_S, tasks=1, threshold=9, looked_at=1, groups=(group,), others=0)
    points = (
        Point(AT_S - 20, 0.001, 0.5, None, 1, 1.0),
        Point(AT_S - 5, 15.0, 0.5, None, 1, 15.0),
        Point(AT_S + 3600, 0.2, 0.5, None, 1, 1.0),
    )
    view, _ = changing(points=points, census=census)
    page = visit(crowded([view]))
    bars = page.page.locator("[data-tile=lag] .over").get_attribute("d") or ""
    assert bars.count("M") == 1
    assert bars.startswith("M280.00 ")
    assert "H295.00" in bars
    assert "What the 1 pending task waits for" in page.text("summary")


def test_a_jump_moves_the_focus_and_keeps_it(visit: Open, crowded: Serve) -> None:
    """A button stays itself while its loop changes state; Enter leads to the loop."""
    view, now = changing("worker")
    page = visit(crowded([changing()[0], view]))
    button = page.page.locator("#jump button:text('worker')")
    button.focus()
    active = ongoing("step", loop="worker")
    now.update(active_stall=active, active_s=2.0, stalls=(active,))
    page.page.wait_for_selector("#jump button:text('worker: STALLED')")
    assert button.evaluate("button => button === document.activeElement")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.ariaLabel") == "Loop worker"


def test_the_page_works_below_a_path(app: App, browser: Browser) -> None:
    """Behind a proxy that serves it below /shop/, it asks there."""
    context = browser.new_context()

    def proxied(route: Route) -> None:
        route.fulfill(response=route.fetch(url=route.request.url.replace("/shop/", "/")))

    try:
        context.route(f"{app.url}shop/**", proxied)
        page = context.new_page()
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"{app.url}shop/")
        page.wait_for_selector(".loop")
        assert all(url.startswith(f"{app.url}shop/") for url in asked if url.startswith("http"))
    finally:
        context.unroute_all(behavior="ignoreErrors")
        context.close()


def test_an_empty_history_is_calm(visit: Open, crowded: Serve) -> None:
    """No stall, no point, no census: a page that says so."""
    page = visit(crowded([made_up("main", 0)]), viewport=PHONE)
    assert page.text(".word") == "Serving"
    assert page.text("#stalls-none") == "None yet."
    assert page.page.locator(".tasks").is_hidden()
    assert page.page.locator("#jump").is_hidden()
    assert page.overflow() <= 0


DAMAGED: list[Any] = [
    None,
    {"count": 2},
    {"count": "2", "frames": [{"function": "a", "file": "a.py", "line": 1, "in_app": True}]},
    {"count": 3, "frames": [{"function": ODD}, "x", None, {"file": 5, "line": "7"}]},
    {"count": 10**12, "frames": [{"function": "\ud800", "file": "é\u00a0", "line": -1,
                                  "in_app": 1}]},
]  # fmt: skip


def samples_of(*stacks: tuple[int, str]) -> list[dict[str, Any]]:
    return [
        {
            "count": count,
            "frames": [
                {"function": name, "file": "a.py", "line": 3, "in_app": name.isupper()}
                for name in reversed(names)
            ],
        }
        for count, names in stacks
    ]


@pytest.mark.parametrize(
    "samples",
    [
        samples_of((3, "abC"), (1, "abD"), (4, "aE"), (1, "abC"), (2, "x")),
        samples_of((1, "a" * 300)),
        samples_of(*((1, f"a{chr(0x4E00 + n)}") for n in range(2500))),
        [*samples_of((1, "ab")), *DAMAGED],
        [],
    ],
    ids=["branches", "deep", "wide", "damaged", "none"],
)
def test_the_page_and_reports_merge_samples_alike(
    app: App, visit: Open, samples: list[Any]
) -> None:
    """`treeOf` in the browser gives the tree that `flame_tree` gives here."""
    page = visit(app.url)
    tree = page.page.evaluate(
        "samples => JSON.stringify(treeOf(JSON.parse(samples)))", json.dumps(samples)
    )
    assert json.loads(tree) == flame_tree(samples)


def test_without_a_clipboard_the_record_is_there_to_be_copied(app: App, visit: Open) -> None:
    """On a plain HTTP address browsers have no clipboard: the text is shown and selected."""
    record = stalled_once(app)
    page = visit(app.url)
    page.page.evaluate("delete Navigator.prototype.clipboard")
    row_of(page, record).click()
    page.page.locator("#stall-copy").click()
    page.page.wait_for_selector("dialog textarea")
    assert json.loads(page.page.locator("dialog textarea").input_value()) == record


def test_a_stall_the_process_forgot_is_shown_as_known(visit: Open, crowded: Serve) -> None:
    """History is bounded: what the page knows of it stays readable, and it says why."""
    view = made_up("main", 3)
    kept: list[Stall] = list(view.stalls())
    page = visit(crowded([replace(view, stalls=lambda: tuple(kept))]))
    page.page.wait_for_selector(".row >> nth=2")
    kept.clear()
    page.page.locator(".row").last.click()
    page.page.wait_for_selector("dialog[open]")
    assert "does not keep this record any more" in page.text("dialog")
    assert "main-0" in page.text("dialog")
    assert all("404" in complaint for complaint in page.complaints)
    page.complaints.clear()
