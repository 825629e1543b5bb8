"""Which line made a task: the factory on real loops, and what it leaves alone."""

from __future__ import annotations

import asyncio
import gc
import sys
import sysconfig
import time
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch.model import Census, TaskGroup
from tests.conftest import FACTORIES, Child, Run, _run, needs_uvloop
from tests.integration.test_task_groups import Waits, end

HERE = "tests/integration/test_task_sites.py"

pytestmark = pytest.mark.usefixtures("no_shots")

needs_eager = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with 3.12")


def made_at(group: TaskGroup) -> str | None:
    made = group.created_at
    return f"{made.function.rpartition('.')[2]} {made.file}:{made.line}" if made else None


def line(function: Any, offset: int) -> str:
    """Return what `made_at` gives for a line of a function."""
    code = function.__code__
    return f"{code.co_name} {HERE}:{code.co_firstlineno + offset}"


async def gathers() -> None:
    await asyncio.gather(Waits.sleep(), Waits.sleep())


async def in_a_group() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(Waits.sleep())


async def waits_for() -> None:
    await asyncio.wait({asyncio.ensure_future(Waits.sleep())})


async def by_a_callback() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(callback)
    await asyncio.sleep(60)


KEPT: list[asyncio.Task[None]] = []


def callback() -> None:
    KEPT.append(asyncio.get_running_loop().create_task(Waits.sleep()))


def sleeping(census: Census) -> set[str | None]:
    return {made_at(g) for g in census.groups if g.coro.endswith("Waits.sleep")}


@pytest.mark.parametrize(
    ("makes", "offset", "maker"),
    [(gathers, 1, None), (in_a_group, 2, None), (waits_for, 1, None), (by_a_callback, 1, callback)],
)
def test_subtasks_have_the_line_of_the_host(
    run_any: Run, makes: Callable[[], Coroutine[Any, Any, None]], offset: int, maker: Any
) -> None:
    """Not asyncio's line: that of `gather`, `TaskGroup.create_task`, or in a callback."""

    async def main() -> Census:
        with loopwatch.install(task_sites=True) as agent:
            task = asyncio.create_task(makes())
            await asyncio.sleep(0.02)
            census = await asyncio.to_thread(agent.census)
            await end([task, *KEPT])
            KEPT.clear()
            return census

    assert sleeping(run_any(main())) == {line(maker or makes, offset)}


def test_the_same_coroutine_of_two_makers_is_two_groups(run_exact: Run) -> None:
    """With the age from birth; tasks from before the start have no maker."""

    def one() -> asyncio.Task[None]:
        return asyncio.create_task(Waits.sleep())

    def other() -> asyncio.Task[None]:
        return asyncio.create_task(Waits.sleep(), name="named", context=None)

    async def main() -> Census:
        tasks = [one()]
        with loopwatch.install(task_sites=True) as agent:
            tasks += [one(), one(), other()]
            assert tasks[-1].get_name() == "named"
            await asyncio.sleep(0.05)
            census = await asyncio.to_thread(agent.census)
            await end(tasks)
            return census

    census = run_exact(main())
    groups = {made_at(g): g for g in census.groups if g.coro.endswith("Waits.sleep")}
    assert set(groups) == {None, line(one, 1), line(other, 1)}
    assert groups[line(one, 1)].count == 2
    assert 0.05 <= groups[line(one, 1)].oldest_s < 5
    assert groups[None].count == 1


def test_a_library_is_named_where_the_host_has_no_frame() -> None:
    """A library's callback that makes a task: its line, not that which started the loop."""
    library: dict[str, Any] = {"__name__": "lib"}
    source = "def make(loop, coro, kept):\n    kept.append(loop.create_task(coro))\n"
    exec(compile(source, "/x/site-packages/lib.py", "exec"), library)

    async def main() -> Census:
        kept: list[asyncio.Task[None]] = []
        with loopwatch.install(task_sites=True) as agent:
            loop = asyncio.get_running_loop()
            loop.call_soon(library["make"], loop, Waits.sleep(), kept)
            await asyncio.sleep(0.01)
            census = agent.census()
            await end(kept)
            return census

    assert sleeping(asyncio.run(main())) == {"make /x/site-packages/lib.py:2"}


