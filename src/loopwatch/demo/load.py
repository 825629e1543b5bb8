"""Load: people who use the healthy page, and one who makes each mistake happen in turn."""

from __future__ import annotations

import itertools
import threading
import time
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Load", "Tally"]

_TIMEOUT_S: Final = 10.0
_HEALTHY_PAUSE_S: Final = 0.04
# Longer than a beat of the sidecar and than what piled up during a stall: each stall is its own.
_MISTAKE_PAUSE_S: Final = 0.3
_JOIN_S: Final = 1.0


class Tally:
    """What one visitor saw. Written by its thread alone."""

    def __init__(self) -> None:
        self.served = 0
        self.failed = 0
        self.slowest_s = 0.0


class Load:
    """Two visitors, each on a thread of its own, until `stopping` says so."""

    def __init__(
        self,
        base_url: str,
        stopping: Callable[[], bool],
        *,
        healthy: str,
        mistakes: Sequence[str],
        leak: str,
    ) -> None:
        self.healthy = Tally()
        self.mistakes = Tally()
        self._base_url = base_url
        self._stopping = stopping
        # The leak does not block, so it needs no pause of its own.
        turns = [(path, leak) for path in mistakes]
        visitors = (
            ("demo-healthy", self.healthy, [(healthy,)], _HEALTHY_PAUSE_S),
            ("demo-mistakes", self.mistakes, turns, _MISTAKE_PAUSE_S),
        )
        self._threads = [
            threading.Thread(target=self._visit, args=rest, name=name, daemon=True)
            for name, *rest in visitors
        ]

    @property
    def requests(self) -> int:
        """How many requests were served so far."""
        return self.healthy.served + self.mistakes.served

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for the threads, for as long as a demo may take to end."""
        for thread in self._threads:
            thread.join(_JOIN_S)

    def _visit(self, tally: Tally, turns: Sequence[Sequence[str]], pause_s: float) -> None:
        with httpx.Client(base_url=self._base_url, timeout=_TIMEOUT_S, trust_env=False) as client:
            for turn in itertools.cycle(turns):
                for path in turn:
                    if self._stopping():
                        return
                    self._get(client, path, tally)
                time.sleep(pause_s)

    def _get(self, client: httpx.Client, path: str, tally: Tally) -> None:
        began_s = time.monotonic()
        try:
            client.get(path).raise_for_status()
        except httpx.HTTPError:
            # An app that shuts down turns visitors away.
            if not self._stopping():
                tally.failed += 1
            return
        tally.served += 1
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - began_s)
