"""Writes docs/reference/settings.md and metrics.md from the tables in the code.

`python scripts/reference.py` writes; a contract test says when the pages are stale.
"""

from __future__ import annotations

from pathlib import Path

from loopwatch.catalogue import LAG_BOUNDS_S, METRICS
from loopwatch.config import settings

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
NOTE = "<!-- Made by `make docs` from the table in the code: change it there. -->\n"


def settings_page() -> str:
    """Return the page of settings."""
    rows = [
        f"| `{row.name}` | `{row.default!r}` | {row.unit} | {row.allowed} | {row.help} |"
        for row in settings()
    ]
    return (
        f"# Settings\n\n{NOTE}\n"
        "Pass them as keywords to `loopwatch.install()` and `loopwatch.lifespan()`, or set the\n"
        "environment variable `LOOPWATCH_` + the name in capitals (`LOOPWATCH_HTTP_PORT=9464`).\n"
        "Keywords win over variables. A wrong value is a `ConfigError` that names the setting,\n"
        "its value and what is allowed.\n\n"
        "| setting | default | unit | allowed | meaning |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
    )


def metrics_page() -> str:
    """Return the page of metrics."""
    rows = [
        f"| `{m.name}` | {m.kind.value} | {', '.join(f'`{n}`' for n in ('loop', *m.labels))} "
        f"| `{m.otel}`, {m.unit or '-'} | {m.help} |"
        for m in METRICS
    ]
    bounds = ", ".join(f"{bound:g}" for bound in LAG_BOUNDS_S)
    return (
        f"# Metrics\n\n{NOTE}\n"
        "No function name, task name or path is ever a label. A metric that the sensor of a loop\n"
        "cannot know (loop time and iterations with the `tick` sensor) has no sample there.\n\n"
        "| metric | kind | labels | OpenTelemetry name, unit | meaning |\n|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nBuckets of `loopwatch_lag_seconds`, in seconds: {bounds}. One count is 50 ms of\n"
        "wall time in which work that fell due waited that long.\n"
    )


PAGES = {"settings.md": settings_page, "metrics.md": metrics_page}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(f"wrote docs/reference/{name}")
