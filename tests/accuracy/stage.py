"""Where a case is played: the background, the truth, and the records with their times."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import loopwatch
from loopwatch import Stall
from tests.accuracy.label import NOT_PRODUCED, THRESHOLD_S, Case, NotHereError, Scene

# A tick that ran later than this is told to the judge.
_LATE_S: Final = 0.05
_SETTLE_S: Final = 0.25
_LONGEST_SETTLE_S: Final = 1.5


class Stage:
    """One case in one process."""

    def __init__(self, case: Case, scene: Scene, loop: str, asked_s: float, phase_s: float) -> None:
        self.case = case
        self.scene = scene
        self.asked_s = asked_s
        self.truth: list[tuple[float, float]] = []
        self.gaps: list[tuple[float, float]] = []
        self._records: list[tuple[float, Stall]] = []
        self._loop = loop
        self._phase_s = phase_s

    def told(self, record: Stall) -> None:
        """Keep a record and when it came."""
        self._records.append((time.monotonic(), record))

    def perform(self) -> None:
        """Call the helper and keep how long that took."""
        began_s = time.monotonic()
        if self.case.endless:
            sys.stdout.write(json.dumps({"began_s": began_s}) + "\n")
            sys.stdout.flush()
        self.scene.begin()
        try:
            self.case.helper(*self.scene.args)
        finally:
            self.truth.append((began_s, time.monotonic()))

    async def performed(self) -> None:
        """Wait until the helper was called from a callback."""
        while not self.truth:
            await asyncio.sleep(0.01)

    async def tick(self) -> None:
        """Be a healthy background, and note when the loop really was late."""
        while True:
            due_s = time.monotonic() + self.case.tick_s
            await asyncio.sleep(self.case.tick_s)
            ran_s = time.monotonic()
            if ran_s - due_s > _LATE_S:
                self.gaps.append((due_s, ran_s))

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine on a new loop of this stage's kind."""
        factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
        if self._loop == "uvloop":
            import uvloop  # noqa: PLC0415 - optional

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    async def play(self, stall_log: Path | None = None) -> None:
        """Install loopwatch as anybody would, and let the case happen at a random phase."""
        ticking = asyncio.create_task(self.tick())
        settings = dict(self.case.settings)
        with loopwatch.install(on_stall=self.told, exporters=[], stall_log=stall_log, **settings):
            await asyncio.sleep(self.case.lead_s + self._phase_s)
            if self.case.quiet:
                await self.case.helper(self, *self.scene.args)
            else:
                await self.case.way(self)
            await self._settle()
        ticking.cancel()
        if self.case.truth == "tick":
            self.truth = self._truth_of_the_ticks()

    async def _settle(self) -> None:
        await asyncio.sleep(_SETTLE_S)
        deadline_s = time.monotonic() + _LONGEST_SETTLE_S
        due = any(end_s - start_s >= THRESHOLD_S for start_s, end_s in self.truth)
        while due and time.monotonic() < deadline_s:
            if any(record.phase == "final" for _, record in self._records):
                return
            await asyncio.sleep(0.02)

    def _truth_of_the_ticks(self) -> list[tuple[float, float]]:
        late = [(due_s, ran_s) for due_s, ran_s in self.gaps if ran_s - due_s >= THRESHOLD_S]
        if not late:
            raise NotHereError(f"{NOT_PRODUCED}: the loop was never late by the threshold")
        if self.case.several:
            return [(late[0][0], late[-1][1])]
        return [max(late, key=lambda gap: gap[1] - gap[0])]

    def result(self) -> dict[str, Any]:
        """Return what the judge needs, all moments on the monotonic clock."""
        to_unix_s = time.time() - time.monotonic()
        return {
            "truth": self.truth,
            "gaps": self.gaps,
            "records": [
                {
                    "arrived_s": arrived_s,
                    "began_s": record.started_at_s - to_unix_s,
                    "record": record.to_dict(),
                }
                for arrived_s, record in self._records
            ],
        }


def phase_of(seed: int) -> tuple[random.Random, float]:
    """Return the random numbers of a run, and how long to wait before the case happens."""
    rng = random.Random(seed)
    return rng, rng.uniform(0, 0.1)
