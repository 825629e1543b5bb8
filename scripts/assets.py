"""Writes the files of alerts/ that `loopwatch rules` prints with default options.

`python scripts/assets.py` writes; a contract test says when they are stale.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from loopwatch.cli import main

FOLDER = Path(__file__).parent.parent / "alerts"

# File -> the command line that prints it.
FILES = {
    "loopwatch.rules.yml": ["rules"],
    "kubernetes/prometheus-rule.yaml": ["rules", "--format", "prometheus-rule"],
    "kubernetes/pod-monitor.yaml": ["rules", "--format", "pod-monitor"],
    "alertmanager.example.yml": ["rules", "--format", "alertmanager"],
}


def printed(name: str) -> str:
    """Return what a file should hold."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main(FILES[name])
    if code:
        raise SystemExit(code)
    return out.getvalue()


if __name__ == "__main__":
    for name in FILES:
        file = FOLDER / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(printed(name), encoding="utf-8")
        print(f"wrote alerts/{name}")
