"""The layers: imports point down, third parties stay at the edge, private access has its place."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import loopwatch

ROOT = Path(loopwatch.__file__).parent

# Lowest first. Within a row modules may import each other, except siblings (see STRANGERS).
LAYERS = [
    {"_version", "errors", "clock", "forklock", "keeper", "net", "patch", "patience"},
    {"model", "config", "catalogue"},
    {"sensors", "probes", "diagnosis"},
    {"lag", "views", "web"},
    {"ledger", "delivery", "exporters", "server"},
    {"census", "forensics"},
    {"recorder"},
    {"reporter"},
    {"watchdog"},
    {"agent"},
    {"registry"},
    {"integrations", "demo", "doctor", "assets", "report", "top"},
    {"cli", "__init__", "__main__"},
]
STRANGERS = {"sensors", "probes", "diagnosis"}
MAY_USE_THIRD_PARTIES = {"exporters", "integrations", "cli", "demo"}
PRIVATE_ACCESS = {"sensors", "probes"}

FILES = sorted(ROOT.rglob("*.py"))


def part_of(file: Path) -> str:
    relative = file.relative_to(ROOT)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def level_of(part: str) -> int:
    for level, parts in enumerate(LAYERS):
        if part in parts:
            return level
    pytest.fail(f"{part} has no layer: add it to LAYERS")


def imports_of(file: Path) -> set[str]:
    """Return the dotted names that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_imports_point_down(file: Path) -> None:
    """No module imports one of a higher layer, and siblings stay strangers."""
    own = part_of(file)
    for name in imports_of(file):
        if not name.startswith("loopwatch."):
            continue
        other = name.split(".")[1]
        if not (ROOT / other).exists() and not (ROOT / f"{other}.py").exists():
            other = "__init__"  # a public name of the package itself
        if own == "__init__":
            continue
        assert level_of(other) <= level_of(own), f"{own} imports {other} from above"
        if own in STRANGERS and other in STRANGERS:
            assert own == other, f"{own} imports its sibling {other}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_third_parties_stay_at_the_edge(file: Path) -> None:
    """The core runs on the standard library alone."""
    for name in imports_of(file):
        top = name.split(".")[0]
        if top != "loopwatch" and top not in sys.stdlib_module_names:
            assert part_of(file) in MAY_USE_THIRD_PARTIES, f"{file.name} imports {top}"


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_ctypes_stays_with_sensors_and_probes(file: Path) -> None:
    """Reaching into foreign memory has its place."""
    if any(name.split(".")[0] == "ctypes" for name in imports_of(file)):
        assert part_of(file) in PRIVATE_ACCESS
