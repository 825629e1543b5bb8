"""The one line, in real FastAPI and Starlette apps under a real uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

import loopwatch
from tests.conftest import Run, Told, settle

pytest.importorskip("fastapi", reason="the demo extra is not installed here")
pytest.importorskip("uvicorn", reason="the demo extra is not installed here")
import httpx
import uvicorn
from fastapi import FastAPI, Request
from prometheus_client import make_asgi_app
from starlette.applications import Starlette


async def serve(app: Any, visit: Any) -> Any:
    """Serve `app` on this loop and visit it from a thread."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
        if task.done():
            await task
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        return await asyncio.to_thread(visit, f"http://127.0.0.1:{port}")
    finally:
        server.should_exit = True
        await task


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=10, trust_env=False)


def test_one_line_watches_a_fastapi_app(run_exact: Run, told: Told) -> None:
    """A handler that blocks is on the app's own /metrics and in the records, with its line."""
    app = FastAPI(lifespan=loopwatch.lifespan(on_stall=told))
    app.mount("/metrics", make_asgi_app())

    def slow_helper() -> None:
        time.sleep(0.25)

    @app.get("/slow")
    async def slow() -> dict[str, bool]:
        slow_helper()
        return {"ok": True}

    def visit(base: str) -> str:
        assert get(f"{base}/slow").json() == {"ok": True}
        time.sleep(0.2)
        return get(f"{base}/metrics/").text

    text = run_exact(serve(app, visit))
    for line in (
        'loopwatch_stalls_total{cause="blocking_call",loop="main"} 1.0',
        'loopwatch_stalls_total{cause="cpu",loop="main"} 0.0',
        'loopwatch_stall_active_seconds{loop="main"} 0.0',
    ):
        assert line in text
    for name in (
        "loopwatch_lag_seconds_bucket",
        "loopwatch_tasks",
        'loopwatch_loop_time_seconds_total{loop="main",state="busy"}',
        "loopwatch_loop_cpu_seconds_total",
    ):
        assert name in text
    (final,) = told.final
    assert final.duration_s == pytest.approx(0.25, abs=0.03)
    assert final.culprit is not None
    assert final.culprit.function.endswith("slow_helper")
    assert final.culprit.source == "time.sleep(0.25)"
    assert final.entry is not None
    assert final.entry.function.endswith("<locals>.slow")
    assert final.task is not None


def test_the_apps_own_lifespan_and_state_are_kept(run_exact: Run) -> None:
    """It runs inside ours, its state reaches requests, and the agent is there all along."""
    order: list[str] = []

    @contextlib.asynccontextmanager
    async def mine(app: FastAPI) -> AsyncIterator[dict[str, int]]:
        order.append(f"start, watched: {loopwatch.current() is not None}")
        yield {"answer": 42}
        order.append(f"stop, watched: {loopwatch.current() is not None}")

    app = FastAPI(lifespan=loopwatch.lifespan(mine, stall_threshold_s=0.2))

    @app.get("/")
    async def read(request: Request) -> dict[str, Any]:
        agent = loopwatch.current()
        assert agent is not None
        return {"state": request.state.answer, "threshold": agent.config.stall_threshold_s}

    body = run_exact(serve(app, lambda base: get(base).json()))
    assert body == {"state": 42, "threshold": 0.2}
    assert order == ["start, watched: True", "stop, watched: True"]


def test_starlette_and_a_plain_generator_lifespan_work_too() -> None:
    """The older spelling of a lifespan, an async generator function, is taken as well."""
    seen = []

    async def mine(app: Any) -> AsyncIterator[None]:
        seen.append(loopwatch.current() is not None)
        yield

    app = Starlette(lifespan=loopwatch.lifespan(mine))
    asyncio.run(serve(app, lambda base: get(base).status_code))
    assert seen == [True]


def test_a_lifespan_that_fails_leaves_nothing(run_exact: Run) -> None:
    """The app's own error comes through; the fixture proves that the agent is gone."""

    @contextlib.asynccontextmanager
    async def bad(app: Any) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    async def main() -> None:
        with pytest.raises(RuntimeError, match="no database"):
            async with loopwatch.lifespan(bad)(None):
                pass
        assert loopwatch.current() is None

    run_exact(main())


def test_a_loop_that_is_watched_already_keeps_its_agent(told: Told) -> None:
    """The lifespan joins an agent that somebody else installed, and does not stop it."""

    async def main() -> None:
        with loopwatch.install(on_stall=told) as agent:
            async with loopwatch.lifespan()(None):
                assert loopwatch.current() is agent
            assert loopwatch.current() is agent
            await asyncio.sleep(0.02)
            time.sleep(0.15)
            await settle(told)

    asyncio.run(main())
    assert len(told.final) == 1


def test_wrong_settings_fail_where_the_app_is_made() -> None:
    """Not in the first request, not in a worker: in the line that is wrong."""
    with pytest.raises(loopwatch.ConfigError, match="stall_threshold_s=0 is not allowed"):
        loopwatch.lifespan(stall_threshold_s=0)
    with pytest.raises(loopwatch.ConfigError, match="did you mean http_port"):
        loopwatch.lifespan(http_prt=1)
