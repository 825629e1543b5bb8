"""The aiomonitor console, over its real socket."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
import struct
import subprocess
import sys
import termios
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest

import loopwatch
from loopwatch import Agent, ConfigError
from loopwatch.integrations.aiomonitor import register
from loopwatch.integrations.console import Console
from tests.conftest import Child, Run, Told, settle

with warnings.catch_warnings():
    # 0.7.1 uses a name of click's that is going away; here warnings are errors.
    warnings.simplefilter("ignore", DeprecationWarning)
    aiomonitor = pytest.importorskip("aiomonitor")
    from loopwatch.integrations.console.monitor import LoopMonitor

T = TypeVar("T")

IAC = b"\xff"
PROMPT = "monitor >>> "
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")
COMMANDS = ("lag", "stalls", "stall", "loop", "census", "flame", "threshold")


class Terminal:
    """A telnet client: names its terminal, and reads to the next prompt."""

    def __init__(self, port: int, kind: str = "dumb") -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self._socket.sendall(IAC + b"\xfa\x18\x00" + kind.encode() + IAC + b"\xf0")
        self.raw = b""
        self._read(lambda text: text.endswith(PROMPT))

    def ask(self, command: str, *, until: str = "") -> str:
        """Return what a command prints, without what only moves the cursor."""
        echo = PROMPT + command + "\n"
        self.say(command)
        done = (lambda t: until in t) if until else (lambda t: t.endswith("\n" + PROMPT))
        text = self._read(lambda t: echo in t and done(t.split(echo, 1)[1]))
        return text.split(echo, 1)[1].removesuffix(PROMPT)

    def say(self, command: str) -> None:
        self.raw = b""
        self._socket.sendall(command.encode() + b"\r")

    def rest(self) -> bytes:
        """Return what comes until the other side hangs up."""
        data = b""
        while chunk := self._receive():
            data += chunk
        return data

    def close(self) -> None:
        self._socket.close()

    def reset(self) -> None:
        """Go as a process goes that is killed: the other side has a reset to read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, done: Callable[[str], bool]) -> str:
        while True:
            text = CONTROL.sub("", self.raw.decode(errors="replace"))
            if done(text):
                return text
            chunk = self._receive()
            assert chunk, f"hung up after {self.raw!r}"
            self.raw += chunk

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionResetError:
            return b""


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


def console_of(agent: Agent) -> Console:
    (console,) = [e for e in agent._exporters if isinstance(e, Console)]
    return console


def sessions_of(agent: Agent) -> list[socket.socket]:
    monitor = console_of(agent)._monitor
    return [] if monitor is None else list(monitor._sessions.values())


def port_of(agent: Agent) -> int:
    port = console_of(agent).port
    assert port is not None
    return port


def watched(**settings: Any) -> Agent:
    return loopwatch.install(console=True, **{"console_port": 0, **settings})


def block_until_done(future: Future[Any]) -> None:
    """Block the loop for as long as the client talks: it must get all its answers meanwhile."""
    deadline = time.monotonic() + 30
    while not future.done() and time.monotonic() < deadline:
        time.sleep(0.02)


async def meanwhile(talk: Callable[[int], T], agent: Agent, *, blocked: bool = False) -> T:
    """Talk to the console of `agent` on another thread, with the loop free or blocked."""
    port = port_of(agent)
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(talk, port)
        if blocked:
            block_until_done(future)
        return await asyncio.wrap_future(future)


def asked(*commands: str, kind: str = "dumb") -> Callable[[int], list[str]]:
    def talk(port: int) -> list[str]:
        with Terminal(port, kind) as terminal:
            return [terminal.ask(command) for command in commands]

    return talk


def of_this_file(told: Told) -> list[loopwatch.Stall]:
    """Return the stalls that were made here: a noisy machine may add some of its own."""
    return [
        s for s in told.final if s.culprit is not None and s.culprit.file.endswith("_console.py")
    ]


