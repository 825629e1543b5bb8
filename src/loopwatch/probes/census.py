"""What pending tasks run and where they wait: read in slices, without running code of the host.

A task is put in a group by the function of its coroutine, by the innermost line of its chain of
`await`s (the host's own where there is one), and by the line that made it, if that is known. Only
code objects and offsets of instructions are kept; names come at the end, once for each group.

Reading a frame makes its frame object, about 100 bytes that stay with the coroutine until it
ends. Hence one frame a task is read, that of the line it is put under.

Nothing private is used here; `awaits` reads the coroutines.
"""

from __future__ import annotations

import asyncio
import sys
import time
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch.model import Location
from loopwatch.probes.awaits import code_of, foreign_name, frame_of, has_begun, step
from loopwatch.probes.stacks import WRAPPERS, FrameNamer, Position, wrapped
from loopwatch.probes.task_sites import site_of
from loopwatch.probes.tasks import is_done, loop_of

if TYPE_CHECKING:
    import weakref
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from types import CodeType

    from loopwatch.probes.tasks import Listed

__all__ = ["Group", "Groups", "TaskReader", "Walk", "group_of"]

# Coroutines looked at of one task: recursion deeper than that repeats itself.
_DEPTH: Final = 32
# Kinds of places kept of one walk. An app has dozens; beyond, only a number.
_KINDS: Final = 128
# Code objects and names remembered: an app that makes code as it runs must not fill the memory.
_REMEMBERED: Final = 4096
# References kept of each group, to see which of its tasks are still there next time.
_KEPT: Final = 4
# Tasks between two looks at the clock.
_STRIDE: Final = 16
_LONGEST_NAME: Final = 200

# As `is_done`: of the C type, whatever a subclass of the host makes of it.
_coro_of: Final[Any] = asyncio.Task.get_coro


class Group(NamedTuple):
    """What tasks have in common: their coroutine, where they wait, and which line made them."""

    coro: str
    waits_at: Location | None
    created_at: Location | None


class Groups(NamedTuple):
    """What a walk found: `tasks` pending ones of this loop, `looked_at` of them and their groups.

    Not `complete`, the number of tasks is an estimate as of when they were listed.

    `born_ns` is the earliest birth of a task of the group that was looked at, where births are
    known. `references` are some tasks of each group.
    """

    tasks: int
    looked_at: int
    complete: bool
    counts: dict[Group, int]
    born_ns: dict[Group, int]
    references: dict[Group, list[weakref.ref[Any]]]


class _Code:
    """What is known of a code object. Equal to itself only: hashing code hashes its constants."""

    __slots__ = ("code", "in_app", "lines", "module", "wraps")

    def __init__(self, code: CodeType, module: str, *, in_app: bool) -> None:
        self.code = code
        self.module = module
        self.in_app = in_app
        self.wraps = code.co_name in WRAPPERS
        self.lines: dict[int, int] = {}


# The name of a coroutine, its code, the code it waits in, the instruction; and of the line that
# made the task.
_Key = tuple[str, _Code | str, _Code | None, int, Any, int]


class TaskReader:
    """Says where tasks of one loop are. Any thread: what it remembers is only ever added to."""

    def __init__(
        self, loop: AbstractEventLoop, namer: FrameNamer, *, with_sites: bool = False
    ) -> None:
        self.loop = loop
        self._with_sites = with_sites
        self._namer = namer
        self._codes: dict[int, _Code] = {}
        self._groups: dict[_Key, Group] = {}

    def read(self, task: Any) -> tuple[_Key, int | None] | None:
        """Return where a task is and when it was made; `None` if it is none of this loop's.

        `task` is the only reference that this keeps while it reads: as long as the caller has it
        no coroutine can lose its last reference here.
        """
        try:
            if is_done(task) or loop_of(task) is not self.loop:
                return None
            coro = _coro_of(task)
        except TypeError:
            return None  # a task class of somebody's own, not made from asyncio's
        if coro is None:
            return None
        name, outer, coro = self._outermost(coro)
        inner, lasti = self._waits_at(*self._innermost(coro))
        site = site_of(task) if self._with_sites else None
        if site is None:
            return (name, outer, inner, lasti, None, 0), None
        return (name, outer, inner, lasti, site.origin, site.lasti), site.born_ns

    def group(self, key: _Key) -> Group:
        """Return the group of a place, with its names."""
        group = self._groups.get(key)
        if group is None:
            if len(self._groups) >= _REMEMBERED:
                self._groups.clear()
            group = self._groups[key] = self._named(key)
        return group

    def _named(self, key: _Key) -> Group:
        name, outer, inner, lasti, origin, made_lasti = key
        module = outer if isinstance(outer, str) else outer.module
        waits_at = made_at = None
        if inner is not None:
            waits_at = self._location(inner.code, inner.module, lasti, inner.lines.get(lasti))
        if origin is not None:
            made_at = self._location(origin.code, origin.module, made_lasti, None)
        return Group(_plain(f"{module}.{name}" if module else name), waits_at, made_at)

    def _location(self, code: CodeType, module: str, lasti: int, line: int | None) -> Location:
        at = _line_of(code, lasti) if line is None else line
        frame = self._namer.name(Position(code, lasti, at, module))
        return Location(_plain(frame.function), _plain(frame.file), frame.line)

    def _outermost(self, coro: Any) -> tuple[str, _Code | str, Any]:
        """Return name and code of the coroutine, inside of those that only wrap it, and itself."""
        for _ in range(_DEPTH):
            known = self._codes.get(id(code_of(coro))) or self._learn(coro)
            if known is None:
                break
            name = coro.__qualname__
            if type(name) is not str:
                name = str.__str__(name)  # a subclass may hash and print itself
            inner = wrapped(coro, name) if known.wraps else None
            if inner is None:
                return name, known, coro
            coro = inner
        module, name = foreign_name(coro)
        return name, module, coro

    def _innermost(self, coro: Any) -> tuple[Any, _Code | None]:
        """Return the innermost coroutine of its chain of `await`s, the host's own if there is one.

        A generator will do, too.
        """
        known_of = self._codes.get
        blamed: Any = None
        where: _Code | None = None
        code: CodeType | None
        for _ in range(_DEPTH):
            # Most are coroutines, and of these there are many: no call that can be done without.
            if type(coro) is CoroutineType:
                code, inner = coro.cr_code, coro.cr_await if coro.cr_suspended else None
            else:
                code, inner = step(coro)
            if code is not None:
                known = known_of(id(code)) or self._learn(coro)
                if known is None:
                    break
                if where is None or known.in_app or not where.in_app:
                    blamed, where = coro, known
            if inner is None:
                break
            coro = inner
        return blamed, where

    @staticmethod
    def _waits_at(coro: Any, where: _Code | None) -> tuple[_Code | None, int]:
        """Return the instruction at which a coroutine waits; none before its first step."""
        frame = frame_of(coro)
        if where is None or frame is None or not has_begun(coro, frame):
            return None, 0
        lasti = frame.f_lasti
        if lasti not in where.lines:
            where.lines[lasti] = frame.f_lineno or where.code.co_firstlineno
        return where, lasti

    def _learn(self, coro: Any) -> _Code | None:
        """Look at a code object for the first time; `None` if there is none, or no frame left."""
        frame = frame_of(coro)
        if frame is None:
            return None
        code = frame.f_code
        module = dict.get(frame.f_globals, "__name__")
        module = module if type(module) is str else ""
        if len(self._codes) >= _REMEMBERED:
            self._codes.clear()
        known = _Code(code, module, in_app=self._namer.is_in_app(code, module))
        self._codes[id(code)] = known
        return known


