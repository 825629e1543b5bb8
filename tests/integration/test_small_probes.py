"""Other threads, the queue of callbacks, debuggers, and blocking on purpose."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import pytest

from loopwatch import allow_blocking
from loopwatch.clock import monotonic_ns
from loopwatch.errors import ConfigError
from loopwatch.probes import allowed
from loopwatch.probes.allowed import Stretch, reason_for
from loopwatch.probes.backlog import Backlog
from loopwatch.probes.debugger import DebuggerProbe, is_debugger
from loopwatch.probes.threads import OtherThreads
from tests.conftest import Run, start_child

MS = 1_000_000
WAIT_S = 20

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")


# Other threads.


class Worker:
    """A thread that computes for some CPU time whenever it is told to, and waits otherwise."""

    def __init__(self, name: str) -> None:
        self._work: deque[int] = deque()
        self._told = threading.Semaphore(0)
        self._done = threading.Semaphore(0)
        self.thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.use(-1)
        self.thread.join()

    def use(self, cpu_ns: int) -> None:
        self._work.append(cpu_ns)
        self._told.release()
        self._done.acquire()

    def _run(self) -> None:
        while True:
            self._told.acquire()
            cpu_ns = self._work.popleft()
            until_ns = time.thread_time_ns() + cpu_ns
            while time.thread_time_ns() < until_ns:
                hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 1000)
            self._done.release()
            if cpu_ns < 0:
                return


@linux
def test_the_thread_that_computes_is_named() -> None:
    """The thread with most CPU time since the baseline comes first, with that time."""
    with Worker("hog") as hog, Worker("helper") as helper, Worker("idle"):
        threads = OtherThreads()
        me = threading.get_ident()
        threads.note(monotonic_ns(), me)
        start_ns = monotonic_ns()
        hog.use(100 * MS)
        helper.use(30 * MS)
        shares = threads.since(start_ns, me)
        assert [share.name for share in shares[:2]] == ["hog", "helper"]
        assert shares[0].ident == hog.thread.ident
        assert shares[0].cpu_ns >= 90 * MS
        assert 27 * MS <= shares[1].cpu_ns < shares[0].cpu_ns
        assert me not in [share.ident for share in shares]


@linux
def test_what_a_thread_used_before_does_not_count() -> None:
    """Only what lies after the latest baseline before the stall is told."""
    with Worker("early") as early, Worker("late") as late:
        threads = OtherThreads()
        me = threading.get_ident()
        threads.note(monotonic_ns(), me)
        early.use(150 * MS)
        threads.note(monotonic_ns(), me)
        start_ns = monotonic_ns()
        late.use(30 * MS)
        threads.note(monotonic_ns(), me)
        assert threads.since(start_ns, me)[0].name == "late"
        assert threads.since(0, me)[0].name == "early"


@linux
def test_a_new_thread_counts_with_all_it_used() -> None:
    """A thread that began after the baseline is told, our own and the loop's never are."""
    threads = OtherThreads()
    with Worker("loop") as loop, Worker("loopwatch-like-ours") as ours:
        loop_ident = loop.thread.ident or 0
        threads.note(monotonic_ns(), loop_ident)
        with Worker("new") as new:
            start_ns = monotonic_ns()
            for worker in (loop, ours, new):
                worker.use(30 * MS)
            names = [share.name for share in threads.since(start_ns, loop_ident)]
        assert names[0] == "new"
        assert not {"loop", "loopwatch-like-ours"} & set(names)


def test_a_thread_that_has_ended_is_remembered() -> None:
    """One thread that is gone is named; of two nobody knows which it was."""
    threads = OtherThreads()
    threads.remember()
    assert threads.vanished() is None
    with Worker("one"):
        threads.remember()
        assert threads.vanished() is None
    assert threads.vanished() == "one"
    threads.remember()
    assert threads.vanished() is None
    with Worker("two"), Worker("three"):
        threads.remember()
    assert threads.vanished() is None


# The queue of callbacks.


def test_the_front_changes_with_each_callback(run_exact: Run) -> None:
    """While callbacks wait each sees another front, and sees it all the time it runs."""

    async def main() -> list[tuple[int | None, int | None]]:
        loop = asyncio.get_running_loop()
        backlog = Backlog(loop)
        assert backlog.known
        fronts: list[tuple[int | None, int | None]] = []
        done = loop.create_future()
        for _ in range(5):
            loop.call_soon(lambda: fronts.append((backlog.front(), backlog.front())))
        loop.call_soon(done.set_result, None)
        await done
        return fronts

    fronts = run_exact(main())
    assert len(fronts) == 5
    assert all(first == second is not None for first, second in fronts)
    assert all(earlier != later for earlier, later in pairwise(fronts))


