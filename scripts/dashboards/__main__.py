"""Writes dashboards/*.json: `python -m scripts.dashboards`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from scripts.dashboards.loop import loop
from scripts.dashboards.overview import overview

from loopwatch.assets.dashboards import UIDS, render

FOLDER: Final = Path(__file__).parent.parent.parent / "dashboards"


def files() -> dict[str, str]:
    """Return the text of each file by its name."""
    built = {"overview": overview(), "loop": loop()}
    return {f"{UIDS[name]}.json": render(data) for name, data in built.items()}


if __name__ == "__main__":
    for file, text in files().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
        print(f"wrote dashboards/{file}")
