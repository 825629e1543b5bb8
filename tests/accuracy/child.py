"""Plays one case in this process and prints what was true and what was told, as a JSON line.

`python -m tests.accuracy.child CASE --loop asyncio|uvloop --seed N`
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from tests.accuracy.cases import find
from tests.accuracy.label import Case, NotHereError
from tests.accuracy.stage import Stage, phase_of


def main() -> None:
    arguments = _arguments()
    try:
        result = _play(find(arguments.case), arguments)
    except NotHereError as reason:
        result = {"skipped": str(reason)}
    sys.stdout.write(json.dumps(result) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.accuracy.child", description=__doc__)
    parser.add_argument("case")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall-log", type=Path)
    return parser.parse_args()


def _play(case: Case, arguments: argparse.Namespace) -> dict[str, Any]:
    for need in (*case.needs, *(("uvloop",) if arguments.loop == "uvloop" else ())):
        _check(need)
    rng, phase_s = phase_of(arguments.seed)
    asked_s = rng.uniform(*case.asked_s)
    with case.setup(asked_s) as scene:
        stage = Stage(case, scene, arguments.loop, asked_s, phase_s)
        stage.run(stage.play(arguments.stall_log))
    return stage.result()


def _check(need: str) -> None:
    if need == "root":
        if os.geteuid() != 0:
            raise NotHereError("needs root")
    elif importlib.util.find_spec(need) is None and shutil.which(need) is None:
        raise NotHereError(f"{need} is not installed")


if __name__ == "__main__":
    main()
