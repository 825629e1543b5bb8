"""What the selector hook adds to one loop iteration: at most 0.5 µs.

A stand-in selector whose `select` returns at once is called in a tight loop, bare and hooked by
loopwatch's own sensor, in alternating rounds of one run. Told: the median difference per call.
"""

from __future__ import annotations

import statistics
import time
from types import SimpleNamespace
from typing import Any, Final

from benchmarks.common import Figure, quartiles
from loopwatch.sensors.selector import SelectorSensor

WANTED_S: Final = 0.5e-6
_CALLS: Final = 100_000
_ROUNDS: Final = 25
_LIMIT_NS: Final = 50_000_000


class _Selector:
    def select(self, timeout: float | None = None) -> list[Any]:  # noqa: ARG002 - as the real one
        return []


def measure() -> list[Figure]:
    """Return one figure."""
    selector = _Selector()
    loop: Any = SimpleNamespace(_selector=selector)
    bare_s, added_s = [], []
    for _ in range(_ROUNDS):
        bare = _per_call_s(selector)
        sensor = SelectorSensor(loop)
        sensor.start(_LIMIT_NS)
        hooked = _per_call_s(selector)
        sensor.stop()
        bare_s.append(bare)
        added_s.append(hooked - bare)
    median = statistics.median(added_s)
    low, high = quartiles(added_s)
    return [
        Figure(
            "selector hook per iteration",
            f"{median * 1e6:.3f} µs (half of {_ROUNDS} rounds: {low * 1e6:.3f} to "
            f"{high * 1e6:.3f}; the bare call {statistics.median(bare_s) * 1e6:.3f})",
            f"<= {WANTED_S * 1e6} µs",
            median <= WANTED_S,
            {"added_s": added_s, "bare_s": bare_s},
        )
    ]


def _per_call_s(selector: _Selector) -> float:
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        selector.select(None)
    return (time.perf_counter() - began_s) / _CALLS
