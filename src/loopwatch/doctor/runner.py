"""Starts the child that blocks its loop, stops and continues it, and never leaves it behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["DEADLINE_S", "LoopReport", "run_trials"]

# About 8 s if all goes well. Two loops on which everything goes wrong take less than a minute.
DEADLINE_S: Final = 28.0
_CHILD: Final = "loopwatch.doctor.child"


@dataclass(slots=True)
class LoopReport:
    """What came of the trials on one kind of loop; `failed` says why they did not all run.

    `trials` are verdicts (see `judge.Verdict`) as plain data.
    """

    loop: str
    sensor: str = ""
    trials: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""


def run_trials(
    loop: str,
    *,
    native_sampler: str = "auto",
    missing: Sequence[str] = (),
    on_verdict: Callable[[dict[str, Any]], object] | None = None,
    deadline_s: float = DEADLINE_S,
    child: str = _CHILD,
) -> LoopReport:
    """Make every trial in a child process, and return what came of them.

    `missing` are names of parts that do not work here. `on_verdict` is told each as it comes.
    """
    report = LoopReport(loop)
    arguments = ["--loop", loop, "--native-sampler", native_sampler]
    for part in missing:
        arguments += ["--missing", part]
    last = "it said nothing"
    with _started(child, arguments) as process, _ended_in_time(process, deadline_s) as late:
        for line in process.stdout or ():
            said = _parsed(line)
            if "sensor" in said:
                report.sensor = said["sensor"]
            elif "stop" in said:
                _stop(process, said["stop"])
            elif "verdict" in said:
                report.trials.append(said["verdict"])
                if on_verdict is not None:
                    on_verdict(said["verdict"])
            elif line.strip():
                last = line.strip()
        code = process.wait()
    if late.is_set():
        report.failed = f"the trials took longer than {deadline_s:g} s and were ended"
    elif code:
        report.failed = f"the child process ended with code {code}: {last}"
    return report


@contextmanager
def _started(child: str, arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start the child, and end it with all it has started.

    It is in a process group of its own, so Ctrl-C is for us alone.
    """
    command = [sys.executable, "-X", "faulthandler", "-P", "-m", child, *arguments]
    with subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.PIPE,  # open as long as we live: the child ends with it
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,  # no file: there may be nowhere to write one
        encoding="utf-8",
        errors="replace",
        process_group=0,
        # What we can import it can, and nothing of a folder we happen to be in.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        try:
            yield process
        finally:
            _kill(process)


@contextmanager
def _ended_in_time(process: subprocess.Popen[str], deadline_s: float) -> Iterator[threading.Event]:
    """Kill the child after so long; the event says whether that came about."""
    late = threading.Event()

    def end() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(deadline_s, end)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()


def _kill(process: subprocess.Popen[str]) -> None:
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # ended in this very moment
    else:
        process.kill()


def _stop(process: subprocess.Popen[str], pause_s: float) -> None:
    if not hasattr(signal, "SIGSTOP"):
        return  # the child finds out that nothing has happened
    process.send_signal(signal.SIGSTOP)
    try:
        time.sleep(pause_s)
    finally:
        process.send_signal(signal.SIGCONT)


def _parsed(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}  # what it said on stderr, or a sitecustomize that prints
    return said if isinstance(said, dict) else {}
