"""Ends, kills, forks: in child processes, with real signals."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.conftest import Child, start_child


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_for(path: Path, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.exists()


def test_an_endless_block_is_on_record(tmp_path: Path, exact_loop: str) -> None:
    """The stall never ends; its record is in the log, and a kill changes nothing about that."""
    log = tmp_path / "stalls.jsonl"
    process = start_child(
        tmp_path,
        """
        def forever():
            while True:
                time.sleep(3600)
        async def main():
            loopwatch.install(stall_log=sys.argv[2])
            await asyncio.sleep(0.1)
            forever()
        run(main(), sys.argv[1])
        """,
        exact_loop,
        str(log),
    )
    with process:
        wait_for(log)
        time.sleep(0.5)
        process.kill()
    (record,) = records(log)
    assert record["phase"] == "ongoing"
    assert record["culprit"]["function"] == "__main__.forever"  # type: ignore[index]
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("when", ["idle", "stalled"])
def test_sigterm_ends_the_process_at_once(tmp_path: Path, exact_loop: str, when: str) -> None:
    """The default disposition is untouched: the process is gone within a second."""
    process = start_child(
        tmp_path,
        """
        async def main():
            loopwatch.install()
            await asyncio.sleep(0.2)
            print("ready", flush=True)
            if sys.argv[2] == "stalled":
                time.sleep(60)
            await asyncio.sleep(60)
        run(main(), sys.argv[1])
        """,
        exact_loop,
        when,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(5)
    assert time.monotonic() - began < 1
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("how", ["return", "sys.exit(3)", "raise KeyboardInterrupt"])
def test_a_process_that_ends_in_mid_stall_ends_within_a_second(
    child: Child, tmp_path: Path, exact_loop: str, how: str
) -> None:
    """Right after a block, without stop(), with records still on the way: out, and they arrive."""
    log = tmp_path / "stalls.jsonl"
    ended = child(
        f"""
        async def main():
            loopwatch.install(stall_log=sys.argv[2], http_port=0)
            await asyncio.sleep(0.1)
            time.sleep(0.3)
            print(time.time(), flush=True)
            {how}
        run(main(), sys.argv[1])
        """,
        exact_loop,
        str(log),
    )
    assert time.time() - float(ended.stdout) < 1.5
    assert {r["phase"] for r in records(log)} == {"ongoing", "final"}
    if how == "return":
        assert (ended.returncode, "Traceback" in ended.stderr) == (0, False)


def test_an_agent_left_running_in_a_daemon_thread_does_not_hold_the_exit(child: Child) -> None:
    """A loop in a daemon thread, in mid-stall, never stopped nor closed: exit within a second."""
    ended = child(
        """
        async def main():
            loopwatch.install()
            await asyncio.sleep(0.1)
            time.sleep(60)
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        time.sleep(0.5)
        print(time.time(), flush=True)
        """
    )
    assert ended.returncode == 0
    assert time.time() - float(ended.stdout) < 1.5
    assert "Traceback" not in ended.stderr


def test_a_fork_watches_nothing_of_its_parent(
    child: Child, tmp_path: Path, exact_loop: str
) -> None:
    """The child has no agent, no series and no socket of the parent, and can watch its own loop."""
    log = tmp_path / "stalls.jsonl"
    ended = child(
        """
        import gc, socket
        from prometheus_client import generate_latest
        def in_child(port):
            assert loopwatch.current() is None
            assert "loopwatch_tasks" not in generate_latest().decode()
            assert not [c for c in gc.callbacks if "loopwatch" in repr(c)]
            names = [t.name for t in threading.enumerate()]
            assert not [n for n in names if n.startswith("loopwatch")], names
            time.sleep(0.3)  # the parent's loop object is here, not its watchdog
            async def own():
                with loopwatch.install(loop_name="child", stall_log=sys.argv[2]):
                    await asyncio.sleep(0.1)
                    time.sleep(0.2)
                    await asyncio.sleep(0.1)
                    assert 'loop="main"' not in generate_latest().decode()
                    assert 'loop="child"' in generate_latest().decode()
            run(own(), sys.argv[1])

        async def main():
            agent = loopwatch.install(http_port=0)
            await asyncio.sleep(0.1)
            pid = os.fork()
            if pid == 0:
                try:
                    # A child of a running loop has to leave it first, as multiprocessing does.
                    asyncio._set_running_loop(None)
                    in_child(agent.http_port)
                except BaseException as error:
                    import traceback; traceback.print_exc()
                    os._exit(1)
                os._exit(0)
            while os.waitpid(pid, os.WNOHANG) == (0, 0):
                await asyncio.sleep(0.02)
            with socket.create_connection(("127.0.0.1", agent.http_port), 2) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200")
            assert loopwatch.current() is agent
            assert sum(agent.snapshot().stalls_total.values()) == 0
            agent.stop()
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        run(main(), sys.argv[1])
        """,
        exact_loop,
        str(log),
    )
    assert ended.returncode == 0, ended.stderr
    assert "Traceback" not in ended.stderr
    stalls = records(log)
    assert {r["loop"] for r in stalls} == {"child"}
    assert [r["phase"] for r in stalls] == ["ongoing", "final"]


def test_a_stopped_process_is_told_as_one_stall_at_most(tmp_path: Path, exact_loop: str) -> None:
    """SIGSTOP for half a second and SIGCONT: the app runs on, and the books stay sane."""
    process = start_child(
        tmp_path,
        """
        async def main():
            agent = loopwatch.install()
            await asyncio.sleep(0.3)
            print("ready", flush=True)
            await asyncio.sleep(1.5)
            now = agent.snapshot()
            print(json.dumps([sum(now.stalls_total.values()), sum(now.errors_total.values())]))
        run(main(), sys.argv[1])
        """,
        exact_loop,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        stalls, errors = json.loads(process.stdout.readline())
    assert process.wait(5) == 0
    assert stalls <= 1
    assert errors == 0
