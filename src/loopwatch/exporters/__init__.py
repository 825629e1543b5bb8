"""Exporters: records and snapshots out. One file each; a new one is one line in the table."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from loopwatch.errors import ConfigError
from loopwatch.exporters.base import Exporter, Source

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["EXPORTERS", "Exporter", "Source", "make_exporters"]

# Name of the exporter -> where its class is; imported only when it is used.
EXPORTERS: Final = {
    "jsonl": "loopwatch.exporters.jsonl:JsonlExporter",
    "log": "loopwatch.exporters.log:LogExporter",
    "otel": "loopwatch.exporters.otel:OtelExporter",
    "prometheus": "loopwatch.exporters.prometheus:PrometheusExporter",
}


def make_exporters(wanted: Iterable[str | Exporter]) -> list[Exporter]:
    """Return exporters for names and instances; an unknown name raises `ConfigError`."""
    made = []
    for item in wanted:
        if isinstance(item, Exporter):
            made.append(item)
            continue
        if item not in EXPORTERS:
            known = ", ".join(sorted(EXPORTERS))
            raise ConfigError(f"exporters: {item!r} is none of {known}, nor an Exporter object")
        module, _, name = EXPORTERS[item].partition(":")
        made.append(getattr(importlib.import_module(module), name)())
    return made