class Walk:
    """A walk through tasks, to be gone on with until it has seen all. One thread."""

    def __init__(self, reader: TaskReader, listed: Listed, keep: Callable[[object], None]) -> None:
        """Walk through these; a task that nobody else has any more is given to `keep`."""
        self._reader = reader
        self._references, self._known, self._complete = listed
        self._listed = len(self._references)
        self._keep = keep
        self._looked_at = 0
        self._counts: dict[_Key, int] = {}
        self._born_ns: dict[_Key, int] = {}
        self._kept: dict[_Key, list[weakref.ref[Any]]] = {}

    def go_on(self, budget_ns: int) -> bool:
        """Look at tasks for so much CPU time of this thread; return whether all have been seen."""
        until_ns = time.thread_time_ns() + budget_ns
        while self._references:
            # From the end, and out of the list: nothing is left to be freed in one go.
            for reference in self._references[-_STRIDE:]:
                self._look(reference)
            del self._references[-_STRIDE:]
            if time.thread_time_ns() >= until_ns:
                break
        return not self._references

    def _look(self, reference: weakref.ref[Any]) -> None:
        found = _read(self._reader, reference, self._keep)
        if found is None:
            return
        self._looked_at += 1
        key, born_ns = found
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= _KINDS:
                return
            count = 0
            self._kept[key] = []
        self._counts[key] = count + 1
        if count < _KEPT:
            self._kept[key].append(reference)
        if born_ns is not None and born_ns < self._born_ns.get(key, born_ns + 1):
            self._born_ns[key] = born_ns

    def groups(self) -> Groups:
        """Return what was found so far."""
        counts: dict[Group, int] = {}
        born_ns: dict[Group, int] = {}
        kept: dict[Group, list[weakref.ref[Any]]] = {}
        for key, count in self._counts.items():
            group = self._reader.group(key)
            counts[group] = counts.get(group, 0) + count
            kept.setdefault(group, []).extend(self._kept[key])
            if key in self._born_ns:
                born_ns[group] = min(self._born_ns[key], born_ns.get(group, self._born_ns[key]))
        tasks = self._looked_at
        if self._listed:
            tasks = round(tasks * max(1.0, self._known / self._listed))
        return Groups(tasks, self._looked_at, self._complete, counts, born_ns, kept)


def group_of(
    reader: TaskReader, reference: weakref.ref[Any], keep: Callable[[object], None]
) -> Group | None:
    """Return the group that a task is in now; `None` if it has ended."""
    found = _read(reader, reference, keep)
    return reader.group(found[0]) if found is not None else None


def _read(
    reader: TaskReader, reference: weakref.ref[Any], keep: Callable[[object], None]
) -> tuple[_Key, int | None] | None:
    """Read a task, and give it to `keep` if nobody else has it any more."""
    task = reference()
    if task is None:
        return None
    found = reader.read(task)
    # Whoever drops a pending task last runs the `finally` blocks of its coroutine, and that is not
    # ours to do. What remains is the moment between this line and the end of the function.
    if sys.getrefcount(task) <= _ALONE:
        keep(task)
    return found


def _alone() -> int:
    thing = object()
    return sys.getrefcount(thing)


# What a function counts of an object that it alone has; interpreters differ in what they borrow.
_ALONE: Final = _alone()


def _line_of(code: CodeType, lasti: int) -> int:
    for start, end, line in code.co_lines():
        if start <= lasti < end and line is not None:
            return line
    return code.co_firstlineno


def _plain(text: str) -> str:
    """Return a name that fits into one line of any log, whatever the host called it."""
    if len(text) > _LONGEST_NAME:
        text = text[: _LONGEST_NAME - 1] + "…"
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
