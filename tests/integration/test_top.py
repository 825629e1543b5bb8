"""`loopwatch top`: the real command against real processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from loopwatch.cli import main
from tests.conftest import uvloop
from tests.servers import fetch, free_port, wait_for
from tests.terminal import terminal
from tests.watched import THRESHOLD_S, Watched, watched

TOP = (sys.executable, "-m", "loopwatch", "top")
VIEW = (*TOP, "--interval", "0.1")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Watched]]:
    """Three processes, one of them on uvloop where that is installed."""
    folder = tmp_path_factory.mktemp("shop")
    with contextlib.ExitStack() as stack:
        other = "asyncio" if uvloop is None else "uvloop"
        yield [
            stack.enter_context(watched(folder, name, loop))
            for name, loop in (("orders", "asyncio"), ("carts", other), ("mails", "asyncio"))
        ]


def top(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TOP, *args],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


def loops(*args: str) -> dict[str, dict[str, Any]]:
    """Return what --json says of each loop, by name."""
    return {loop["loop"]: loop for loop in json.loads(top("--json", *args).stdout)["loops"]}


def in_a_network_of_its_own() -> list[str]:
    """Return what to put before a command; skip the test where that is not allowed."""
    before = ["unshare", "--user", "--map-root-user", "--net"]
    try:
        allowed = subprocess.run([*before, "true"], check=False, capture_output=True)
    except FileNotFoundError:
        allowed = None
    if allowed is None or allowed.returncode:
        pytest.skip("no network namespace of our own here")
    return before


@contextlib.contextmanager
def blocked(*processes: Watched, command: str = "block") -> Iterator[None]:
    """Block the loops of processes, and wait until that is told."""
    for process in processes:
        process.tell(command)

    def all_stalled() -> bool:
        answers = [json.loads(fetch(f"{process.url}/api/snapshot")) for process in processes]
        return all(answer["loops"][0]["active_stall"] for answer in answers)

    wait_for("the stalls", all_stalled)
    try:
        yield
    finally:
        for process in processes:
            process.tell("go")


@contextlib.contextmanager
def documents(*args: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """Run `--json --interval`; give what reads its next document."""
    command = [*TOP, "--json", "--interval", "0.1", *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        out = process.stdout
        assert out
        try:
            yield lambda: dict(json.loads(out.readline()))
        finally:
            process.send_signal(signal.SIGINT)
            rest = out.read()
            assert process.wait(10) == 0, "Ctrl-C is how it ends"
            assert all(json.loads(line) for line in rest.splitlines())


def test_once_prints_a_table(shop: list[Watched]) -> None:
    """A line for each loop, the stalled ones above, with age and culprit; nothing on stderr."""
    orders, carts, mails = shop
    with blocked(carts, mails):
        ran = top("--once", *(each.url for each in shop))
    assert (ran.returncode, ran.stderr) == (0, "")
    heading, *lines = ran.stdout.splitlines()
    assert heading.split()[:3] == ["process", "loop", "state"]
    named = {line.split()[2]: line for line in lines}
    assert list(named)[2] == "orders"
    assert f"127.0.0.1:{orders.port} ({orders.pid})" in named["orders"]
    assert "serving" in named["orders"]
    for name in ("carts", "mails"):
        assert "STALLED" in named[name]
        assert f"wait_for_the_parent {name}.py:" in named[name]
        assert named[name].endswith("blocking_call")
    assert "\x1b" not in ran.stdout


def test_without_a_terminal_it_is_once(shop: list[Watched]) -> None:
    """In a pipe there is nobody to press keys: the table is printed without being asked for."""
    ran = top(shop[0].url)
    assert ran.returncode == 0
    assert "serving" in ran.stdout
    assert len(ran.stdout.splitlines()) == 2


def test_an_output_without_blocks(shop: list[Watched]) -> None:
    """Where the encoding has no bars the sparkline is of plain letters."""
    ran = subprocess.run(
        [*TOP, "--once", shop[0].url],
        check=False,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert ran.returncode == 0
    assert ran.stdout.isascii()


def test_json_is_one_document(shop: list[Watched]) -> None:
    """State, snapshot and the newest stall of each loop, and what gave no answer."""
    orders, _, mails = shop
    port = free_port()
    with blocked(orders):
        ran = top("--json", orders.url, f"http://127.0.0.1:{port}", mails.url)
    assert ran.returncode == 0
    made = json.loads(ran.stdout)
    assert made["schema"] == "loopwatch.top/1"
    first, second = sorted(made["loops"], key=lambda loop: str(loop["loop"]), reverse=True)
    assert (first["loop"], first["state"], first["pid"]) == ("orders", "stalled", orders.pid)
    assert first["state_s"] >= THRESHOLD_S
    assert first["last_stall"]["culprit"]["function"] == "__main__.wait_for_the_parent"
    assert (second["loop"], second["state"]) == ("mails", "serving")
    assert second["snapshot"]["thresholds"]["stall_s"] == THRESHOLD_S
    (problem,) = made["problems"]
    assert problem.startswith(f"http://127.0.0.1:{port}: nobody listens there")


def test_wrong_targets_do_not_hide_the_others(shop: list[Watched]) -> None:
    """Each is one line on stderr, and what answers is shown with code 0."""
    good = shop[0]
    gone = free_port()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        ran = top(
            "--once",
            f"127.0.0.1:{good.port}",
            f"{good.url}/metrics",
            f"https://127.0.0.1:{good.port}",
            f"http://127.0.0.1:{gone}",
            "4194305",
            str(other.pid),
            good.url,
        )
    assert ran.returncode == 0
    assert len(ran.stdout.splitlines()) == 2
    lines = ran.stderr.splitlines()
    assert all(line.startswith("loopwatch: error: ") for line in lines)
    for said in (
        f"has no scheme: write http://127.0.0.1:{good.port}",
        f"is more than an address: write {good.url}",
        "speaks no TLS",
        f"http://127.0.0.1:{gone}: nobody listens there",
        "no process 4194305",
        f"process {other.pid} has no loopwatch server: set http_port",
    ):
        assert sum(said in line for line in lines) == 1, (said, lines)
    assert len(lines) == 6


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    """Then there is no table, a line that says why, and code 1; nothing usable at all is code 2."""
    ran = top(f"http://127.0.0.1:{free_port()}")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    ran = top("--json", "4194305")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["problems"] == ["no process 4194305"]
    for argv, why in (
        (["app", "--once"], "'app' is neither a URL nor a PID"),
        (["--interval", "0"], "--interval: '0' is not allowed"),
        (["--once", "--interval", "3", "http://localhost"], "--interval changes nothing"),
    ):
        assert main(["top", *argv]) == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        assert why in shown.err


def test_processes_by_their_pid(shop: list[Watched]) -> None:
    """Each PID leads to the address of its server."""
    found = loops(*(str(each.pid) for each in shop))
    assert {name: loop["url"] for name, loop in found.items()} == {
        each.name: each.url for each in shop
    }


def test_a_supervisor_stands_for_its_workers(shop: list[Watched]) -> None:
    """A process without a server leads to those of the processes that it has started."""
    found = loops(str(os.getpid()))
    assert {each.url for each in shop} <= {loop["url"] for loop in found.values()}


@pytest.mark.parametrize("options", [["--once"], ["--json", "--interval", "0.1"]])
def test_no_place_for_the_table(options: list[str], shop: list[Watched]) -> None:
    """A closed or full stdout ends it with one line and code 1."""
    command = " ".join([*TOP, *options, shop[0].url])
    for redirected, why in ((">&-", "no stdout"), (">/dev/full", "cannot write stdout")):
        ran = subprocess.run(
            ["sh", "-c", f"exec {command} {redirected}"],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert ran.returncode == 1
        assert why in ran.stderr
        assert ran.stderr.count("\n") == 1


def test_without_targets_it_finds_them(shop: list[Watched]) -> None:
    """Every process of ours that has a server is there, and this test's, which has none, is not."""
    made = json.loads(top("--json").stdout)
    assert {each.pid for each in shop} <= {loop["pid"] for loop in made["loops"]}
    assert os.getpid() not in {loop["pid"] for loop in made["loops"]}


