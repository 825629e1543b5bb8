"""Whose line is it? Picks the frame to blame from the samples of a stall."""

from __future__ import annotations

import os
import site
import sysconfig
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loopwatch.model import Frame

__all__ = ["blame", "entry_of", "in_app_rule"]

_LIBRARY_FOLDERS: Final = ("site-packages", "dist-packages")
# loopwatch's own frames are never the host's code; its demo stands in for a host.
_OWN: Final = str(Path(__file__).parent.parent) + os.sep
_DEMO: Final = _OWN + "demo" + os.sep


def in_app_rule(
    stdlib: Sequence[str] | None = None,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
) -> Callable[[str, str], bool]:
    """Return what says of a file and a module whether they are the host's code.

    They are not if they are in the standard library or an installed package. `include` and
    `exclude` are modules for which that is otherwise, with all below them; the longer name wins.
    `stdlib` are the folders of the standard library, by default this interpreter's.
    """
    if stdlib is None:
        paths = sysconfig.get_paths()
        stdlib = [paths["stdlib"], paths["platstdlib"]]
    folders = {os.path.realpath(folder) + os.sep for folder in stdlib}
    folders |= {folder + os.sep for folder in stdlib}
    users = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    if users:
        folders.add(users + os.sep)
    outside = tuple(sorted(folders))
    parts = tuple(f"{os.sep}{name}{os.sep}" for name in _LIBRARY_FOLDERS)

    def is_in_app(file: str, module: str) -> bool:
        wanted, unwanted = _longest(module, include), _longest(module, exclude)
        if wanted != unwanted:
            return wanted > unwanted
        if file.startswith("<frozen ") or file.startswith(outside):
            return False
        if file.startswith(_OWN):
            return file.startswith(_DEMO)
        return not any(part in file for part in parts)

    return is_in_app


def _longest(module: str, names: Sequence[str]) -> int:
    """Return the length of the longest of these names that the module has or lies below."""
    return max((len(name) for name in names if f"{module}.".startswith(f"{name}.")), default=0)


def blame(samples: Sequence[tuple[int, Sequence[Frame]]]) -> Frame | None:
    """Return the innermost in-app frame of most samples, as (how often seen, frames) pairs.

    Without any in-app frame it is the innermost frame of most samples: a library that stalls by
    itself is named, with `in_app` false. `None` if no sample has a frame.
    """
    for eligible in (_innermost_in_app, _innermost):
        functions: Counter[tuple[str, str]] = Counter()
        lines: Counter[Frame] = Counter()
        for count, frames in samples:
            frame = eligible(frames)
            if frame is not None:
                functions[frame.function, frame.file] += count
                lines[frame] += count
        if functions:
            # The function first, then its commonest line: a loop's samples spread over lines.
            best = functions.most_common(1)[0][0]
            return max(
                (frame for frame in lines if (frame.function, frame.file) == best),
                key=lambda frame: lines[frame],
            )
    return None


def entry_of(frames: Sequence[Frame]) -> Frame | None:
    """Return the outermost in-app frame: where the loop went into the host's code."""
    for frame in reversed(frames):
        if frame.in_app:
            return frame
    return frames[-1] if frames else None


def _innermost_in_app(frames: Sequence[Frame]) -> Frame | None:
    return next((frame for frame in frames if frame.in_app), None)


def _innermost(frames: Sequence[Frame]) -> Frame | None:
    return frames[0] if frames else None
