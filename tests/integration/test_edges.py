"""What a review found by trying: each of these once crashed, lied, leaked or told twice."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import signal
import socket
import threading
import time
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector

import loopwatch
from loopwatch.exporters.prometheus import PrometheusExporter
from tests.conftest import FACTORIES, Child, Run, Told, settle
from tests.unit.factories import ledger


@pytest.mark.parametrize(
    "close",
    [
        "threading.Thread(target=agent.stop).start(); loop.close()",
        "bound(); time.sleep(0.2); agent.stop()",
        "bound()",
        "type(loop).close(loop); agent.stop()",
    ],
)
def test_no_way_of_closing_a_loop_crashes_the_process(
    child: Child, exact_loop: str, close: str
) -> None:
    """Stopped from elsewhere at that moment, or closed past our hook: a clean exit."""
    ended = child(
        f"""
        loop = factory(sys.argv[1])()
        bound = loop.close
        async def main():
            agent = loopwatch.install()
            await asyncio.sleep(0.12)
            return agent
        agent = loop.run_until_complete(main())
        {close}
        time.sleep(0.1)
        """,
        exact_loop,
    )
    assert (ended.returncode, ended.stderr) == (0, "")


def test_loops_that_are_left_behind_unclosed_are_let_go(exact_loop: str) -> None:
    """A worker thread that ends without closing its loop: our threads end with it."""
    loops = []

    def work() -> None:
        loop = FACTORIES[exact_loop]()
        loops.append(loop)
        loop.run_until_complete(install())

    async def install() -> None:
        loopwatch.install()
        await asyncio.sleep(0.02)

    for _ in range(5):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    deadline = time.monotonic() + 3
    while _own_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert _own_threads() == 0
    for loop in loops:
        loop.close()


def _own_threads() -> int:
    return sum(t.name.startswith("loopwatch") for t in threading.enumerate())


def test_a_working_directory_that_is_gone_is_no_obstacle(child: Child) -> None:
    """`install` works where `getcwd` fails."""
    ended = child(
        """
        import tempfile
        folder = tempfile.mkdtemp()
        os.chdir(folder)
        os.rmdir(folder)
        async def main():
            with loopwatch.install() as agent:
                await asyncio.sleep(0.05)
                time.sleep(0.15)
                await asyncio.sleep(0.1)
                print(agent.stalls[0].culprit.function)
        run(main())
        """
    )
    assert (ended.returncode, ended.stdout) == (0, "__main__.main\n"), ended.stderr


def test_what_others_put_on_the_loop_before_us_is_put_back() -> None:
    """An older wrapper of select and of close works on, under ours and after us."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        select, close = loop._selector.select, loop.close
        calls = []

        def theirs(timeout: float | None = None) -> Any:
            calls.append(timeout)
            return select(timeout)

        def their_close() -> None:
            close()

        loop._selector.select, loop.close = theirs, their_close
        agent = loopwatch.install()
        await asyncio.sleep(0.01)
        agent.stop()
        assert calls
        assert loop._selector.select is theirs
        assert loop.close is their_close

    asyncio.run(main())


