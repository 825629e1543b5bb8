"""What both dashboards have: variables, links, stall annotations, and ids in order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    dashboard as board,
    heatmap,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model
from scripts.dashboards import query
from scripts.dashboards.panels import SOURCE

from loopwatch.assets.dashboards import UIDS
from loopwatch.assets.links import RUNBOOKS_URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["TAG", "Row", "assemble"]

TAG: Final = "loopwatch"

_Panel: TypeAlias = bargauge.Panel | heatmap.Panel | stat.Panel | table.Panel | timeseries.Panel
Row: TypeAlias = tuple[str, "Sequence[_Panel]"]


class _StallAnnotation(model.AnnotationQuery):
    """Marks stalls at their true start.

    Grafana takes the value of the series as the moment, in milliseconds, and draws equal moments
    once; moments closer than a step become one region. The SDK does not know these options:
    https://grafana.com/docs/grafana/latest/datasources/prometheus/annotations/
    """

    def to_json(self) -> dict[str, object]:
        """Return the annotation with the options of the Prometheus data source."""
        return {
            **super().to_json(),
            "titleFormat": "stall",
            "textFormat": "{{instance}} {{loop}}",
            "tagKeys": "job,instance,loop",
            "useValueForTime": True,
        }


class _StallAnnotations(board.AnnotationQuery):
    def __init__(self) -> None:
        self._internal = _StallAnnotation()


def assemble(
    name: str, title: str, about: str, rows: Sequence[Row], *, mark_stalls: bool
) -> dict[str, Any]:
    """Return a dashboard (a key of `UIDS`) with these rows as JSON-ready data."""
    (other,) = set(UIDS) - {name}
    made = (
        board.Dashboard(title)
        .uid(UIDS[name])
        .description(about)
        .tags([TAG])
        .editable()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .time("now-1h", "now")
        .timezone("browser")
        .refresh("30s")
        .variables([_source(), *_variables()])
        .annotations([_events(), _stalls(enabled=mark_stalls)])
        .links(
            [
                _link(f"loopwatch: {other}")
                .url(f"/d/{UIDS[other]}")
                .keep_time(keep_time=True)
                .include_vars(include_vars=True),
                _link("Runbooks").url(RUNBOOKS_URL).target_blank(target_blank=True).icon("doc"),
            ]
        )
    )
    ids: Iterator[int] = iter(range(1, 1000))
    for row, panels in rows:
        made.with_row(board.Row(row).id(next(ids)))
        for panel in panels:
            made.with_panel(panel.id(next(ids)))
    data: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    return data


def _source() -> board.DatasourceVariable:
    return board.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _variables() -> list[board.QueryVariable]:
    """Return job, instance and loop: each narrows down those behind it."""
    selectors = {"job": "", "instance": 'job=~"$job"', "loop": query.TARGETS}
    return [
        board.QueryVariable(name)
        .label(name.capitalize())
        .query(f"label_values(loopwatch_build_info{{{selector}}}, {name})")
        .datasource(SOURCE)
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.NATURAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(model.VariableOption(text="All", value="$__all", selected=True))
        for name, selector in selectors.items()
    ]


def _events() -> board.AnnotationQuery:
    # Grafana's own, for people to mark moments by hand; every dashboard has it.
    return (
        board.AnnotationQuery()
        .name("Annotations & Alerts")
        .datasource(model.DataSourceRef(type_val="grafana", uid="-- Grafana --"))
        .enable(enable=True)
        .hide(hide=True)
        .icon_color("rgba(0, 211, 255, 1)")
        .type("dashboard")
        .built_in(1)
    )


def _stalls(*, enabled: bool) -> board.AnnotationQuery:
    newest = query.of("last_stall_timestamp_seconds")
    return (
        _StallAnnotations()
        .name("Stalls")
        .datasource(SOURCE)
        .enable(enable=enabled)
        .icon_color("red")
        # Only where it changed, and not where a restart set it back to 0.
        .expr(f"1000 * ({newest} > 0) and changes({newest}{query.RATE_WINDOW}) > 0")
    )


def _link(title: str) -> board.DashboardLink:
    return board.DashboardLink(title).type(model.DashboardLinkType.LINK).icon("dashboard")
