"""What is told and what is only counted: rate limits, allowed blocks, imports, debuggers."""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import loopwatch
from loopwatch import Stall
from loopwatch.probes.debugger import DebuggerProbe
from loopwatch.probes.native_stacks import why_not
from tests.conftest import Run, Told, settle


def nap(seconds: float = 0.15) -> None:
    time.sleep(seconds)


def test_like_stalls_are_told_so_often_and_no_more(run_exact: Run, told: Told) -> None:
    """The counters count all of them; the next record that is told says how many were not."""

    async def main() -> Any:
        with loopwatch.install(
            on_stall=told, like_stalls_per_minute=2, exporters=[], stall_threshold_s=0.05
        ) as agent:
            for _ in range(5):
                await asyncio.sleep(0.05)
                nap(0.08)
            await settle(told, 3, 1.0)
            return agent.snapshot(), agent.stalls

    now, stalls = run_exact(main())
    assert len(told.final) == len(told.ongoing) == 2
    assert sum(now.stalls_total.values()) == 5
    assert len({stall.fingerprint for stall in stalls}) == 1
    assert now.dropped_total["rate_limited"] == 6  # two records of each of three stalls
    assert len(stalls) == 5


def test_another_stall_is_told_though_one_kind_is_suppressed(run_exact: Run, told: Told) -> None:
    """The limit of one fingerprint is not the limit of others."""

    def other() -> None:
        time.sleep(0.08)

    async def main() -> None:
        with loopwatch.install(
            on_stall=told, like_stalls_per_minute=1, exporters=[], stall_threshold_s=0.05
        ):
            for block in (lambda: nap(0.08), lambda: nap(0.08), other):
                await asyncio.sleep(0.05)
                block()
            await settle(told, 2)

    run_exact(main())
    blamed = [stall.culprit.function.rpartition(".")[2] for stall in told.final if stall.culprit]
    assert blamed == ["nap", "other"]


def test_an_allowed_block_is_counted_and_not_told(run_exact: Run, told: Told) -> None:
    """It is in `Agent.stalls` with its reason, in no record, and in no counter of stalls."""

    async def main() -> Any:
        with loopwatch.install(on_stall=told, exporters=[]) as agent:
            await asyncio.sleep(0.05)
            with loopwatch.allow_blocking("reading the model"):
                nap()
            await asyncio.sleep(0.2)
            return agent.snapshot(), agent.stalls

    now, stalls = run_exact(main())
    assert told.records == []
    assert [(s.allowed, s.phase) for s in stalls] == [("reading the model", "final")]
    assert now.excused_total == {"allowed": 1, "debugger": 0, "warm_up": 0}
    assert sum(now.stalls_total.values()) == 0
    assert now.lag_max_s > 0.1, "what was due meanwhile was late all the same"


def test_an_allowed_block_excuses_its_own_task_alone(run_exact: Run, told: Told) -> None:
    """Another task that blocks while the block is awaiting is told."""

    async def allowed() -> None:
        with loopwatch.allow_blocking("on purpose"):
            await asyncio.sleep(0.4)

    async def main() -> None:
        with loopwatch.install(on_stall=told, exporters=[]):
            task = asyncio.create_task(allowed())
            await asyncio.sleep(0.1)
            nap()
            await task
            await settle(told)

    run_exact(main())
    assert [s.allowed for s in told.final] == [None]


