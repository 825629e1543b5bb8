"""Whether every stall is told, once, with its true length: median error 1 ms, worst 5 ms.

In a child for each loop, 64 stalls of random length (0.11 to 0.6 s) at random moments, under
light load: `time.sleep`, a Python loop, a C call that keeps the GIL, and the first two again in
a `Protocol` callback. The truth is `time.monotonic()` right before and after the blocking
call. An error is reported minus true. Final records that belong to no stall of ours are told too:
on a busy machine the scheduler makes some.
"""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from benchmarks.common import ALL_TOLD, Figure, in_child, per_loop, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch import Stall

WANTED_MEDIAN_S: Final = 0.001
WANTED_WORST_S: Final = 0.005
_STALLS: Final = 64
_THRESHOLD_S: Final = 0.1
_SHORTEST_S, _LONGEST_S = 0.11, 0.6
_GAPS_S: Final = (0.02, 0.2)
_CHATTERS: Final = 5
_MODULUS: Final = (1 << 1279) - 1


def measure() -> list[Figure]:
    """Return three figures for each loop."""
    return per_loop(_figures, "stall length")


def _figures(loop: str) -> list[Figure]:
    seed = random.SystemRandom().randrange(2**32)
    got = in_child("benchmarks.duration:stalls", loop=loop, count=_STALLS, seed=seed)
    # A C call can be over sooner than it was meant to: below the threshold it is no stall.
    due = [stall for stall in got["stalls"] if stall["true_s"] >= _THRESHOLD_S]
    errors = [stall["error_s"] for stall in due if stall["error_s"] is not None]
    once = sum(stall["finals"] == 1 for stall in due)
    twice = sum(stall["finals"] > 1 for stall in due)
    rows = [
        Figure(
            f"stalls told exactly once, {loop}",
            f"{once} of {len(due)} ({twice} more than once; and {got['others']} not of ours)",
            "all",
            once == len(due),
            {**got, "seed": seed},
        )
    ]
    if not errors:
        return rows
    median = statistics.median(abs(error) for error in errors)
    worst = max(errors, key=abs)
    kinds = ", ".join(f"{kind} {error * 1e3:+.2f}" for kind, error in _worst_of_kinds(due).items())
    return [
        *rows,
        Figure(
            f"stall length, median error, {loop}",
            f"{median * 1e3:.2f} ms (signed {statistics.median(errors) * 1e3:+.2f})",
            f"<= {WANTED_MEDIAN_S * 1e3:.0f} ms",
            median <= WANTED_MEDIAN_S,
        ),
        Figure(
            f"stall length, worst error, {loop}",
            f"{worst * 1e3:+.2f} ms (worst of each: {kinds})",
            f"<= {WANTED_WORST_S * 1e3:.0f} ms",
            abs(worst) <= WANTED_WORST_S,
        ),
    ]


def _worst_of_kinds(stalls: list[dict[str, Any]]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for stall in stalls:
        if stall["error_s"] is not None:
            worst[stall["kind"]] = max(worst.get(stall["kind"], 0.0), stall["error_s"], key=abs)
    return worst


def stalls(loop: str, count: int, seed: int) -> dict[str, Any]:
    """Block a loop `count` times and compare with what was reported. Child."""
    result: dict[str, Any] = run(loop, _stalls(count, random.Random(seed)))
    return result


def python_loop(length_s: float) -> None:
    """Keep the CPU and, but for the interpreter's switches, the GIL."""
    until_s = time.monotonic() + length_s
    while time.monotonic() < until_s:
        pass


def make_native_call() -> Callable[[float], None]:
    """Return one C call that never gives the GIL back: a power with a long exponent."""
    bits_per_s = 1.0
    for bits in (200, 2_000, 20_000):
        began_s = time.perf_counter()
        pow(3, (1 << bits) - 1, _MODULUS)
        bits_per_s = bits / (time.perf_counter() - began_s)

    def native_call(length_s: float) -> None:
        pow(3, (1 << max(1, round(length_s * bits_per_s))) - 1, _MODULUS)

    return native_call


class _Stage:
    """Blocks on demand and keeps the truth."""

    def __init__(self) -> None:
        self.truth: list[dict[str, Any]] = []
        self.done = asyncio.Event()

    def block(self, kind: str, how: Callable[[float], None], length_s: float) -> None:
        at_s, began_s = time.time(), time.monotonic()
        how(length_s)
        self.truth.append({"kind": kind, "at_s": at_s, "true_s": time.monotonic() - began_s})
        self.done.set()


class _Blocking(asyncio.Protocol):
    """Runs what it is given when the next byte arrives."""

    def __init__(self) -> None:
        self.callback: Callable[[], object] = int

    def data_received(self, data: bytes) -> None:  # noqa: ARG002 - the byte says: now
        self.callback()


async def _stalls(count: int, rng: random.Random) -> dict[str, Any]:
    import loopwatch  # noqa: PLC0415 - only in the child

    stage = _Stage()
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_connection(_Blocking, sock=near)
    chatters = [asyncio.create_task(_chatter(random.Random(n))) for n in range(_CHATTERS)]
    plan = _plan(count, rng, make_native_call())
    records: list[Stall] = []
    with loopwatch.install(
        on_stall=records.append, exporters=[], stall_threshold_s=_THRESHOLD_S, **ALL_TOLD
    ):
        await asyncio.sleep(0.5)
        for kind, how, length_s, in_protocol in plan:
            stage.done.clear()
            if in_protocol:
                protocol.callback = partial(stage.block, kind, how, length_s)
                far.send(b"x")
            else:
                stage.block(kind, how, length_s)
            await stage.done.wait()
            await asyncio.sleep(rng.uniform(*_GAPS_S))
        await asyncio.sleep(0.5)
    for task in chatters:
        task.cancel()
    transport.close()
    far.close()
    return _compare(stage.truth, records)


def _plan(
    count: int, rng: random.Random, native: Callable[[float], None]
) -> list[tuple[str, Callable[[float], None], float, bool]]:
    """Return kind, function, length and whether in a Protocol callback, of each stall."""
    kinds: list[tuple[str, Callable[[float], None], bool]] = [
        ("sleep", time.sleep, False),
        ("python", python_loop, False),
        ("native", native, False),
        ("protocol sleep", time.sleep, True),
        ("protocol python", python_loop, True),
    ]
    plan = []
    for n in range(count):
        kind, how, in_protocol = kinds[n % len(kinds)]
        plan.append((kind, how, rng.uniform(_SHORTEST_S, _LONGEST_S), in_protocol))
    rng.shuffle(plan)
    return plan


async def _chatter(rng: random.Random) -> None:
    """Wake every few milliseconds for a little work: the light load."""
    while True:
        await asyncio.sleep(rng.uniform(0.002, 0.02))
        sum(range(500))


def _compare(truth: list[dict[str, Any]], records: list[Stall]) -> dict[str, Any]:
    finals = [record for record in records if record.phase == "final"]
    taken: set[str] = set()
    rows = []
    for stall in truth:
        # The middle of a stall lies in its own record and in no other one.
        middle_s = stall["at_s"] + stall["true_s"] / 2
        mine = [f for f in finals if f.started_at_s <= middle_s <= f.started_at_s + f.duration_s]
        taken.update(record.id for record in mine)
        error_s = mine[0].duration_s - stall["true_s"] if mine else None
        rows.append({**stall, "finals": len(mine), "error_s": error_s})
    others = [f.duration_s for f in finals if f.id not in taken]
    return {"stalls": rows, "others": len(others), "others_s": others}
