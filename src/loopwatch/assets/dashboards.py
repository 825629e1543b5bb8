"""The Grafana dashboards: the packaged JSON, and the same with other thresholds, labels and names.

The JSON is built by `scripts/dashboards`; here it is read and changed without the library it is
built with. The table `COLOURED` says which colours follow which setting, for the builder too.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from loopwatch.assets.links import DASHBOARD_LOOP, DASHBOARD_OVERVIEW
from loopwatch.assets.promql import Terms, parse_selector
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from loopwatch.config import Config

__all__ = ["COLOURED", "UIDS", "Coloured", "dashboard", "render", "steps"]

# Name on the command line -> uid, which is the name of the file, too.
UIDS: Final = {"overview": DASHBOARD_OVERVIEW, "loop": DASHBOARD_LOOP}


@dataclass(frozen=True, slots=True)
class Coloured:
    """Colours of one panel, or of one column of a table, that change at a setting's value.

    `at` holds pairs of a setting and the colour from its value on; below the first it is green.
    """

    dashboard: str
    panel: str
    at: tuple[tuple[str, str], ...]
    column: str | None = None


_LAG: Final = (("stall_threshold_s", "red"),)
_TASKS: Final = (("tasks_threshold", "red"),)
_CPU: Final = (("cpu_ratio_threshold", "red"),)
_AGE: Final = (("stall_threshold_s", "orange"), ("hang_threshold_s", "red"))

COLOURED: Final = (
    Coloured("overview", "Lag p99, worst loops", _LAG),
    Coloured("overview", "CPU-to-wall, worst loops", _CPU),
    Coloured("overview", "Tasks, worst loops", _TASKS),
    Coloured("overview", "All loops", _LAG, "Lag p99"),
    Coloured("overview", "All loops", _AGE, "Stalled now"),
    Coloured("overview", "All loops", _CPU, "CPU-to-wall"),
    Coloured("overview", "All loops", _TASKS, "Tasks"),
    Coloured("loop", "Lag p99", _LAG),
    Coloured("loop", "Tasks", _TASKS),
    Coloured("loop", "CPU-to-wall", _CPU),
    Coloured("loop", "Stalled now", _AGE),
    Coloured("loop", "Lag max, 60 s", _LAG),
)


def steps(row: Coloured, config: Config) -> list[dict[str, Any]]:
    """Return the colour steps as Grafana wants them: ascending, the first without a value."""
    return [
        {"value": None, "color": "green"},
        *({"value": float(getattr(config, setting)), "color": color} for setting, color in row.at),
    ]


def dashboard(
    name: str,
    config: Config | None = None,
    *,
    selector: str | None = None,
    title: str | None = None,
    uid: str | None = None,
    other_uid: str | None = None,
) -> dict[str, Any]:
    """Return a packaged dashboard (a key of `UIDS`) as JSON-ready data.

    `config` gives the thresholds at which colours change (seconds, tasks, ratio). `selector` is
    added to every query: label matchers as in PromQL. `uid` and `other_uid` are
    those of this dashboard and of the one its links lead to. Raises `ConfigError`.
    """
    file = importlib.resources.files("loopwatch.assets") / "grafana" / f"{UIDS[name]}.json"
    data: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    if config is not None:
        for row in COLOURED:
            if row.dashboard == name:
                _steps_of(data, row)["steps"] = steps(row, config)
    if selector is not None:
        _select(data, selector)
    if other_uid is not None:
        for other in set(UIDS) - {name}:
            data = _replaced(data, f"/d/{UIDS[other]}", f"/d/{_checked_uid(other_uid)}")
    if uid is not None:
        data["uid"] = _checked_uid(uid)
    if title is not None:
        if not title.strip():
            raise ConfigError("the title is empty: use some words, or leave it out")
        data["title"] = title
    return data


def render(data: dict[str, Any]) -> str:
    """Return the text of a dashboard's file."""
    return json.dumps(data, indent=2) + "\n"


def _steps_of(data: dict[str, Any], row: Coloured) -> dict[str, Any]:
    (panel,) = (panel for panel in data["panels"] if panel["title"] == row.panel)
    if row.column is None:
        found: dict[str, Any] = panel["fieldConfig"]["defaults"]["thresholds"]
        return found
    (found,) = (
        prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        if override["matcher"]["options"] == row.column
        for prop in override["properties"]
        if prop["id"] == "thresholds"
    )
    return found


def _select(data: dict[str, Any], selector: str) -> None:
    terms = Terms(parse_selector(selector))
    for panel in data["panels"]:
        for target in panel.get("targets", ()):
            target["expr"] = terms.apply(target["expr"])
    for annotation in data["annotations"]["list"]:
        if "expr" in annotation:
            annotation["expr"] = terms.apply(annotation["expr"])
    for variable in data["templating"]["list"]:
        variable["query"] = terms.apply(variable["query"])


def _checked_uid(uid: str) -> str:
    # What Grafana takes: https://grafana.com/docs/grafana/latest/developers/http_api/dashboard/
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", uid):
        raise ConfigError(f"uid {uid!r} is not allowed: use 1 to 40 letters, digits, - and _")
    return uid


def _replaced(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {key: _replaced(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_replaced(value, old, new) for value in node]
    return node.replace(old, new) if isinstance(node, str) else node
