"""Sensors: is the loop busy, since when, in which iteration? One file each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwatch.sensors.base import Period, Reading, Sensor, SensorUnavailableError
from loopwatch.sensors.libuv import LibuvSensor
from loopwatch.sensors.selector import SelectorSensor
from loopwatch.sensors.sidecar import Beat, Sidecar
from loopwatch.sensors.tick import TickSensor

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Beat", "Period", "Reading", "Sensor", "Sidecar", "TickSensor", "pick_sensor"]

# Exact sensors, tried in this order; a new one is one line here.
EXACT = (LibuvSensor, SelectorSensor)


def pick_sensor(loop: AbstractEventLoop, tick: TickSensor) -> Sensor:
    """Return the first exact sensor that can watch this loop, else `tick`."""
    for sensor in EXACT:
        try:
            return sensor(loop)
        except SensorUnavailableError:
            continue
    return tick
