"""The stack of another thread, and the task that runs on it.

Only code objects and positions are kept, and frames are let go at once: a frame would keep the
host's locals alive. Names are formatted later, when a stall is told.

Private API, checked on CPython 3.11 to 3.15: `sys._current_frames`. Where it is missing there
are no samples.
"""

from __future__ import annotations

import asyncio
import gc
import linecache
import os
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.model import Frame, TaskInfo

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = [
    "MAX_FRAMES",
    "FrameNamer",
    "Position",
    "read_task",
    "sample_stack",
    "source_line",
    "stacks_work",
]

# Innermost frames kept of a stack; deeper recursion repeats itself.
MAX_FRAMES: Final = 128

# Before 3.11.9 a collection inside _current_frames could deadlock (cpython #106883). The lock
# keeps two watchdogs from switching the collector on under each other.
_GUARD_GC: Final = sys.version_info < (3, 11, 9)
_GC_LOCK: Final = threading.Lock()


class Position(NamedTuple):
    """One frame: its code, the offset of the instruction it is at, its line and its module."""

    code: CodeType
    lasti: int
    line: int
    module: str


def stacks_work() -> bool:
    """Return whether another thread's stack can be read safely on this interpreter."""
    # A free-threaded build would hand out frames that are running.
    return hasattr(sys, "_current_frames") and not sysconfig.get_config_var("Py_GIL_DISABLED")


def sample_stack(ident: int, base_depth: int) -> tuple[Position, ...]:
    """Return the stack of thread `ident`, innermost first, without the frames that run the loop.

    `base_depth` is the number of outermost frames to leave out. Empty if the thread is not there.
    """
    frame = _frame_of(ident)
    positions = []
    while frame is not None:
        module = frame.f_globals.get("__name__")
        positions.append(
            Position(
                frame.f_code,
                frame.f_lasti,
                frame.f_lineno or frame.f_code.co_firstlineno,
                module if isinstance(module, str) else "",
            )
        )
        frame = frame.f_back
    kept = positions[: max(0, len(positions) - base_depth)]
    return tuple(kept[:MAX_FRAMES])


def _frame_of(ident: int) -> FrameType | None:
    if not _GUARD_GC:
        return sys._current_frames().get(ident)  # noqa: SLF001 - the one way to another stack
    with _GC_LOCK:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames().get(ident)  # noqa: SLF001
        finally:
            if collecting:
                gc.enable()


class FrameNamer:
    """Gives positions their names: dotted function, file relative to where it was imported from."""

    def __init__(self, is_in_app: Callable[[str], bool]) -> None:
        self._is_in_app = is_in_app
        roots = set(filter(os.path.isabs, sys.path))
        try:
            roots.add(str(Path.cwd()))
        except OSError:
            pass  # the working directory was deleted: absolute names then
        roots |= {os.path.realpath(root) for root in roots}
        self._roots = tuple(sorted((root + os.sep for root in roots), key=len, reverse=True))
        self._files: dict[str, tuple[str, bool]] = {}

    def name(self, position: Position) -> Frame:
        """Return the frame of a record."""
        code = position.code
        known = self._files.get(code.co_filename)
        if known is None:
            known = self._files[code.co_filename] = (
                self._short(code.co_filename),
                self._is_in_app(code.co_filename),
            )
        file, in_app = known
        function = f"{position.module}.{code.co_qualname}" if position.module else code.co_qualname
        return Frame(function, file, position.line, in_app)

    def _short(self, file: str) -> str:
        for root in self._roots:
            if file.startswith(root):
                return file[len(root) :]
        return file


def read_task(loop: AbstractEventLoop) -> TaskInfo | None:
    """Return the task that runs on `loop` now, from any thread; `None` in a plain callback."""
    task = asyncio.current_task(loop)
    if task is None:
        return None
    coro: Any = task.get_coro()
    name = getattr(coro, "__qualname__", None) or type(coro).__name__
    frame = getattr(coro, "cr_frame", None)
    module = frame.f_globals.get("__name__") if frame is not None else None
    return TaskInfo(task.get_name(), f"{module}.{name}" if isinstance(module, str) else name)


def source_line(file: str, line: int) -> str | None:
    """Return the text of a line of source, stripped; `None` if it cannot be read."""
    return linecache.getline(file, line).strip() or None
