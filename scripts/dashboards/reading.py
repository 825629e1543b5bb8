"""Reads the queries out of a dashboard's JSON and fills its variables in, as Grafana would."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Query", "filled_in", "legend_of", "queries", "variable_queries"]


@dataclass(frozen=True, slots=True)
class Query:
    """One expression: where it stands, and how Grafana asks for it."""

    where: str
    expr: str
    instant: bool
    legend: str


def queries(dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """Yield the queries of all panels and annotations."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            where = f"{dashboard['uid']} / {panel['title']} / {target['refId']}"
            yield Query(where, target["expr"], target["instant"], target["legendFormat"])
    for annotation in dashboard["annotations"]["list"]:
        if "expr" in annotation:
            where = f"{dashboard['uid']} / annotation {annotation['name']}"
            yield Query(where, annotation["expr"], instant=False, legend=annotation["textFormat"])


def variable_queries(dashboard: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return selector and label of each variable that asks for the values of a label."""
    return {
        variable["name"]: _label_values(variable["query"])
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }


def filled_in(text: str, interval: str, values: Mapping[str, Sequence[str]] | None = None) -> str:
    """Return an expression with its variables replaced; a variable without values stands for All.

    The five minutes of the alerts become the interval as well: what is played is shorter.

    Several values become alternatives of a regular expression, with what is special in them
    escaped, and `interval` (`15s`) is what Grafana made of scrape interval and time range.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] == "__rate_interval":
            return interval
        if match[1] not in ("job", "instance", "loop"):
            raise KeyError(match[0])
        chosen = [
            re.sub(r"[\\^$*+?.()|\[\]{}]", r"\\\\\g<0>", one)
            for one in (values or {}).get(match[1], ())
        ]
        return f"({'|'.join(chosen)})" if len(chosen) > 1 else (chosen or [".*"])[0]

    return re.sub(r"\$(\w+)", value, text.replace("[5m]", f"[{interval}]"))


def legend_of(legend: str, labels: Mapping[str, str]) -> str:
    """Return what Grafana calls a series; a label that is not there leaves nothing."""
    shown = re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda m: labels.get(m[1], ""), legend)
    return " ".join(shown.split())


def _label_values(query: str) -> tuple[str, str]:
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", query)
    if found is None:
        raise ValueError(query)
    return found[1], found[2]
