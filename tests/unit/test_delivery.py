"""The delivery thread and exporters that misbehave."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest

from loopwatch import Exporter, Stall
from loopwatch.delivery import Delivery
from loopwatch.ledger import Ledger
from tests.unit.factories import ledger, stall


class Collecting(Exporter):
    """The simplest exporter."""

    name = "collecting"

    def __init__(self) -> None:
        self.got: list[Stall] = []

    def export(self, stall: Stall) -> None:
        self.got.append(stall)


class Raising(Exporter):
    """An exporter that always fails, with a value of the host in the message."""

    name = "raising"

    def export(self, stall: Stall) -> None:
        raise RuntimeError("secret")


def delivered(
    *exporters: Exporter,
    on_stall: Callable[[Stall], object] | None = None,
    count: int = 1,
    queue_size: int = 10,
) -> Ledger:
    book = ledger()
    delivery = Delivery(book, exporters, on_stall, queue_size)
    delivery.start()
    for number in range(count):
        delivery.deliver(stall(id=str(number)))
    delivery.stop()
    return book


def test_records_arrive_in_order_before_stop_returns() -> None:
    """Stopping flushes."""
    exporter = Collecting()
    delivered(exporter, count=5)
    assert [s.id for s in exporter.got] == ["0", "1", "2", "3", "4"]


def test_an_exporter_that_raises_does_not_keep_others_from_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted each time, logged once, without the message, and stays on."""
    exporter = Collecting()
    book = delivered(Raising(), exporter, count=3)
    assert len(exporter.got) == 3
    now = book.snapshot()
    assert now.dropped_total["export_failed"] == 3
    assert now.errors_total["exporter"] == 3
    assert len(caplog.records) == 1
    assert "exporter raising failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text


def test_an_on_stall_that_raises_is_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    """Logged once, counted once, never called again."""
    calls = []

    def on_stall(record: Stall) -> None:
        calls.append(record)
        raise ValueError("secret")

    book = delivered(on_stall=on_stall, count=3)
    assert len(calls) == 1
    assert book.snapshot().errors_total["on_stall"] == 1
    assert "on_stall raised ValueError and is switched off" in caplog.text
    assert "secret" not in caplog.text


def test_a_blocked_exporter_costs_records_never_time() -> None:
    """What does not fit is dropped and counted; stop gives up after half a second."""
    release = threading.Event()

    class Blocking(Exporter):
        name = "blocking"

        def export(self, stall: Stall) -> None:
            release.wait(10)

    book = ledger()
    delivery = Delivery(book, [Blocking()], None, 3)
    delivery.start()
    began = time.monotonic()
    for _ in range(50):
        delivery.deliver(stall())
    assert time.monotonic() - began < 0.2
    delivery.stop()
    assert time.monotonic() - began < 1.0
    dropped = book.snapshot().dropped_total
    assert dropped["queue_full"] >= 46
    assert dropped["queue_full"] + dropped["shutdown"] >= 49
    release.set()


def test_a_fault_of_ours_is_told_once_per_component(caplog: pytest.LogCaptureFixture) -> None:
    """The log names what failed and the counter to watch, not the message of the error."""
    book = ledger()
    delivery = Delivery(book, [], None, 10)
    delivery.start()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            delivery.fault("probe", "counting tasks", KeyError("secret"))
        delivery.stop()
    assert book.snapshot().errors_total["probe"] == 3
    (record,) = caplog.records
    assert record.getMessage() == (
        "loopwatch: counting tasks failed with KeyError; further failures are counted in "
        'loopwatch_errors_total{component="probe"}'
    )