def test_a_beat_between_two_blocking_callbacks_does_not_split_the_stall(
    run_exact: Run, told: Told
) -> None:
    """One stretch without service is one stall, whatever ran in it."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with loopwatch.install(on_stall=told, tick_interval_s=0.1):
            await asyncio.sleep(0.25)
            total = 0.0
            for _ in range(4):
                now = loop.time()
                # Due before and after a beat, in one iteration: this callback makes both late.
                loop.call_at(now + 0.02, time.sleep, 0.15)
                loop.call_at(now + 0.16, time.sleep, 0.1)
                loop.call_soon(time.sleep, 0.2)
                total += 0.45
                await asyncio.sleep(0.6)
            await settle(told, 4)
            return total

    total = run_exact(main())
    assert sum(s.duration_s for s in told.final) == pytest.approx(total, abs=0.15)
    spans = sorted((s.started_at_s, s.started_at_s + s.duration_s) for s in told.final)
    for (_, end), (start, _) in itertools.pairwise(spans):
        assert end <= start + 0.005


def test_an_exception_out_of_the_wait_leaves_no_phantom_stall(child: Child) -> None:
    """A signal handler that raises SystemExit in an idle loop: nobody stalled."""
    ended = child(
        """
        def out(*_):
            raise SystemExit(7)
        signal.signal(signal.SIGTERM, out)
        async def main():
            loopwatch.install(tick_interval_s=60, on_stall=lambda stall: print("told", stall))
            threading.Timer(0.6, os.kill, (os.getpid(), signal.SIGTERM)).start()
            await asyncio.sleep(30)
        run(main())
        """
    )
    assert (ended.returncode, ended.stdout) == (7, "")


def test_a_loop_that_is_run_again_on_another_thread_blames_that_thread(
    exact_loop: str, told: Told
) -> None:
    """Set up in the main thread, run in a worker: stack, thread and CPU are the worker's."""
    loop = FACTORIES[exact_loop]()

    async def install() -> loopwatch.Agent:
        return loopwatch.install(on_stall=told)

    def guilty() -> None:
        time.sleep(0.3)

    agent = loop.run_until_complete(install())
    worker = threading.Thread(target=loop.run_forever, name="io")
    worker.start()
    time.sleep(0.6)
    loop.call_soon_threadsafe(guilty)
    time.sleep(0.7)
    loop.call_soon_threadsafe(loop.stop)
    worker.join()
    agent.stop()
    loop.close()
    (final,) = told.final
    assert final.thread == "io"
    assert final.culprit is not None
    assert final.culprit.function.endswith("guilty")


def test_a_snapshot_may_be_read_while_one_is_read() -> None:
    """As a signal handler does that interrupts a reader."""
    book = ledger()
    with book._lock:
        assert book.snapshot().loop == "main"


def test_a_task_of_a_foreign_class_costs_its_name_not_the_stack(told: Told) -> None:
    """get_coro() that raises: the culprit is told all the same."""

    class Odd(asyncio.Task):  # type: ignore[type-arg]
        def get_coro(self) -> Any:
            raise RuntimeError("odd")

    async def blocked() -> None:
        time.sleep(0.2)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with loopwatch.install(on_stall=told):
            await asyncio.sleep(0.05)
            await Odd(blocked(), loop=loop)
            await settle(told)

    asyncio.run(main())
    (final,) = told.final
    assert final.task is None
    assert final.culprit is not None
    assert final.culprit.function.endswith("blocked")


class Broken(Collector):
    """A collector of the host's that fails at each scrape."""

    def collect(self) -> Any:
        raise KeyError("secret")
        yield

    def describe(self) -> Any:
        return []


