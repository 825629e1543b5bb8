"""What `import loopwatch` costs: at most 40 ms, and no third-party module.

Fresh interpreters, byte code cached, median of 15. The second figure is what the first use adds:
the attribute `loopwatch.install` in an interpreter that has asyncio already.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from typing import Any, Final

from benchmarks.common import ROOT, Figure, child_env, quartiles

WANTED_S: Final = 0.04
_RUNS: Final = 15

_SCRIPT: Final = """
import json, sys, time
before = set(sys.modules)
began = time.perf_counter()
import loopwatch
took = time.perf_counter() - began
new = {name.partition(".")[0] for name in set(sys.modules) - before}
foreign = sorted(new - set(sys.stdlib_module_names) - {"loopwatch"})
import asyncio
began = time.perf_counter()
loopwatch.install
print(json.dumps({"s": took, "foreign": foreign, "use_s": time.perf_counter() - began}))
"""


def measure() -> list[Figure]:
    """Return three figures."""
    _once()  # writes the byte code
    runs = [_once() for _ in range(_RUNS)]
    took_s = [run["s"] for run in runs]
    use_s = [run["use_s"] for run in runs]
    foreign = runs[0]["foreign"]
    return [
        Figure(
            "import loopwatch",
            _text(took_s),
            f"<= {WANTED_S * 1e3:.0f} ms",
            statistics.median(took_s) <= WANTED_S,
            {"import_s": took_s},
        ),
        Figure(
            "third-party modules imported by it",
            f"{len(foreign)} {' '.join(foreign)}".strip(),
            "0",
            not foreign,
        ),
        Figure("first use of loopwatch.install", _text(use_s), data={"use_s": use_s}),
    ]


def _text(values: list[float]) -> str:
    low, high = quartiles(values)
    median = statistics.median(values)
    return f"{median * 1e3:.2f} ms (half of them: {low * 1e3:.2f} to {high * 1e3:.2f})"


def _once() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env=child_env(),
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    return result
