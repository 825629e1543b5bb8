"""Writes the pages of docs/reference that derive from tables in the code.

`python scripts/reference.py` writes; a contract test says when the pages are stale.
"""

from __future__ import annotations

from pathlib import Path

from loopwatch.catalogue import LAG_BOUNDS_S, METRICS
from loopwatch.config import settings
from loopwatch.diagnosis.signatures import CAUSE_ADVICE, NOT_BLOCKING, SIGNATURES

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


def signatures_page() -> str:
    """Return the page of blocking calls and advice."""
    rows = [f"| `{row.target}` | {row.wait} | {row.text} |" for row in SIGNATURES]
    causes = [f"| `{cause}` | {text} |" for cause, text in CAUSE_ADVICE.items()]
    return (
        f"# Blocking calls loopwatch knows\n\n{NOTE}\n"
        "A stall in one of these carries the advice beside it. A row stands for the name and for\n"
        "all below it (`requests` is also `requests.get`, never `requests_cache`); the longest\n"
        "row wins. Wait is what the call waits for; `cpu` does not wait, it computes.\n\n"
        "| call | wait | instead |\n|---|---|---|\n"
        + "\n".join(rows)
        + "\n\nNever advised against, being asynchronous or not what blocks "
        "(`*.` is a part of a name at any depth):\n"
        + ", ".join(f"`{name}`" for name in NOT_BLOCKING)
        + ".\n\n## Where no call is known\n\n| cause | what to do |\n|---|---|\n"
        + "\n".join(causes)
        + "\n"
    )


PAGES = {
    "settings.md": settings_page,
    "metrics.md": metrics_page,
    "signatures.md": signatures_page,
}

if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
        print(f"wrote docs/reference/{name}")