def free_ports() -> int:
    """Return a port that is free, with the one after it."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                socket.create_server(("127.0.0.1", port + 1)).close()
            except (OSError, OverflowError):
                continue
            return port


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


def is_free(port: int) -> bool:
    """Return whether nobody listens, without disturbing anybody who does."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def test_every_command_answers_while_the_loop_is_blocked(run_exact: Run) -> None:
    """The loop stands in `time.sleep` until the last answer is there, and the answers say so."""

    def talk(port: int) -> dict[str, str]:
        with Terminal(port) as terminal:
            while "goes on" not in (listed := terminal.ask("stalls")):
                pass  # nothing of it is known before the threshold
            short = re.search(r"^([0-9a-f]{8})  .*goes on", listed, re.MULTILINE)
            assert short
            answers = {name: terminal.ask(name) for name in ("lag", "loop", "threshold")}
            answers["flame"] = terminal.ask("flame 0.3")
            answers["stall"] = terminal.ask(f"stall {short[1]}")
            answers["last"] = terminal.ask("stall last")
            return {**answers, "stalls": listed}

    async def main() -> dict[str, str]:
        with watched() as agent:
            return await meanwhile(talk, agent, blocked=True)

    answers = run_exact(main())
    here = "tests.integration.test_console.block_until_done"
    assert here in answers["stalls"]
    assert re.search(r"loop main: stalled for [\d.]+ m?s since .*block_until_done", answers["lag"])
    assert re.search(r"max +[\d.]+ m?s", answers["lag"])
    assert "limit 1,000" in answers["loop"]
    assert "block_until_done" in answers["loop"]
    assert "stalled from 100 ms on" in answers["threshold"]
    assert "0 % waiting for events, 100 % in callbacks" in answers["flame"]
    for tree in (answers["flame"], answers["stall"], answers["last"]):
        assert re.search(rf"100 %  {re.escape(here)}  \S*test_console\.py:\d+", tree)
        outermost, innermost = tree.index(".main  "), tree.rindex(here)
        assert outermost < innermost
    assert re.search(r"^  call +time\.sleep$", answers["stall"], re.MULTILINE)


def test_the_census_groups_tasks_while_the_loop_is_blocked() -> None:
    """Forty tasks that wait at one line are one row: how many, what they run, where they wait."""

    async def poll() -> None:
        await asyncio.sleep(60)

    async def main() -> str:
        with watched() as agent:
            tasks = [asyncio.create_task(poll()) for _ in range(40)]
            await asyncio.sleep(0.01)
            (shown,) = await meanwhile(asked("census"), agent, blocked=True)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return shown

    shown = asyncio.run(main())
    assert "loop main: 41 pending tasks (limit 1,000)" in shown
    assert re.search(
        r"^ +40 .*<locals>\.poll, waits at .*test_console\.py:\d+", shown, re.MULTILINE
    )


def test_a_loop_that_waits_is_said_to_wait(run_exact: Run) -> None:
    """`flame` on an idle loop: all looks found it waiting; `lag` says that it serves."""

    async def main() -> list[str]:
        with watched(stall_threshold_s=5) as agent:
            await asyncio.sleep(0.1)
            return await meanwhile(asked("lag", "flame 0.3"), agent)

    lag, flame = run_exact(main())
    assert "loop main: serving" in lag
    waits = re.search(r"(\d+) % waiting for events", flame)
    assert waits
    assert int(waits[1]) >= 90


def test_work_that_comes_and_goes_is_drawn_as_a_tree() -> None:
    """Two callees of one function are two branches, whose shares are about those of the time."""

    def rests() -> None:
        time.sleep(0.03)

    def naps() -> None:
        time.sleep(0.01)

    def works(done: threading.Event) -> None:
        while not done.is_set():
            rests()
            naps()

    async def main() -> str:
        done = threading.Event()
        with watched() as agent, ThreadPoolExecutor(1) as pool:
            future = pool.submit(asked("flame 1"), port_of(agent))
            future.add_done_callback(lambda _: done.set())
            works(done)
            return (await asyncio.wrap_future(future))[0]

    tree = asyncio.run(main())
    shares = {
        name: int(share)
        for share, name in re.findall(r"(\d+) %  [│├└─ ]*\S*<locals>\.(\w+) ", tree)
    }
    assert shares["rests"] > shares["naps"] > 5, tree
    assert re.search(
        r"├─ \S*works .*\n.* │  \S*rests .*\n.*└─ \S*works .*\n.* {5}\S*naps ", tree
    ), tree


