"""install, current, stop: what they touch and what they put back."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest

import loopwatch
from loopwatch import Config, ConfigError, NoRunningLoopError
from loopwatch.exporters.prometheus import LoopwatchCollector, PrometheusExporter
from loopwatch.sensors.selector import SelectorSensor
from loopwatch.watchdog import Watchdog
from tests.conftest import FACTORIES, SENSORS, Run, Told, settle


def test_without_a_loop_it_says_what_to_do() -> None:
    """One line with the two ways to do it right; `current` is just None."""
    with pytest.raises(NoRunningLoopError, match=r"call loopwatch\.install\(\) inside a coroutine"):
        loopwatch.install()
    assert loopwatch.current() is None


def test_install_twice_is_one_agent_and_other_settings_are_refused() -> None:
    """The error names what differs."""

    async def main() -> None:
        agent = loopwatch.install(stall_threshold_s=0.2)
        assert loopwatch.install() is agent
        assert loopwatch.install(stall_threshold_s=0.2) is agent
        assert loopwatch.current() is agent
        with pytest.raises(ConfigError, match="watched already, with another stall_threshold_s"):
            loopwatch.install(stall_threshold_s=0.3)
        with pytest.raises(ConfigError, match="another on_stall"):
            loopwatch.install(on_stall=print)
        agent.stop()
        assert loopwatch.current() is None
        assert loopwatch.install(stall_threshold_s=0.3).config.stall_threshold_s == 0.3

    asyncio.run(main())


def test_a_config_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keywords go on top of the environment; a whole Config ignores it; both is an error."""
    monkeypatch.setenv("LOOPWATCH_STALL_THRESHOLD_S", "0.7")

    async def main() -> tuple[float, float]:
        with pytest.raises(ConfigError, match="history: pass settings as keywords or as a Config"):
            loopwatch.install(Config(), history=3)
        with loopwatch.install(Config(history=7)) as agent:
            whole = agent.config.stall_threshold_s
        async with loopwatch.install(history=7) as agent:
            return whole, agent.config.stall_threshold_s

    assert asyncio.run(main()) == (0.1, 0.7)


@pytest.mark.parametrize(
    "settings", [{"stall_threshold_s": -1}, {"nonsense": 1}, {"exporters": ["x"]}]
)
def test_a_refused_install_leaves_nothing(settings: dict[str, Any]) -> None:
    """After the error the loop is untouched and can be installed right."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        before = dict(loop._selector.__dict__)
        with pytest.raises(ConfigError):
            loopwatch.install(**settings)
        assert loop._selector.__dict__ == before
        loopwatch.install().stop()

    asyncio.run(main())


def test_stop_restores_everything(run_any: Run, any_loop: str) -> None:
    """Selector, close, collector callbacks, registry and threads are as they were."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        selector = getattr(loop, "_selector", None)

        def patched() -> list[Any]:
            inner = vars(selector) if any_loop == "asyncio" else {}
            return [inner.get("select"), vars(loop).get("close"), list(gc.callbacks)]

        before = patched()
        agent = loopwatch.install(http_port=0)
        assert agent.snapshot().sensor == SENSORS[any_loop]
        assert patched() != before
        assert "loopwatch_tasks" in generate_latest(REGISTRY).decode()
        await asyncio.sleep(0.1)
        began = time.monotonic()
        agent.stop()
        assert time.monotonic() - began < 0.3
        agent.stop()
        assert patched() == before
        assert "loopwatch" not in generate_latest(REGISTRY).decode()
        assert not [t for t in threading.enumerate() if t.name.startswith("loopwatch")]

    run_any(main())


def test_stop_from_another_thread_and_after_the_loop_closed(run_any: Run) -> None:
    """Any thread, any time, as often as one likes."""
    agents = []

    async def main() -> None:
        agent = loopwatch.install()
        await asyncio.to_thread(agent.stop)
        agents.append(loopwatch.install())

    run_any(main())
    agents[0].stop()
    assert agents[0].snapshot().loop == "main"
    assert repr(agents[0]).startswith("<loopwatch.Agent 'main' stopped")


