"""What exporters ask of files that others move, wipe or rotate under them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["is_at"]


def is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is the one that a path leads to now."""
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