def test_a_threshold_set_at_the_console_holds() -> None:
    """A block of 0.1 s is told once the threshold is 50 ms, in any of the ways to write it."""
    told = Told()

    async def main() -> list[str]:
        with watched(stall_threshold_s=2.0, on_stall=told) as agent:
            answers = await meanwhile(
                asked("threshold 1.5s", "threshold 0.2", "threshold 50ms", "threshold"), agent
            )
            time.sleep(0.1)
            await settle(told)
            return answers

    answers = asyncio.run(main())
    assert [re.search(r"stalled from (.*?) on", answer)[1] for answer in answers] == [  # type: ignore[index]
        "1.5 s",
        "200 ms",
        "50 ms",
        "50 ms",
    ]
    assert "the setting is 2.0 s" in answers[-1]
    assert len(of_this_file(told)) == 1


def test_what_cannot_be_is_one_line() -> None:
    """Wrong values and names are answered with what to do, and change nothing."""
    wrong = {
        "threshold fast": "write it like 200ms",
        "threshold 0": "stall_threshold_s=0.0 is not allowed",
        "threshold nan": "stall_threshold_s=nan is not allowed",
        "flame 61": "use 0.1 to 60 seconds",
        "flame soon": "write it like 200ms",
        "stall nonsense": "`stalls` lists them",
        "stall last": "`stalls` lists them",
        "lag --loop other": "no loop other is watched; there is: main",
        "console": "Python console is disabled for this session!",
    }

    async def main() -> list[str]:
        with watched(stall_threshold_s=5) as agent:
            return await meanwhile(asked(*wrong, "threshold", "stalls"), agent)

    *answers, threshold, stalls = asyncio.run(main())
    for answer, expected in zip(answers, wrong.values(), strict=True):
        assert expected in answer
        assert answer.count("\n") == 1, answer
    assert "stalled from 5.0 s on" in threshold
    assert "no stall is on record" in stalls


def test_an_id_may_be_cut_short_while_it_is_one() -> None:
    """The start of an id will do; what is the start of several is refused with their names."""

    async def main() -> tuple[list[str], list[str]]:
        told = Told()
        with watched(on_stall=told) as agent:
            for number in (1, 2):
                time.sleep(0.15)
                await settle(told, number)
            ids = [stall.id for stall in agent.stalls]
            return ids, await meanwhile(asked("stall ''", f"stall {ids[0][:10]}"), agent)

    ids, (refused, told) = asyncio.run(main())
    assert "is the start of several: " in refused
    assert all(known in refused for known in ids)
    assert re.search(rf"^  id +{ids[0]} ", told, re.MULTILINE)


def test_names_cannot_command_the_terminal() -> None:
    """A task called like an escape sequence is printed as text, wherever its name appears."""
    name = "\x1b[2J\x1b]0;owned\x07\u202e\udc80"

    def talk(port: int) -> bytes:
        with Terminal(port, "xterm") as terminal:
            raw = b""
            for command in (
                "stalls",
                "stall last",
                "lag",
                "loop",
                "census",
                f"lag --loop {name[:4]}",
            ):
                terminal.ask(command) if "--loop" not in command else None
                raw += terminal.raw
            return raw

    async def main() -> bytes:
        with watched(loop_name=name[:-1]) as agent:

            async def blocks() -> None:
                time.sleep(0.15)

            await asyncio.create_task(blocks(), name=name)
            await asyncio.sleep(0.1)
            return await meanwhile(talk, agent)

    raw = asyncio.run(main())
    assert b"\\x1b[2J" in raw
    assert b"\x1b[2J" not in raw
    assert b"\x1b]0" not in raw
    assert b"\x07" not in raw
    assert "\u202e".encode() not in raw