def test_a_wrapper_put_on_top_of_ours_is_left_alone() -> None:
    """Somebody else wrapped select after us: stopping does not tear theirs off."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        agent = loopwatch.install()
        ours = loop._selector.select
        calls = []

        def theirs(timeout: float | None = None) -> Any:
            calls.append(timeout)
            return ours(timeout)

        loop._selector.select = theirs
        agent.stop()
        assert loop._selector.select is theirs
        await asyncio.sleep(0.01)
        assert calls
        del loop._selector.select

    asyncio.run(main())


def test_a_loop_closed_without_stop_is_let_go(run_any: Run) -> None:
    """Closing the loop stops the agent; the fixture proves that nothing is left."""
    kept = []

    async def main() -> None:
        kept.append(loopwatch.install())
        await asyncio.sleep(0.05)

    run_any(main())
    assert "stopped" in repr(kept[0])


def test_asyncio_run_ten_times_in_one_process(run_exact: Run, told: Told) -> None:
    """Each run is watched afresh under the same name."""

    async def main() -> str:
        agent = loopwatch.install(on_stall=told, stall_threshold_s=0.02)
        await asyncio.sleep(0.01)
        time.sleep(0.04)
        await asyncio.sleep(0.01)
        return agent.loop_name

    assert [run_exact(main()) for _ in range(10)] == ["main"] * 10
    assert len(told.final) == 10


def test_a_loop_that_rests_between_two_runs_is_not_stalled(exact_loop: str, told: Told) -> None:
    """`run_until_complete` twice with a pause: the pause is no stall, a block after it is one."""
    loop = FACTORIES[exact_loop]()

    async def install() -> None:
        loopwatch.install(on_stall=told)
        await asyncio.sleep(0.05)

    async def again(seconds: float) -> None:
        time.sleep(seconds)
        await asyncio.sleep(0.05)

    loop.run_until_complete(install())
    time.sleep(0.4)
    loop.run_until_complete(again(0))
    time.sleep(0.3)
    assert told.records == []
    loop.run_until_complete(again(0.2))
    loop.close()
    (final,) = told.final
    # The start is known to one look of the watchdog, half a threshold.
    assert 0.19 < final.duration_s < 0.28


def test_two_loops_in_two_threads_are_told_apart(run_exact: Run, exact_loop: str) -> None:
    """Each has its agent, its name, its stalls, and its series in one scrape."""
    names: dict[str, tuple[str, list[str]]] = {}
    both = threading.Barrier(2)

    def thread(name: str, seconds: float) -> None:
        async def main() -> None:
            told = Told()
            with loopwatch.install(on_stall=told) as agent:
                both.wait(5)
                await asyncio.sleep(0.05)
                time.sleep(seconds)
                await settle(told)
                assert [s.thread for s in told.final] == [name]
                assert told.final[0].duration_s == pytest.approx(seconds, abs=0.03)
                text = generate_latest(REGISTRY).decode()
                both.wait(5)
                names[name] = (
                    agent.loop_name,
                    [n for n in ("main", "main-2") if f'loop="{n}"' in text],
                )

        with asyncio.Runner(loop_factory=FACTORIES[exact_loop]) as runner:
            runner.run(main())

    threads = [threading.Thread(target=thread, args=a, name=a[0]) for a in (("a", 0.2), ("b", 0.3))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sorted(name for name, _ in names.values()) == ["main", "main-2"]
    assert all(seen == ["main", "main-2"] for _, seen in names.values())


def test_another_registry_on_request() -> None:
    """The process's own registry stays clean when told otherwise."""
    registry = CollectorRegistry()

    async def main() -> None:
        with loopwatch.install(exporters=[PrometheusExporter(registry), "log"]):
            assert "loopwatch_tasks" in generate_latest(registry).decode()
            assert "loopwatch" not in generate_latest(REGISTRY).decode()
        assert "loopwatch" not in generate_latest(registry).decode()

    asyncio.run(main())


def test_a_registry_that_has_our_names_costs_an_exporter_not_the_app(
    caplog: pytest.LogCaptureFixture, told: Told
) -> None:
    """One clear error; the loop is watched and told by the other exporters."""
    registry = CollectorRegistry()
    registry.register(LoopwatchCollector())

    async def main() -> loopwatch.Snapshot:
        exporters = [PrometheusExporter(registry), "log"]
        with loopwatch.install(exporters=exporters, on_stall=told) as agent:
            await asyncio.sleep(0.05)
            time.sleep(0.15)
            await settle(told)
            return agent.snapshot()

    now = asyncio.run(main())
    assert now.errors_total["exporter"] == 1
    assert "exporter prometheus cannot start and is left out: Duplicated" in caplog.text
    assert len(told.final) == 1


