"""What loopwatch does in an app that does nothing: at most 0.2 % of a core and 25 wake-ups/s.

For each loop two children, one watched with the default settings and one not, wait for 25 s with
a listening socket. CPU is `time.process_time()`; wake-ups are the voluntary context switches of
all threads from `/proc/self/task/*/status`. Told: watched minus not watched, per second. And, to
judge the CPU by, what a bare Python thread uses here that only wakes up 20 times a second.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, Final

from benchmarks.common import Figure, per_loop, result_of, run, start_child, switches_by_thread

WANTED_CPU: Final = 0.002
WANTED_WAKE_UPS: Final = 25.0
_WAIT_S: Final = 25.0
_SETTLE_S: Final = 2.0
_NAP_S: Final = 0.05


def measure() -> list[Figure]:
    """Return two figures for each loop, and one to compare with."""
    napper = start_child("benchmarks.idle:nap")
    figures = per_loop(_figures, "idle app")
    cpu_ratio = result_of(napper, 60)
    return [
        *figures,
        Figure(
            f"idle CPU of a bare thread, {1 / _NAP_S:.0f} wake-ups/s",
            f"{cpu_ratio * 100:.3f} % of a core ({cpu_ratio * _NAP_S * 1e6:.0f} µs each)",
            data={"cpu_ratio": cpu_ratio},
        ),
    ]


def _figures(loop: str) -> list[Figure]:
    # At the same time: neither uses enough of a core to be in the other's way.
    children = [start_child("benchmarks.idle:wait", loop=loop, watched=w) for w in (True, False)]
    on, off = (result_of(child, _WAIT_S + 60) for child in children)
    cpu = on["cpu_ratio"] - off["cpu_ratio"]
    wake_ups = sum(on["wake_ups_per_s"].values()) - sum(off["wake_ups_per_s"].values())
    threads = ", ".join(f"{name} {n:.1f}" for name, n in on["wake_ups_per_s"].items() if n > 0.05)
    data = {"on": on, "off": off}
    return [
        Figure(
            f"idle CPU, {loop}",
            f"{cpu * 100:.3f} % of a core (not watched: {off['cpu_ratio'] * 100:.3f} %)",
            f"<= {WANTED_CPU * 100} %",
            cpu <= WANTED_CPU,
            data,
        ),
        Figure(
            f"idle wake-ups, {loop}",
            f"{wake_ups:.1f}/s ({threads})",
            f"<= {WANTED_WAKE_UPS:.0f}/s",
            wake_ups <= WANTED_WAKE_UPS,
        ),
    ]


def wait(loop: str, watched: bool) -> dict[str, Any]:
    """Do nothing for a while. Child."""
    result: dict[str, Any] = run(loop, _wait(watched))
    return result


async def _wait(watched: bool) -> dict[str, Any]:
    server = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    if watched:
        import loopwatch  # noqa: PLC0415 - the other child runs without

        loopwatch.install()
    await asyncio.sleep(_SETTLE_S)
    before, cpu_s, began_s = switches_by_thread(), time.process_time(), time.monotonic()
    await asyncio.sleep(_WAIT_S)
    cpu_s, wall_s = time.process_time() - cpu_s, time.monotonic() - began_s
    after = switches_by_thread()
    server.close()
    return {
        "cpu_ratio": cpu_s / wall_s,
        "wake_ups_per_s": {name: (n - before.get(name, 0)) / wall_s for name, n in after.items()},
    }


def nap() -> float:
    """Return the share of a core that a thread takes which does nothing but wake up. Child."""
    over = threading.Lock()
    over.acquire()
    ratios: list[float] = []

    def napping() -> None:
        began_s, cpu_s = time.monotonic(), time.thread_time()
        while time.monotonic() < began_s + _WAIT_S:
            over.acquire(timeout=_NAP_S)
        ratios.append((time.thread_time() - cpu_s) / (time.monotonic() - began_s))

    thread = threading.Thread(target=napping)
    thread.start()
    thread.join()
    return ratios[0]
