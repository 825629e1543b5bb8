"""A thread that calls a function every so often: for exporters whose readers do not ask."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Final

from loopwatch.patience import patience_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from loopwatch.exporters.base import Source

__all__ = ["Pulse"]

_STOP_S: Final = 0.3


class Pulse:
    """Calls `beat`, which returns the seconds until its next call, until it is stopped."""

    def __init__(self, name: str, source: Source, beat: Callable[[], float]) -> None:
        self._name = name
        self._source = source
        self._beat = beat
        self._wake = threading.Event()
        self._stopping = False
        self._pause_s = 1.0
        self._thread = threading.Thread(target=self._run, name=f"loopwatch-{name}", daemon=True)

    @property
    def running(self) -> bool:
        """Whether the thread was started and has not ended."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread; the first call comes at once."""
        self._thread.start()

    def soon(self) -> None:
        """Call now, whatever the pause is. Any thread, never waits."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread after the call it is in; waits for a third of a second at most."""
        self._stopping = True
        self._wake.set()
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(patience_s(_STOP_S))

    def forget(self) -> None:
        """Be stopped in a forked child, where the thread does not exist."""
        self._stopping = True

    def _run(self) -> None:
        while True:
            self._wake.clear()
            if self._stopping:  # looked at after the clearing, or a stop in between were missed
                return
            try:
                self._pause_s = self._beat()
            except Exception as error:  # noqa: BLE001 - an exporter's failure stays here
                self._source.fault(f"exporter {self._name}", error)
            self._source.spent(self._name, time.thread_time_ns())
            self._wake.wait(self._pause_s)
