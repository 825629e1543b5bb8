"""The kinds of panels the dashboards are made of, each with what every panel must have."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from grafana_foundation_sdk.builders import (
    bargauge,
    common as build,
    dashboard as board,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common, dashboard as model, heatmap as heat_model
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from scripts.dashboards.query import LEGEND

from loopwatch.assets.dashboards import COLOURED, steps
from loopwatch.assets.links import DASHBOARD_LOOP, runbook_url
from loopwatch.config import Config

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Column", "Line", "Told", "bars", "columns", "heat", "lines", "number"]

SOURCE: Final = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
# What the dashed line of a threshold is called in every legend; overrides go by it.
LIMIT: Final = "threshold"

_Panel = TypeVar("_Panel", bargauge.Panel, heatmap.Panel, stat.Panel, table.Panel, timeseries.Panel)


@dataclass(frozen=True, slots=True)
class Told:
    """What every panel has: title, what to do, unit, size on the grid, alerts about the same."""

    title: str
    about: str
    unit: str
    width: int = 12
    height: int = 8
    alerts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Line:
    """One query of a panel and what its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Column:
    """One query of a table and its column: name and unit."""

    expr: str
    name: str
    unit: str


def number(
    told: Told,
    expr: str,
    *,
    at: Sequence[tuple[float, str]] = (),
    board_name: str = "",
    mappings: Sequence[model.ValueMapping] = (),
) -> stat.Panel:
    """Return one large number with its recent course behind it.

    Colours change at the settings that `COLOURED` names for the panel, else at the values of `at`.
    """
    colours = _setting_steps(board_name, told.title) or _steps(at)
    panel = (
        _common(stat.Panel(), told)
        .color_mode(
            common.BigValueColorMode.BACKGROUND if colours else common.BigValueColorMode.NONE
        )
        .graph_mode(common.BigValueGraphMode.AREA)
        .reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .no_value("no data")
        .mappings(list(mappings))
        .with_target(_target("A", expr, told.title))
    )
    return panel.thresholds(_thresholds(colours)) if colours else panel


def bars(
    told: Told, expr: str, *, at: Sequence[tuple[float, str]] = (), board_name: str = ""
) -> bargauge.Panel:
    """Return bars, one per loop in the order of the query, that lead to the loop's dashboard."""
    colours = _setting_steps(board_name, told.title) or _steps(at)
    return (
        _common(bargauge.Panel(), told)
        .orientation(common.VizOrientation.HORIZONTAL)
        .display_mode(common.BarGaugeDisplayMode.BASIC)
        .reduce_options(build.ReduceDataOptions().calcs(["lastNotNull"]).values(values=False))
        .min(0)
        .thresholds(_thresholds(colours))
        .data_links([_to_the_loop("__field.labels")])
        .with_target(_target("A", expr, f"{{{{job}}}} {LEGEND}", instant=True))
    )


def lines(
    told: Told,
    *series: Line,
    stacked: bool = False,
    most: float | None = None,
    colours: Mapping[str, str] = MappingProxyType({}),
) -> timeseries.Panel:
    """Return lines over time, or bars on top of each other; a `LIMIT` is a dashed red line.

    `colours` are those of series by name, in Grafana's own names for colours.
    """
    panel = (
        _common(timeseries.Panel(), told)
        .min(0)
        .line_width(1)
        .fill_opacity(60 if stacked else 8)
        .show_points(common.VisibilityMode.NEVER)
        .tooltip(
            build.VizTooltipOptions()
            .mode(common.TooltipDisplayMode.MULTI)
            .sort(common.SortOrder.DESCENDING)
        )
        .legend(
            build.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.TABLE)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
            .calcs(["lastNotNull", "max"])
        )
    )
    if stacked:
        panel.draw_style(common.GraphDrawStyle.BARS).stacking(
            build.StackingConfig().mode(common.StackingMode.NORMAL).group("A")
        )
    if most is not None:
        panel.axis_soft_max(most)
    for ref, line in zip("ABCDEFGH", series, strict=False):
        panel.with_target(_target(ref, line.expr, line.legend))
    for name, colour in colours.items():
        panel.override_by_name(name, [_set("color", {"mode": "fixed", "fixedColor": colour})])
    if any(line.legend == LIMIT for line in series):
        panel.override_by_name(
            LIMIT,
            [
                _set("color", {"mode": "fixed", "fixedColor": "red"}),
                _set("custom.lineStyle", {"fill": "dash", "dash": [10, 10]}),
                _set("custom.fillOpacity", 0),
            ],
        )
    return panel