def test_another_thread_sees_the_front(run_exact: Run) -> None:
    """The watchdog sees the same front as long as a callback blocks, and another in the next."""
    seen: list[set[int | None]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        backlog = Backlog(loop)
        done = loop.create_future()

        def block() -> None:
            looks: set[int | None] = set()

            def look() -> None:
                looks.update(backlog.front() for _ in range(100))

            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            seen.append(looks)

        loop.call_soon(block)
        loop.call_soon(block)
        loop.call_soon(done.set_result, None)
        await done

    run_exact(main())
    assert [len(looks) for looks in seen] == [1, 1]
    assert None not in seen[0]
    assert seen[0] != seen[1]


def test_nothing_waits_behind_the_only_callback(run_exact: Run) -> None:
    """A callback that runs alone has no front behind it."""

    async def main() -> int | None:
        loop = asyncio.get_running_loop()
        backlog = Backlog(loop)
        front = loop.create_future()
        loop.call_later(0.01, lambda: front.set_result(backlog.front()))
        return await front  # type: ignore[no-any-return]

    assert run_exact(main()) is None


class NoQueue:
    pass


class TwoQueues:
    def __init__(self) -> None:
        self.one: deque[object] = deque([object()])
        self.two: deque[object] = deque([object()])


@pytest.mark.parametrize("loop", [NoQueue(), TwoQueues()], ids=["none", "two"])
def test_a_loop_whose_queue_cannot_be_seen(loop: Any) -> None:
    """A loop without a queue, or with something that may be one, shows nothing."""
    backlog = Backlog(loop)
    assert not backlog.known
    assert backlog.front() is None


# Debuggers.


@pytest.fixture
def debugger() -> Iterator[DebuggerProbe]:
    probe = DebuggerProbe()
    yield probe
    probe.close()


def test_no_debugger(debugger: DebuggerProbe) -> None:
    """Normally nobody debugs."""
    assert not debugger.attached()
    debugger.close()
    debugger.close()
    assert not debugger.attached()


@pytest.mark.parametrize("module", ["coverage.collector", "pdbx", "mypdb", "app", "", None])
def test_a_trace_function_that_does_not_debug(debugger: DebuggerProbe, module: str | None) -> None:
    """Coverage and profilers trace too, and stop nothing."""

    def trace(*_: object) -> None:
        return None

    trace.__module__ = module  # type: ignore[assignment]
    before, own = threading.gettrace(), sys.gettrace()
    threading.settrace(trace)
    sys.settrace(trace)
    try:
        assert not debugger.attached()
    finally:
        sys.settrace(own)
        threading.settrace(before)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "module", ["pydevd", "_pydevd_bundle.pydevd_trace_dispatch", "debugpy.server", "pdb", "bdb"]
)
def test_a_trace_function_of_a_debugger(debugger: DebuggerProbe, module: str) -> None:
    """A debugger that traces all threads is seen until it lets go."""

    def trace(*_: object) -> None:
        return None

    trace.__module__ = module
    before = threading.gettrace()
    threading.settrace(trace)
    try:
        assert debugger.attached()
    finally:
        threading.settrace(before)  # type: ignore[arg-type]
    assert not debugger.attached()
    assert is_debugger(module)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="sys.monitoring is new in 3.12")
def test_a_registered_debugger(debugger: DebuggerProbe) -> None:
    """A tool registered as debugger is one, a tool registered as something else is not."""
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]
    monitoring.use_tool_id(monitoring.PROFILER_ID, "profiler")
    try:
        assert not debugger.attached()
        monitoring.use_tool_id(monitoring.DEBUGGER_ID, "debugger")
        try:
            assert debugger.attached()
        finally:
            monitoring.free_tool_id(monitoring.DEBUGGER_ID)
        assert not debugger.attached()
    finally:
        monitoring.free_tool_id(monitoring.PROFILER_ID)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed here")
def test_a_tracer_of_the_kernel(tmp_path: Path) -> None:
    """A process that is being traced from outside says so, until the tracer has gone."""
    script = """
    from loopwatch.probes.debugger import DebuggerProbe
    probe = DebuggerProbe()
    print("first", probe.attached())
    for wanted in (True, False):
        while probe.attached() is not wanted:
            time.sleep(0.01)
        print("attached", wanted)
    """
    with start_child(tmp_path, script) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "first False\n"
            with subprocess.Popen(
                ["strace", "-f", "-o", "/dev/null", "-p", str(process.pid)],
                stderr=subprocess.PIPE,
                text=True,
            ) as tracer:
                assert tracer.stderr is not None
                if "attached" not in (line := tracer.stderr.readline()):
                    pytest.skip(f"tracing is not allowed here: {line}")
                assert process.stdout.readline() == "attached True\n"
                tracer.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "attached False\n"
        finally:
            process.kill()


