"""Load: somebody who uses the healthy page, and somebody who makes each mistake happen in turn.

They live in a process of their own, as visitors do: as threads beside the loop they would compete
with it for the GIL, and a stall would show in them before it shows in the app.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import httpx

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Load", "Tally"]

_TIMEOUT_S: Final = 10.0
_HEALTHY_PAUSE_S: Final = 0.04
# Longer than a beat of the sidecar and than what piled up during a stall: each stall is its own.
_MISTAKE_PAUSE_S: Final = 0.3
_END_S: Final = 2.0


@dataclass(slots=True)
class Tally:
    """What one visitor saw."""

    served: int = 0
    failed: int = 0
    slowest_s: float = 0.0


class Load:
    """The process of the visitors, seen from the demo.

    It gets its orders as one JSON line, goes on until its standard input ends (also if the demo
    is killed), and then tells what it saw as another.
    """

    def __init__(self, base_url: str, *, healthy: str, mistakes: Sequence[str], leak: str) -> None:
        # The leak does not block, so it needs no pause of its own.
        turns = [(path, leak) for path in mistakes]
        self._orders = json.dumps({"base_url": base_url, "healthy": healthy, "turns": turns})
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start the process."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loopwatch.demo.load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal goes to the whole foreground group: it is for the demo alone.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"{self._orders}\n")
        self._process.stdin.flush()

    def end(self) -> Tally:
        """End the process and return what the healthy page's visitor saw."""
        if self._process is None:
            return Tally()
        try:
            told, _ = self._process.communicate(timeout=_END_S)
            return Tally(**json.loads(told))
        except (subprocess.TimeoutExpired, ValueError):
            # It hangs or has died: its numbers are lost, the stalls are not.
            self._process.kill()
            self._process.communicate()
            return Tally()


def _main() -> None:
    orders = json.loads(sys.stdin.readline())
    tally = Tally()
    visitors = (
        ([(orders["healthy"],)], _HEALTHY_PAUSE_S, tally),
        (orders["turns"], _MISTAKE_PAUSE_S, Tally()),
    )
    for visitor in visitors:
        threading.Thread(target=_visit, args=(orders["base_url"], *visitor), daemon=True).start()
    sys.stdin.read()
    print(json.dumps(asdict(tally)), flush=True)


def _visit(base_url: str, turns: Sequence[Sequence[str]], pause_s: float, tally: Tally) -> None:
    with httpx.Client(base_url=base_url, timeout=_TIMEOUT_S, trust_env=False) as client:
        for turn in itertools.cycle(turns):
            for path in turn:
                try:
                    _get(client, path, tally)
                except httpx.TransportError:
                    return  # the app has gone
            time.sleep(pause_s)


def _get(client: httpx.Client, path: str, tally: Tally) -> None:
    began_s = time.monotonic()
    try:
        client.get(path).raise_for_status()
    except (httpx.HTTPStatusError, httpx.TimeoutException):
        tally.failed += 1
    else:
        tally.served += 1
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - began_s)


if __name__ == "__main__":
    _main()
