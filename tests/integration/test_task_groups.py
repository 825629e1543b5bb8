"""What pending tasks do: real leaks on real loops, read while they go on."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator
from typing import Any

import pytest

import loopwatch
from loopwatch import Exporter
from loopwatch.census import TaskCensus
from loopwatch.clock import NS_PER_S
from loopwatch.diagnosis.culprit import in_app_rule
from loopwatch.model import Census, TaskGroup
from loopwatch.probes.stacks import FrameNamer
from tests.conftest import FACTORIES, Child, Run, _run, needs_uvloop
from tests.unit.factories import ledger

HERE = "tests/integration/test_task_groups.py"

pytestmark = pytest.mark.usefixtures("no_shots")


def line_of(function: Any, offset: int = 1) -> str:
    """Return file:line of a line of a function, as a group has it."""
    return f"{HERE}:{function.__code__.co_firstlineno + offset}"


def place(group: TaskGroup) -> str | None:
    return f"{group.waits_at.file}:{group.waits_at.line}" if group.waits_at else None


def group_of(census: Census, coro: Any) -> TaskGroup:
    """Return the one group of a coroutine function of this module."""
    name = f"{__name__}.{coro.__qualname__}"
    (group,) = [group for group in census.groups if group.coro == name]
    return group


async def until(true: Callable[[], bool], timeout_s: float = 8) -> None:
    deadline = time.monotonic() + timeout_s
    while not true() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


async def end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def census_of(*waiting: Coroutine[Any, Any, Any], begun: bool = True) -> Census:
    """Return a census taken while these wait, from another thread."""
    with loopwatch.install() as agent:
        tasks = [asyncio.ensure_future(coro) for coro in waiting]
        if begun:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            census = await asyncio.to_thread(agent.census)
        else:
            census = agent.census()
        await end(tasks)
        return census


class Waits:
    """The ways to wait: one line each, the first of the function."""

    event = asyncio.Event

    @staticmethod
    async def sleep() -> None:
        await asyncio.sleep(60)

    @staticmethod
    async def get(queue: asyncio.Queue[None]) -> None:
        await queue.get()

    @staticmethod
    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    @staticmethod
    async def acquire(lock: asyncio.Lock) -> None:
        await lock.acquire()

    @staticmethod
    async def gathered() -> None:
        await asyncio.gather(asyncio.sleep(60), asyncio.sleep(60))

    @staticmethod
    async def waited_for() -> None:
        await asyncio.wait_for(asyncio.sleep(60), 60)

    @staticmethod
    async def inner(future: asyncio.Future[None]) -> None:
        await future


async def outer(future: asyncio.Future[None]) -> None:
    await Waits.inner(future)


async def ticks() -> AsyncIterator[int]:
    while True:
        await asyncio.sleep(60)
        yield 1


async def iterates() -> None:
    async for _ in ticks():
        pass


async def asks_for_the_next() -> None:
    await anext(ticks(), None)


class Awaitable:
    """Waits in a generator of its own, or in a coroutine's."""

    def __init__(self, coro: Coroutine[Any, Any, None] | None = None) -> None:
        self._coro = coro

    def __await__(self) -> Generator[Any, None, None]:
        if self._coro is not None:
            return self._coro.__await__()
        return self._wait()

    def _wait(self) -> Generator[Any, None, None]:
        yield from asyncio.get_running_loop().create_future()


async def awaits_an_object() -> None:
    await Awaitable()


async def awaits_a_coroutines_iterator() -> None:
    await Awaitable(Waits.sleep())


