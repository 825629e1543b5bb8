"""Which line made a task, and when: a task factory around whatever factory the loop has.

Opt-in (`task_sites`): it costs the loop about a microsecond a task. For each task it keeps the
code object and the instruction of one frame of the host, and the moment, on a weak reference in a
set. The set's own `discard` is the reference's callback, so that no Python code of ours runs when
a task dies, nor while the interpreter shuts down. No task, frame or local is kept alive.

The line is that of the innermost frame of the host's own code, so that `gather`, `TaskGroup` and
`wait_for` count for the line that called them; of a library's, if there is none before the loop.

Uses public API only (`set_task_factory`, `sys._getframe`), checked on CPython 3.11 to 3.15 and
uvloop 0.19 to 0.23. A loop without task factories does without.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
import os
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from loopwatch.clock import monotonic_ns

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["Site", "TaskSites", "site_of"]

# Frames looked at to find one of the host's.
_DEPTH: Final = 16
# Code objects remembered: an app that makes code as it runs must not fill the memory.
_REMEMBERED: Final = 4096
# References let go of between two chances for others to have the GIL.
_AT_ONCE: Final = 1000

_ASYNCIO: Final = str(Path(asyncio.__file__).parent) + os.sep
# Below these there is only the loop: whoever started it has not made this task.
_CREATE_TASK: Final = str(Path(_ASYNCIO) / "base_events.py")
_LOOP: Final = frozenset(str(Path(_ASYNCIO) / name) for name in ("events.py", "runners.py"))


class Origin:
    """A function that makes tasks, and whose it is."""

    __slots__ = ("code", "in_app", "is_loop", "module")

    def __init__(self, code: CodeType, module: str, *, in_app: bool, is_loop: bool) -> None:
        self.code = code
        self.module = module
        self.in_app = in_app
        self.is_loop = is_loop


class Site(weakref.ref[Any]):
    """A reference to a task with the place and the moment (monotonic ns) of its birth."""

    __slots__ = ("born_ns", "lasti", "origin")

    origin: Origin | None
    lasti: int
    born_ns: int

    # A weak reference hashes what it refers to, and a task class may have code for that.
    __hash__ = object.__hash__


def site_of(task: Any) -> Site | None:
    """Return where and when a task was made, if it was seen."""
    for reference in weakref.getweakrefs(task):
        if type(reference) is Site:
            return reference
    return None


def _leave_out_ourselves(task: Any) -> None:
    """Take our frame out of what asyncio's debug mode tells, and its own as it would without us."""
    traceback = task._source_traceback  # noqa: SLF001 - as asyncio does with its own frame
    if traceback[-1].filename == __file__:
        del traceback[-1]
    if traceback and traceback[-1].filename == _CREATE_TASK:
        del traceback[-1]


class TaskSites:
    """The factory of one loop. `start` and `stop` it; `references` are its tasks that live."""

    def __init__(self, loop: AbstractEventLoop, is_in_app: Callable[[CodeType, str], bool]) -> None:
        self._loop = loop
        self._is_in_app = is_in_app
        self.references: set[Site] = set()
        # The type of what went wrong in the factory, which then only passes on.
        self.error: BaseException | None = None
        # Asked at each task. False: asyncio itself, whose caller counts.
        self._origins: dict[int, Origin | Literal[False]] = {}
        # Keeps the code alive whose ids are known.
        self._codes: list[CodeType] = []
        self._on = False
        self._running: list[CodeType] = []
        self._before: Any = None
        self._factory: Any = None

    def start(self, base_depth: int = 0) -> None:
        """Wrap the loop's factory. Raises what a loop raises that has none. Loop thread.

        The `base_depth` outermost frames are those that run the loop: they make no task.
        """
        self._note_who_runs_the_loop(base_depth)
        self._before = self._loop.get_task_factory()
        self._factory = self._make(self._before)
        self._on = True
        self._loop.set_task_factory(self._factory)

    def stop(self) -> None:
        """Put the factory back that was there, unless the host has set another. Any thread."""
        factory, self._factory = self._factory, None
        if factory is None:
            return
        # If the host's new factory calls ours, it passes on from now.
        self._on = False
        if self._loop.get_task_factory() is factory:
            self._loop.set_task_factory(self._before)
        references = self.references
        while references:
            # All at once, 300,000 of them would be 60 ms of the GIL.
            for _ in range(_AT_ONCE):
                try:
                    references.pop()
                except KeyError:
                    break
            time.sleep(0)

    def _note_who_runs_the_loop(self, base_depth: int) -> None:
        # uvloop has no frame of its own between those and a callback.
        frames = []
        frame: FrameType | None = sys._getframe()  # noqa: SLF001 - the way up from here
        while frame is not None:
            frames.append(frame)
            frame = frame.f_back
        self._running = [f.f_code for f in frames[max(0, len(frames) - base_depth) :]]

    def _make(self, before: Any) -> Any:  # noqa: C901 - a call more is a tenth of what it may cost
        # All that is looked up at each task is a local of the closure.
        own, learn, origin_of, depth = self, self._learn, self._origins.get, range(_DEPTH)
        add, discard, now_ns, tasks = (
            self.references.add,
            self.references.discard,
            monotonic_ns,
            asyncio.tasks,
        )
        frame_at = sys._getframe  # noqa: SLF001 - the one way to the caller's frame

        def make_task(loop: Any, coro: Any, **kwargs: Any) -> Any:  # noqa: C901 - as above
            if before is None:
                task = tasks.Task(coro, loop=loop, **kwargs)
                if task._source_traceback:  # type: ignore[attr-defined]  # noqa: SLF001 - see there
                    _leave_out_ourselves(task)
            else:
                task = before(loop, coro, **kwargs)
            if not own._on:
                return task
            try:
                origin: Origin | None = None
                lasti, frame = 0, frame_at(1)
                for _ in depth:
                    found = origin_of(id(frame.f_code))
                    if found is None:
                        found = learn(frame)
                    if found:
                        if found.in_app:
                            origin, lasti = found, frame.f_lasti
                            break
                        if found.is_loop:
                            break
                        if origin is None:
                            origin, lasti = found, frame.f_lasti
                    frame = frame.f_back  # type: ignore[assignment]
                    if frame is None:
                        break
                site = Site(task, discard)
                site.origin, site.lasti, site.born_ns = origin, lasti, now_ns()
                add(site)
            except Exception as error:  # noqa: BLE001 - the host's task is made all the same
                own._failed(error)
            return task

        return make_task

    def _learn(self, frame: FrameType) -> Origin | Literal[False]:
        """Look at a code object for the first time."""
        code = frame.f_code
        module = dict.get(frame.f_globals, "__name__")
        module = module if type(module) is str else ""
        file = code.co_filename
        found: Origin | Literal[False] = False
        if file in _LOOP or any(code is running for running in self._running):
            found = Origin(code, module, in_app=False, is_loop=True)
        elif not file.startswith(_ASYNCIO):
            in_app = self._is_in_app(code, module)
            found = Origin(code, module, in_app=in_app, is_loop=False)
        if len(self._codes) >= _REMEMBERED:
            self._origins.clear()
            self._codes.clear()
        self._codes.append(code)
        self._origins[id(code)] = found
        return found

    def _failed(self, error: Exception) -> None:
        if isinstance(error, TypeError):
            return  # what the host's factory made takes no weak reference
        self._on = False
        # Its frames would keep the host's locals.
        self.error = error.with_traceback(None)
