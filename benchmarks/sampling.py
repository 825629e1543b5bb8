"""What looking at a stall costs: CPU of loopwatch's threads as a share of the stalls.

Stalls of 0.25 s, one after the other, that sleep, compute in Python, and compute in a C call that
keeps the GIL. The looks in between are counted in.
"""

from __future__ import annotations

import asyncio
import functools
import re
import time
from typing import TYPE_CHECKING, Final

import loopwatch
from benchmarks.common import ALL_TOLD, Figure, in_child, per_loop, run

if TYPE_CHECKING:
    from collections.abc import Callable

_STALLS: Final = 20
_STALL_S: Final = 0.25
_WANTED: Final = 0.05


def measure() -> list[Figure]:
    """Return a figure for each loop and kind of stall."""
    return per_loop(_figures, "CPU of sampling")


def _figures(loop: str) -> list[Figure]:
    shares: dict[str, float] = in_child("benchmarks.sampling:child", loop=loop)
    return [
        Figure(
            f"CPU of sampling, {kind}, {loop}",
            f"{share * 100:.1f} % of the stall",
            f"<= {_WANTED * 100:.0f} %",
            share <= _WANTED,
        )
        for kind, share in shares.items()
    ]


def child(loop: str) -> dict[str, float]:
    """Stall again and again, and return the share of each kind. Child."""
    shares: dict[str, float] = run(loop, _stall_in_each_way())
    return shares


async def _stall_in_each_way() -> dict[str, float]:
    text = " " * _blanks() + "!"
    ways = {
        "sleeping": functools.partial(time.sleep, _STALL_S),
        "Python": _compute,
        "C with the GIL": functools.partial(re.sub, r"\s+$", "", text),
    }
    with loopwatch.install(exporters=[], **ALL_TOLD) as agent:
        return {kind: await _share(agent, block) for kind, block in ways.items()}


async def _share(agent: loopwatch.Agent, block: Callable[[], object]) -> float:
    block()  # names and sources are found once
    await asyncio.sleep(0.5)
    before_s = agent.snapshot().self_cpu_s_total
    stalled_s = 0.0
    for _ in range(_STALLS):
        began_s = time.monotonic()
        block()
        stalled_s += time.monotonic() - began_s
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    return (agent.snapshot().self_cpu_s_total - before_s) / stalled_s


def _compute() -> None:
    until_s = time.monotonic() + _STALL_S
    while time.monotonic() < until_s:
        pass


def _blanks() -> int:
    count = 1000
    while True:
        began_s = time.thread_time()
        re.sub(r"\s+$", "", " " * count + "!")
        took_s = time.thread_time() - began_s
        if took_s > _STALL_S / 10:
            return int(count * (_STALL_S / took_s) ** 0.5)
        count *= 2