# Blocking on purpose.


@pytest.fixture(autouse=True)
def no_marks() -> Iterator[None]:
    """Every block was left, and those of one test do not cover the next."""
    allowed._ENDED.clear()
    yield
    assert allowed._ACTIVE == {}
    allowed._ENDED.clear()


def reason_since(start_ns: int, task_id: int | None = 0, ident: int | None = None) -> str | None:
    return reason_for(Stretch(ident or threading.get_ident(), task_id, start_ns, monotonic_ns()))


def let_pass(amount_ns: int = MS) -> None:
    until_ns = monotonic_ns() + amount_ns
    while monotonic_ns() < until_ns:
        pass


def test_a_block_covers_what_lies_in_it() -> None:
    """The reason is known while the block lasts, and afterwards for what lay in it."""
    with allow_blocking("reading the model"):
        start_ns = monotonic_ns()
        let_pass()
        assert reason_since(start_ns) == "reading the model"
        end_ns = monotonic_ns()
    stretch = Stretch(threading.get_ident(), 0, start_ns, end_ns)
    assert reason_for(stretch) == "reading the model"


def test_a_block_that_is_over_covers_nothing_new() -> None:
    """What comes after the block is not allowed."""
    with allow_blocking("over"):
        let_pass()
    start_ns = monotonic_ns()
    let_pass()
    assert reason_since(start_ns) is None


def test_a_block_must_cover_most_of_it() -> None:
    """A stall that lies in the block by half or less is reported."""
    start_ns = monotonic_ns()
    with allow_blocking("short"):
        let_pass()
    [mark] = allowed._ENDED
    took_ns = mark.end_ns - mark.start_ns
    ident = threading.get_ident()
    begin_ns = mark.start_ns
    assert start_ns <= begin_ns
    assert reason_for(Stretch(ident, 0, begin_ns, begin_ns + 2 * took_ns - 2)) == "short"
    assert reason_for(Stretch(ident, 0, begin_ns, begin_ns + 2 * took_ns)) is None
    assert reason_for(Stretch(ident, 0, begin_ns - took_ns, begin_ns)) is None


def test_another_thread_is_not_covered() -> None:
    """The block holds for the thread that is in it."""
    with Worker("other") as other, allow_blocking("mine"):
        start_ns = monotonic_ns()
        let_pass()
        assert reason_since(start_ns) == "mine"
        assert reason_since(start_ns, ident=other.thread.ident) is None


def test_nested_blocks() -> None:
    """The outer block still holds when the inner one was left; the inner ends on its own."""
    with allow_blocking("outer"):
        start_ns = monotonic_ns()
        with allow_blocking("inner"):
            let_pass()
        inner_over_ns = monotonic_ns()
        let_pass()
        assert reason_since(start_ns) == "outer"
        assert reason_since(inner_over_ns) == "outer"
    after_ns = monotonic_ns()
    let_pass()
    assert reason_since(after_ns) is None


def test_one_object_may_be_entered_again() -> None:
    """The same object can be used twice, one inside the other."""
    block = allow_blocking("again")
    with block:
        with block:
            let_pass()
        start_ns = monotonic_ns()
        let_pass()
        assert reason_since(start_ns) == "again"
    assert allowed._ACTIVE == {}


def test_an_exception_ends_the_block_and_comes_out() -> None:
    """What is raised inside is not swallowed, and the block is over."""
    with pytest.raises(ZeroDivisionError), allow_blocking("fails"):
        raise ZeroDivisionError
    assert allowed._ACTIVE == {}
    start_ns = monotonic_ns()
    let_pass()
    assert reason_since(start_ns) is None


def test_around_an_await_it_holds_for_its_own_task(run_any: Run) -> None:
    """Other tasks that run during the `await`, and plain callbacks, are not covered."""

    async def main() -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        loop = asyncio.get_running_loop()

        def blocked(name: str) -> None:
            start_ns = monotonic_ns()
            let_pass()
            task = asyncio.current_task()
            found[name] = reason_since(start_ns, id(task) if task is not None else 0)

        async def other() -> None:
            blocked("other")

        async def own() -> None:
            with allow_blocking("mine"):
                blocked("before")
                loop.call_soon(blocked, "callback")
                await asyncio.create_task(other())
                blocked("after")
            blocked("over")

        await asyncio.create_task(own())
        return found

    assert run_any(main()) == {
        "before": "mine",
        "callback": None,
        "other": None,
        "after": "mine",
        "over": None,
    }


