"""A census as a log line and as fields, through logging and structlog."""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import pytest

from loopwatch.exporters.log import LogExporter
from loopwatch.exporters.task_lines import census_fields, census_sentence
from loopwatch.model import Census, Location, TaskGroup
from tests.unit.factories import ledger
from tests.unit.test_delivery import Raising

X = "\N{MULTIPLICATION SIGN}"
AT = "app.poll at app/poll.py:12"

POLL = TaskGroup(
    coro="app.poll",
    waits_at=Location("app.poll", "app/poll.py", 12),
    count=1430,
    growth_per_min=25.0,
    oldest_s=2400.0,
)
OVER = Census(
    at_s=1795246203.25, tasks=1512, threshold=1000, looked_at=1512, groups=(POLL,), others=82
)


def census(**changes: Any) -> Census:
    return replace(OVER, **changes)


@pytest.mark.parametrize(
    ("found", "line"),
    [
        (
            OVER,
            (
                f"1,512 pending tasks (limit 1,000): 1,430 {X} {AT}, oldest at "
                "least 40 min, +25/min; 82 others"
            ),
        ),
        (
            census(
                groups=(replace(POLL, created_at=Location("app.start", "app/main.py", 7)),),
                tasks=1430,
                looked_at=1430,
                others=0,
            ),
            (
                f"1,430 pending tasks (limit 1,000): 1,430 {X} {AT}, oldest 40 min, "
                "+25/min, made at app/main.py:7"
            ),
        ),
        (
            census(
                groups=(
                    replace(POLL, count=900, growth_per_min=None, oldest_s=90000.0),
                    replace(POLL, coro="app.b", count=600, waits_at=None, growth_per_min=-3.2),
                    replace(POLL, coro="app.c", count=12),
                )
            ),
            (
                f"1,512 pending tasks (limit 1,000): 900 {X} {AT}, oldest at least "
                f"25 h; 600 {X} app.b, without a line, oldest at least 40 min, -3/min; 12 others"
            ),
        ),
        (
            census(tasks=300_000, looked_at=10_000, groups=(replace(POLL, count=299_000),)),
            (
                f"300,000 pending tasks (limit 1,000, 10,000 looked at): about 299,000 {X} {AT}, "
                "oldest at least 40 min, +25/min; 1,000 others"
            ),
        ),
        (
            census(tasks=300_000, looked_at=0, groups=(), others=300_000),
            "300,000 pending tasks (limit 1,000): not looked at, set task_sites=True",
        ),
        (census(tasks=310, groups=()), "310 pending tasks, below the limit of 1,000 again"),
    ],
    ids=["leak", "made", "several", "estimate", "unseen", "over"],
)
def test_the_line_says_how_many_and_which(found: Census, line: str) -> None:
    """Number and limit, the largest groups with place, age and growth, and what is left out."""
    assert census_sentence(found, "main") == line
    assert census_sentence(found, "jobs") == f"event loop 'jobs': {line}"


def test_the_fields_have_stable_names() -> None:
    """The largest group and the numbers, flat; the same keys when it is over."""
    fields = census_fields(OVER, "main", 42)
    assert fields == {
        "event_name": "loopwatch.tasks",
        "state": "over",
        "loop": "main",
        "pid": 42,
        "tasks": 1512,
        "limit": 1000,
        "looked_at": 1512,
        "coro": "app.poll",
        "count": 1430,
        "function": "app.poll",
        "file": "app/poll.py",
        "line": 12,
        "oldest_s": 2400.0,
        "growth_per_min": 25.0,
        "created_at": None,
    }
    below = census_fields(census(tasks=310), "main", 42)
    assert (below["state"], below["coro"], list(below)) == ("below", None, list(fields))


def test_logging_gets_a_warning_and_word_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    """Logger `loopwatch`, the fields as `record.loopwatch`, as with stalls."""
    caplog.set_level(logging.INFO, logger="loopwatch")
    LogExporter().census(OVER, "main")
    LogExporter().census(census(tasks=310), "main")
    over, below = caplog.records
    assert (over.name, over.levelno, below.levelno) == ("loopwatch", logging.WARNING, logging.INFO)
    assert over.getMessage() == census_sentence(OVER, "main")
    assert over.loopwatch == census_fields(OVER, "main", os.getpid())  # type: ignore[attr-defined]


def test_structlog_gets_the_event_with_its_fields() -> None:
    """The host's processors see the line and the fields."""
    structlog = pytest.importorskip("structlog", reason="structlog is not installed here")
    seen: list[dict[str, Any]] = []

    def keep(_logger: object, method: str, event: dict[str, Any]) -> str:
        seen.append({**event, "level": method})
        return ""

    structlog.configure(processors=[keep], logger_factory=structlog.ReturnLoggerFactory())
    try:
        LogExporter().census(OVER, "main")
    finally:
        structlog.reset_defaults()
    (event,) = seen
    assert (event["event"], event["level"]) == (census_sentence(OVER, "main"), "warning")
    assert (event["event_name"], event["count"]) == ("loopwatch.tasks", 1430)


def test_a_census_goes_through_the_queue_to_every_exporter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One that raises is counted and logged once, and does not keep the next from it."""
    from loopwatch.delivery import Delivery  # noqa: PLC0415 - beside the one test that needs it

    class RaisingCensus(Raising):
        def census(self, census: Census, loop: str) -> None:
            raise RuntimeError("secret")

    book = ledger()
    delivery = Delivery(book, [RaisingCensus(), LogExporter()], None, 10)
    delivery.start()
    delivery.census(OVER)
    delivery.stop()
    assert book.snapshot().dropped_total["export_failed"] == 1
    assert "exporter raising failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert f"1,430 {X} app.poll" in caplog.text