def test_imports_of_the_warm_up_are_counted_and_not_told(
    run_exact: Run, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow import right after the start is no incident; later, or without the grace, it is."""
    for name in ("slow_at_start", "slow_later"):
        (tmp_path / f"{name}.py").write_text("import time\ntime.sleep(0.15)\n")
    monkeypatch.syspath_prepend(tmp_path)

    async def main(name: str, warm_up_s: float) -> Any:
        with loopwatch.install(on_stall=told, exporters=[], warm_up_s=warm_up_s) as agent:
            await asyncio.sleep(0.05)
            importlib.import_module(name)
            await asyncio.sleep(0.2)
            return agent.snapshot()

    try:
        assert run_exact(main("slow_at_start", 30.0)).excused_total["warm_up"] == 1
        assert told.records == []
        assert run_exact(main("slow_later", 0.0)).excused_total["warm_up"] == 0
        assert len(told.final) == 1
    finally:
        for name in ("slow_at_start", "slow_later"):
            sys.modules.pop(name, None)


def test_a_debugger_pauses_the_reports(
    run_exact: Run, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is paged because somebody stands at a breakpoint."""
    monkeypatch.setattr(DebuggerProbe, "attached", lambda _: True)

    async def main() -> Any:
        with loopwatch.install(on_stall=told, exporters=[]) as agent:
            await asyncio.sleep(0.05)
            nap()
            await asyncio.sleep(0.2)
            return agent.snapshot()

    now = run_exact(main())
    assert told.records == []
    assert now.excused_total["debugger"] == 1
    assert now.active_s == 0
    assert now.lag_max_s < 0.1


def test_pdb_on_the_loop_thread_is_a_debugger(child: Any) -> None:
    """`breakpoint()` waits for a command: that is no stall."""
    done = child(
        """
        import pdb, io

        class Slow(io.StringIO):
            def readline(self, *a):
                time.sleep(0.4)
                return "c\\n"

        async def main():
            told = []
            agent = loopwatch.install(on_stall=told.append)
            await asyncio.sleep(0.05)
            pdb.Pdb(stdin=Slow(), stdout=io.StringIO(), nosigint=True, readrc=False).set_trace()
            await asyncio.sleep(0.2)
            now = agent.snapshot()
            print(json.dumps([len(told), now.excused_total["debugger"]]))

        run(main())
        """
    )
    assert done.stdout.strip().splitlines()[-1] == "[0, 1]", done.stderr


def test_build_info_says_whether_native_stacks_work(run_exact: Run) -> None:
    """`on`, or `off` by the setting; nothing else changes."""

    async def main(setting: str) -> str:
        with loopwatch.install(exporters=[], native_sampler=setting) as agent:
            return agent.snapshot().native_sampler

    works = sys.platform == "linux"
    assert run_exact(main("auto")) == ("on" if works and not why_not() else "unavailable")
    accepted = not why_not(accept_risk=True)
    assert run_exact(main("on")) == ("on" if works and accepted else "unavailable")
    assert run_exact(main("off")) == "off"


@pytest.mark.parametrize("goes_on_s", [0.15, 0.6])
def test_a_stall_that_outgrows_its_excuse_is_told_once(
    run_exact: Run, told: Told, goes_on_s: float
) -> None:
    """An allowed moment does not excuse what follows: one final record, one entry, counted."""

    async def main() -> Any:
        with loopwatch.install(on_stall=told, exporters=[]) as agent:
            await asyncio.sleep(0.05)
            with loopwatch.allow_blocking("a moment"):
                nap(0.11)
            nap(goes_on_s)
            await settle(told)
            return agent.snapshot(), agent.stalls

    now, stalls = run_exact(main())
    assert len(told.final) == 1
    assert told.final[0].allowed is None
    assert len(stalls) == 1
    assert sum(now.stalls_total.values()) == 1


def quick() -> None:
    time.sleep(0.2)


def stuck() -> None:
    time.sleep(1.3)


def test_who_asks_during_a_stall_is_told_what_blocks_now(run_any: Run) -> None:
    """What blocked at first is told at once; a reader later on finds what most of it is."""
    told = Told()
    seen: list[Stall] = []

    def ask(agent: loopwatch.Agent) -> None:
        time.sleep(1.1)
        active = agent.snapshot().active_stall
        assert active is not None
        seen.extend([active, agent.stalls[-1]])

    async def main() -> None:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.sleep(0.1)
            asker = threading.Thread(target=ask, args=(agent,))
            asker.start()
            quick()
            stuck()
            await settle(told)
            asker.join()

    run_any(main())
    names = [stall.culprit.function.rpartition(".")[2] for stall in seen if stall.culprit]
    assert names == ["stuck", "stuck"]
    assert {stall.phase for stall in seen} == {"ongoing"}
    assert [stall.phase for stall in told.records] == ["ongoing", "final"]
    assert {stall.id for stall in seen} == {told.records[0].id}
