"""How long after the threshold a stall is seen from outside: at most 30 ms each way.

A child blocks its loop for 0.3 s, 24 times at random moments, by `time.sleep` and by a Python
loop in turn. (a) `on_stall` notes when it is called with the ongoing record. (b) This process
scrapes the thread server's `/metrics` over one kept connection, as Prometheus does, every 2 ms
while the stall lasts, and notes when an answer with `loopwatch_stall_active_seconds` above 0 has
arrived. Both processes read the same monotonic clock. Told: time after start + threshold.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import random
import statistics
import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import (
    ALL_TOLD,
    Figure,
    NotMeasuredError,
    per_loop,
    result_of,
    run,
    start_child,
)
from benchmarks.duration import python_loop

if TYPE_CHECKING:
    import subprocess

    from loopwatch import Stall

WANTED_S: Final = 0.03
_STALLS: Final = 24
_LENGTH_S: Final = 0.3
_THRESHOLD_S: Final = 0.1
_PAUSE_S: Final = 0.002
_KINDS: Final = {"sleep": time.sleep, "python": python_loop}


def measure() -> list[Figure]:
    """Return two figures for each loop."""
    return per_loop(_figures, "detection")


def _figures(loop: str) -> list[Figure]:
    process = start_child("benchmarks.detection:block", loop=loop, count=_STALLS)
    try:
        seen_s = _follow(process)
        got = result_of(process, 60)
    finally:
        process.kill()
    metrics: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    callback: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    for stall, at_s in zip(got["stalls"], seen_s, strict=True):
        due_s = stall["began_s"] + _THRESHOLD_S
        metrics[stall["kind"]].append(at_s - due_s)
        told = [t for t in got["told_s"] if due_s - _THRESHOLD_S < t < due_s + _LENGTH_S]
        callback[stall["kind"]].append(told[0] - due_s if told else float("inf"))
    return [
        _figure(f"threshold to on_stall, {loop}", callback),
        _figure(f"threshold to /metrics, {loop}", metrics),
    ]


def _figure(name: str, by_kind: dict[str, list[float]]) -> Figure:
    every = [late_s for late in by_kind.values() for late_s in late]
    kinds = "; ".join(
        f"{kind} {statistics.median(late) * 1e3:.1f}, {max(late) * 1e3:.1f}"
        for kind, late in by_kind.items()
    )
    return Figure(
        name,
        f"median {statistics.median(every) * 1e3:.1f} ms, worst {max(every) * 1e3:.1f} ms "
        f"({kinds})",
        f"<= {WANTED_S * 1e3:.0f} ms",
        max(every) <= WANTED_S,
        {"late_s": by_kind},
    )


def _follow(process: subprocess.Popen[str]) -> list[float]:
    """Scrape during each stall; return when each was first seen, `inf` for never."""
    lines = iter(process.stdout or ())
    first = next((line for line in lines if line.strip()), "")
    if not first:
        raise NotMeasuredError("the child did not start")
    connection = http.client.HTTPConnection("127.0.0.1", json.loads(first)["port"], timeout=5)
    seen_s = []
    for _ in range(_STALLS):
        if not next(lines, ""):
            raise NotMeasuredError("the child ended early")
        seen_s.append(_until_seen(connection, time.monotonic() + _LENGTH_S))
    connection.close()
    return seen_s


def _until_seen(connection: http.client.HTTPConnection, until_s: float) -> float:
    while time.monotonic() < until_s:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        now_s = time.monotonic()
        for line in text.splitlines():
            if line.startswith("loopwatch_stall_active_seconds{") and float(line.split()[-1]) > 0:
                return now_s
        time.sleep(_PAUSE_S)
    return float("inf")


def block(loop: str, count: int) -> dict[str, Any]:
    """Serve /metrics, announce each stall on a line of stdout, and block. Child."""
    result: dict[str, Any] = run(loop, _block(count))
    return result


async def _block(count: int) -> dict[str, Any]:
    import loopwatch  # noqa: PLC0415 - only in the child

    told_s: list[float] = []
    stalls: list[dict[str, Any]] = []

    def on_stall(stall: Stall) -> None:
        if stall.phase == "ongoing":
            told_s.append(time.monotonic())

    rng = random.Random()
    with loopwatch.install(
        http_port=0, on_stall=on_stall, exporters=["prometheus"], **ALL_TOLD
    ) as agent:
        print(json.dumps({"port": agent.http_port}), flush=True)
        await asyncio.sleep(1.0)
        for n in range(count):
            kind = list(_KINDS)[n % len(_KINDS)]
            await asyncio.sleep(rng.uniform(0.15, 0.3))
            print("now", flush=True)
            began_s = time.monotonic()
            _KINDS[kind](_LENGTH_S)
            stalls.append({"kind": kind, "began_s": began_s})
        await asyncio.sleep(0.5)
    return {"stalls": stalls, "told_s": told_s}