def test_each_way_to_wait_has_its_line(run_any: Run) -> None:
    """Asyncio's own primitives count for the line that awaits them; generators for their own."""

    async def main() -> Census:
        loop = asyncio.get_running_loop()
        lock, future = asyncio.Lock(), loop.create_future()
        await lock.acquire()
        return await census_of(
            Waits.sleep(),
            *[Waits.get(asyncio.Queue()) for _ in range(5)],
            Waits.wait(asyncio.Event()),
            Waits.acquire(lock),
            outer(future),
            iterates(),
            asks_for_the_next(),
            awaits_an_object(),
        )

    census = run_any(main())
    assert group_of(census, Waits.get).count == 5
    lines = {
        Waits.sleep: line_of(Waits.sleep, 2),
        Waits.get: line_of(Waits.get, 2),
        Waits.wait: line_of(Waits.wait, 2),
        Waits.acquire: line_of(Waits.acquire, 2),
        outer: line_of(Waits.inner, 2),
        iterates: line_of(ticks, 2),
        asks_for_the_next: line_of(ticks, 2),
        awaits_an_object: line_of(Awaitable._wait),
    }
    assert {coro: place(group_of(census, coro)) for coro in lines} == lines
    assert census.groups[0].count == 5
    assert (census.looked_at, census.tasks) == (13, 13)


def test_compound_waits_count_for_their_line(run_any: Run) -> None:
    """`gather` and `wait_for` for the line that calls them; tasks of asyncio's own for its line."""

    async def main() -> Census:
        return await census_of(
            Waits.gathered(), Waits.waited_for(), awaits_a_coroutines_iterator(), asyncio.sleep(60)
        )

    census = run_any(main())
    assert place(group_of(census, Waits.gathered)) == line_of(Waits.gathered, 2)
    assert place(group_of(census, Waits.waited_for)) == line_of(Waits.waited_for, 2)
    assert place(group_of(census, awaits_a_coroutines_iterator)) == line_of(Waits.sleep, 2)
    (sleeps,) = [group for group in census.groups if group.coro == "asyncio.tasks.sleep"]
    assert sleeps.waits_at is not None
    assert sleeps.waits_at.file == "asyncio/tasks.py"
    assert sleeps.count in {3, 4}  # from 3.12 on `wait_for` makes no task


def test_tasks_that_have_not_begun_wait_nowhere(run_any: Run) -> None:
    """Their coroutine is known, no line of it has run; a running task has its line."""

    async def main() -> Census:
        return await census_of(*[Waits.sleep() for _ in range(7)], begun=False)

    census = run_any(main())
    group = group_of(census, Waits.sleep)
    assert (group.count, group.waits_at) == (7, None)
    (running,) = [group for group in census.groups if group.coro.endswith("main")]
    assert place(running) is not None


def test_deep_chains_are_read_to_a_bound() -> None:
    """A hundred coroutines deep, and recursion through one line, end in one group."""

    async def deep(levels: int) -> None:
        if levels:
            await deep(levels - 1)
        await asyncio.sleep(60)

    census = asyncio.run(census_of(deep(100), deep(90)))
    (group,) = [group for group in census.groups if group.coro.endswith("deep")]
    assert (group.count, place(group)) == (2, line_of(deep, 2))


def test_wrapped_coroutines_are_the_hosts(run_any: Run) -> None:
    """As OpenTelemetry's instrumentation and aiomonitor wrap them: begun or not."""

    async def trace_coroutine(coro: Coroutine[Any, Any, None]) -> None:
        await coro

    async def main() -> list[Census]:
        wrap = trace_coroutine
        begun = await census_of(wrap(wrap(Waits.sleep())))
        inner = Waits.sleep()
        new = await census_of(wrap(inner), begun=False)
        inner.close()
        return [begun, new]

    begun, new = run_any(main())
    assert place(group_of(begun, Waits.sleep)) == line_of(Waits.sleep, 2)
    assert group_of(new, Waits.sleep).waits_at is None


class Name(str):
    """A name that runs code when it is hashed, compared, printed or formatted."""

    __slots__ = ()

    def _told(self, *_: object) -> Any:
        raise AssertionError("code of the host ran")

    __hash__ = __eq__ = __str__ = __repr__ = __format__ = __len__ = isprintable = _told


class Hostile(asyncio.Task[Any]):
    """A task class that overrides what a census reads.

    But for `done` and `get_loop`, which asyncio's own `all_tasks` asks, and its hash.
    """

    def get_coro(self) -> Any:
        raise AssertionError("code of the host ran")

    get_name = __repr__ = get_coro