@pytest.mark.parametrize(
    ("kind", "no_color", "coloured"),
    [("xterm", "", True), ("dumb", "", False), ("xterm", "1", False)],
)
def test_colours_only_where_they_are_wanted(
    kind: str, no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal that can gets colours; a dumb one, or with NO_COLOR set, plain text."""
    monkeypatch.setenv("NO_COLOR", no_color)

    def talk(port: int) -> bytes:
        with Terminal(port, kind) as terminal:
            terminal.ask("lag")
            return terminal.raw

    async def main() -> bytes:
        with watched() as agent:
            return await meanwhile(talk, agent)

    raw = asyncio.run(main())
    assert b"serving" in raw
    assert (b"\x1b[32mserving\x1b[0m" in raw) is coloured


@pytest.fixture
def second_loop() -> Iterator[tuple[asyncio.AbstractEventLoop, Agent]]:
    """Another watched loop of this process, on a thread of its own."""
    runner = asyncio.Runner()
    ready: Future[tuple[asyncio.AbstractEventLoop, Agent]] = Future()
    done = threading.Event()

    async def main() -> None:
        with loopwatch.install(loop_name="second", exporters=[]) as agent:
            ready.set_result((asyncio.get_running_loop(), agent))
            while not done.is_set():
                await asyncio.sleep(0.01)

    def run() -> None:
        with runner:
            runner.run(main())

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ready.result(10)
    finally:
        done.set()
        thread.join()


# aiomonitor's own start waits for ever where warnings are errors: its web page gives one.
their_start = pytest.mark.filterwarnings("ignore")


@their_start
def test_monitors_of_the_host_answer_for_their_own_loops(
    second_loop: tuple[asyncio.AbstractEventLoop, Agent],
) -> None:
    """Registered twice, in two monitors the host started: each tells its loop, or the one named."""
    register()
    register()
    other, _ = second_loop

    def monitor(loop: asyncio.AbstractEventLoop) -> Any:
        port = free_ports()
        return aiomonitor.start_monitor(loop, port=port, webui_port=port + 1, console_enabled=False)

    async def main() -> tuple[list[str], list[str]]:
        with (
            loopwatch.install(loop_name="first", exporters=[]),
            monitor(asyncio.get_running_loop()) as own,
            monitor(other) as others,
        ):
            first = await asyncio.to_thread(asked("help", "lag", "lag --loop second"), own.port)
            second = await asyncio.to_thread(asked("threshold", "loop --loop first"), others.port)
            return first, second

    (shown, *first), second = asyncio.run(main())
    assert all(re.search(rf"^  {name} ", shown, re.MULTILINE) for name in COMMANDS)
    assert [answer.split(":")[0] for answer in first] == ["loop first", "loop second"]
    assert [answer.split(":")[0] for answer in second] == ["loop second", "loop first"]


def test_a_command_of_the_host_keeps_its_name(child: Child) -> None:
    """Where the host has a command `lag`, ours is `loopwatch-lag`."""
    done = child(
        """
        import warnings
        warnings.simplefilter("ignore")
        import aiomonitor, click
        @click.command("lag")
        def theirs(): pass
        aiomonitor.monitor_cli.add_command(theirs)
        from loopwatch.integrations.aiomonitor import register
        register(); register()
        commands = aiomonitor.monitor_cli.commands
        print(commands["lag"] is theirs, "loopwatch-lag" in commands, "loopwatch-loop" in commands)
        """
    )
    assert done.stdout == "True True False\n", done.stderr


@their_start
def test_without_a_watched_loop_the_commands_say_so() -> None:
    """A monitor of the host on a loop that nobody watches answers with what to do."""
    register()

    async def main() -> list[str]:
        port = free_ports()
        loop = asyncio.get_running_loop()
        with aiomonitor.start_monitor(loop, port=port, webui_port=port + 1) as monitor:
            return await asyncio.to_thread(asked("lag"), monitor.port)

    assert "call loopwatch.install()" in asyncio.run(main())[0]


def test_python_is_there_when_asked_for(run_exact: Run) -> None:
    """With console_repl the command `console` runs code on the loop; stopping then hangs up."""

    async def main() -> str:
        agent = watched(console_repl=True)
        terminal = await asyncio.to_thread(Terminal, port_of(agent))
        await asyncio.to_thread(terminal.ask, "console", until=">>> ")
        terminal.say("__import__('threading').current_thread().name * 2")
        said = await asyncio.to_thread(terminal._read, lambda text: "MainThreadMainThread" in text)
        monitor = console_of(agent)._monitor
        assert monitor is not None
        assert not is_free(monitor._console_port)
        agent.stop()
        await asyncio.to_thread(terminal.rest)
        terminal.close()
        while not is_free(monitor._console_port):
            await asyncio.sleep(0.01)
        while "loopwatch-console" in [thread.name for thread in threading.enumerate()]:
            await asyncio.sleep(0.01)
        return said

    assert "MainThreadMainThread" in run_exact(main())


def test_a_web_page_cannot_operate_the_console() -> None:
    """What a page can have a browser send does nothing, though the body of it is perfect telnet."""
    body = IAC + b"\xfa\x18\x00dumb" + IAC + b"\xf0" + b"\rthreshold 1.5s\r"
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def talk(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as page:
            page.sendall(head + body)
            said = b""
            while chunk := page.recv(4096):
                said += chunk
            return said

    async def main() -> tuple[bytes, float]:
        with watched() as agent:
            said = await meanwhile(talk, agent)
            return said, agent.snapshot().thresholds.stall_s

    said, stall_s = asyncio.run(main())
    assert said.endswith(b"this console speaks telnet: connect with a telnet client\r\n")
    assert stall_s == loopwatch.Config().stall_threshold_s


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a terminal: what a person has, and what a program has."""
    ends = os.openpty()
    termios.tcsetwinsize(ends[0], (24, 80))
    yield ends
    for end in ends:
        os.close(end)


def on_terminal(end: int, *command: str, cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, *command],
        stdin=end,
        stdout=end,
        stderr=end,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm"},
    )


