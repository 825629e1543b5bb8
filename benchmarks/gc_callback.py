"""What the garbage collector's callback adds to one collection. Told only.

`gc.collect(0)` with nothing to collect, with and without loopwatch's probe, in alternating rounds.
"""

from __future__ import annotations

import gc
import statistics
import threading
import time
from typing import Final

from benchmarks.common import Figure, quartiles
from loopwatch.probes.gc import GcProbe

_CALLS: Final = 20_000
_ROUNDS: Final = 21


def measure() -> list[Figure]:
    """Return one figure."""
    bare_s, added_s = [], []
    for _ in range(_ROUNDS):
        bare = _per_collection_s()
        probe = GcProbe(threading.get_ident())
        probe.start()
        added_s.append(_per_collection_s() - bare)
        probe.stop()
        bare_s.append(bare)
    low, high = quartiles(added_s)
    return [
        Figure(
            "GC callback per collection",
            f"{statistics.median(added_s) * 1e6:.2f} µs (half of them: {low * 1e6:.2f} to "
            f"{high * 1e6:.2f}; an empty collection {statistics.median(bare_s) * 1e6:.2f})",
            data={"added_s": added_s, "bare_s": bare_s},
        )
    ]


def _per_collection_s() -> float:
    began_s = time.perf_counter()
    for _ in range(_CALLS):
        gc.collect(0)
    return (time.perf_counter() - began_s) / _CALLS
