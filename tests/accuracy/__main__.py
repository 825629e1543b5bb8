"""Play all cases and print what was told about them.

`python -m tests.accuracy [--only CASE …] [--loop LOOP] [--repeat N] [--quiet-repeat N] [--write]`.
One child runs at a time, so that the times are true; two where both only sleep.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import random
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.accuracy.cases import load
from tests.accuracy.judge import Verdict
from tests.accuracy.label import Case
from tests.accuracy.runner import LOOPS, play
from tests.accuracy.table import (
    HEADINGS,
    as_markdown,
    as_text,
    case_rows,
    misses,
    total_rows,
)

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "reference" / "accuracy.md"
_FAMILIES: Final = {
    "waits": "Waits: sleeping, files, databases",
    "sockets": "Waits for the network",
    "web": "Waits in HTTP clients",
    "locks": "Waits for other threads",
    "processes": "Waits for other processes",
    "work": "Work in Python, and garbage collections",
    "native": "C calls that burn CPU",
    "schedule": "Callbacks, protocols, other loops, bursts",
    "outside": "Not the loop's doing",
    "quiet": "Healthy loops",
}

_NOTE: Final = "<!-- Made by `make accuracy ARGS=--write`: do not edit. -->"
_INTRO: Final = """\
What loopwatch says about stalls whose cause is known, as measured by `make accuracy` in
{minutes:.0f} minutes: {where}, {cores} virtual cores. Every case is a named function that
blocks, in a child process with the default settings; the truth is its own clock. Misses are in
the table like everything else. The cases are in `tests/accuracy/`."""
_LEGEND: Final = """\
`unknown` is a miss, a wrong answer is worse. An empty cell is not judged; a cell with a dot tells
asyncio and uvloop apart. *evidence* is what was waited for, or which thread held the GIL; *error*
is reported minus true duration; *first* is the time from the threshold to the first record; of
several runs the worst is told. A record of a moment at which the loop really was late, although
no case made it so, is the machine's. A case with ° is one where `unknown` would be honest."""


def main() -> None:
    arguments = _arguments()
    cases = [case for case in load() if not arguments.only or case.name in arguments.only]
    if arguments.list:
        print(as_text([(case.family, case.name, case.how) for case in cases]))
        return
    loops = tuple(arguments.loop or LOOPS)
    began_s = time.monotonic()
    verdicts = _play_all(cases, loops, arguments)
    minutes = (time.monotonic() - began_s) / 60
    print(as_text([HEADINGS, *case_rows(cases, verdicts)]), end="\n\n")
    print(as_text([("", "wanted", *loops), *total_rows(loops, verdicts)]), end="\n\n")
    print("\n".join(misses(verdicts)))
    if arguments.write is not None:
        arguments.write.write_text(_page(cases, loops, verdicts, minutes), encoding="utf-8")
        print(f"wrote {arguments.write}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CASE", help="play these cases only")
    parser.add_argument("--loop", action="append", choices=LOOPS, help="on this kind of loop only")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each case (1)")
    parser.add_argument("--quiet-repeat", type=int, default=20, help="runs of a healthy loop (20)")
    parser.add_argument("--seed", type=int, default=None, help="the first run's; default: random")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument(
        "--write", nargs="?", type=Path, const=PAGE, help=f"write a page, by default {PAGE.name}"
    )
    arguments = parser.parse_args()
    unknown = set(arguments.only or ()) - {case.name for case in load()}
    if unknown:
        parser.error(f"there is no case {', '.join(sorted(unknown))}: see --list")
    return arguments


def _play_all(
    cases: Iterable[Case], loops: Sequence[str], arguments: argparse.Namespace
) -> list[Verdict]:
    seed = arguments.seed
    seeds = itertools.count(random.SystemRandom().randrange(2**31) if seed is None else seed)
    runs = [
        (case, loop, next(seeds))
        for case in cases
        for _ in range(arguments.quiet_repeat if case.quiet else arguments.repeat)
        for loop in loops
    ]
    verdicts: list[Verdict] = []
    for light, group in itertools.groupby(runs, key=lambda run: run[0].light):
        with ThreadPoolExecutor(2 if light else 1) as pool:
            verdicts += _told(group, pool)
    return verdicts


def _told(runs: Iterable[tuple[Case, str, int]], pool: ThreadPoolExecutor) -> Iterator[Verdict]:
    started = [(run, pool.submit(play, *run)) for run in runs]
    for (case, loop, seed), future in started:
        verdict = future.result()
        bad = verdict.detected is False or verdict.false_alarms or verdict.said
        word = f"skipped, {verdict.skipped}" if verdict.skipped else "see below" if bad else "ok"
        print(f"{case.name}, {loop}, seed {seed}: {word}", file=sys.stderr, flush=True)
        yield verdict


def _page(
    cases: Sequence[Case], loops: Sequence[str], verdicts: Sequence[Verdict], minutes: float
) -> str:
    where = f"CPython {platform.python_version()}, {platform.system()} {platform.machine()}"
    intro = _INTRO.format(minutes=minutes, where=where, cores=os.cpu_count())
    totals = as_markdown(("", "wanted", *loops), total_rows(loops, verdicts))
    parts = ["# Accuracy", _NOTE, intro, totals, _LEGEND]
    for family, title in _FAMILIES.items():
        rows = case_rows([case for case in cases if case.family == family], verdicts)
        if rows:
            parts += [f"## {title}", as_markdown(HEADINGS, rows)]
    bad = misses(verdicts)
    if bad:
        parts += ["## Misses, and what was not run", "\n".join(f"- {line}" for line in bad)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    main()
