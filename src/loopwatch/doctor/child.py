"""Blocks a watched loop in every way of `TRIALS`, and prints what came of it as JSON lines.

`python -m loopwatch.doctor.child --loop asyncio|uvloop [--native-sampler off] [--missing PART]…`

Lines are `{"sensor": …}` once, `{"stop": seconds}` where the parent has to stop this process for so
long, and `{"verdict": …}` after each trial. It ends when its stdin does: with its parent.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from loopwatch.clock import unix_s
from loopwatch.config import Config
from loopwatch.doctor import trials
from loopwatch.doctor.checks import LOOPS, new_loop
from loopwatch.doctor.judge import LATE_S, THRESHOLD_S, Mark, Told, Truth, Verdict, judge
from loopwatch.doctor.trials import HEALTHY_S, HOG, STALL_S, TRIALS, Sizes, Trial, Way
from loopwatch.model import Phase
from loopwatch.probes.processes import end_with_parent
from loopwatch.registry import install

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.model import Stall

__all__ = ["main"]

_TICK_S: Final = 0.01
# Between trials, so that one is over when the next begins.
_PAUSE_S: Final = 0.1
# What happens while a loop waits is told from its beats; they are rare until loopwatch has seen for
# half a second that the loop is at work.
_UNTIL_AT_WORK_S: Final = 0.6
_SETTLE_S: Final = 0.05
_LONGEST_SETTLE_S: Final = 0.7
# A thread of a pool is still there when its work is done.
_LINGER_S: Final = 0.1


def main(argv: Sequence[str] | None = None) -> None:
    """Run all trials on a loop of that kind."""
    parser = argparse.ArgumentParser(prog="python -m loopwatch.doctor.child")
    parser.add_argument("--loop", choices=LOOPS, default="asyncio")
    parser.add_argument("--native-sampler", choices=("auto", "on", "off"), default="auto")
    parser.add_argument("--missing", action="append", default=[])
    arguments = parser.parse_args(argv)
    # A parent that is killed while it has this process stopped leaves nobody to continue it, and a
    # stopped process reads no end of stdin.
    end_with_parent()
    threading.Thread(target=_end_with_parent, name="doctor-parent", daemon=True).start()
    sizes = Sizes.measure()
    bench = _Bench(sizes, arguments.missing)
    with asyncio.Runner(loop_factory=lambda: new_loop(arguments.loop)) as runner:
        runner.run(bench.run(arguments.native_sampler))


def _end_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    # Whatever state the trials are in: nobody is there to be told.
    os._exit(1)


def _say(**line: Any) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class _Bench:
    """One watched loop on which trials are made."""

    def __init__(self, sizes: Sizes, missing: Sequence[str]) -> None:
        self._sizes = sizes
        self._missing = missing
        self._told: list[Told] = []
        self._late: list[tuple[float, float]] = []
        self._quiet_since_s = time.monotonic()

    async def run(self, native_sampler: str) -> None:
        """Watch the running loop and make every trial."""
        # A whole Config, so that no variable gets in: a stall log or port belongs to the app.
        config = Config(
            native_sampler=native_sampler,
            stall_threshold_s=THRESHOLD_S,
            in_app_include=(trials.__name__,),
            warm_up_s=0.0,
            exporters=(),
        )
        with install(config, on_stall=self._take, exporters=()) as agent:
            _say(sensor=agent.snapshot().sensor)
            ticking = asyncio.create_task(self._tick())
            for trial in TRIALS:
                _say(verdict=asdict(await self._verdict(trial)))
            ticking.cancel()

    def _take(self, record: Stall) -> None:
        # Runs on the delivery thread.
        offset_s = unix_s(0)
        self._told.append(Told(time.monotonic(), record.started_at_s - offset_s, record))

    async def _tick(self) -> None:
        while True:
            due_s = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            ran_s = time.monotonic()
            if ran_s - due_s >= LATE_S:
                self._late.append((due_s, ran_s))

    async def _verdict(self, trial: Trial) -> Verdict:
        """Make a trial; once more if it goes wrong, for the machine may have been at fault."""
        first = await self._attempt(trial)
        if first.mark is Mark.OK:
            return first
        return replace(await self._attempt(trial), before=first.wrong)

    async def _attempt(self, trial: Trial) -> Verdict:
        waits = trial.way in (Way.THREAD, Way.PAUSE)
        quiet_s = time.monotonic() - self._quiet_since_s
        await asyncio.sleep((_UNTIL_AT_WORK_S if waits else _PAUSE_S) - quiet_s)
        self._told.clear()
        self._late.clear()
        truth = await self._make(trial)
        if trial.way is not Way.NONE:
            self._quiet_since_s = truth.end_s
        await self._settle(trial)
        return judge(trial, truth, tuple(self._told), self._missing)

    async def _make(self, trial: Trial) -> Truth:
        args = trial.args(self._sizes)
        began_s = time.monotonic()
        if trial.way in (Way.CALL, Way.BURST):
            calls = [_call(trial, args) for _ in range(trial.times)]
            spans = await asyncio.gather(*calls)
            return Truth(spans[0][0], spans[-1][1])
        if trial.way is Way.THREAD:
            await _beside(trial, args)
        elif trial.way is Way.PAUSE:
            _say(stop=STALL_S)
            await asyncio.sleep(STALL_S + 2 * _PAUSE_S)
        else:
            await asyncio.sleep(HEALTHY_S)
            return Truth(began_s, time.monotonic(), tuple(self._late))
        await asyncio.sleep(_SETTLE_S)
        return Truth(*max(self._late, key=lambda gap: gap[1] - gap[0], default=(began_s, began_s)))

    async def _settle(self, trial: Trial) -> None:
        """Wait until it was told; what must not be told, or is told twice, has its time, too."""
        await asyncio.sleep(_SETTLE_S)
        deadline_s = time.monotonic() + _LONGEST_SETTLE_S
        while trial.cause is not None and time.monotonic() < deadline_s:
            if any(told.record.phase is Phase.FINAL for told in self._told):
                break
            await asyncio.sleep(_TICK_S)


async def _call(trial: Trial, args: tuple[Any, ...]) -> tuple[float, float]:
    began_s = time.monotonic()
    trial.block(*args)
    return began_s, time.monotonic()


async def _beside(trial: Trial, args: tuple[Any, ...]) -> None:
    def later() -> None:
        # By then the loop waits for its next timer, and not for this thread to start.
        time.sleep(2.5 * _TICK_S)
        trial.block(*args)
        time.sleep(_LINGER_S)

    thread = threading.Thread(target=later, name=HOG)
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - the loop has to tick meanwhile
        await asyncio.sleep(_TICK_S)


if __name__ == "__main__":
    main()