def test_the_hosts_factory_makes_the_tasks(run_any: Run) -> None:
    """Its class, its arguments; and it is there again afterwards, or none as before."""

    class Own(asyncio.Task[Any]):
        pass

    seen: list[dict[str, Any]] = []

    def factory(loop: Any, coro: Any, **kwargs: Any) -> Own:
        seen.append(kwargs)
        return Own(coro, loop=loop, **kwargs)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for before in (None, factory):
            loop.set_task_factory(before)  # type: ignore[arg-type]
            with loopwatch.install(task_sites=True) as agent:
                assert loop.get_task_factory() is not before
                context = __import__("contextvars").copy_context()
                task = asyncio.create_task(Waits.sleep(), context=context)
                assert isinstance(task, Own) is (before is factory)
                await asyncio.sleep(0)
                assert sleeping(agent.census()) != {None}
                await end([task])
            assert loop.get_task_factory() is before
        assert any("context" in kwargs for kwargs in seen)

    run_any(main())


def test_a_factory_set_after_us_stays(run_exact: Run) -> None:
    """Also one that calls ours: it goes on to work when we are gone, and ours only passes on."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        agent = loopwatch.install(task_sites=True)
        ours: Any = loop.get_task_factory()

        def on_top(loop: Any, coro: Any, **kwargs: Any) -> Any:
            return ours(loop, coro, **kwargs)

        loop.set_task_factory(on_top)
        first = asyncio.create_task(Waits.sleep())
        assert len(sleeping(agent.census()) - {None}) == 1
        agent.stop()
        assert loop.get_task_factory() is on_top
        second = asyncio.create_task(Waits.sleep())
        assert weakref.getweakrefcount(second) <= 1  # asyncio's own
        await end([first, second])

    run_exact(main())


def test_what_takes_no_weak_reference_is_passed_on() -> None:
    """A factory may make anything that can be awaited: it gets to the caller."""

    class Bare:
        __slots__ = ("coro",)

        def __init__(self, coro: Any) -> None:
            self.coro = coro

        def set_name(self, _: object) -> None:
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(lambda _, coro, **kwargs: Bare(coro))  # type: ignore[arg-type,return-value]
        with loopwatch.install(task_sites=True) as agent:
            bare: Any = loop.create_task(Waits.sleep())
            assert type(bare) is Bare
            bare.coro.close()
            loop.set_task_factory(None)
            assert agent.snapshot().errors_total["probe"] == 0

    asyncio.run(main())


@needs_eager
@pytest.mark.parametrize("kind", ["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def test_eager_tasks_end_at_once_or_have_their_line(kind: str) -> None:
    """One that never waits leaves nothing behind; one that does has its maker."""

    async def never_waits() -> int:
        return 42

    async def main() -> tuple[Census, int]:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        coro = never_waits()
        try:
            bare = loop.create_task(coro)
            eager = bare.done()  # uvloop does not start them early on every Python
            await bare
        except TypeError as error:
            coro.close()
            loop.set_task_factory(None)
            pytest.skip(f"this Python and this uvloop do not agree: {error}")
        with loopwatch.install(task_sites=True) as agent:
            done = [asyncio.create_task(never_waits()) for _ in range(100)]
            assert all(task.done() is eager for task in done)
            await asyncio.sleep(0.01)
            waits = asyncio.create_task(Waits.sleep())
            census = agent.census()
            assert agent._sites is not None
            assert len(agent._sites.references) == 101
            done.clear()
            gc.collect()
            left = len(agent._sites.references)
            # CPython 3.12 and 3.13.0 keep an eager task that has waited; that is theirs.
            await end([waits])
            return census, left

    census, left = _run(FACTORIES[kind], main())
    assert {made.split()[0] for made in sleeping(census) if made} == {"main"}
    assert left == 1


def test_nothing_is_kept_alive(run_exact: Run) -> None:
    """Neither tasks, nor what their makers have in their locals; nor references to the dead."""

    class Big:
        pass

    async def makes() -> list[weakref.ref[Any]]:
        big = Big()
        task = asyncio.create_task(asyncio.sleep(0))
        await task
        return [weakref.ref(big), weakref.ref(task)]

    async def main() -> None:
        with loopwatch.install(task_sites=True) as agent:
            alive = await makes()
            agent.census()
            deadline = time.monotonic() + 3
            while any(ref() for ref in alive) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            assert [ref() for ref in alive] == [None, None]
            assert agent._sites is not None
            assert len(agent._sites.references) == 0

    run_exact(main())


def test_more_tasks_than_a_census_looks_at_are_sampled_with_their_makers() -> None:
    """20,000 tasks, on every version: most of them in one group, with its maker."""

    async def main() -> Census:
        with loopwatch.install(task_sites=True, exporters=[]) as agent:
            tasks = [asyncio.create_task(Waits.sleep()) for _ in range(20_000)]
            deadline = time.monotonic() + 8
            while agent.snapshot().tasks < 19_000 and time.monotonic() < deadline:
                await asyncio.sleep(0.02)
            census = await asyncio.to_thread(agent.census)
            await end(tasks)
            return census

    census = asyncio.run(main())
    gc.collect()
    (group,) = [group for group in census.groups if made_at(group)]
    assert census.looked_at <= 10_001
    assert group.count == pytest.approx(20_000, rel=0.05)


def test_a_forked_child_and_an_ending_interpreter_make_tasks_in_peace(child: Child) -> None:
    """After a fork the factory is the host's again; at exit thousands of tasks die quietly."""
    done = child("""
    import warnings

    async def leak():
        await asyncio.get_running_loop().create_future()

    async def main():
        loop = asyncio.get_running_loop()
        agent = loopwatch.install(task_sites=True)
        global kept
        kept = [asyncio.create_task(leak()) for _ in range(3000)]
        await asyncio.sleep(0)
        warnings.simplefilter("ignore")  # forking with threads; that is what is tried
        pid = os.fork()
        if pid == 0:
            os._exit(0 if loop.get_task_factory() is None else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        os.close(2)
        os.dup2(1, 2)
        logging.disable()
        # Neither the agent nor the loop is stopped: the interpreter takes all of it down.
        loop.stop()
        await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    loop.create_task(main())
    loop.run_forever()
    logging.getLogger("asyncio").disabled = True
    sys.unraisablehook = lambda info: print("unraisable", info.exc_type)
    """)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == "0"
    assert "unraisable" not in done.stdout
    assert "loopwatch" not in done.stdout


