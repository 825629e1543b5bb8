"""From a file, a line and a name, which is all faulthandler tells, back to the function.

Modules are searched for the function whose code it is, nested ones and decorated ones included.
A frame of code that no module holds (`exec`, a deleted function) keeps its bare name.
"""

from __future__ import annotations

import re
import sys
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from loopwatch.probes.attributes import is_a, module_and_name, names_of_class
from loopwatch.probes.callees import callee_on_line, public_name
from loopwatch.probes.stacks import Position, Stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from loopwatch.probes.native_stacks import NativeFrame

__all__ = ["SourceMap"]

_ESCAPE: Final = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}")
_CACHED: Final = 1024
_STACKS_CACHED: Final = 32


class SourceMap:
    """Finds code by file, line and name; what was found once is remembered."""

    def __init__(self) -> None:
        self._positions: dict[NativeFrame, Position] = {}
        self._modules = 0
        self._homes: dict[object, str] = {}
        # The stacks of one call are alike.
        self._stacks: dict[tuple[NativeFrame, ...], Stack] = {}

    def stack(
        self, frames: tuple[NativeFrame, ...], is_in_app: Callable[[CodeType, str], bool]
    ) -> Stack:
        """Return the stack these frames are, and what its frames call where that is certain."""
        known = self._stacks.get(frames)
        if known is None:
            if len(self._stacks) >= _STACKS_CACHED:
                self._stacks.clear()
            known = self._stacks[frames] = self._stack(frames, is_in_app)
        return known

    def _stack(
        self, frames: tuple[NativeFrame, ...], is_in_app: Callable[[CodeType, str], bool]
    ) -> Stack:
        positions = tuple(self._position(frame) for frame in frames)
        blamed = next((n for n, p in enumerate(positions) if is_in_app(p.code, p.module)), None)
        last_call = _callee(positions[0]) if positions else None
        if not blamed:
            return Stack(positions, last_call if blamed == 0 else None, last_call)
        inner = positions[blamed - 1]
        call = _callee(positions[blamed]) or public_name(inner.module, inner.code.co_qualname)
        return Stack(positions, call, last_call)

    def _position(self, frame: NativeFrame) -> Position:
        known = self._positions.get(frame)
        if known is None:
            if len(self._positions) >= _CACHED:
                self._positions.clear()
            known = self._positions[frame] = self._find(frame)
        return known

    def _find(self, frame: NativeFrame) -> Position:
        file, function = _unescaped(frame.file), _unescaped(frame.name)
        home, module = self._home(file)
        if module is not None:
            for code in _codes(vars(module), home, file):
                if function in {code.co_name, code.co_qualname} and _spans(code, frame.line):
                    return Position(code, -1, frame.line, home)
        code = compile("", file, "exec").replace(co_name=function, co_qualname=function)
        return Position(code, -1, frame.line, home)

    def _home(self, file: str) -> tuple[str, ModuleType | None]:
        """Return the module that was loaded from a file; all files are looked up at once."""
        modules = sys.modules
        if len(modules) != self._modules:
            self._modules = len(modules)
            self._homes = {
                # A module is a plain object here; lazy ones and stand-ins have nothing of interest.
                vars(module).get("__file__"): name
                for name, module in list(modules.items())
                if type(module) is ModuleType
            }
        name = self._homes.get(file, "")
        module = modules.get(name)
        return name, module if type(module) is ModuleType else None


def _callee(position: Position) -> str | None:
    module = sys.modules.get(position.module)
    if module is None:
        return None
    return callee_on_line(position.code, position.line, vars(module))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: match[0].encode().decode("unicode_escape"), text)


def _codes(names: dict[str, Any], module: str, file: str) -> Iterator[CodeType]:
    """Yield all code of a file that can be reached from a module's or a class's names."""
    seen: set[int] = set()
    todo: list[Any] = list(names.values())
    while todo:
        thing = todo.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if type(thing) is CodeType:
            if thing.co_filename == file:
                yield thing
                todo += [const for const in thing.co_consts if type(const) is CodeType]
        elif type(thing) is FunctionType:
            todo.append(thing.__code__)
            # What a decorator has wrapped.
            todo += [cell.cell_contents for cell in thing.__closure__ or () if _filled(cell)]
        elif is_a(thing, type):
            if module_and_name(thing)[0] == module:
                todo += list(names_of_class(thing).values())
        elif type(thing) in (staticmethod, classmethod):
            todo.append(thing.__func__)
        elif type(thing) is property:
            todo += [thing.fget, thing.fset]


def _filled(cell: Any) -> bool:
    try:
        return type(cell.cell_contents) in (FunctionType, type, staticmethod, classmethod)
    except ValueError:
        return False


def _spans(code: CodeType, line: int) -> bool:
    lines = [at for _, _, at in code.co_lines() if at is not None]
    return bool(lines) and min(lines) <= line <= max(lines)
