"""The log exporter, into stdlib logging and into structlog."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.exporters.log import LogExporter, sentence
from loopwatch.model import Advice, Culprit, Evidence, OtherThread, Phase, Request
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


SLOW = Culprit("app.slow", "app.py", 4, "requests.get", "r = requests.get(url)", in_app=True)
LINE = "app.slow (app.py:4)"


def test_the_sentence_ends_the_incident() -> None:
    """One line: the culprit, its call, what it waited for, in which request, what to do instead."""
    told = stall(
        cause=Cause.BLOCKING_CALL,
        culprit=SLOW,
        evidence=Evidence(0.512, wait="socket", wait_detail="tcp 10.0.0.5:443"),
        request=Request("GET", "/export", "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"),
        victims=3,
        advice=Advice("requests", "use httpx.AsyncClient and await it"),
        suppressed=4,
    )
    assert sentence(told) == (
        f"event loop 'main' was stalled for 0.512 s: {LINE} called requests.get and waited for "
        "a socket (tcp 10.0.0.5:443), in GET /export, trace 4bf92f3577b34da6a3ce929d0e0e4736, "
        "task Task-1 running app.handler; 3 other requests had to wait: r = requests.get(url) -> "
        "use httpx.AsyncClient and await it (+4 like it were not told)"
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"cause": Cause.CPU}, f"{LINE} computed in Python"),
        ({"cause": Cause.NATIVE_CALL}, f"{LINE} called requests.get, which computed in C"),
        (
            {"cause": Cause.GC, "culprit": None, "evidence": Evidence(0.5, gc_s=0.48)},
            "garbage collection took 0.480 s of it",
        ),
        (
            {"cause": Cause.GIL_CONTENTION, "other_thread": OtherThread("hog", 0.5, "a.f", "a", 1)},
            "thread 'hog' held the GIL in a.f (a:1)",
        ),
        (
            {"cause": Cause.GIL_CONTENTION, "other_thread": OtherThread("hog", 0.5)},
            "thread 'hog' held the GIL",
        ),
        ({"cause": Cause.GIL_CONTENTION}, "another thread held the GIL"),
        ({"cause": Cause.CONGESTION}, f"many callbacks, most often {LINE}"),
        (
            {"cause": Cause.CPU_STARVED, "evidence": Evidence(0.5, throttled_s=0.48)},
            "not this line's doing, the thread was throttled by its cgroup for 0.480 s of it",
        ),
        (
            {"cause": Cause.CPU_STARVED, "evidence": Evidence(0.5, runqueue_wait_s=0.4)},
            "not this line's doing, the thread was ready without a CPU for 0.400 s of it",
        ),
        ({"cause": Cause.PROCESS_PAUSED}, "not your code, the whole process stood still"),
        ({"cause": Cause.UNKNOWN}, f"cause unknown, last seen in {LINE}"),
    ],
)
def test_each_cause_has_its_words(changes: dict[str, Any], why: str) -> None:
    """What is known of the cause stands right behind the duration."""
    line = sentence(stall(**{"culprit": SLOW, **changes}))
    assert line.startswith(f"event loop 'main' was stalled for 0.512 s: {why}, task Task-1")


def test_a_stall_of_which_nothing_is_known_is_a_sentence_too() -> None:
    """While it lasts, without culprit and task."""
    assert sentence(stall(phase=Phase.ONGOING, culprit=None, task=None)) == (
        "event loop 'main' is stalled, 0.512 s so far: cause unknown"
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