class ForeignCoroutine(Coroutine[Any, Any, None]):
    """Not Python's: has the methods, and attributes that run code."""

    def send(self, _: object) -> Iterator[Any]:
        return asyncio.sleep(60).send(None)

    def throw(self, *error: Any) -> None:
        raise error[0]

    def close(self) -> None:
        pass

    def __await__(self) -> Any:
        return self

    @property
    def cr_frame(self) -> Any:
        raise AssertionError("code of the host ran")

    cr_await = cr_code = gi_frame = cr_frame


def test_names_and_classes_of_the_host_run_no_code_and_break_no_line() -> None:
    """Names of a class of the host's own, that span lines or are endless; task classes too."""

    async def evil() -> None:
        await asyncio.sleep(60)

    async def main() -> Census:
        names = [Name("of.a.class"), "two\nlines \x1b[31m<script>", "x" * 10_000]
        loop = asyncio.get_running_loop()
        with loopwatch.install() as agent:
            tasks = []
            for name in names:
                coro = evil()
                coro.__qualname__ = name
                tasks.append(loop.create_task(coro))
            tasks.append(loop.create_task(ForeignCoroutine()))
            hostile = Hostile(Waits.sleep())
            await asyncio.sleep(0)
            try:
                return agent.census()
            finally:
                for task in [*tasks, hostile]:
                    asyncio.Task.cancel(task)
                await asyncio.sleep(0.01)

    census = asyncio.run(main())
    coros = {group.coro for group in census.groups}
    assert f"{__name__}.of.a.class" in coros
    assert f"{__name__}.two\\nlines \\x1b[31m<script>" in coros
    assert f"{__name__}.Waits.sleep" in coros
    assert f"{__name__}.ForeignCoroutine" in coros
    assert max(map(len, coros)) <= 200
    assert all(coro.isprintable() for coro in coros)


@pytest.mark.parametrize(
    ("kind", "name"), [("asyncio", "main"), pytest.param("uvloop", "jobs", marks=needs_uvloop)]
)
def test_a_leak_is_told_in_one_line(child: Child, kind: str, name: str) -> None:
    """1,500 tasks over a limit of 1,000: the log names the coroutine and the line it waits at."""
    done = child(
        """
        async def poll(queue):
            while True:
                await queue.get()

        async def main():
            queue = asyncio.Queue()
            leaked = [asyncio.create_task(poll(queue)) for _ in range(1500)]
            await asyncio.sleep(0)
            with loopwatch.install(loop_name=sys.argv[2]) as agent:
                deadline = time.monotonic() + 8
                while agent.snapshot().census is None and time.monotonic() < deadline:
                    await asyncio.sleep(0.02)
                census = agent.snapshot().to_dict()["census"]
                line = poll.__code__.co_firstlineno + 2
                print(census["tasks"], census["groups"][0]["count"], line)
            for task in leaked:
                task.cancel()

        run(main(), sys.argv[1])
        """,
        kind,
        name,
    )
    assert done.returncode == 0, done.stderr
    tasks, count, number = done.stdout.split()
    assert (tasks, count) == ("1501", "1500")
    (line,) = [line for line in done.stderr.splitlines() if "pending tasks" in line]
    loop = "" if name == "main" else f"event loop {name!r}: "
    assert line.startswith(
        f"LOG {loop}1,501 pending tasks (limit 1,000): 1,500 \N{MULTIPLICATION SIGN} "
        f"__main__.poll at child_script.py:{number}, oldest at least 0 s"
    )


class Collecting(Exporter):
    name = "collecting"

    def __init__(self) -> None:
        self.told: list[tuple[int, str, str]] = []

    def census(self, census: Census, loop: str) -> None:
        self.told.append((census.tasks, loop, threading.current_thread().name))


def test_a_crossing_is_told_once_on_the_delivery_thread(run_any: Run) -> None:
    """Below the limit nothing; over it one census, however long one looks on."""
    exporter = Collecting()

    async def main() -> None:
        with loopwatch.install(tasks_threshold=50, exporters=[exporter]) as agent:
            few = [asyncio.create_task(Waits.sleep()) for _ in range(20)]
            await until(lambda: agent.snapshot().census is not None)
            assert exporter.told == []
            many = [asyncio.create_task(Waits.sleep()) for _ in range(100)]
            await until(lambda: bool(exporter.told))
            await asyncio.sleep(0.6)
            await end(few + many)

    run_any(main())
    assert exporter.told == [(121, "main", "loopwatch-delivery")]