def test_several_tasks_in_one_object(run_any: Run) -> None:
    """Tasks that share an object each take out their own mark, in whatever order they leave."""

    async def main() -> list[str | None]:
        block = allow_blocking("shared")
        found = []

        async def work(rounds: int) -> None:
            with block:
                for _ in range(rounds):
                    await asyncio.sleep(0)
                start_ns = monotonic_ns()
                let_pass()
                found.append(reason_since(start_ns, id(asyncio.current_task())))

        await asyncio.gather(*(work(rounds) for rounds in (5, 1, 3)))
        return found

    assert run_any(main()) == ["shared"] * 3
    assert allowed._ACTIVE == {}


def test_a_function() -> None:
    """A decorated function is covered each time it runs, and is the same to its callers."""
    found = []

    @allow_blocking("hashing")
    def work(first: int, *, second: str = "x") -> str:
        """Do work."""
        start_ns = monotonic_ns()
        let_pass()
        found.append(reason_since(start_ns))
        return f"{first}{second}"

    assert [work(1), work(2, second="y")] == ["1x", "2y"]
    assert found == ["hashing", "hashing"]
    assert str(inspect.signature(work)) == "(first: 'int', *, second: 'str' = 'x') -> 'str'"
    assert (work.__name__, work.__doc__) == ("work", "Do work.")
    assert not inspect.iscoroutinefunction(work)


def test_a_coroutine_function(run_any: Run) -> None:
    """A decorated coroutine function still is one, covered to its end and only in its task."""
    found: list[str | None] = []

    def look() -> None:
        start_ns = monotonic_ns()
        let_pass()
        task = asyncio.current_task()
        found.append(reason_since(start_ns, id(task) if task is not None else 0))

    @allow_blocking("hashing")
    async def work(first: int) -> int:
        asyncio.get_running_loop().call_soon(look)
        await asyncio.sleep(0)
        look()
        return first

    assert inspect.iscoroutinefunction(work)
    assert str(inspect.signature(work)) == "(first: 'int') -> 'int'"
    assert run_any(work(3)) == 3
    assert found == [None, "hashing"]


def test_an_exception_in_a_decorated_function(run_any: Run) -> None:
    """It comes out, sync or async, and the block is over."""

    @allow_blocking("fails")
    def fails() -> None:
        raise KeyError

    @allow_blocking("fails")
    async def fails_later() -> None:
        await asyncio.sleep(0)
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    with pytest.raises(KeyError):
        run_any(fails_later())
    assert allowed._ACTIVE == {}


def test_a_cancelled_task_leaves_its_block(run_any: Run) -> None:
    """Cancelling a task inside the block ends the block."""

    async def main() -> None:
        async def work() -> None:
            with allow_blocking("cancelled"):
                await asyncio.sleep(60)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        assert len(allowed._ACTIVE) == 1
        task.cancel()
        await asyncio.wait([task])

    run_any(main())
    assert allowed._ACTIVE == {}


@pytest.mark.parametrize("reason", ["", "  \n", None, 3, b"bytes", print, ["a\nb"]], ids=repr)
def test_a_reason_that_is_none(reason: Any) -> None:
    """Without a reason, or used as a bare decorator, it says so in one line."""
    with pytest.raises(ConfigError) as error:
        allow_blocking(reason)
    assert "reason" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_remembered_is_bounded() -> None:
    """However often a block is entered, a fixed number is remembered."""
    block = allow_blocking("often")
    for _ in range(1000):
        with block:
            pass
    assert len(allowed._ENDED) == allowed._KEPT
    assert block._marks == []


def test_a_thread_that_needs_no_loop() -> None:
    """In a thread without a loop the block works as anywhere."""
    found: list[str | None] = []

    def work() -> None:
        with allow_blocking("in a thread"):
            start_ns = monotonic_ns()
            let_pass()
            found.append(reason_since(start_ns))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["in a thread"]


def test_a_generator_cannot_be_decorated() -> None:
    """The decorator would cover the call that makes it, which does nothing: that is said."""

    def rows() -> Iterator[int]:
        yield 1

    async def chunks() -> AsyncIterator[int]:
        yield 1

    for generator in (rows, chunks):
        with pytest.raises(ConfigError, match="cannot decorate a generator"):
            allow_blocking("reading")(generator)