def test_aiomonitors_client_gets_in(terminal: tuple[int, int], tmp_path: Path) -> None:
    """`python -m aiomonitor.cli` says nothing before it is offered something, and is served."""
    person, program = terminal

    def talk(port: int) -> str:
        with on_terminal(program, "-m", "aiomonitor.cli", "-p", str(port), cwd=tmp_path) as client:
            said = b""
            for end, answer in ((PROMPT.encode(), b"lag\r"), (b"limit 100 ms", b"exit\r")):
                while end not in said:
                    said += os.read(person, 4096)
                os.write(person, answer)
            client.wait(10)
            return said.decode()

    async def main() -> str:
        with watched() as agent:
            return await meanwhile(talk, agent)

    assert "loop main: serving" in CONTROL.sub("", asyncio.run(main()))


def test_clients_that_leave_do_not_reach_the_hosts_terminal(
    terminal: tuple[int, int], tmp_path: Path
) -> None:
    """Nothing is printed to it and its settings stay, whatever way a client is gone."""
    person, program = terminal
    script = tmp_path / "host.py"
    script.write_text(
        "import asyncio, loopwatch\n"
        "async def main():\n"
        "    agent = loopwatch.install(console=True, console_port=0, exporters=[])\n"
        "    print(agent._exporters[-1].port)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    before = termios.tcgetattr(program)
    with on_terminal(program, str(script), cwd=tmp_path) as host:
        try:
            said = b""
            while not said.endswith(b"\n"):
                said += os.read(person, 100)
            port = int(said)
            killed, unread, ahead = (Terminal(port) for _ in range(3))
            unread.say("help")
            ahead.say("\r".join(["lag"] * 20))
            killed.reset()
            unread.close()
            ahead.close()
            with Terminal(port) as stays:
                assert "serving" in stays.ask("lag")
            assert termios.tcgetattr(program) == before
            os.set_blocking(person, False)
            with pytest.raises(BlockingIOError):
                pytest.fail(os.read(person, 1000).decode())
        finally:
            host.terminate()


@pytest.mark.parametrize("leave", [False, True])
def test_those_who_say_nothing_do_not_keep_others_out(
    leave: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many as may come in, silent or gone without a word: they lose their places."""

    def hold(agent: Agent) -> list[str]:
        port = port_of(agent)
        asked("lag")(port)
        until(lambda: not sessions_of(agent))
        monkeypatch.setattr(f"{LoopMonitor.__module__}._MAX_SESSIONS", 2)
        if not leave:
            monkeypatch.setattr(f"{LoopMonitor.__module__}._GREETING_S", 0.3, raising=False)
        silent = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(2)]
        until(lambda: len(sessions_of(agent)) == 2)
        monkeypatch.undo()
        for session in sessions_of(agent):
            assert session.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        for connection in silent:
            while not leave and connection.recv(4096):
                pass
            connection.close()
        until(lambda: not sessions_of(agent))
        return asked("lag")(port)

    async def main() -> list[str]:
        with watched() as agent:
            return await asyncio.to_thread(hold, agent)

    assert "serving" in asyncio.run(main())[0]


def test_a_client_that_types_too_far_ahead_is_hung_up_on() -> None:
    """More than fits while its command is at work: others are served on, and `stop` stops."""

    def talk(port: int) -> list[str]:
        with Terminal(port) as pastes:
            pastes.say("flame 60")
            with suppress(OSError):
                pastes.say("x" * 100_000)
            pastes.rest()
            return asked("lag")(port)

    async def main() -> list[str]:
        with watched() as agent:
            answers = await meanwhile(talk, agent)
        assert "loopwatch-console" not in [t.name for t in threading.enumerate()]
        return answers

    assert "serving" in asyncio.run(main())[0]


def test_loops_of_one_process_share_a_port(caplog: pytest.LogCaptureFixture) -> None:
    """The second one says whose console answers for it, which is no error, and it does."""
    caplog.set_level(logging.INFO, "loopwatch")

    async def second(port: int) -> str:
        with watched(console_port=port, loop_name="second"):
            return (await asyncio.to_thread(asked("lag --loop second"), port))[0]

    async def main() -> tuple[int, str]:
        with watched(loop_name="first", console_port=free_ports()) as agent:
            port = port_of(agent)
            return port, await asyncio.to_thread(lambda: asyncio.run(second(port)))

    port, answer = asyncio.run(main())
    assert "loop second: serving" in answer
    assert [r.levelname for r in caplog.records if r.levelno > logging.INFO] == []
    assert f"port {port} is the console of another loop" in caplog.text


def test_a_taken_port_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line says which port and what to do; the loop is watched, and nothing is left running."""
    told = Told()

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with watched(console_port=port, on_stall=told) as agent:
                assert console_of(agent).port is None
                assert "loopwatch-console" not in [t.name for t in threading.enumerate()]
                time.sleep(0.15)
                await settle(told)

    asyncio.run(main())
    (line,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert re.search(r"cannot listen on 127.0.0.1:\d+ \(Address already in use\)", line)
    assert "console_port_count" in line
    assert len(of_this_file(told)) == 1


def test_each_worker_takes_the_first_free_port(child: Child) -> None:
    """Of a parent and a child with the same settings one has the port, the other the next."""
    port = free_ports()
    script = f"""
    async def main():
        with loopwatch.install(console=True, console_port={port}, console_port_count=2) as agent:
            print(agent._exporters[-1].port)
    run(main())
    """

    async def main() -> tuple[int, str]:
        with watched(console_port=port, console_port_count=2) as agent:
            done = await asyncio.to_thread(child, script)
            return port_of(agent), done.stdout

    assert asyncio.run(main()) == (port, f"{port + 1}\n")


def test_ports_beyond_the_last_are_refused() -> None:
    """A port and a count that go beyond 65535 are a mistake in the settings."""
    with pytest.raises(ConfigError, match="console_port=65535 and console_port_count=2 go beyond"):
        loopwatch.Config(console_port=65535, console_port_count=2)


def test_the_log_says_how_to_connect(caplog: pytest.LogCaptureFixture) -> None:
    """The port is on record with the command to type; an address beyond loopback is warned of."""
    caplog.set_level(logging.INFO, "loopwatch")

    async def main() -> int:
        with watched(console_host="0.0.0.0") as agent:
            await meanwhile(asked("lag"), agent)
            return port_of(agent)

    port = asyncio.run(main())
    said = {r.levelname: r.getMessage() for r in caplog.records if r.name == "loopwatch"}
    assert f"telnet 0.0.0.0 {port}" in said["INFO"]
    assert f"python -m aiomonitor.cli -H 0.0.0.0 -p {port}" in said["INFO"]
    assert "asks no password" in said["WARNING"]


def test_stop_hangs_up_on_everybody() -> None:
    """One who waits, one in the middle of `flame 60`, one who never said what terminal it has.

    The thread is gone when `stop` returns, though no client says where its cursor is.
    """

    async def main() -> None:
        agent = watched()
        port = port_of(agent)
        waits = await asyncio.to_thread(Terminal, port, "xterm")
        burns = await asyncio.to_thread(Terminal, port)
        burns.say("flame 60")
        silent = socket.create_connection(("127.0.0.1", port), timeout=10)
        while len(sessions_of(agent)) < 3:
            await asyncio.sleep(0.01)
        tasks = asyncio.all_tasks()
        agent.stop()
        assert "loopwatch-console" not in [t.name for t in threading.enumerate()]
        assert not is_open(port)
        for terminal in (waits, burns):
            assert b"looks in" not in await asyncio.to_thread(terminal.rest)
            terminal.close()
        while await asyncio.to_thread(silent.recv, 4096):
            pass
        silent.close()
        assert asyncio.all_tasks() == tasks == {asyncio.current_task()}

    asyncio.run(main())


def test_stop_does_not_wait_for_the_import(child: Child, tmp_path: Path) -> None:
    """While aiomonitor is being imported `stop` closes the port itself; the thread ends later."""
    (tmp_path / "janus.py").write_text(
        "import __main__\n__main__.begun.set()\n__main__.go_on.wait(10)\n"
    )
    done = child(
        """
        import socket, warnings
        warnings.simplefilter("ignore")
        begun, go_on = threading.Event(), threading.Event()
        async def main():
            agent = loopwatch.install(console=True, console_port=0)
            port = agent._exporters[-1].port
            await asyncio.to_thread(begun.wait, 10)
            agent.stop()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                print("somebody listens")
            except ConnectionRefusedError:
                print("nobody listens")
            console = [t for t in threading.enumerate() if t.name == "loopwatch-console"]
            go_on.set()
            for thread in console:
                thread.join(10)
                print("ended later", not thread.is_alive())
        run(main())
        """
    )
    assert done.stdout == "nobody listens\nended later True\n", done.stderr
    assert "console on" not in done.stderr


def test_stop_at_once_leaves_nothing() -> None:
    """An agent that is stopped before its console has come up has none afterwards."""

    async def main() -> int:
        with watched() as agent:
            return port_of(agent)

    assert not is_open(asyncio.run(main()))


def test_the_hosts_task_factory_stays_the_hosts(caplog: pytest.LogCaptureFixture) -> None:
    """One that is set meanwhile survives `stop`; one that was there keeps the hook off."""

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Any:
        return asyncio.Task(coro, loop=loop, **kwargs)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with watched() as agent:
            await meanwhile(asked("lag"), agent)
            assert loop.get_task_factory() is None
            loop.set_task_factory(factory)
        assert loop.get_task_factory() is factory
        with watched(console_task_hook=True) as agent:
            await meanwhile(asked("lag"), agent)
            assert loop.get_task_factory() is factory
        assert loop.get_task_factory() is factory

    asyncio.run(main())
    assert "console_task_hook stays off" in caplog.text


def test_the_task_hook_is_there_when_asked_for(run_exact: Run) -> None:
    """With console_task_hook `ps` knows where a task was made; `stop` takes the hook off."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        with watched(console_task_hook=True) as agent:
            await meanwhile(asked("lag"), agent)
            task = asyncio.create_task(asyncio.sleep(60), name="made-here")
            await asyncio.sleep(0.01)
            (shown,) = await meanwhile(asked("ps -f made-here"), agent)
            task.cancel()
        assert loop.get_task_factory() is None
        await asyncio.sleep(0)
        return shown

    shown = run_exact(main())
    assert re.search(r"made-here +\S*sleep\S* +\S*test_console\.py:\d+", shown), shown


def test_a_forked_child_lets_go_of_the_port(child: Child) -> None:
    """When the parent stops, nobody listens any more, though a child of its lives on."""
    done = child(
        """
        import socket, warnings
        warnings.simplefilter("ignore")
        async def main():
            agent = loopwatch.install(console=True, console_port=0)
            console = agent._exporters[-1]
            port = console.port
            while console._monitor is None:
                await asyncio.sleep(0.01)
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(writer)
                os.read(reader, 1)
                os._exit(0)
            os.close(reader)
            agent.stop()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                print("somebody listens")
            except ConnectionRefusedError:
                print("nobody listens")
            os.close(writer)
            os.waitpid(pid, 0)
        run(main())
        """
    )
    assert done.stdout == "nobody listens\n", done.stderr


def test_a_fork_waits_for_the_import(child: Child) -> None:
    """A child that is forked while the console's thread imports aiomonitor can import it, too."""
    done = child(
        """
        import warnings
        warnings.simplefilter("ignore")
        async def main():
            with loopwatch.install(console=True, console_port=0):
                while "aiomonitor" not in sys.modules:
                    await asyncio.sleep(0)
                pid = os.fork()
                if pid == 0:
                    signal.alarm(5)
                    import aiomonitor
                    os._exit(0)
                print(os.waitpid(pid, 0)[1])
        run(main())
        """
    )
    assert done.stdout == "0\n", done.stderr


def test_without_the_extra_installing_says_what_to_install(child: Child) -> None:
    """`console=True` without aiomonitor is an error at once, and nothing is watched."""
    done = child(
        """
        sys.modules["aiomonitor"] = None
        async def main():
            try:
                loopwatch.install(console=True)
            except loopwatch.MissingExtraError as error:
                print(error, loopwatch.current())
            try:
                from loopwatch.integrations.aiomonitor import register
                register()
            except loopwatch.MissingExtraError as error:
                print(error)
        run(main())
        """
    )
    message = "the aiomonitor console needs an extra: run `pip install 'loopwatch[console]'`"
    assert done.stdout == f"{message} None\n{message}\n", done.stderr


def test_an_aiomonitor_that_cannot_be_imported_is_one_line(child: Child) -> None:
    """Where something it needs is missing, one line names it; the loop is watched all the same."""
    done = child(
        """
        import warnings
        warnings.simplefilter("ignore")
        sys.modules["janus"] = None
        async def main():
            told = []
            with loopwatch.install(console=True, console_port=0, on_stall=told.append) as agent:
                while agent._exporters[-1].port is not None:
                    await asyncio.sleep(0.01)
                time.sleep(0.15)
                while not any(stall.phase == "final" for stall in told):
                    await asyncio.sleep(0.01)
                print(agent.snapshot().errors_total["exporter"])
        run(main())
        """
    )
    assert done.stdout == "1\n", done.stderr
    lines = [line for line in done.stderr.splitlines() if "the console does not work" in line]
    assert len(lines) == 1
    assert re.search(r"with aiomonitor \S+ \(ModuleNotFoundError: janus\); try `pip", lines[0])
