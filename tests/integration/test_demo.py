"""The demo, run as a user runs it: real app, real load, real stalls."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from tests.conftest import needs_uvloop

app = pytest.importorskip("loopwatch.demo.app", reason="the extra `demo` is not installed here")
mistakes = app.mistakes

ROW = re.compile(r" *(\d+) +([\d.]+) s +([\d.]+) s +([\d.]+) s  (\w+) +(\S+) +(\S+) +(.+)")
STALLS = re.compile(r'^loopwatch_stalls_total\{.*loop="main".*\} (\d+)\.0$', re.MULTILINE)
PLACE = re.compile(r"^ +(\S+):(\d+): (.+)$", re.MULTILINE)

# The demo aims at 0.3 s; calculations vary with the machine and with what else it does.
SHORTEST_S, LONGEST_S = 0.12, 3.0
# Each mistake twice, and enough leaked tasks.
SECONDS = "12"


class Row(NamedTuple):
    stalls: int
    longest_s: float
    total_s: float
    cause: str
    caller: str
    task: str


class Finished(NamedTuple):
    code: int
    out: str
    err: str
    told: dict[str, int | None]


@pytest.fixture(scope="module", params=["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def loop(request: pytest.FixtureRequest) -> str:
    """Name of a loop the demo can run on."""
    return str(request.param)


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running_demo(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Start the demo as a child that does not outlive the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "loopwatch", "demo", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def fetch(url: str, timeout_s: float = 2.0) -> str | None:
    """Return the body, `None` while nobody listens."""
    opener = build_opener(ProxyHandler({}))
    try:
        with closing(opener.open(url, timeout=timeout_s)) as answer:
            return str(answer.read().decode())
    except (URLError, ConnectionError):
        return None


def stalls_told(url: str) -> int | None:
    """Return the sum of `loopwatch_stalls_total` at `url`, `None` if it does not tell."""
    counts = STALLS.findall(fetch(url) or "")
    return sum(map(int, counts)) if counts else None


def rows_of(out: str) -> dict[str, Row]:
    """Return the rows of the table by culprit."""
    rows = {}
    for line in out.splitlines():
        found = ROW.fullmatch(line)
        if found:
            count, _first, longest, total, cause, culprit, caller, task = found.groups()
            rows[culprit] = Row(int(count), float(longest), float(total), cause, caller, task)
    return rows


def wait_for_a_stall(url: str, timeout_s: float = 15.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not stalls_told(url):
        assert time.monotonic() < deadline, "the demo told of no stall"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def finished(loop: str) -> Finished:
    """One whole run per loop; several tests look at it."""
    port, http_port = map(str, free_ports(2))
    urls = (f"http://127.0.0.1:{http_port}/metrics", f"http://127.0.0.1:{port}/metrics/")
    with running_demo(
        "--seconds", SECONDS, "--loop", loop, "--port", port, "--http-port", http_port
    ) as process:
        wait_for_a_stall(urls[0])
        told = {url: stalls_told(url) for url in urls}
        out, err = process.communicate(timeout=30)
    return Finished(process.returncode, out, err, told)


def test_the_time_is_up(finished: Finished, loop: str) -> None:
    """With `--seconds` it ends by itself with code 0, having said what it runs on, and no error."""
    assert (finished.code, finished.err) == (0, "")
    assert f"on {loop} " in finished.out


def test_every_mistake_is_named(finished: Finished) -> None:
    """Each mistake that blocks is in the table with its function, caller, task and time."""
    rows = rows_of(finished.out)
    for mistake in app.MISTAKES:
        culprit = mistake.culprit.__name__
        assert culprit in rows, f"{culprit} is not blamed\n{finished.out}"
        row = rows[culprit]
        assert SHORTEST_S < row.longest_s < LONGEST_S, finished.out
        # Both are shown rounded to a millisecond.
        assert row.longest_s - 0.001 <= row.total_s <= row.stalls * (row.longest_s + 0.001)
        assert row.caller == mistake.handler.__qualname__
        # Of a C call that kept the GIL the signal handler sees the stack, not the task: that is
        # known only if the watchdog, among all who want the GIL then, comes before it moves on.
        unseen = {"-"} if mistake.culprit is mistakes.trim_comment else set()
        assert row.task in {f"GET {mistake.path}", *unseen}


def test_the_blamed_line_is_shown(finished: Finished) -> None:
    """Below a row stands the line itself, with the file it is in."""
    files = {source: file for file, _line, source in PLACE.findall(finished.out)}
    assert files["worker.join()"] == "loopwatch/demo/mistakes.py"


def test_the_cause_and_what_to_do_instead_are_shown(finished: Finished) -> None:
    """Calls that sleep are told as such, and below their line stands the advice."""
    rows = rows_of(finished.out)
    for culprit in ("fetch_price", "wait_for_payment", "make_thumbnail", "wait_for_report"):
        assert rows[culprit].cause == "blocking_call", finished.out
    assert "-> use asyncio.sleep and await it" in finished.out


def test_the_totals_count_every_row(finished: Finished) -> None:
    """The number of stalls is the sum of the rows."""
    total = sum(row.stalls for row in rows_of(finished.out).values())
    assert f"\n{total} stalls of 0.1 s or more" in finished.out


def test_metrics_answer_during_the_run(finished: Finished) -> None:
    """Both addresses of /metrics were announced and tell `loopwatch_stalls_total`."""
    for url, stalls in finished.told.items():
        assert url in finished.out
        assert stalls


def test_the_leak_is_told(finished: Finished) -> None:
    """The leaked tasks exceed the threshold, stay bounded, and the totals call them a leak."""
    assert "suspect a task leak" in finished.out
    told = re.search(r"([\d,]+) pending tasks", finished.out)
    assert told
    assert 1000 < int(told[1].replace(",", "")) < 1520


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
def test_a_signal_ends_it_cleanly(loop: str, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the demo soon, with the table, code 0 and no traceback."""
    port, http_port = map(str, free_ports(2))
    with running_demo("--loop", loop, "--port", port, "--http-port", http_port) as process:
        wait_for_a_stall(f"http://127.0.0.1:{http_port}/metrics")
        time.sleep(1)
        process.send_signal(number)
        sent_s = time.monotonic()
        out, err = process.communicate(timeout=20)
        took_s = time.monotonic() - sent_s
    assert (process.returncode, err) == (0, "")
    assert took_s < 3
    assert rows_of(out)
    assert "Next:" in out


@pytest.mark.parametrize("option", ["--port", "--http-port"])
def test_a_taken_port_is_one_line(option: str) -> None:
    """A port that somebody has is named with its option, and nothing starts."""
    other = {"--port": "--http-port", "--http-port": "--port"}[option]
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with running_demo(option, str(port), other, "0", "--seconds", "2") as process:
            out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("loopwatch: error: ")
    assert f":{port} " in err
    assert f"with {option}," in err


def test_a_reader_that_leaves_ends_it() -> None:
    """`loopwatch demo | head` ends soon and without a traceback."""
    with running_demo("--port", "0", "--http-port", "0", "--seconds", "60") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=20) == 1
        assert process.stderr.read() == ""
