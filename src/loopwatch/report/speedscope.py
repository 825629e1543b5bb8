"""A report in speedscope's own format: a profile for each fingerprint, weights in seconds.

https://github.com/jlfwong/speedscope/wiki/Importing-from-custom-sources
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from loopwatch._version import __version__
from loopwatch.report.collapsed import NO_STACK
from loopwatch.report.data import US_PER_S
from loopwatch.report.table import where
from loopwatch.views.flame import stacks
from loopwatch.views.units import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from loopwatch.report.group import Group

__all__ = ["as_speedscope"]

_SCHEMA: Final = "https://www.speedscope.app/file-format-schema.json"


def as_speedscope(groups: Sequence[Group], name: str) -> Iterator[str]:
    """Yield one JSON object; `name` is the title of the file."""
    frames: dict[tuple[str, str, int], int] = {}
    head = {
        "$schema": _SCHEMA,
        "name": name,
        "exporter": f"loopwatch {__version__}",
        "activeProfileIndex": 0,
    }
    yield json.dumps(head)[:-1]
    yield ', "profiles": ['
    separator = "\n"
    for group in groups:
        if group.flame is not None:
            yield separator
            yield json.dumps(_profile(group, group.flame.to_dict(), frames))
            separator = ",\n"
    yield '\n], "shared": {"frames": ['
    for number, frame in enumerate(frames):
        yield ",\n" if number else "\n"
        yield json.dumps(_frame(*frame))
    yield "\n]}}\n"


def _profile(
    group: Group, tree: Mapping[str, Any], frames: dict[tuple[str, str, int], int]
) -> dict[str, Any]:
    samples, weights = [], []
    for path, value_us in stacks(tree):
        keys = [(frame["name"], frame["file"], frame["line"]) for frame in path]
        samples.append([frames.setdefault(key, len(frames)) for key in keys or [(NO_STACK, "", 0)]])
        weights.append(value_us / US_PER_S)
    return {
        "type": "sampled",
        "name": f"{group.cause} {where(group)} ({count(group.count)})".lstrip(),
        "unit": "seconds",
        "startValue": 0,
        "endValue": group.total_us / US_PER_S,
        "samples": samples,
        "weights": weights,
    }


def _frame(name: str, file: str, line: int) -> dict[str, Any]:
    return {"name": name, **({"file": file} if file else {}), **({"line": line} if line else {})}
