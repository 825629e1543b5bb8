"""Records and ledgers for tests that need one, not a loop."""

from __future__ import annotations

from typing import Any

from loopwatch import Cause, Config, Frame, Sample, Stall
from loopwatch.ledger import Identity, Ledger
from loopwatch.model import Culprit, Evidence, Location, Phase, TaskInfo


def stall(**changes: Any) -> Stall:
    """Return a final record; keywords change it."""
    frames = (Frame("app.slow", "app.py", 4, in_app=True),)
    values: dict[str, Any] = {
        "id": "0123456789abcdef",
        "phase": Phase.FINAL,
        "started_at_s": 1795246203.25,
        "duration_s": 0.512,
        "loop": "main",
        "loop_impl": "asyncio",
        "pid": 42,
        "thread": "MainThread",
        "sensor": "selector",
        "cause": Cause.UNKNOWN,
        "confidence": 0.0,
        "evidence": Evidence(wall_s=0.512, samples=3),
        "fingerprint": "ff",
        "culprit": Culprit("app.slow", "app.py", 4, None, "time.sleep(0.5)", in_app=True),
        "entry": Location("app.handler", "app.py", 9),
        "task": TaskInfo("Task-1", "app.handler"),
        "samples": (Sample(0.05, 3, "watchdog", frames),),
    }
    return Stall(**{**values, **changes})


def ledger(now_ns: int = 0, **settings: Any) -> Ledger:
    """Return a ledger of a loop called main."""
    identity = Identity("main", "asyncio", 42, "MainThread", "selector", "1", "3", "on")
    return Ledger(identity, Config(**settings), now_ns)