def test_a_census_can_be_had_while_the_loop_is_blocked(run_any: Run) -> None:
    """From another thread, in the middle of a `time.sleep` on the loop."""

    async def main() -> Census:
        with loopwatch.install() as agent:
            tasks = [asyncio.create_task(Waits.sleep()) for _ in range(300)]
            await asyncio.sleep(0)
            got: list[Census] = []
            thread = threading.Thread(target=lambda: got.append(agent.census()))
            thread.start()
            while not got:
                time.sleep(0.01)
            thread.join()
            await end(tasks)
            return got[0]

    assert group_of(run_any(main()), Waits.sleep).count == 300


def test_100_000_tasks_are_looked_at_in_part() -> None:
    """Sampled, and said so: the shares are right; 3.14 and later keep what they saw before."""

    async def main() -> tuple[Census, Census]:
        with loopwatch.install(exporters=[]) as agent:
            tasks = [asyncio.create_task(Waits.sleep()) for _ in range(1000)]
            await until(lambda: agent.snapshot().census is not None)
            await until(lambda: agent.snapshot().tasks > 900)
            before = await asyncio.to_thread(agent.census)
            queue: asyncio.Queue[None] = asyncio.Queue()
            tasks += [asyncio.create_task(Waits.get(queue)) for _ in range(99_000)]
            await until(lambda: agent.snapshot().tasks > 90_000)
            census = await asyncio.to_thread(agent.census)
            await end(tasks)
            return before, census

    before, census = asyncio.run(main())
    gc.collect()
    assert group_of(before, Waits.sleep).count == 1000
    assert census.tasks == pytest.approx(100_001, rel=0.05)
    assert census.looked_at <= 10_000
    assert sum(group.count for group in census.groups) + census.others == census.tasks
    if sys.version_info < (3, 14):
        assert group_of(census, Waits.get).count == pytest.approx(99_000, rel=0.1)
    else:
        assert census.others > 90_000


def test_growth_and_age_are_of_what_was_seen() -> None:
    """Two censuses ten minutes apart: 60 tasks more are +6/min, the first are ten minutes old."""

    async def main() -> Census:
        book = ledger()
        census = TaskCensus(
            asyncio.get_running_loop(), FrameNamer(in_app_rule()), book, None, print, print, print
        )
        tasks = [asyncio.create_task(Waits.sleep()) for _ in range(40)]
        await asyncio.sleep(0)
        census.look(0)
        tasks += [asyncio.create_task(Waits.sleep()) for _ in range(60)]
        await asyncio.sleep(0)
        census.look(600 * NS_PER_S)
        await end(tasks)
        assert book.census is not None
        return book.census

    group = group_of(asyncio.run(main()), Waits.sleep)
    assert (group.count, group.growth_per_min) == (100, 6.0)
    assert group.oldest_s == pytest.approx(600, abs=0.001)


def test_tasks_that_end_under_our_eyes_do_no_harm(run_exact: Run) -> None:
    """Tasks come, go and are dropped unfinished by the thousand while censuses are taken."""
    ended_on: set[str] = set()

    async def forgotten() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended_on.add(threading.current_thread().name)

    async def main() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
        with loopwatch.install(exporters=[]) as agent:
            looked = []
            stop = threading.Event()

            def look() -> None:
                while not stop.is_set():
                    looked.append(agent.census().looked_at)

            thread = threading.Thread(target=look, name="looker")
            thread.start()
            deadline = time.monotonic() + 0.7
            while time.monotonic() < deadline or len(looked) < 3:
                short = [asyncio.create_task(asyncio.sleep(0)) for _ in range(50)]
                lost = [asyncio.create_task(forgotten()) for _ in range(50)]
                await asyncio.gather(*short)
                del lost
                gc.collect(0)
                await asyncio.sleep(0)
            stop.set()
            await asyncio.to_thread(thread.join)
            return len(looked), agent.snapshot().errors_total["probe"]

    gc.collect()
    looks, errors = run_exact(main())
    assert looks >= 3
    assert errors == 0
    # The collector runs on whichever thread allocates; but for that they end on the loop's.
    assert "MainThread" in ended_on


