"""Another threshold on a loop that is watched already."""

from __future__ import annotations

import asyncio
import time

import pytest

import loopwatch
from loopwatch import ConfigError
from tests.conftest import FACTORIES, Run, Told, _run, settle


async def blocked(seconds: float) -> None:
    time.sleep(seconds)
    await asyncio.sleep(0.1)


def test_a_lower_threshold_holds_from_the_next_look_on(run_any: Run) -> None:
    """Under 1 s nothing of 0.15 s is told; under 0.05 s it is, and the gauge says so."""
    told = Told()

    async def main() -> float:
        with loopwatch.install(stall_threshold_s=1.0, on_stall=told) as agent:
            await asyncio.sleep(0.1)
            await blocked(0.15)
            assert not agent.stalls
            agent.set_stall_threshold(0.05)
            await asyncio.sleep(0.3)
            await blocked(0.15)
            await settle(told)
            return agent.snapshot().thresholds.stall_s

    assert run_any(main()) == 0.05
    assert [stall.duration_s for stall in told.final] == [pytest.approx(0.15, abs=0.08)]


def test_a_higher_threshold_lets_short_stalls_pass(run_any: Run) -> None:
    """Under 1 s instead of 0.05 s a stall of 0.15 s is none."""

    async def main() -> int:
        with loopwatch.install(stall_threshold_s=0.05) as agent:
            agent.set_stall_threshold(1.0)
            await asyncio.sleep(0.3)
            await blocked(0.15)
            await asyncio.sleep(0.3)
            return len(agent.stalls)

    assert run_any(main()) == 0


def test_without_a_sensor_a_lower_threshold_does_not_wait_for_the_next_beat() -> None:
    """Beats that were five seconds apart are close from the next look on."""
    told = Told()

    async def main() -> None:
        with loopwatch.install(stall_threshold_s=5.0, tick_interval_s=5.0, on_stall=told) as agent:
            assert agent.snapshot().sensor == "tick"
            await asyncio.sleep(0.05)
            agent.set_stall_threshold(0.1)
            await asyncio.sleep(0.6)
            await blocked(0.4)
            await settle(told)

    _run(FACTORIES["opaque"], main())
    assert [stall.duration_s for stall in told.final] == [pytest.approx(0.4, abs=0.1)]


def test_a_threshold_above_the_hang_threshold_is_refused() -> None:
    """A hang is a long stall: /livez would never say so."""

    async def main() -> None:
        with (
            loopwatch.install(hang_threshold_s=2.0) as agent,
            pytest.raises(ConfigError, match=r"hang_threshold_s=2\.0 is below"),
        ):
            agent.set_stall_threshold(3.0)

    asyncio.run(main())


@pytest.mark.parametrize("threshold_s", [0, -1, 0.001, float("nan"), "fast"])
def test_what_the_setting_does_not_allow_changes_nothing(threshold_s: float) -> None:
    """The message names the setting; the threshold stays."""

    async def main() -> float:
        with loopwatch.install() as agent:
            with pytest.raises(ConfigError, match="stall_threshold_s"):
                agent.set_stall_threshold(threshold_s)
            return agent.snapshot().thresholds.stall_s

    assert asyncio.run(main()) == 0.1


def test_the_timeline_has_a_point_a_second() -> None:
    """A stall of a third of a second is the lag of its second, and the seconds around have none."""

    async def main() -> list[float]:
        with loopwatch.install() as agent:
            await asyncio.sleep(1.2)
            time.sleep(0.35)
            await asyncio.sleep(2.3)
            return [point.lag_s for point in agent.timeline]

    lags = asyncio.run(main())
    assert 2 <= len(lags) <= 5
    assert max(lags) == pytest.approx(0.35, abs=0.1)
    assert sorted(lags)[-2] < 0.2
