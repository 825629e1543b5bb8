"""Runs a case in a child process and has what it tells judged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final

from tests.accuracy.judge import Verdict, judge
from tests.accuracy.label import NOT_PRODUCED, Case
from tests.accuracy.scenes import folder

LOOPS: Final = ("asyncio", "uvloop")

_ROOT: Final = Path(__file__).parent.parent.parent
_LONGEST_S: Final = 60.0
_KILLED_AFTER_S: Final = 1.5
# Work is sized by trying it out, and this machine is not always as fast as it was then.
_ATTEMPTS: Final = 3
_OTHER_SEED: Final = 1_000_000


def play(case: Case, loop: str, seed: int) -> Verdict:
    """Return how a case went, in a child process; what did not come about is tried again."""
    for attempt in range(_ATTEMPTS):
        verdict = _play_once(case, loop, seed + attempt * _OTHER_SEED)
        if not verdict.skipped.startswith(NOT_PRODUCED):
            break
    return verdict


def _play_once(case: Case, loop: str, seed: int) -> Verdict:
    with folder() as path:
        log = Path(path, "stalls.jsonl")
        try:
            result = (_play_until_killed if case.endless else _play)(case, loop, seed, log)
        except (ValueError, OSError) as error:
            why = f"the child failed: {error}"
            if case.quiet:
                return Verdict(case=case.name, loop=loop, skipped=why)
            return Verdict(case=case.name, loop=loop, detected=False, said=(why,))
    return judge(case, loop, result)


def _start(case: Case, loop: str, seed: int, *more: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOOPWATCH_")}
    # What is judged is all that loopwatch can do (decision 0017).
    kept["LOOPWATCH_NATIVE_SAMPLER"] = "on"
    command = [sys.executable, "-m", "tests.accuracy.child", case.name]
    return subprocess.Popen(
        [*command, "--loop", loop, "--seed", str(seed), *more],
        cwd=_ROOT,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Its own children go with it, should it have to be killed.
        start_new_session=True,
    )


def _kill(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def _play(case: Case, loop: str, seed: int, _: Path) -> dict[str, Any]:
    process = _start(case, loop, seed)
    try:
        out, err = process.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.communicate()
        raise ValueError(f"it took longer than {_LONGEST_S:.0f} s") from None
    if process.returncode:
        raise ValueError((err.strip().splitlines() or [f"exit code {process.returncode}"])[-1])
    result: dict[str, Any] = json.loads(out.splitlines()[-1])
    return result


def _play_until_killed(case: Case, loop: str, seed: int, log: Path) -> dict[str, Any]:
    """Kill the child while it is blocked: what it told by then is in its stall log."""
    with _start(case, loop, seed, "--stall-log", str(log)) as process:
        assert process.stdout is not None
        first = json.loads(_line(process.stdout))
        if "skipped" in first:
            return dict(first)
        time.sleep(max(0.0, first["began_s"] + _KILLED_AFTER_S - time.monotonic()))
        _kill(process)
        killed_s = time.monotonic()
    to_unix_s = time.time() - time.monotonic()
    records = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return {
        "truth": [[first["began_s"], killed_s]],
        "gaps": [],
        "records": [_from_the_log(record, to_unix_s) for record in records],
    }


def _line(stream: IO[str]) -> str:
    line = stream.readline()
    if not line:
        raise ValueError("it ended before the case began")
    return line


def _from_the_log(record: dict[str, Any], to_unix_s: float) -> dict[str, Any]:
    # The log does not say when a line was written: the age of the stall is the next best.
    began_s = datetime.fromisoformat(record["started_at"]).timestamp() - to_unix_s
    return {"arrived_s": began_s + record["duration_s"], "began_s": began_s, "record": record}
