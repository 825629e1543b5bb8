"""The delivery thread: takes finished records to exporters and `on_stall`, off everything else.

Whatever an exporter does (raise, block, sleep), the loop and the watchdog go on. The queue is
bounded; what does not fit is dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.model import Census
from loopwatch.patience import patience_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextvars import Context

    from loopwatch.exporters.base import Exporter
    from loopwatch.ledger import Ledger
    from loopwatch.model import Stall

__all__ = ["Delivery"]

log = logging.getLogger("loopwatch")

# A blocked exporter must not keep its host from stopping.
_FLUSH_S: Final = 0.5
_MOST_CONTEXTS: Final = 100


class _Parcel(NamedTuple):
    """A record, and the context of the task it is about, where that could be read."""

    stall: Stall
    context: Context | None


_Item = _Parcel | Census | str | None


class Delivery:
    """One queue, one thread, the exporters of one agent."""

    def __init__(
        self,
        ledger: Ledger,
        exporters: Sequence[Exporter],
        on_stall: Callable[[Stall], object] | None,
        queue_size: int,
    ) -> None:
        self._ledger = ledger
        self._exporters = exporters
        self._on_stall = on_stall
        self._queue: queue.Queue[_Item] = queue.Queue(queue_size)
        self._failed: set[str] = set()
        self._told: set[str] = set()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="loopwatch-delivery", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def deliver(self, stall: Stall, context: Context | None = None) -> None:
        """Hand a record over; exporters will run in `context`, a copy of a task's. Never waits."""
        # Each that waits keeps a request's objects alive; without its context a record tells less.
        crowded = self._queue.qsize() >= _MOST_CONTEXTS
        self._put(_Parcel(stall, None if crowded else context))

    def census(self, census: Census) -> None:
        """Hand over a census that is to be told. Never waits."""
        self._put(census)

    def fault(self, component: str, what: str, error: BaseException) -> None:
        """Count a failure of ours, and log the first of each kind from the delivery thread.

        The type of the error is told, not its message: a message may carry values of the host.
        """
        self._ledger.error(component)
        if what not in self._told:
            self._told.add(what)
            self._put(
                f"{what} failed with {type(error).__name__}; further failures are counted "
                f'in loopwatch_errors_total{{component="{component}"}}'
            )

    def stop(self) -> None:
        """Deliver what waits, for at most half a second, then let go."""
        self._stopping = True
        try:
            self._queue.put_nowait(None)
        except queue.Full:
            pass  # the thread sees the flag after the record it is busy with
        if self._thread is threading.current_thread() or self._thread.ident is None:
            return
        self._thread.join(patience_s(_FLUSH_S))
        lost = 0
        while not self._queue.empty():
            try:
                lost += isinstance(self._queue.get_nowait(), _Parcel | Census)
            except queue.Empty:
                break  # the thread was faster
        self._ledger.drop("shutdown", lost)

    def _put(self, item: _Parcel | Census | str) -> None:
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            self._ledger.drop("queue_full")

    def _run(self) -> None:
        deadline_s: float | None = None
        while True:
            item = self._queue.get()
            if self._stopping and deadline_s is None:
                deadline_s = time.monotonic() + _FLUSH_S
            if item is None or (deadline_s is not None and time.monotonic() > deadline_s):
                break
            if isinstance(item, str):
                log.warning("loopwatch: %s", item)
            elif isinstance(item, Census):
                self._export_census(item)
            elif item.context is None:
                self._export(item.stall)
            else:
                # What the host bound for the request (a span, a request id) is bound here as well,
                # for its own log processors: none of it is in the record.
                item.context.run(self._export, item.stall)
            del item  # and with it what the context holds, while the queue is empty
            self._ledger.spent("delivery", time.thread_time_ns())
            if self._stopping and self._queue.empty():
                break

    def _export(self, stall: Stall) -> None:
        for exporter in self._exporters:
            try:
                exporter.export(stall)
            except Exception as error:  # noqa: BLE001 - an exporter's failure stays here
                self._export_failed(exporter, error)
        if self._on_stall is not None:
            try:
                self._on_stall(stall)
            except Exception as error:  # noqa: BLE001 - the host's callback must not end ours
                self._on_stall = None
                self._ledger.error("on_stall")
                log.error(  # noqa: TRY400 - a traceback would show the host's values
                    "loopwatch: on_stall raised %s and is switched off", type(error).__name__
                )

    def _export_census(self, census: Census) -> None:
        for exporter in self._exporters:
            try:
                exporter.census(census, self._ledger.identity.loop)
            except Exception as error:  # noqa: BLE001 - an exporter's failure stays here
                self._export_failed(exporter, error)

    def _export_failed(self, exporter: Exporter, error: Exception) -> None:
        self._ledger.drop("export_failed")
        self._ledger.error("exporter")
        if exporter.name in self._failed:
            return
        self._failed.add(exporter.name)
        log.error(
            "loopwatch: exporter %s failed: %s; it stays on, further failures are "
            'counted in loopwatch_dropped_records_total{reason="export_failed"}',
            exporter.name,
            exporter.explain(error),
        )
