"""loopwatch: an in-process watchdog for asyncio that names the line which blocks the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loopwatch._version import __version__

if TYPE_CHECKING:
    from loopwatch.agent import Agent
    from loopwatch.config import Config
    from loopwatch.errors import ConfigError, LoopwatchError, MissingExtraError, NoRunningLoopError
    from loopwatch.exporters.base import Exporter
    from loopwatch.integrations.asgi import RequestMiddleware
    from loopwatch.integrations.lifespan import lifespan
    from loopwatch.model import Cause, Frame, Sample, Snapshot, Stall
    from loopwatch.probes.allowed import allow_blocking
    from loopwatch.registry import current, install

__all__ = [
    "Agent",
    "Cause",
    "Config",
    "ConfigError",
    "Exporter",
    "Frame",
    "LoopwatchError",
    "MissingExtraError",
    "NoRunningLoopError",
    "RequestMiddleware",
    "Sample",
    "Snapshot",
    "Stall",
    "__version__",
    "allow_blocking",
    "current",
    "install",
    "lifespan",
]

# Where each public name lives. Loaded when it is first asked for: `import loopwatch` then costs
# nothing, not even asyncio (docs/decisions/0003).
_HOMES = {
    "Agent": "agent",
    "Cause": "model",
    "Config": "config",
    "ConfigError": "errors",
    "Exporter": "exporters.base",
    "Frame": "model",
    "LoopwatchError": "errors",
    "MissingExtraError": "errors",
    "NoRunningLoopError": "errors",
    "RequestMiddleware": "integrations.asgi",
    "Sample": "model",
    "Snapshot": "model",
    "Stall": "model",
    "allow_blocking": "probes.allowed",
    "current": "registry",
    "install": "registry",
    "lifespan": "integrations.lifespan",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'loopwatch' has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - see _HOMES

    value = globals()[name] = getattr(importlib.import_module(f"loopwatch.{home}"), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