@needs_uvloop
def test_two_loops_have_their_own_groups() -> None:
    """Tasks of another loop in another thread are not in the census of this one."""

    async def other(ready: threading.Event, done: threading.Event) -> None:
        tasks = [asyncio.create_task(Waits.sleep()) for _ in range(30)]
        await asyncio.sleep(0)
        ready.set()
        await asyncio.to_thread(done.wait, 10)
        await end(tasks)

    async def main() -> Census:
        ready, done = threading.Event(), threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(other(ready, done)))
        thread.start()
        await asyncio.to_thread(ready.wait, 10)
        census = await census_of(Waits.sleep())
        done.set()
        await asyncio.to_thread(thread.join)
        return census

    assert group_of(_run(FACTORIES["uvloop"], main()), Waits.sleep).count == 1


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="3.14 keeps tasks loop by loop")
def test_a_small_loop_beside_a_big_one_is_told_of(run_exact: Run) -> None:
    """With creation sites its tasks are counted apart: 1,501 of them, though 30,000 are about."""
    ready, done = threading.Event(), threading.Event()

    async def big() -> None:
        tasks = [asyncio.create_task(Waits.sleep()) for _ in range(30_000)]
        await asyncio.sleep(0)
        ready.set()
        await asyncio.to_thread(done.wait, 20)
        await end(tasks)

    async def small() -> tuple[int, Census]:
        await asyncio.to_thread(ready.wait, 20)
        with loopwatch.install(task_sites=True, exporters=[]) as agent:
            tasks = [asyncio.create_task(Waits.sleep()) for _ in range(1500)]
            deadline = time.monotonic() + 10
            while agent.snapshot().tasks < 1500 and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            told = agent.snapshot().tasks, await asyncio.to_thread(agent.census)
            await end(tasks)
        done.set()
        return told

    thread = threading.Thread(target=lambda: asyncio.run(big()))
    thread.start()
    count, census = run_exact(small())
    thread.join()
    assert count == pytest.approx(1500, abs=2)
    assert group_of(census, Waits.sleep).count == 1500


def test_a_sample_says_how_many_there_were_when_it_was_taken(run_exact: Run) -> None:
    """Tasks that come while the sample is looked at do not make its groups larger."""

    async def main() -> Census:
        loop = asyncio.get_running_loop()
        census = TaskCensus(loop, FrameNamer(in_app_rule()), ledger(), None, print, print, print)
        tasks = [asyncio.create_task(Waits.sleep()) for _ in range(20_000)]
        await asyncio.sleep(0)
        census._ledger.tasks = 20_000
        now_ns = NS_PER_S
        census.look(now_ns)
        tasks += [asyncio.create_task(Waits.sleep()) for _ in range(40_000)]
        census._ledger.tasks = 60_000
        while census.is_walking:
            now_ns += NS_PER_S
            census.look(now_ns)
        await end(tasks)
        assert census._ledger.census is not None
        return census._ledger.census

    gc.collect()
    census = run_exact(main())
    assert census.tasks == pytest.approx(20_000, rel=0.02)
    assert group_of(census, Waits.sleep).count == pytest.approx(20_000, rel=0.02)


def test_the_hosts_task_class_runs_no_code_for_us(run_exact: Run) -> None:
    """A class that says in its own words whether it is done is not asked."""
    asked: set[str] = set()

    class Loud(asyncio.Task[None]):
        def done(self) -> bool:
            asked.add(threading.current_thread().name)
            return super().done()

        def get_loop(self) -> asyncio.AbstractEventLoop:
            asked.add(threading.current_thread().name)
            return super().get_loop()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda loop, coro, **kwargs: Loud(coro, loop=loop, **kwargs))
        with loopwatch.install(exporters=[]) as agent:
            tasks = [asyncio.create_task(Waits.sleep()) for _ in range(30)]
            deadline = time.monotonic() + 5
            while agent.snapshot().tasks < 30 and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.to_thread(agent.census)
            count = agent.snapshot().tasks
            await end(tasks)
        return count

    assert run_exact(main()) >= 30
    assert not {name for name in asked if name.startswith("loopwatch")}
