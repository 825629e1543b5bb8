"""The public API as a user's type checker sees it. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import loopwatch


def told(stall: loopwatch.Stall) -> None:
    record: dict[str, Any] = stall.to_dict()
    cause: loopwatch.Cause = stall.cause
    frames: tuple[loopwatch.Frame, ...] = stall.samples[0].frames
    print(record, cause.value, frames[0].line + 1, stall.duration_s * 2)


class Mine(loopwatch.Exporter):
    name = "mine"

    def export(self, stall: loopwatch.Stall) -> None:
        told(stall)


async def main() -> None:
    agent: loopwatch.Agent = loopwatch.install(on_stall=told, stall_threshold_s=0.2)
    now: loopwatch.Snapshot = agent.snapshot()
    print(now.tasks + 1, now.lag_p99_s * 2)
    stalls: tuple[loopwatch.Stall, ...] = agent.stalls
    other: loopwatch.Agent | None = loopwatch.current()
    with loopwatch.install(loopwatch.Config(history=3), exporters=["log", Mine()]) as same:
        print(same, other, stalls)
    async with loopwatch.install() as again:
        again.stop()


@asynccontextmanager
async def mine(app: object) -> AsyncIterator[dict[str, int]]:
    yield {"answer": 42}


plain = loopwatch.lifespan()
wrapped = loopwatch.lifespan(mine, stall_threshold_s=0.2, http_port=9464)


@loopwatch.allow_blocking("reads the model")
def load(path: str) -> bytes:
    return path.encode()


@loopwatch.allow_blocking("nightly")
async def reindex(count: int) -> str:
    with loopwatch.allow_blocking("inner"):
        return load("x").decode() * count


async def app(scope: object, receive: object, send: object) -> None:
    print(await reindex(2), scope, receive, send)


served = loopwatch.RequestMiddleware(app)


def explained(stall: loopwatch.Stall) -> str:
    route = stall.request.route if stall.request else None
    advice = stall.advice.text if stall.advice else None
    other = stall.other_thread.name if stall.other_thread else None
    call = stall.culprit.call if stall.culprit else None
    return f"{stall.cause.value} {stall.confidence:.2f} {call} {route} {advice} {other}"
