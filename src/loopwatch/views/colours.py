"""One colour for each cause of a stall, wherever causes are drawn: page, report, dashboards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from loopwatch.model import Cause

__all__ = ["CAUSE_COLOURS", "CauseColour", "cause_css"]


@dataclass(frozen=True, slots=True)
class CauseColour:
    """A colour as Grafana calls it, and as hex digits that stand out on light and on dark."""

    grafana: str
    on_light: str
    on_dark: str


# Your code warm or green, what is not its doing blue to grey.
CAUSE_COLOURS: Final = {
    Cause.BLOCKING_CALL: CauseColour("green", "#37872d", "#73bf69"),
    Cause.CPU: CauseColour("orange", "#d06400", "#ff9830"),
    Cause.NATIVE_CALL: CauseColour("purple", "#8f3bb8", "#b877d9"),
    Cause.GC: CauseColour("yellow", "#9a7d00", "#fade2a"),
    Cause.GIL_CONTENTION: CauseColour("semi-dark-blue", "#1f4fa8", "#3274d9"),
    Cause.CONGESTION: CauseColour("semi-dark-orange", "#ad4a00", "#ff780a"),
    Cause.CPU_STARVED: CauseColour("blue", "#2f6fd0", "#5794f2"),
    Cause.PROCESS_PAUSED: CauseColour("light-blue", "#4a86e0", "#8ab8ff"),
    Cause.UNKNOWN: CauseColour("text", "#6b7280", "#ccccdc"),
}


def cause_css() -> str:
    """Return CSS that sets `--cause` below every element with a `data-cause`."""
    light = "\n".join(
        f'[data-cause="{cause}"] {{ --cause: {colour.on_light}; }}'
        for cause, colour in CAUSE_COLOURS.items()
    )
    dark = "\n".join(
        f'  [data-cause="{cause}"] {{ --cause: {colour.on_dark}; }}'
        for cause, colour in CAUSE_COLOURS.items()
    )
    return f"{light}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"
