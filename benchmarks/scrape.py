"""A scrape: at most 2 ms of the GIL with 5 loops, and 0.1 % of a core at one a second.

A child watches five loops in five threads. One figure is the CPU time of the thread that renders
their page, which has the GIL for all of it, in the format that Prometheus asks for (OpenMetrics)
and in the older one. For the other a child with one idle loop is scraped over HTTP once a second
for half of the time: CPU of the process with scrapes minus without. The last one is a second's
writing for the shared endpoint of several workers. An empty registry and a bare HTTP server would
cost something too; nothing is taken off for that.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import Figure, in_child, quantile, result_of, start_child

if TYPE_CHECKING:
    from collections.abc import Callable

WANTED_S: Final = 0.002
WANTED_CPU: Final = 0.001
_LOOPS: Final = 5
_SCRAPES: Final = 300
_PAUSE_S: Final = 0.01
_WINDOW_S: Final = 20.0
_ACCEPT: Final = {
    "OpenMetrics": "application/openmetrics-text; version=1.0.0",
    "text": "text/plain; version=0.0.4",
}


def measure() -> list[Figure]:
    """Return a figure for each format, and two for what export costs all the time."""
    steady = start_child("benchmarks.scrape:scraped", quiet=True)
    cpu = result_of(steady, 4 * _WINDOW_S)
    pages = in_child("benchmarks.scrape:render")
    figures = []
    for name in _ACCEPT:
        taken_s = pages[name]
        figures.append(
            Figure(
                f"one scrape of {_LOOPS} loops, GIL, {name}",
                f"median {statistics.median(taken_s) * 1e3:.2f} ms, "
                f"95 % {quantile(taken_s, 0.95) * 1e3:.2f} ms ({pages['lines']} lines; "
                f"snapshots {statistics.median(pages['snapshots']) * 1e3:.2f} ms)",
                f"<= {WANTED_S * 1e3:.0f} ms",
                statistics.median(taken_s) <= WANTED_S,
                {"taken_s": taken_s},
            )
        )
    cost = cpu["scraped"] - cpu["alone"]
    beat_s = statistics.median(pages["shared"])
    return [
        *figures,
        Figure(
            "one scrape a second, one loop, over HTTP",
            f"{cost * 100:.3f} % of a core (alone: {cpu['alone'] * 100:.3f} %)",
            f"<= {WANTED_CPU * 100} %",
            cost <= WANTED_CPU,
            cpu,
        ),
        Figure(
            "writing for a shared endpoint, one loop",
            f"{beat_s * 1e6:.0f} µs a second: {beat_s * 100:.3f} % of a core",
            f"<= {WANTED_CPU * 100} %",
            beat_s <= WANTED_CPU,
        ),
    ]


def render() -> dict[str, Any]:
    """Render the pages of five loops. Child."""
    import loopwatch  # noqa: PLC0415 - only in the child
    from loopwatch.exporters.base import Source  # noqa: PLC0415
    from loopwatch.exporters.multiprocess import SharedFiles  # noqa: PLC0415
    from loopwatch.exporters.prometheus import render_alone  # noqa: PLC0415

    agents: list[loopwatch.Agent] = []
    ready, done = threading.Barrier(_LOOPS + 1), threading.Event()

    async def watched() -> None:
        async with loopwatch.install(exporters=[]) as agent:
            agents.append(agent)
            await asyncio.sleep(1)
            ready.wait()
            await asyncio.to_thread(done.wait)

    threads = [threading.Thread(target=lambda: asyncio.run(watched())) for _ in range(_LOOPS)]
    for thread in threads:
        thread.start()
    ready.wait()
    reads = [agent.snapshot for agent in agents]
    result: dict[str, Any] = {
        name: _times(lambda accept=accept: render_alone(accept, reads))
        for name, accept in _ACCEPT.items()
    }
    result["snapshots"] = _times(lambda: [read() for read in reads])
    result["lines"] = render_alone("", reads)[0].count(b"\n")
    with tempfile.TemporaryDirectory() as folder:
        files = SharedFiles(Path(folder), Source(agents[0].config, reads[0]))
        result["shared"] = _times(files._beat)
        files.stop()
    done.set()
    for thread in threads:
        thread.join()
    return result


def _times(work: Callable[[], object]) -> list[float]:
    taken_s = []
    for _ in range(_SCRAPES):
        time.sleep(_PAUSE_S)  # caches are as cold as between two real scrapes, or nearly so
        began_s = time.thread_time()
        work()
        taken_s.append(time.thread_time() - began_s)
    return taken_s


def scraped() -> dict[str, float]:
    """Be scraped once a second for one window, and not for another. Child."""
    import loopwatch  # noqa: PLC0415 - only in the child

    async def main() -> dict[str, float]:
        async with loopwatch.install(http_port=0, exporters=["prometheus"]) as agent:
            url = f"http://127.0.0.1:{agent.http_port}/metrics"
            await asyncio.sleep(2)
            windows = {"alone": 0.0, "scraped": 0.0}
            for name in ("alone", "scraped", "scraped", "alone"):
                windows[name] += await _window(url if name == "scraped" else None) / 2
        return windows

    return asyncio.run(main())


async def _window(url: str | None) -> float:
    """Return the CPU seconds per second of this process, without the scraper's."""
    scraper = _start_scraper(url)
    cpu_s, began_s = time.process_time(), time.monotonic()
    await asyncio.sleep(_WINDOW_S / 2)
    used = (time.process_time() - cpu_s) / (time.monotonic() - began_s)
    os.kill(scraper, 9)
    os.waitpid(scraper, 0)
    return used


def _start_scraper(url: str | None) -> int:
    child = os.fork()
    if child == 0:
        while True:
            time.sleep(1)
            if url is not None:
                request = urllib.request.Request(url, headers={"Accept": _ACCEPT["OpenMetrics"]})
                with urllib.request.urlopen(request, timeout=5) as answer:
                    answer.read()
    return child