def test_a_collector_that_raises_is_an_answer_not_a_closed_connection() -> None:
    """500 with the type, counted, and the other paths go on."""
    registry = CollectorRegistry()
    registry.register(Broken())

    async def main() -> tuple[int, bytes, loopwatch.Snapshot]:
        with loopwatch.install(http_port=0, exporters=[PrometheusExporter(registry)]) as agent:

            def ask() -> tuple[int, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", agent.http_port, timeout=5)
                connection.request("GET", "/metrics")
                response = connection.getresponse()
                answer = response.status, response.read()
                connection.request("GET", "/livez")
                assert connection.getresponse().read() == b"ok\n"
                connection.close()
                return answer

            status, body = await asyncio.to_thread(ask)
            return status, body, agent.snapshot()

    status, body, now = asyncio.run(main())
    assert (status, body) == (500, b"KeyError while reading; see the log\n")
    assert now.errors_total["http"] == 1


def test_a_server_without_file_descriptors_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """accept() fails at once, again and again: a few tries a second, not a full core."""
    accept = socket.socket.accept
    tries = []

    def failing(self: socket.socket) -> Any:
        tries.append(1)
        if len(tries) < 1000:
            raise OSError(24, "Too many open files")
        return accept(self)

    async def main() -> None:
        with loopwatch.install(http_port=0) as agent:
            await asyncio.sleep(0.05)
            monkeypatch.setattr(socket.socket, "accept", failing)
            with socket.create_connection(("127.0.0.1", agent.http_port), 2):
                await asyncio.sleep(0.6)
                monkeypatch.undo()
                await asyncio.sleep(0.2)

    asyncio.run(main())
    assert 1 <= len(tries) <= 10


def test_numbers_never_run_backwards(run_any: Run) -> None:
    """Counters read in a tight loop from two threads, over stalls and pauses of the loop."""
    worst: dict[str, float] = {}

    def watch(agent: loopwatch.Agent, done: threading.Event) -> None:
        before: dict[str, float] = {}
        while not done.is_set():
            now = agent.snapshot()
            values = {
                "stall": sum(now.stall_s_total.values()),
                "busy": now.busy_s_total or 0.0,
                "idle": now.idle_s_total or 0.0,
                "cpu": now.cpu_s_total or 0.0,
                "stalls": float(sum(now.stalls_total.values())),
                "lag": float(sum(now.lag.counts)),
            }
            for name, value in values.items():
                worst[name] = min(worst.get(name, 0.0), value - before.get(name, 0.0))
            before = values

    async def main() -> None:
        done = threading.Event()
        with loopwatch.install(stall_threshold_s=0.02) as agent:
            watcher = threading.Thread(target=watch, args=(agent, done))
            watcher.start()
            for _ in range(25):
                time.sleep(0.03)
                await asyncio.sleep(0.01)
            done.set()
            watcher.join()

    run_any(main())
    assert set(worst.values()) == {0.0}


def test_signals_are_untouched(run_exact: Run) -> None:
    """The host's own handlers work while it is watched."""
    seen = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with loopwatch.install():
            loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
            signal.raise_signal(signal.SIGUSR1)
            await asyncio.sleep(0.05)
            loop.remove_signal_handler(signal.SIGUSR1)

    run_exact(main())
    assert seen == [1]


def test_after_a_stall_the_next_beat_is_soon(run_exact: Run) -> None:
    """What stops the process right after a stall is not missed until the next lazy beat."""

    async def main() -> float:
        with loopwatch.install(exporters=[]) as agent:
            await asyncio.sleep(0.3)
            time.sleep(0.2)
            await asyncio.sleep(0.005)
            return (agent._sidecar.due_ns - time.monotonic_ns()) / 1e9

    assert run_exact(main()) < 0.06


def test_an_exporter_that_cannot_start_undoes_what_it_had_begun() -> None:
    """It is left out, and nothing of it stays; the loop is watched all the same."""
    done: list[str] = []

    class Half(loopwatch.Exporter):
        name = "half"

        def start(self, source: object) -> None:
            done.append("begun")
            raise RuntimeError

        def stop(self) -> None:
            done.append("undone")

    async def main() -> int:
        with loopwatch.install(exporters=[Half()]) as agent:
            return agent.snapshot().errors_total["exporter"]

    assert asyncio.run(main()) == 1
    assert done == ["begun", "undone"]


def test_a_name_is_free_when_its_agent_has_left_the_metrics(told: Told) -> None:
    """An exporter that takes its time to stop still shows the loop: a second one has a number."""
    stopping, stopped = threading.Event(), threading.Event()

    class Slow(loopwatch.Exporter):
        name = "slow"

        def stop(self) -> None:
            stopping.set()
            stopped.wait(5)

    async def first() -> None:
        loopwatch.install(exporters=[Slow()]).stop()

    async def second() -> str:
        with loopwatch.install(exporters=[]) as agent:
            return agent.loop_name

    thread = threading.Thread(target=lambda: asyncio.run(first()))
    thread.start()
    stopping.wait(5)
    assert asyncio.run(second()) == "main-2"
    stopped.set()
    thread.join(5)
    assert asyncio.run(second()) == "main"
