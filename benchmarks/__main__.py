"""Run the benchmarks and print one table: figure, measured, wanted, ok or over.

`python -m benchmarks [--only NAME ...] [--json FILE] [--strict]`, about six minutes for all. What
cannot be measured here says so and why. Figures on a busy machine are noisy: those that compare
take alternating windows of one run and tell their spread.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from benchmarks.common import Figure, NotMeasuredError, not_measured

# Those in one row run at the same time: idle apps, and stalls that sleep.
PLAN: Final = (
    ("requests_cpu",),
    ("saturation",),
    ("selector_hook",),
    ("idle", "memory"),
    ("duration",),
    ("detection",),
    ("sampling",),
    ("import_time",),
    ("task_count",),
    ("census",),
    ("gc_callback",),
    ("middleware",),
    ("scrape",),
    ("live_page",),
    ("otel_export",),
    ("report",),
    ("ping_pong",),
)
_HEADINGS: Final = ("figure", "measured", "wanted", "")


def main() -> int:
    arguments = _arguments()
    figures = []
    for row in PLAN:
        names = [name for name in row if not arguments.only or name in arguments.only]
        with ThreadPoolExecutor(len(row)) as pool:
            for measured in pool.map(_measure, names):
                figures += measured
    print(_table(figures))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(_report(figures), indent=1), encoding="utf-8")
    return int(arguments.strict and any(figure.ok is False for figure in figures))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [name for row in PLAN for name in row]
    parser.add_argument("--only", action="append", choices=names, help="run this one (repeatable)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw numbers here")
    parser.add_argument("--strict", action="store_true", help="fail if a figure is over")
    return parser.parse_args()


def _measure(name: str) -> list[Figure]:
    began_s = time.monotonic()
    try:
        figures: list[Figure] = importlib.import_module(f"benchmarks.{name}").measure()
    except NotMeasuredError as error:
        figures = [not_measured(name, error)]
    except Exception as error:  # noqa: BLE001 - one broken benchmark must not hide the others
        figures = [not_measured(name, f"{type(error).__name__}: {error}")]
    print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    return figures


def _table(figures: list[Figure]) -> str:
    rows = [_HEADINGS, *((f.name, f.measured, f.wanted, f.verdict) for f in figures)]
    widths = [max(len(row[n]) for row in rows) for n in range(3)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)).rstrip()
        for row in rows
    )


def _report(figures: list[Figure]) -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "figures": [
            {
                "name": f.name,
                "measured": f.measured,
                "wanted": f.wanted,
                "ok": f.ok,
                "data": f.data,
            }
            for f in figures
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
