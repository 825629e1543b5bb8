"""What the host bound to its log for a request is there when a stall of it is told."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import json
import logging
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

import loopwatch
from tests.conftest import Run, Told, settle

structlog = pytest.importorskip("structlog", reason="structlog is not installed here")

REQUEST_ID: contextvars.ContextVar[str | None] = contextvars.ContextVar("request_id", default=None)


class Account:
    """Something that a request holds on to."""


ACCOUNT: contextvars.ContextVar[Account | None] = contextvars.ContextVar("account", default=None)


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    """Configure structlog as its documentation says, and keep what its last processor renders."""
    lines: list[dict[str, Any]] = []

    def render(logger: Any, method: str, event: dict[str, Any]) -> str:
        lines.append(json.loads(structlog.processors.JSONRenderer()(logger, method, event)))
        return ""

    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            render,
        ],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    yield lines
    structlog.reset_defaults()


async def handle(request_id: str) -> None:
    """Do what a middleware does, and then block, in a task of its own as a request has."""
    structlog.contextvars.bind_contextvars(request_id=request_id)
    REQUEST_ID.set(request_id)
    await asyncio.sleep(0)
    time.sleep(0.25)


def test_structlog_events_carry_what_the_host_bound(
    run_exact: Run, events: list[dict[str, Any]], told: Told
) -> None:
    """Both events of a stall have the request id of the task that blocked, and stable keys."""

    async def main() -> None:
        async with loopwatch.install(exporters=["log"], on_stall=told):
            await asyncio.sleep(0.05)
            await asyncio.gather(handle("req-1"), asyncio.sleep(0.01))
            await settle(told)

    run_exact(main())
    stalls = [event for event in events if event.get("cause") == "blocking_call"]
    assert [event["phase"] for event in stalls] == ["ongoing", "final"]
    for event in stalls:
        assert event["request_id"] == "req-1"
        assert event["level"] == "warning"
        assert event["function"].endswith("test_host_context.handle")
        assert event["call"] == "time.sleep"
        assert event["loop"] == "main"


def test_one_request_does_not_get_the_context_of_another(
    run_exact: Run, events: list[dict[str, Any]], told: Told
) -> None:
    """Two stalls in two tasks are told with their own ids, and one in a callback with none."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with loopwatch.install(exporters=["log"], on_stall=told):
            await asyncio.sleep(0.05)
            for count, request_id in enumerate(("req-1", "req-2"), start=1):
                await asyncio.create_task(handle(request_id))
                await settle(told, count)
            loop.call_soon(time.sleep, 0.25, context=contextvars.Context())
            await settle(told, 3)

    run_exact(main())
    ids = [event.get("request_id") for event in events if event["phase"] == "final"]
    assert ids == ["req-1", "req-2", None]


def test_a_filter_of_logging_and_on_stall_see_it_too(
    run_exact: Run, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """The stdlib's way, a filter that reads a context variable, works, and so does `on_stall`."""
    seen = []

    class Ids(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            record.request_id = REQUEST_ID.get()
            return True

    def on_stall(stall: loopwatch.Stall) -> None:
        seen.append(REQUEST_ID.get())
        told(stall)

    async def main() -> None:
        async with loopwatch.install(exporters=["log"], on_stall=on_stall):
            await asyncio.sleep(0.05)
            await asyncio.create_task(handle("req-1"))
            await settle(told)

    ids = Ids()
    caplog.handler.addFilter(ids)
    try:
        run_exact(main())
    finally:
        caplog.handler.removeFilter(ids)
    records: list[Any] = [r for r in caplog.records if "stalled" in r.getMessage()]
    assert [r.request_id for r in records] == ["req-1", "req-1"]
    assert seen == ["req-1", "req-1"]


def test_what_the_context_holds_is_let_go_of(run_exact: Run, told: Told) -> None:
    """Once the stall is told, nothing of ours keeps the objects of the request alive."""
    kept: list[weakref.ref[Account]] = []

    async def request() -> None:
        account = Account()
        kept.append(weakref.ref(account))
        ACCOUNT.set(account)
        await asyncio.sleep(0)
        time.sleep(0.25)

    async def main() -> None:
        async with loopwatch.install(exporters=["log"], on_stall=told) as agent:
            await asyncio.sleep(0.05)
            await asyncio.create_task(request())
            await settle(told)
            for _ in range(100):
                gc.collect()
                if kept[0]() is None:
                    break
                await asyncio.sleep(0.02)
            assert kept[0]() is None
            assert agent.stalls

    run_exact(main())


@pytest.mark.parametrize("seconds", [0.08, 0.25], ids=["no stall", "a stall"])
def test_the_hosts_objects_end_on_the_loops_thread(seconds: float, run_any: Run) -> None:
    """A session bound in a request's context is finalized where it was made, late at most."""
    ended: list[str] = []

    class Session:
        def __del__(self) -> None:
            ended.append(threading.current_thread().name)

    session: contextvars.ContextVar[Session] = contextvars.ContextVar("session")

    async def request() -> None:
        session.set(Session())
        time.sleep(seconds)

    async def main() -> None:
        with loopwatch.install():
            await asyncio.sleep(0.1)
            for _ in range(3):
                await asyncio.create_task(request())
                await asyncio.sleep(0.2)

    run_any(main())
    gc.collect()
    assert ended == ["MainThread"] * 3
