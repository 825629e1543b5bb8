"""Something to see on the dashboards: `loopwatch demo`, two workers of another service, Prometheus.

One of the two workers goes away. For the integration test and for the pictures.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.servers import PrometheusApi, free_port, process, prometheus, victoria_metrics, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["JOBS", "Scene", "playing"]

# Job -> its loops are of this service.
JOBS: Final = ("shop", "reports")

# Blocks within allow_blocking, keeps a pool busy with a queue, leaks tasks, collects garbage,
# computes for longer the longer it runs, and has an `on_stall` that fails. Arguments: port,
# seconds to compute, thresholds of CPU and of tasks.
_WORKER: Final = """
import asyncio, concurrent.futures, gc, sys, time
import loopwatch

def compute(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(2000))

def fail(stall):
    raise RuntimeError("an on_stall that fails")

async def main():
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2))
    loopwatch.install(
        loop_name="worker",
        http_port=int(sys.argv[1]),
        cpu_ratio_threshold=float(sys.argv[3]),
        tasks_threshold=int(sys.argv[4]),
        on_stall=fail,
        like_stalls_per_minute=4,
    )
    leaked, turn = [], 0
    while True:
        turn += 1
        for _ in range(1 + turn % 6):
            loop.run_in_executor(None, time.sleep, 0.3)
        await asyncio.sleep(0.5)
        leaked += [asyncio.create_task(asyncio.Event().wait()) for _ in range(18)]
        until = time.monotonic() + float(sys.argv[2]) * (1 + turn // 25 % 3)
        while time.monotonic() < until:
            compute(0.02)
            await asyncio.sleep(0)
        if turn % 5 == 1:
            time.sleep(0.15)
        elif turn % 12 == 3:
            compute(0.3)
        elif turn % 5 == 2:
            with loopwatch.allow_blocking("reading the model"):
                time.sleep(0.15)
        await asyncio.sleep(0)
        gc.collect()

asyncio.run(main())
"""


@dataclass(frozen=True)
class Scene:
    """What runs: servers by name that scraped it all, and where a worker and the demo tell."""

    servers: dict[str, PrometheusApi]
    worker_url: str
    demo_url: str
    began_s: float


@contextmanager
def playing(folder: Path, seconds: float, *, all_servers: bool = False) -> Iterator[Scene]:
    """Let it run for so long, then end the second worker, and leave the rest running meanwhile.

    The servers scrape once a second: Prometheus alone, or also a newer one and VictoriaMetrics.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker.py").write_text(_WORKER)
    demo, stays, goes = free_port(), free_port(), free_port()
    config = _scrapes(
        ("shop", "shop-1", demo), ("reports", "reports-1", stays), ("reports", "reports-2", goes)
    )
    (folder / "scrapes.yml").write_text(config)
    began_s = time.time()
    with ExitStack() as stack:
        servers = {"Prometheus": stack.enter_context(prometheus(folder / "prometheus", config))}
        if all_servers:
            servers["newer Prometheus"] = stack.enter_context(
                prometheus(folder / "newer", config, newer=True)
            )
            servers["VictoriaMetrics"] = stack.enter_context(
                victoria_metrics(folder / "vm", f"-promscrape.config={folder / 'scrapes.yml'}")
            )
        shop = [sys.executable, "-m", "loopwatch", "demo", "--port", "0", "--http-port", str(demo)]
        stack.enter_context(process(shop, folder / "shop"))
        worker = [sys.executable, str(folder / "worker.py")]
        stack.enter_context(process([*worker, str(stays), "0.2", "0.5", "1000"], folder / "stays"))
        with process([*worker, str(goes), "1.2", "0.2", "100"], folder / "goes"):
            for server in servers.values():
                wait_for(
                    "three watched loops",
                    partial(_sees, server, "count(loopwatch_build_info) == 3"),
                )
            time.sleep(seconds)
        for server in servers.values():
            # Some samples, so that it shows at the steps of a query, too.
            ended = partial(_sees, server, "count_over_time((up == 0)[30s:1s]) >= 3")
            wait_for("the end of a worker", ended)
        host = "http://127.0.0.1"
        yield Scene(servers, f"{host}:{stays}", f"{host}:{demo}", began_s)


def _sees(server: PrometheusApi, expr: str) -> bool:
    return bool(server.query(expr))


def _scrapes(*targets: tuple[str, str, int]) -> str:
    jobs = "".join(
        f"  - job_name: {job}\n"
        "    static_configs:\n"
        + "".join(
            f"      - targets: ['127.0.0.1:{port}']\n        labels: {{instance: '{instance}'}}\n"
            for of_job, instance, port in targets
            if of_job == job
        )
        for job in JOBS
    )
    return f"global: {{scrape_interval: 1s}}\nscrape_configs:\n{jobs}"