def test_threads_that_cannot_be_started_leave_the_loop_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's error comes through, and everything is put back."""

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "loopwatch-watchdog":
            raise RuntimeError("can't start new thread")
        start(thread)

    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", refuse)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        before = dict(loop._selector.__dict__)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            loopwatch.install()
        assert loop._selector.__dict__ == before
        assert "close" not in vars(loop)

    asyncio.run(main())


def test_an_on_stall_that_raises_harms_nobody(told: Told, caplog: pytest.LogCaptureFixture) -> None:
    """Switched off after the first time; the loop, the log and the counters go on."""

    def bad(stall: loopwatch.Stall) -> None:
        told(stall)
        raise ValueError("of the host")

    async def main() -> loopwatch.Snapshot:
        with loopwatch.install(on_stall=bad) as agent:
            for _ in range(2):
                await asyncio.sleep(0.05)
                time.sleep(0.15)
                await asyncio.sleep(0.15)
            return agent.snapshot()

    with caplog.at_level(logging.WARNING, logger="loopwatch"):
        now = asyncio.run(main())
    assert len(told.records) == 1
    assert now.errors_total["on_stall"] == 1
    assert sum(now.stalls_total.values()) == 2
    assert sum("was stalled for" in r.getMessage() for r in caplog.records) == 2


def _block_for(seconds: float) -> Callable[[loopwatch.Stall], None]:
    return lambda _stall: time.sleep(seconds)


@pytest.mark.leaves_a_blocked_thread
def test_an_on_stall_that_blocks_harms_nobody() -> None:
    """The loop goes on, counters go on, drops are counted, and stop waits half a second at most."""

    async def main() -> tuple[loopwatch.Snapshot, float]:
        agent = loopwatch.install(on_stall=_block_for(2), queue_size=2, stall_threshold_s=0.02)
        for _ in range(6):
            await asyncio.sleep(0.01)
            time.sleep(0.05)
        await asyncio.sleep(0.05)
        now = agent.snapshot()
        began = time.monotonic()
        agent.stop()
        return now, time.monotonic() - began

    now, took_s = asyncio.run(main())
    assert sum(now.stalls_total.values()) == 6
    assert now.dropped_total["queue_full"] >= 8
    assert took_s < 0.9


def test_an_app_that_cancels_all_its_tasks_is_watched_on(told: Told) -> None:
    """The sidecar is no task: it is neither cancelled nor counted."""

    async def main() -> tuple[int, float]:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.sleep(0.3)
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            assert others == []
            for task in others:
                task.cancel()
            beats = sum(agent.snapshot().lag.counts)
            await asyncio.sleep(0.6)
            time.sleep(0.15)
            await settle(told)
            return beats, sum(agent.snapshot().lag.counts)

    before, after = asyncio.run(main())
    assert after > before
    assert len(told.final) == 1


def test_a_broken_sensor_is_replaced_by_the_tick(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, told: Told
) -> None:
    """Private API that changed under us costs precision, never the app."""

    def broken(self: SelectorSensor, limit_ns: int) -> None:
        raise TypeError("changed")

    monkeypatch.setattr(SelectorSensor, "start", broken)

    async def main() -> str:
        with loopwatch.install(on_stall=told) as agent:
            await asyncio.sleep(0.1)
            time.sleep(0.3)
            await settle(told)
            return agent.snapshot().sensor

    assert asyncio.run(main()) == "tick"
    assert "sensor selector failed with TypeError" in caplog.text
    assert len(told.final) == 1


def test_the_watchdog_survives_its_own_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that raises is counted, told once, and the next look comes."""
    measure = Watchdog._measure
    failures = iter([True, False])

    def sometimes(self: Watchdog, *args: Any, **kwargs: Any) -> None:
        if next(failures, False):
            raise KeyError("value")
        measure(self, *args, **kwargs)

    monkeypatch.setattr(Watchdog, "_measure", sometimes)

    async def main() -> loopwatch.Snapshot:
        with loopwatch.install() as agent:
            await asyncio.sleep(1.4)
            return agent.snapshot()

    now = asyncio.run(main())
    assert now.errors_total["watchdog"] == 1
    assert time.time() - now.heartbeat_at_s < 1
    assert "a look at the loop failed with KeyError" in caplog.text
    assert "value" not in caplog.text
