"""The log exporter, into stdlib logging and into structlog."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from loopwatch.exporters.log import LogExporter, sentence
from loopwatch.model import Phase
from tests.unit.factories import stall

structlog = pytest.importorskip("structlog", reason="structlog is not installed here")


@pytest.fixture
def events() -> Iterator[list[dict[str, Any]]]:
    """Configure structlog as a host does; give the events that reach its last processor."""
    seen: list[dict[str, Any]] = []

    def keep(_logger: object, _method: str, event: dict[str, Any]) -> str:
        seen.append(dict(event))
        return ""

    structlog.configure(
        processors=[structlog.processors.add_log_level, keep],
        logger_factory=structlog.ReturnLoggerFactory(),
    )
    yield seen
    structlog.reset_defaults()


def test_the_sentence_says_what_where_and_how_long() -> None:
    """A person reads one line and knows where to go."""
    assert sentence(stall()) == (
        "event loop 'main' was stalled for 0.512 s in app.slow (app.py:4), "
        "task Task-1 running app.handler: time.sleep(0.5)"
    )
    assert sentence(stall(phase=Phase.ONGOING, culprit=None, task=None)) == (
        "event loop 'main' is stalled, 0.512 s so far"
    )


def test_stdlib_logging_gets_the_line_and_the_fields(caplog: pytest.LogCaptureFixture) -> None:
    """Logger `loopwatch`, level warning, fields as `record.loopwatch`."""
    LogExporter().export(stall())
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("loopwatch", logging.WARNING)
    assert record.getMessage() == sentence(stall())
    fields: dict[str, Any] = record.loopwatch  # type: ignore[attr-defined]
    assert (fields["phase"], fields["duration_s"], fields["line"]) == ("final", 0.512, 4)


def test_structlog_is_used_where_the_host_has_configured_it(
    events: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """The host's processors see the event with its fields; stdlib logging gets nothing."""
    LogExporter().export(stall())
    (event,) = events
    assert event["event"] == sentence(stall())
    assert (event["level"], event["stall_id"], event["function"]) == (
        "warning",
        "0123456789abcdef",
        "app.slow",
    )
    assert caplog.records == []
