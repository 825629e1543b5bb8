"""What the garbage collector's callback adds to one collection.

`gc.collect(0)` with nothing to collect: bare, with a callback in C that does nothing, and with
loopwatch's probe, in alternating rounds. With any callback at all the interpreter builds two dicts
a collection; only what comes on top of that is loopwatch's.
"""

from __future__ import annotations

import gc
import operator
import statistics
import threading
import time
from typing import Final

from benchmarks.common import Figure, quartiles
from loopwatch.probes.gc import GcProbe

_CALLS: Final = 20_000
_ROUNDS: Final = 21
_WANTED_S: Final = 0.3e-6


def measure() -> list[Figure]:
    """Return two figures."""
    bare_s, floor_s, own_s = [], [], []
    for _ in range(_ROUNDS):
        bare = _per_collection_s()
        gc.callbacks.append(operator.is_)  # takes two arguments and does nothing with them
        empty = _per_collection_s()
        gc.callbacks.remove(operator.is_)
        probe = GcProbe(threading.get_ident())
        probe.start()
        with_probe = _per_collection_s()
        probe.stop()
        bare_s.append(bare)
        floor_s.append(empty - bare)
        own_s.append(with_probe - empty)
    low, high = quartiles(own_s)
    own = statistics.median(own_s)
    return [
        Figure(
            "GC callback per collection, on top of any callback's cost",
            f"{own * 1e6:.2f} µs (half of them: {low * 1e6:.2f} to {high * 1e6:.2f})",
            f"<= {_WANTED_S * 1e6:.1f} µs",
            own <= _WANTED_S,
            {"own_s": own_s},
        ),
        Figure(
            "same, what a callback that does nothing costs",
            f"{statistics.median(floor_s) * 1e6:.2f} µs (an empty collection "
            f"{statistics.median(bare_s) * 1e6:.2f})",
            data={"floor_s": floor_s, "bare_s": bare_s},
        ),
    ]


def _per_collection_s() -> float:
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        gc.collect(0)
    return (time.perf_counter() - began_s) / _CALLS
