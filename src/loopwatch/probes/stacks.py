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
from loopwatch.probes.callees import callee_at, is_known, make_known, public_name
from loopwatch.probes.variables import variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = [
    "MAX_FRAMES",
    "WRAPPERS",
    "Capture",
    "FrameNamer",
    "Position",
    "Stack",
    "source_line",
    "stacks_work",
    "task_info",
    "wrapped",
]

# Innermost frames kept of a stack; deeper recursion repeats itself.
MAX_FRAMES: Final = 128

_OWN_PROBES: Final = ("loopwatch.probes.", "loopwatch.sensors.")

# Before 3.11.9 a collection inside _current_frames could deadlock (cpython #106883). The lock
# keeps two watchdogs from switching the collector on under each other.
_GUARD_GC: Final = sys.version_info < (3, 11, 9)
_GC_LOCK: Final = threading.Lock()


class Position(NamedTuple):
    """One frame: its code, the offset of the instruction it is at, its line and its module.

    The offset is -1 where only the line is known.
    """

    code: CodeType
    lasti: int
    line: int
    module: str


def stacks_work() -> bool:
    """Return whether another thread's stack can be read safely on this interpreter."""
    # A free-threaded build would hand out frames that are running.
    return hasattr(sys, "_current_frames") and not sysconfig.get_config_var("Py_GIL_DISABLED")


class Stack(NamedTuple):
    """The stack of a thread, innermost first, and what two of its frames are calling.

    `call` is what the innermost frame of the host's code calls, `last_call` what the innermost
    frame of all calls: a C function has no frame of its own.
    """

    positions: tuple[Position, ...]
    call: str | None = None
    last_call: str | None = None


class Capture:
    """Frames as they stood at one moment; short-lived, as they keep the host's locals alive.

    Taking it never gives the GIL away, so nothing moves meanwhile. Naming what the frames call
    may read source files, and by then they may have moved on.
    """

    def __init__(self, ident: int, base_depth: int) -> None:
        """Take the stack of thread `ident` without its `base_depth` outermost frames."""
        self._ident = ident
        self._base_depth = base_depth
        frames = []
        frame = _frame_of(ident)
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        kept = frames[: max(0, len(frames) - base_depth)]
        # A collection runs our callback, and there the GIL can be had: it is not what goes on, but
        # what called the collector is a C call in progress.
        depth = len(kept)
        while kept and _module(kept[0]).startswith(_OWN_PROBES):
            del kept[0]
        self.inside_call = len(kept) < depth
        self._frames = kept[:MAX_FRAMES]
        self.positions = tuple(_position(frame) for frame in self._frames)

    def stack(self, is_in_app: Callable[[CodeType, str], bool]) -> Stack:
        """Return the stack with the names of what is called, and let go of the frames.

        Source files are read without the frames: the host's locals must not wait for a disk, and
        must not be the watchdog's to finalize because everybody else has let go meanwhile.
        """
        positions = self.positions
        blamed = next((n for n, p in enumerate(positions) if is_in_app(p.code, p.module)), None)
        wanted = {0, blamed or 0} if positions else set()
        calls = self._calls(sorted(wanted))
        call = calls.get(blamed) if blamed is not None else None
        if blamed and call is None:
            # It called something that has a frame: that one's name will do.
            inner = positions[blamed - 1]
            call = public_name(inner.module, inner.code.co_qualname)
        return Stack(positions, call, calls.get(0))

    def _calls(self, numbers: list[int]) -> dict[int, str | None]:
        """Return what these frames are calling; nothing of those that have moved on."""
        frames, self._frames = self._frames, []
        places = [(n, self.positions[n].code, self.positions[n].lasti) for n in numbers]
        if not all(is_known(code, lasti) for _, code, lasti in places):
            frames.clear()
            for _, code, lasti in places:
                make_known(code, lasti)
            again = Capture(self._ident, self._base_depth)
            if len(again.positions) != len(self.positions):
                return {}
            places = [row for row in places if again.positions[row[0]] == self.positions[row[0]]]
            frames = again._frames
        return {n: callee_at(frames[n], lasti) for n, _, lasti in places}


def _position(frame: FrameType) -> Position:
    return Position(
        frame.f_code, frame.f_lasti, frame.f_lineno or frame.f_code.co_firstlineno, _module(frame)
    )


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if isinstance(name, str) else ""


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

    def __init__(self, is_in_app: Callable[[str, str], bool]) -> None:
        self._rule = is_in_app
        roots = set(filter(os.path.isabs, sys.path))
        try:
            roots.add(str(Path.cwd()))
        except OSError:
            pass  # the working directory was deleted: absolute names then
        roots |= {os.path.realpath(root) for root in roots}
        self._roots = tuple(sorted((root + os.sep for root in roots), key=len, reverse=True))
        self._files: dict[tuple[str, str], tuple[str, bool]] = {}

    def name(self, position: Position) -> Frame:
        """Return the frame of a record."""
        code = position.code
        file, in_app = self._known(code.co_filename, position.module)
        function = f"{position.module}.{code.co_qualname}" if position.module else code.co_qualname
        return Frame(function, file, position.line, in_app)

    def is_in_app(self, code: CodeType, module: str) -> bool:
        """Return whether this is the host's code."""
        return self._known(code.co_filename, module)[1]

    def _known(self, file: str, module: str) -> tuple[str, bool]:
        known = self._files.get((file, module))
        if known is None:
            known = self._files[file, module] = (self._short(file), self._rule(file, module))
        return known

    def _short(self, file: str) -> str:
        for root in self._roots:
            if file.startswith(root):
                return file[len(root) :]
        return file


# Functions that only wrap a coroutine, in their variable `coro`: opentelemetry-instrumentation-
# asyncio's and aiomonitor's.
WRAPPERS: Final = frozenset({"trace_coroutine", "_coro_wrapper"})


def task_info(task: asyncio.Task[Any]) -> TaskInfo:
    """Return the name of a task and the function of its coroutine, unwrapped. Any thread."""
    coro: Any = task.get_coro()
    module, name = _coroutine(coro)
    for _ in range(8):
        inner = wrapped(coro, name)
        if inner is None:
            break
        coro = inner
        module, name = _coroutine(coro)
    return TaskInfo(task.get_name(), f"{module}.{name}" if module else name)


def _coroutine(coro: Any) -> tuple[str, str]:
    name = getattr(coro, "__qualname__", None) or type(coro).__name__
    frame = getattr(coro, "cr_frame", None)
    return _module(frame) if frame is not None else "", name


def wrapped(coro: Any, name: str) -> Any:
    """Return the coroutine inside one that only wraps it; `None` if this one is the host's own."""
    frame = getattr(coro, "cr_frame", None)
    if frame is None or name.rpartition(".")[2] not in WRAPPERS:
        return None
    inner = variable(frame, "coro")
    return inner if asyncio.iscoroutine(inner) else None


def source_line(file: str, line: int) -> str | None:
    """Return the text of a line of source, stripped; `None` if it cannot be read."""
    return linecache.getline(file, line).strip() or None
