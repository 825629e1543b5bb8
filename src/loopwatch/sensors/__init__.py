"""Sensors: is the loop busy, since when, in which iteration? One file each."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from loopwatch.sensors.alarm import Alarm
from loopwatch.sensors.base import Period, Reading, Sensor, SensorUnavailableError
from loopwatch.sensors.libuv import LibuvSensor
from loopwatch.sensors.selector import SelectorSensor
from loopwatch.sensors.sidecar import Beat, Sidecar
from loopwatch.sensors.tick import TickSensor

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Alarm", "Beat", "Period", "Reading", "Sensor", "Sidecar", "TickSensor", "start_sensor"]

log = logging.getLogger("loopwatch")

# Exact sensors, tried in this order; a new one is one line here.
EXACT = (LibuvSensor, SelectorSensor)


def start_sensor(loop: AbstractEventLoop, tick: TickSensor, limit_ns: int) -> Sensor:
    """Start and return the first exact sensor that can watch this loop, else return `tick`."""
    for kind in EXACT:
        try:
            sensor = kind(loop)
            sensor.start(limit_ns)
        except SensorUnavailableError as error:
            log.debug("loopwatch: sensor %s does not work here: %s", kind.name, error)
        except Exception as error:  # noqa: BLE001 - private API of the host: it must run on
            log.warning(
                "loopwatch: sensor %s failed with %s; the next one watches this loop",
                kind.name,
                type(error).__name__,
            )
        else:
            return sensor
    return tick