@pytest.mark.parametrize("factory", FACTORIES)
def test_what_debug_mode_says_of_a_task_is_not_about_us(factory: str) -> None:
    """The end of the traceback of its birth is what it is without us."""

    async def born() -> tuple[str, int]:
        task = asyncio.create_task(Waits.sleep())
        last = task._source_traceback[-1]  # type: ignore[attr-defined]
        await end([task])
        return last.filename, last.lineno

    async def main(*, watched: bool) -> tuple[str, int]:
        asyncio.get_running_loop().set_debug(True)
        if not watched:
            return await born()
        with loopwatch.install(task_sites=True, exporters=[], stall_threshold_s=5.0):
            return await born()

    assert _run(FACTORIES[factory], main(watched=True)) == _run(
        FACTORIES[factory], main(watched=False)
    )


@needs_uvloop
def test_whoever_runs_the_loop_has_made_no_task() -> None:
    """uvloop has no frame of its own: a library's callback is still not the line that runs it."""
    made: list[asyncio.Task[None]] = []
    library = {"__name__": "somelib", "make": made.append, "Waits": Waits, "asyncio": asyncio}
    file = str(Path(sysconfig.get_path("purelib")) / "somelib" / "__init__.py")
    source = "def connected():\n    make(asyncio.get_running_loop().create_task(Waits.sleep()))\n"
    exec(compile(source, file, "exec"), library)

    async def main() -> TaskGroup:
        with loopwatch.install(task_sites=True, exporters=[]) as agent:
            asyncio.get_running_loop().call_soon(library["connected"])
            await asyncio.sleep(0.05)
            census = await asyncio.to_thread(agent.census)
            await end(made)
        (group,) = [group for group in census.groups if group.coro.endswith("Waits.sleep")]
        return group

    loop = FACTORIES["uvloop"]()
    try:
        group = loop.run_until_complete(main())
    finally:
        loop.close()
    assert group.created_at is not None
    assert group.created_at.function == "somelib.connected"


def test_many_references_are_let_go_of_at_the_end() -> None:
    """`stop` leaves none, however many there are."""

    async def main() -> int:
        agent = loopwatch.install(task_sites=True, exporters=[])
        tasks = [asyncio.create_task(Waits.sleep()) for _ in range(2500)]
        sites = agent._sites
        assert sites is not None
        assert len(sites.references) >= 2500
        agent.stop()
        left = len(sites.references)
        await end(tasks)
        return left

    assert asyncio.run(main()) == 0
