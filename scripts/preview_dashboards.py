"""Draws docs/images/loopwatch-*.png: `python -m scripts.preview_dashboards`, about two minutes.

Runs what `scripts/dashboards/scene.py` describes under a real Prometheus, asks it the queries of
the dashboards' JSON, and draws the answers where the JSON places the panels. Not Grafana.
"""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image
from scripts.dashboards.draw import Result, draw
from scripts.dashboards.reading import filled_in
from scripts.dashboards.scene import playing

from loopwatch.assets.dashboards import UIDS, dashboard

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.servers import PrometheusApi

FOLDER: Final = Path(__file__).parent.parent / "docs" / "images"
NOTE: Final = "preview drawn by loopwatch from the dashboard's queries, not Grafana"

# The second picture is of one loop, as one comes to it by a click on the first.
CHOSEN: Final[dict[str, dict[str, list[str]]]] = {
    "overview": {},
    "loop": {"job": ["reports"], "instance": ["reports-1"], "loop": ["worker"]},
}
PLAY_S: Final = 75.0
INTERVAL: Final = "10s"
# A unit of Grafana's grid, in inches; the head is in units.
_UNIT_W: Final = 0.62
_UNIT_H: Final = 0.36
_HEAD: Final = 2
_DPI: Final = 92
_COLUMNS: Final = 24
# Beside and above what is drawn in a panel: title, axes, legend, as shares of a unit.
_INSETS: Final = {
    "stat": (0.1, 0.1, 0.95, 0.15),
    "bargauge": (0.25, 0.25, 1.0, 0.3),
    "table": (0.25, 0.2, 1.0, 0.2),
    "timeseries": (1.3, 0.3, 1.0, 2.6),
    "heatmap": (1.3, 0.0, 1.0, 0.9),
}


def picture(name: str, server: PrometheusApi, began_s: float) -> bytes:
    """Return a PNG of a dashboard with what the server knows since then."""
    data = dashboard(name)
    now_s = time.time()

    def asked(expr: str, *, instant: bool) -> Any:
        expr = filled_in(expr, INTERVAL, CHOSEN[name])
        if instant:
            return server.query(expr)
        window = {"start": began_s, "end": now_s, "step": 1}
        return server.get("query_range", query=expr, **window)["result"]

    marks: list[float] = []
    for annotation in data["annotations"]["list"]:
        if "expr" in annotation and annotation["enable"]:
            for series in asked(annotation["expr"], instant=False):
                marks += sorted({float(value) / 1000 for _, value in series["values"]})

    height: int = _HEAD + max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in data["panels"])
    figure = Figure(figsize=(_COLUMNS * _UNIT_W, height * _UNIT_H), dpi=_DPI, facecolor="#f4f5f7")

    def up(y: float) -> float:
        return 1 - (_HEAD + y) / height

    figure.text(0.008, up(-0.9), data["title"], fontsize=16, weight="bold", va="center")
    figure.text(0.992, up(-0.9), NOTE, fontsize=10, style="italic", va="center", ha="right")
    for panel in data["panels"]:
        box = panel["gridPos"]
        if panel["type"] == "row":
            figure.text(
                0.008, up(box["y"] + 0.55), panel["title"], fontsize=11, weight="bold", va="center"
            )
            continue
        _backdrop(figure, box, height)
        figure.text(
            (box["x"] + 0.2) / _COLUMNS, up(box["y"] + 0.55), panel["title"], fontsize=8.5,
            weight="bold", va="center", color="#40454d",
        )  # fmt: skip
        left, right, top, bottom = _INSETS[panel["type"]]
        axes = figure.add_axes(
            (
                (box["x"] + left) / _COLUMNS,
                up(box["y"] + box["h"] - bottom),
                (box["w"] - left - right) / _COLUMNS,
                (box["h"] - top - bottom) / height,
            )
        )
        results = [
            Result(t["legendFormat"], asked(t["expr"], instant=t["instant"]))
            for t in panel["targets"]
        ]
        draw(axes, panel, results, marks)
        if panel["type"] in ("timeseries", "heatmap"):
            axes.set_xlim(began_s, now_s)
    return _small(figure)


def _backdrop(figure: Figure, box: Mapping[str, int], height: int) -> None:
    axes = figure.add_axes(
        (
            (box["x"] + 0.06) / _COLUMNS,
            1 - (_HEAD + box["y"] + box["h"] - 0.08) / height,
            (box["w"] - 0.12) / _COLUMNS,
            (box["h"] - 0.16) / height,
        ),
        facecolor="white",
    )
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#dcdfe4")


def _small(figure: Figure) -> bytes:
    """Return the picture as a PNG of few colours, a third of the size."""
    raw, out = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="png")
    image = Image.open(raw).convert("RGB").quantize(160, dither=Image.Dither.NONE)
    image.save(out, format="PNG", optimize=True)
    return out.getvalue()


def main() -> None:
    """Play, ask, draw, write."""
    mpl.rcParams["font.family"] = "DejaVu Sans"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        playing(Path(folder), PLAY_S) as scene,
    ):
        for name, uid in UIDS.items():
            png = picture(name, scene.servers["Prometheus"], scene.began_s)
            (FOLDER / f"{uid}.png").write_bytes(png)
            print(f"wrote docs/images/{uid}.png, {len(png) // 1000} kB")


if __name__ == "__main__":
    main()