def heat(told: Told, expr: str) -> heatmap.Panel:
    """Return a heatmap of histogram buckets; `told.unit` is that of the buckets' bounds."""
    return (
        _common(heatmap.Panel(), told)
        .calculate(calculate=False)
        .rows_frame(heatmap.RowsHeatmapOptions().layout(common.HeatmapCellLayout.AUTO))
        .y_axis(heatmap.YAxisConfig().unit(told.unit).axis_placement(common.AxisPlacement.LEFT))
        .cell_values(heatmap.CellValues().unit("percentunit"))
        .cell_gap(1)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat_model.HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .fill("dark-orange")
            # Most of the time lag is small: with even colours the rest could not be seen.
            .scale(heat_model.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .scale_distribution(build.ScaleDistributionConfig().type(common.ScaleDistribution.LINEAR))
        .mode(common.TooltipDisplayMode.SINGLE)
        .show_legend()
        .with_target(_target("A", expr, "{{le}}").format(PromQueryFormat.HEATMAP))
    )


def columns(
    told: Told,
    keys: Sequence[str],
    *cols: Column,
    sort: str,
    board_name: str = "",
    linked: bool = False,
) -> table.Panel:
    """Return a table with one row per set of labels `keys`, largest `sort` first."""
    panel = (
        _common(table.Panel(), told)
        .filterable(filterable=True)
        .sort_by([build.TableSortByFieldState().display_name(sort).desc(desc=True)])
        .with_transformation(model.DataTransformerConfig("merge", options={}))
    )
    if linked:
        # The columns of labels keep their names, so that the link finds them.
        panel.data_links([_to_the_loop("__data.fields")])
    names = {}
    for ref, column in zip("ABCDEFGHIJ", cols, strict=False):
        panel.with_target(
            _target(ref, column.expr, column.name, instant=True).format(PromQueryFormat.TABLE)
        )
        # With one query there is nothing to tell apart, and Grafana adds no letter.
        names["Value" if len(cols) == 1 else f"Value #{ref}"] = column.name
        properties = [_set("unit", column.unit)]
        colours = _setting_steps(board_name, told.title, column.name)
        if colours:
            properties += [
                _set("thresholds", {"mode": "absolute", "steps": colours}),
                _set("custom.cellOptions", {"type": "color-text"}),
            ]
        panel.override_by_name(column.name, properties)
    order = {name: place for place, name in enumerate((*keys, *names))}
    panel.with_transformation(
        model.DataTransformerConfig(
            "organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": order,
                "renameByName": names,
            },
        )
    )
    return panel


def _common(panel: _Panel, told: Told) -> _Panel:
    return (
        panel.title(told.title)
        .description(told.about)
        .unit(told.unit)
        .datasource(SOURCE)
        .span(told.width)
        .height(told.height)
        .links(
            [
                board.DashboardLink(f"Runbook: {alert}")
                .type(model.DashboardLinkType.LINK)
                .url(runbook_url(alert))
                .target_blank(target_blank=True)
                for alert in told.alerts
            ]
        )
    )


def _target(ref: str, expr: str, legend: str, *, instant: bool = False) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(ref).expr(expr).legend_format(legend).datasource(SOURCE)
    return target.instant() if instant else target.range()


def _to_the_loop(labels: str) -> board.DashboardLink:
    """Return a link to the loop that a bar or a row stands for, in the same time range.

    `labels` is where Grafana has them; `${datasource:queryparam}` becomes `var-datasource=…`.
    """
    chosen = "&".join(f"var-{name}=${{{labels}.{name}}}" for name in ("job", "instance", "loop"))
    return (
        board.DashboardLink("This loop in depth")
        .type(model.DashboardLinkType.LINK)
        .url(f"/d/{DASHBOARD_LOOP}?${{datasource:queryparam}}&{chosen}&${{__url_time_range}}")
    )


def _set(name: str, value: object) -> model.DynamicConfigValue:
    return model.DynamicConfigValue(name, value)


def _steps(at: Sequence[tuple[float, str]]) -> list[dict[str, Any]]:
    if not at:
        return []
    rest = [{"value": value, "color": color} for value, color in at]
    return [{"value": None, "color": "green"}, *rest]


def _setting_steps(board_name: str, panel: str, column: str | None = None) -> list[dict[str, Any]]:
    place = (board_name, panel, column)
    rows = [row for row in COLOURED if (row.dashboard, row.panel, row.column) == place]
    return steps(rows[0], Config()) if rows else []


def _thresholds(colours: Sequence[dict[str, Any]]) -> board.ThresholdsConfig:
    return (
        board.ThresholdsConfig()
        .mode(model.ThresholdsMode.ABSOLUTE)
        .steps([model.Threshold(step["value"], step["color"]) for step in colours])
    )
