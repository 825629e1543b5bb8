"""Draws a panel with matplotlib, from its JSON and what its queries gave. Not as Grafana does."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from scripts.dashboards.reading import legend_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matplotlib.axes import Axes

__all__ = ["Result", "draw", "formatted"]

_COLOURS: Final = {
    "green": "#3a9d4f", "orange": "#f08c00", "red": "#d6293a", "purple": "#8f3bb8",
    "yellow": "#e0b400", "blue": "#5794f2", "light-blue": "#8ab8ff", "semi-dark-blue": "#3274d9",
    "semi-dark-orange": "#fa6400", "text": "#70757d",
}  # fmt: skip
_LINES: Final = (
    "#3274d9", "#56a64b", "#ff780a", "#8f3bb8", "#e0b400", "#37872d", "#1f60c4", "#fa6400",
    "#00a3a3", "#a16a3b",
)  # fmt: skip
_GREY: Final = "#70757d"
_LEGEND_ROWS: Final = 3
_SMALL: Final = 7


@dataclass(frozen=True, slots=True)
class Result:
    """What one query of a panel gave: series as the query API returns them."""

    legend: str
    series: Sequence[Mapping[str, Any]]


def formatted(value: float, unit: str) -> str:
    """Return a value as people read it, about as Grafana would."""
    if math.isnan(value):
        return "-"
    if unit == "dateTimeFromNow":
        return "never" if value == 0 else f"{formatted(time.time() - value / 1000, 's')} ago"
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "s":
        for size, name, times in ((1.0, "s", 1.0), (1e-3, "ms", 1e3)):
            if abs(value) >= size:
                return f"{value * times:.3g} {name}"
        return f"{value * 1e6:.3g} µs" if value else "0 s"
    if unit.startswith("suffix:"):
        return f"{value:.3g} {unit.removeprefix('suffix:')}"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def draw(
    axes: Axes, panel: Mapping[str, Any], results: Sequence[Result], marks: Sequence[float]
) -> None:
    """Draw a panel; `marks` are moments (unix time) to mark on what has a time axis."""
    for spine in axes.spines.values():
        spine.set_color("#d0d3d8")
    _KINDS[panel["type"]](axes, panel, results, marks)


def _points(series: Mapping[str, Any]) -> tuple[Any, Any]:
    at, values = zip(*series["values"], strict=True)
    return np.array(at, float), np.array([float(value) for value in values])


def _colour(value: float, thresholds: Mapping[str, Any] | None) -> str:
    chosen = ""
    for step in (thresholds or {}).get("steps", ()):
        if step["value"] is None or value >= step["value"]:
            chosen = _COLOURS[step["color"]]
    return chosen


def _number(axes: Axes, panel: Any, results: Sequence[Result], _: Sequence[float]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    defaults = panel["fieldConfig"]["defaults"]
    series = results[0].series
    if not series:
        axes.text(0.5, 0.5, "no data", ha="center", va="center", transform=axes.transAxes)
        return
    at, values = _points(series[0])
    last = values[~np.isnan(values)][-1] if (~np.isnan(values)).any() else math.nan
    back = _colour(last, defaults.get("thresholds"))
    ink = "white" if back else "#22252b"
    if back:
        axes.set_facecolor(back)
    if defaults["unit"] != "dateTimeFromNow":
        axes.fill_between(at, values, color=ink, alpha=0.22, linewidth=0)
        top = np.nanmax(values) if not math.isnan(last) else 0
        axes.set_ylim(0, (top or 1) * 2.6)
        axes.set_xlim(at[0], max(at[-1], at[0] + 1))
    axes.text(
        0.5, 0.56, formatted(last, defaults["unit"]), ha="center", va="center", color=ink,
        fontsize=17, weight="bold", transform=axes.transAxes,
    )  # fmt: skip


def _bars(axes: Axes, panel: Any, results: Sequence[Result], _: Sequence[float]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    rows = [
        (legend_of(results[0].legend, one["metric"]), float(one["value"][1]))
        for one in results[0].series
    ]
    axes.axis("off")
    top = max((value for _, value in rows), default=0) or 1
    axes.set_xlim(0, top)
    axes.set_ylim(max(len(rows), 4), 0)
    for place, (name, value) in enumerate(rows):
        colour = _colour(value, defaults["thresholds"])
        axes.add_patch(Rectangle((0, place + 0.42), top, 0.42, color="#eceef1", linewidth=0))
        axes.add_patch(Rectangle((0, place + 0.42), value, 0.42, color=colour, linewidth=0))
        axes.text(0, place + 0.36, name, fontsize=_SMALL + 1, va="bottom")
        axes.text(
            top, place + 0.36, formatted(value, defaults["unit"]), fontsize=_SMALL + 2,
            va="bottom", ha="right", color=colour, weight="bold",
        )  # fmt: skip


def _time_axis(axes: Axes, marks: Sequence[float]) -> None:
    low, high = axes.get_xlim()
    axes.xaxis.set_major_formatter(lambda value, _: time.strftime("%H:%M:%S", time.gmtime(value)))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(labelsize=_SMALL, colors=_GREY, length=2)
    axes.grid(visible=True, color="#eceef1", linewidth=0.6)
    axes.set_axisbelow(b=True)
    for mark in marks:
        if low <= mark <= high:
            axes.axvline(mark, color=_COLOURS["red"], linewidth=0.5, alpha=0.35)
            axes.plot([mark], [0], marker="^", color=_COLOURS["red"], markersize=3.5,
                      transform=axes.get_xaxis_transform(), clip_on=False)  # fmt: skip


def _own_colours(panel: Any) -> dict[str, str]:
    """Return the colours that a panel gives to series by name."""
    return {
        override["matcher"]["options"]: _COLOURS[setting["value"]["fixedColor"]]
        for override in panel["fieldConfig"]["overrides"]
        for setting in override["properties"]
        if setting["id"] == "color"
    }


def _lines(axes: Axes, panel: Any, results: Sequence[Result], marks: Sequence[float]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    unit = defaults["unit"]
    stacked = defaults["custom"].get("stacking", {}).get("mode") == "normal"
    drawn = [
        (legend_of(result.legend, one["metric"]), *_points(one))
        for result in results
        for one in result.series
    ]
    if stacked:
        # Causes that never were would only fill the legend.
        drawn = [one for one in drawn if np.nanmax(one[2]) > 0]
    limits = [one for one in drawn if one[0] == "threshold"]
    drawn = sorted(
        (one for one in drawn if one[0] != "threshold"), key=lambda one: -float(np.nanmax(one[2]))
    )
    below: dict[float, float] = {}
    colours = dict(zip(sorted(name for name, *_ in drawn), _LINES * 9, strict=False))
    colours |= _own_colours(panel)
    for name, at, values in drawn:
        colour = colours[name]
        last = f"{name}  {formatted(values[-1], unit)}"
        if stacked:
            bottom = np.array([below.get(moment, 0.0) for moment in at])
            axes.bar(at, values, width=1.0, bottom=bottom, color=colour, label=last, alpha=0.85)
            below |= dict(zip(at, bottom + values, strict=True))
        else:
            axes.plot(at, values, color=colour, linewidth=1.2, label=last)
    for _, at, values in limits:
        axes.plot(at, values, color=_COLOURS["red"], linewidth=1.3, dashes=(5, 3),
                  label=f"threshold  {formatted(values[-1], unit)}")  # fmt: skip
    axes.set_ylim(bottom=0)
    soft = defaults["custom"].get("axisSoftMax")
    if soft is not None:
        axes.set_ylim(top=max(soft, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(lambda value, _: formatted(value, unit))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _time_axis(axes, marks)
    shown = axes.get_legend_handles_labels()
    cols = max(1, panel["gridPos"]["w"] // 4)
    if shown[0]:
        axes.legend(
            *(part[: _LEGEND_ROWS * cols] for part in shown),
            fontsize=_SMALL, ncols=cols, frameon=False,
            loc="upper left", bbox_to_anchor=(-0.02, -0.08), handlelength=1.4, labelcolor="#40454d",
            columnspacing=1.2, labelspacing=0.25,
        )  # fmt: skip


def _heat(axes: Axes, _: Any, results: Sequence[Result], marks: Sequence[float]) -> None:
    rows = sorted(results[0].series, key=lambda one: float(one["metric"]["le"]))
    moments = sorted({at for one in rows for at, _ in one["values"]})
    cells = np.zeros((len(rows), len(moments)))
    where = {moment: place for place, moment in enumerate(moments)}
    for row, one in enumerate(rows):
        for at, value in one["values"]:
            cells[row, where[at]] = float(value)
    # Buckets count all below them, too.
    cells = np.maximum(np.diff(cells, axis=0, prepend=0), 0)
    cells[cells < 1e-9] = np.nan  # noqa: PLR2004 - what the panel filters out, too
    edges = np.arange(len(rows) + 1)
    mesh = axes.pcolormesh(
        [*moments, moments[-1] + 1], edges, np.sqrt(cells), cmap="Oranges", vmin=0, vmax=1,
        edgecolors="white", linewidth=0.15,
    )  # fmt: skip
    axes.set_yticks(edges[1:], [formatted(float(one["metric"]["le"]), "s") if one["metric"]["le"]
                                != "+Inf" else "more" for one in rows])  # fmt: skip
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.01, aspect=30)
    bar.set_ticks([0, 0.1**0.5, 0.5**0.5, 1], labels=["0", "10 %", "50 %", "100 %"])
    bar.ax.tick_params(labelsize=_SMALL, colors=_GREY, length=2)
    bar.outline.set_visible(False)
    _time_axis(axes, marks)


def _table(axes: Axes, panel: Any, results: Sequence[Result], _: Sequence[float]) -> None:
    axes.axis("off")
    (organize,) = (t["options"] for t in panel["transformations"] if t["id"] == "organize")
    overrides = {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    found: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for result in results:
        for one in result.series:
            key = tuple(sorted(one["metric"].items()))
            found.setdefault(key, {})[result.legend] = float(one["value"][1])
    order = sorted(organize["indexByName"], key=organize["indexByName"].__getitem__)
    names = [organize["renameByName"].get(name, name) for name in order]
    labels = {name for key in found for name, _ in key}
    names = [name for name in names if name in labels or name in overrides]
    (sort,) = panel["options"]["sortBy"]
    rows: list[dict[str, Any]] = [{**dict(key), **values} for key, values in found.items()]
    rows.sort(key=lambda row: row.get(sort["displayName"], ""), reverse=sort["desc"])
    axes.set_xlim(0, len(names))
    axes.set_ylim(max(len(rows) + 1, 5), 0)
    for column, name in enumerate(names):
        axes.text(column + 0.03, 0.6, name, fontsize=_SMALL + 1, weight="bold", color=_GREY)
        said = overrides.get(name, {})
        for line, row in enumerate(rows, 1):
            value = row.get(name, "")
            number = isinstance(value, float)
            text = formatted(value, said["unit"]) if number else str(value)
            colour = _colour(value, said.get("thresholds")) if number else ""
            axes.text(
                column + 0.03, line + 0.6, text, fontsize=_SMALL + 2, color=colour or "#22252b"
            )
    for line in range(1, len(rows) + 1):
        axes.axhline(line, color="#e4e6ea", linewidth=0.7)


_KINDS: Final[dict[str, Callable[[Axes, Any, Sequence[Result], Sequence[float]], None]]] = {
    "stat": _number,
    "bargauge": _bars,
    "timeseries": _lines,
    "heatmap": _heat,
    "table": _table,
}
