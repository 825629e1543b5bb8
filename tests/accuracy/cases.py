"""The registry: all cases, from the modules that hold them."""

from __future__ import annotations

import importlib
from typing import Final

from tests.accuracy.label import REGISTRY, Case

# The one that imports HTTP clients comes last: a child imports as far as it has to.
_MODULES: Final = (
    "waits",
    "sockets",
    "locks",
    "processes",
    "work",
    "native",
    "schedule",
    "outside",
    "quiet",
    "web",
)


def find(name: str) -> Case:
    """Return the case of that name."""
    for module in _MODULES:
        importlib.import_module(f"tests.accuracy.{module}")
        if name in REGISTRY:
            return REGISTRY[name]
    raise SystemExit(f"there is no case {name!r}: python -m tests.accuracy --list")


def load() -> tuple[Case, ...]:
    """Return all cases, in the order in which they are declared."""
    for module in _MODULES:
        importlib.import_module(f"tests.accuracy.{module}")
    return tuple(REGISTRY.values())
