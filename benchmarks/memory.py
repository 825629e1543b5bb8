"""What memory loopwatch takes: at most 8 MB for installing, and none for 8,000 more stalls.

Growth: resident memory of a FastAPI app under uvicorn before and a second after `install()`, both
after requests and a collection; once with prometheus_client imported by the app already, once
without; median of 3 children. Flatness: 10,000 stalls of about 7 ms in a row at a threshold of
5 ms; wanted is less than 1 MB between the 2,000th and the last. (One or two more may be told: the
collection before a reading can take longer than the threshold.)
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import (
    LOOPS,
    Figure,
    NotMeasuredError,
    in_child,
    need,
    need_loop,
    not_measured,
    result_of,
    rss_bytes,
    run,
    start_child,
)

if TYPE_CHECKING:
    import subprocess

WANTED_BYTES: Final = 8e6
WANTED_GROWTH_BYTES: Final = 1e6
_RUNS: Final = 3
_EARLY, _LATE = 2_000, 10_000
_THRESHOLD_S, _BLOCK_S = 0.005, 0.007


def measure() -> list[Figure]:
    """Return two figures for installing and one for each loop."""
    children = {loop: start_child("benchmarks.memory:many_stalls", loop=loop) for loop in LOOPS}
    return [*_installing(), *_flatness(children)]


def _installing() -> list[Figure]:
    rows = []
    for preload, label in ((True, "prometheus_client there"), (False, "prometheus_client new")):
        name = f"memory of install(), {label}"
        wanted = f"<= {WANTED_BYTES / 1e6:.0f} MB"
        try:
            need("fastapi", "uvicorn", "prometheus_client")
            grown = [
                in_child("benchmarks.memory:install_growth", preload=preload) for _ in range(_RUNS)
            ]
        except NotMeasuredError as error:
            rows.append(not_measured(name, error, wanted))
            continue
        median = statistics.median(grown)
        text = f"{median / 1e6:.2f} MB ({min(grown) / 1e6:.2f} to {max(grown) / 1e6:.2f})"
        rows.append(Figure(name, text, wanted, median <= WANTED_BYTES, {"bytes": grown}))
    return rows


def _flatness(children: dict[str, subprocess.Popen[str]]) -> list[Figure]:
    name = f"memory from {_EARLY:,} to {_LATE:,} stalls"
    wanted = f"< {WANTED_GROWTH_BYTES / 1e6:.0f} MB"
    rows = []
    for loop, child in children.items():
        try:
            need_loop(loop)
            got = result_of(child, 300)
        except NotMeasuredError as error:
            child.kill()
            rows.append(not_measured(f"{name}, {loop}", error, wanted))
            continue
        grown = got["late_bytes"] - got["early_bytes"]
        text = f"{grown / 1e6:+.2f} MB ({got['told']:,} told, {got['dropped']} dropped)"
        rows.append(Figure(f"{name}, {loop}", text, wanted, grown < WANTED_GROWTH_BYTES, got))
    return rows


def install_growth(preload: bool) -> int:
    """Return how many bytes `install()` adds to a serving app. Child."""
    if preload:
        importlib.import_module("prometheus_client")
    grown: int = run("asyncio", _install_growth())
    return grown


async def _install_growth() -> int:
    from benchmarks.web_app import make_app, start_server  # noqa: PLC0415 - heavy imports

    server, task, port = await start_server(make_app())
    await _requests(port, 500)
    before = await _settled()
    import loopwatch  # noqa: PLC0415 - its cost is the figure

    agent = loopwatch.install()
    await _requests(port, 100)
    await asyncio.sleep(1.0)
    grown = await _settled() - before
    agent.stop()
    server.should_exit = True
    await task
    return grown


async def _settled() -> int:
    gc.collect()
    await asyncio.sleep(0.1)
    return rss_bytes()


async def _requests(port: int, count: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for n in range(count):
        writer.write(f"GET /items/{n} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
    writer.close()


def many_stalls(loop: str) -> dict[str, Any]:
    """Stall again and again. Child."""
    # The log exporter formats every record as usual; only the writing is left out.
    logging.getLogger("loopwatch").addHandler(logging.NullHandler())
    logging.getLogger("loopwatch").propagate = False
    result: dict[str, Any] = run(loop, _many_stalls())
    return result


async def _many_stalls() -> dict[str, Any]:
    import loopwatch  # noqa: PLC0415 - only in the child

    early = 0
    with loopwatch.install(stall_threshold_s=_THRESHOLD_S) as agent:
        for n in range(_LATE):
            if n == _EARLY:
                early = await _settled()
            time.sleep(_BLOCK_S)
            await asyncio.sleep(0.001)
        late = await _settled()
        snapshot = agent.snapshot()
    return {
        "early_bytes": early,
        "late_bytes": late,
        "told": sum(snapshot.stalls_total.values()),
        "dropped": sum(snapshot.dropped_total.values()),
        "errors": sum(snapshot.errors_total.values()),
    }
