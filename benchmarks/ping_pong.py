"""The worst case: one byte to and fro between two protocols, an iteration for each hop. Told only.

Nothing else happens in an iteration, so whatever loopwatch adds to one weighs most here. Windows
of 0.25 s in ABBA order in one process, each on a new loop (so that libuv's idle-time metric is
really off in the off windows). Told: CPU time of the process per hop, on/off, median of the pairs
with its 90 % bootstrap interval.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from typing import Any, Final

from benchmarks.common import (
    Figure,
    in_child,
    in_quads,
    interval_of_median,
    per_loop,
    quartiles,
    ratios_of,
    run,
)

_PAIRS: Final = 16
_WINDOW_S: Final = 0.25
_SETTLE_S: Final = 0.05


def measure() -> list[Figure]:
    """Return one figure for each loop."""
    return per_loop(_figures, "ping-pong")


def _figures(loop: str) -> list[Figure]:
    got = in_child("benchmarks.ping_pong:play", loop=loop)
    ratios, alike = ratios_of(got["order"], got["cpu_per_hop_s"])
    low, high = interval_of_median(ratios)
    noise = quartiles(alike)
    off_s = [c for c, on in zip(got["cpu_per_hop_s"], got["order"], strict=True) if not on]
    text = (
        f"{statistics.median(ratios):.4f} (90 %: {low:.4f} to {high:.4f}; "
        f"{statistics.median(off_s) * 1e6:.1f} µs a hop; alike: {noise[0]:.3f} to {noise[1]:.3f})"
    )
    return [Figure(f"ping-pong, CPU per hop, on/off, {loop}", text, data=got)]


def play(loop: str) -> dict[str, Any]:
    """Play all windows. Child."""
    run(loop, _window(on=True))  # warm-up: imports and caches
    order = in_quads(2 * _PAIRS, random.Random())
    return {"order": order, "cpu_per_hop_s": [run(loop, _window(on=on)) for on in order]}


class _Player(asyncio.Protocol):
    """Sends back what comes."""

    def __init__(self) -> None:
        self.hops = 0

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self.hops += 1
        self.write(data)


async def _window(*, on: bool) -> float:
    import loopwatch  # noqa: PLC0415 - only in the child

    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    transport, player = await loop.create_connection(_Player, sock=near)
    other, opponent = await loop.create_connection(_Player, sock=far)
    agent = loopwatch.install() if on else None
    transport.write(b"x")
    await asyncio.sleep(_SETTLE_S)
    cpu_s, hops = time.process_time(), player.hops + opponent.hops
    await asyncio.sleep(_WINDOW_S)
    cpu_s, hops = time.process_time() - cpu_s, player.hops + opponent.hops - hops
    if agent is not None:
        agent.stop()
    transport.abort()
    other.abort()
    return cpu_s / hops
