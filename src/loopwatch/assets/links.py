"""Where alerts and dashboards point to."""

from __future__ import annotations

from typing import Final

__all__ = ["DASHBOARD_LOOP", "DASHBOARD_OVERVIEW", "RUNBOOKS_URL", "runbook_url"]

# Where the project will live is not decided; when it is, this line says it to everything.
RUNBOOKS_URL: Final = "https://github.com/loopwatch/loopwatch/blob/main/docs/runbooks"

# The uids of the Grafana dashboards: `/d/UID` is their path below the Grafana URL.
DASHBOARD_OVERVIEW: Final = "loopwatch-overview"
DASHBOARD_LOOP: Final = "loopwatch-loop"


def runbook_url(alert: str, base: str = RUNBOOKS_URL) -> str:
    """Return the address of the runbook of an alert; `base` may end with a slash or not."""
    return f"{base.rstrip('/')}/{alert}.md"