def test_nothing_to_find() -> None:
    """Where no process has a server the line says what to set."""
    apart = in_a_network_of_its_own()
    ran = subprocess.run(
        [*apart, *TOP], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "no process of yours has a loopwatch server: set http_port=9464" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_process_elsewhere(shop: list[Watched]) -> None:
    """A process in a network of its own cannot be asked from here, and that is said."""
    apart = in_a_network_of_its_own()
    with subprocess.Popen(
        [*apart, "sh", "-c", "echo in; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        process.stdout.readline()
        ran = top(str(process.pid))
        process.communicate(b"\n")
    assert ran.returncode == 1
    assert f"process {process.pid} has a network of its own" in ran.stderr


def test_a_process_of_somebody_else() -> None:
    """What may not be read is told as that, and not as a process without a server."""
    try:
        Path("/proc/1/ns/net").readlink()
    except PermissionError:
        ran = top("1")
        assert (ran.returncode, ran.stdout) == (1, "")
        assert "process 1 is not yours: run this as its user, or give its URL" in ran.stderr
    else:
        pytest.skip("every process may be read here")


def test_gone_and_back(tmp_path: Path) -> None:
    """A killed process stays as gone; its successor on the same port takes the line over."""
    port = free_port()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(watched(tmp_path, "first", port=port))
        read = stack.enter_context(documents(first.url))

        def until(state: str) -> dict[str, Any]:
            return dict(
                wait_for(
                    state, lambda: next((x for x in read()["loops"] if x["state"] == state), None)
                )
            )

        assert until("serving")["pid"] == first.pid
        first.process.kill()
        first.process.wait()
        gone = until("gone")
        assert gone["trouble"].startswith("nobody listens there")
        assert gone["pid"] == first.pid
        second = stack.enter_context(watched(tmp_path, "first", port=port))
        assert until("serving")["pid"] == second.pid


def test_a_process_that_stands_still(shop: list[Watched]) -> None:
    """It is told to give no answer while the others go on, and serves again afterwards."""
    still, other = shop[0], shop[1]
    with documents(still.url, other.url) as read:
        states: dict[str, str] = {}

        def both(first: str) -> bool:
            states.update({x["loop"]: x["state"] for x in read()["loops"]})
            return states == {"orders": first, "carts": "serving"}

        wait_for("both", lambda: both("serving"))
        os.kill(still.pid, signal.SIGSTOP)
        try:
            wait_for("silence", lambda: both("not answering"))
            moments = {
                x["snapshot"]["at"]
                for _ in range(5)
                for x in read()["loops"]
                if x["loop"] == "carts"
            }
            assert len(moments) > 2
        finally:
            os.kill(still.pid, signal.SIGCONT)
        wait_for("both again", lambda: both("serving"))


def test_new_processes_appear(tmp_path: Path) -> None:
    """Without targets, one that starts later is found."""
    with documents() as read:
        read()
        with watched(tmp_path, "late") as late:
            wait_for("the new one", lambda: late.pid in {x["pid"] for x in read()["loops"]})


def test_the_view_in_a_terminal(shop: list[Watched], tmp_path: Path) -> None:
    """Loops, Enter to the stalls of one, Enter to the record while it goes on, back, and q."""
    mails = shop[2]
    with blocked(mails), terminal([*VIEW, *(each.url for each in shop)], tmp_path) as screen:
        for each in shop:
            screen.wait_for(f"127.0.0.1:{each.port} ({each.pid})")
        screen.wait_for("STALLED")
        # What stalled within the minute is as bad, and may stand above.
        at = screen.press("/")
        screen.wait_for("Escape for all", at)
        at = screen.press("mails")
        screen.wait_for("1 shown", at)
        at = screen.press("\r")
        screen.wait_for("open", at)
        at = screen.press("\r")
        screen.wait_for("so far", at)
        screen.wait_for("wait_for_the_parent mails.py", at)
        at = screen.press("\r")
        screen.wait_for("culprit     __main__.wait_for_the_parent at mails.py", at)
        screen.wait_for("at the stack, outermost call first", at)
        screen.wait_for("100%  __main__.wait_for_the_parent  mails.py", at)
        mails.tell("go")
        screen.wait_for(" s from 20", at)  # and no longer "so far, since"
        at = screen.press("\x1b")
        screen.wait_for("started, UTC", at)
        at = screen.press("\x1b")
        screen.wait_for("worst first", at)
        screen.press("q")
        assert screen.ended() == 0
        assert "Traceback" not in screen.text()
        assert screen.raw.rindex("\x1b[?1049l") > screen.raw.rindex("\x1b[?1049h")


def test_hostile_names_do_not_act(shop: list[Watched], tmp_path: Path) -> None:
    """A function and a task called like a command to the terminal are shown, not obeyed."""
    carts = shop[1]
    with (
        blocked(carts, command="hostile"),
        terminal([*VIEW, carts.url], tmp_path, columns=240) as screen,
    ):
        shown = r"\x1b]0;pwned\x07[bold red]evil[/]"
        screen.wait_for(shown)
        at = screen.press("\r")
        screen.wait_for(shown, at)
        at = screen.press("\r")
        screen.wait_for(f"task        {shown}", at)
        screen.press("q")
        assert screen.ended() == 0
        assert "\x1b]0;pwned" not in screen.raw


@pytest.mark.parametrize("way", ["Ctrl-C", "SIGINT", "SIGTERM"])
def test_ways_to_end_it(way: str, shop: list[Watched], tmp_path: Path) -> None:
    """Ctrl-C is a usual end, and a signal gives the terminal back too: code 0."""
    with terminal([*VIEW, shop[0].url], tmp_path) as screen:
        screen.wait_for("serving")
        if way == "Ctrl-C":
            screen.press("\x03")
        else:
            screen.process.send_signal(getattr(signal, way))
        assert screen.ended() == 0
        assert "Traceback" not in screen.text()
        assert screen.raw.rindex("\x1b[?1049l") > screen.raw.rindex("\x1b[?1049h")


def test_without_textual(shop: list[Watched], tmp_path: Path) -> None:
    """The view says what to install; --once and --json need no third party."""
    without = (
        "import sys; sys.modules['textual'] = sys.modules['rich'] = None; "
        "from loopwatch.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", without, "top", shop[0].url]
    for option in ("--once", "--json"):
        ran = subprocess.run([*command, option], check=False, capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert "orders" in ran.stdout
    with terminal(command, tmp_path) as screen:
        assert screen.ended() == 1
        assert "pip install 'loopwatch[terminal]'" in screen.text()
        assert "Traceback" not in screen.text()


def test_a_dumb_terminal_gets_a_table(shop: list[Watched], tmp_path: Path) -> None:
    """Nothing is drawn where TERM says that nothing can be."""
    with terminal(["env", "TERM=dumb", *TOP, shop[0].url], tmp_path) as screen:
        assert screen.ended() == 0
        assert "serving" in screen.text()
        assert "\x1b" not in screen.raw
