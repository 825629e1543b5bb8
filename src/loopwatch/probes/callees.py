"""Which function a frame is calling, by the name it has in its own module.

`nap = time.sleep; nap(1)` is `time.sleep`, `self.db.execute(…)` is `sqlite3.Connection.execute`.
Names are followed through variables and attributes without running any code of the host: no
property, no `__getattr__`, no `__repr__`. Only names come out; every object is let go at once.
"""

from __future__ import annotations

import sys
from functools import partial
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final

from loopwatch.probes.attributes import (
    UNKNOWN,
    attribute,
    is_a,
    module_and_name,
    mro,
    names_of_class,
    stored,
)
from loopwatch.probes.expressions import Expression, at_instruction, on_line
from loopwatch.probes.variables import module_variable, variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["callee_at", "callee_on_line", "is_known", "make_known", "public_name"]

# Types that Python has under no name that would say what they are.
_KNOWN_AS: Final = {
    "_thread.lock": "threading.Lock",
    "_thread.RLock": "threading.RLock",
    "_hashlib.HASH": "hashlib.HASH",
    "posix": "os",
    "nt": "os",
}
_CACHED: Final = 512
_CACHE: Final[dict[tuple[CodeType, int], Expression | None]] = {}


def callee_at(frame: FrameType, lasti: int) -> str | None:
    """Return what a frame calls in the instruction at `lasti`; `None` if that cannot be told."""
    expression = _expression(frame.f_code, lasti)
    if expression is None:
        return None
    return _name(expression, lambda name: variable(frame, name))


def callee_on_line(code: CodeType, line: int, module_globals: dict[str, Any]) -> str | None:
    """Return what is called on a line, where only the line is known; `None` unless it is one."""
    names = {
        _name(expression, lambda name: _global(code, module_globals, name))
        for expression in on_line(code, line)
    }
    return names.pop() if len(names) == 1 else None


def public_name(module: str, qualname: str) -> str:
    """Return the shortest name under which a function can be imported: `requests.get`."""
    qualname = qualname.replace(".<locals>", "")
    if module in {"builtins", ""} or (module in {"io", "_io"} and qualname == "open"):
        return qualname
    known = _KNOWN_AS.get(module) or _KNOWN_AS.get(f"{module}.{qualname}")
    if known is not None:
        return known if known.count(".") else f"{known}.{qualname}"
    first, _, rest = qualname.partition(".")
    home = sys.modules.get(module)
    thing = attribute(home, first)
    if thing is UNKNOWN:
        return f"{module}.{qualname}"
    parts = module.split(".")
    shorter = [".".join(parts[:length]) for length in range(1, len(parts))]
    if module.startswith("_"):
        shorter.insert(0, module.lstrip("_"))
    for candidate in shorter:
        if attribute(sys.modules.get(candidate), first) is thing:
            return f"{candidate}.{first}" + (f".{rest}" if rest else "")
    return f"{module}.{qualname}"


def is_known(code: CodeType, lasti: int) -> bool:
    """Return whether `callee_at` can answer for this instruction without reading a file."""
    return (code, lasti) in _CACHE


def make_known(code: CodeType, lasti: int) -> None:
    """Read what `callee_at` needs for this instruction; may read the source file."""
    _expression(code, lasti)


def _expression(code: CodeType, lasti: int) -> Expression | None:
    key = (code, lasti)
    if key not in _CACHE:
        if len(_CACHE) >= _CACHED:
            _CACHE.clear()
        _CACHE[key] = at_instruction(code, lasti)
    return _CACHE[key]


def _global(code: CodeType, module_globals: dict[str, Any], name: str) -> Any:
    if name in code.co_varnames or name in code.co_cellvars or name in code.co_freevars:
        return UNKNOWN
    return module_variable(module_globals, name)


def _name(expression: Expression, lookup: Callable[[str], Any]) -> str | None:
    if expression.imports:
        return f"import {expression.names[0]}"
    if expression.of is not None:
        return _name_of_result(expression, lookup)
    root, *path = expression.names
    if expression.method is not None:
        path.append(expression.method)
    owner = lookup(root)
    if owner is UNKNOWN:
        return None
    return _follow(owner, path, root if is_a(owner, ModuleType) else None)


def _name_of_result(expression: Expression, lookup: Callable[[str], Any]) -> str | None:
    """Return the name of an attribute of what a call returned; of a function: `open().read`."""
    assert expression.of is not None  # noqa: S101 - the caller has looked
    made = _object(expression.of, lookup)
    if is_a(made, type):
        return _follow_type(made, expression.names)
    maker = _name(expression.of, lookup)
    return f"{maker}().{'.'.join(expression.names)}" if maker is not None else None


def _object(expression: Expression, lookup: Callable[[str], Any]) -> Any:
    if expression.of is not None or expression.imports:
        return UNKNOWN
    root, *path = expression.names
    thing = lookup(root)
    for name in path:
        thing = attribute(thing, name)
    return thing


def _follow(owner: Any, path: list[str], module_name: str | None) -> str | None:
    """Return the name of what `path` leads to from `owner`."""
    if not path:
        return _name_of(owner)
    for name in path[:-1]:
        owner = attribute(owner, name)
        if owner is UNKNOWN:
            return None
    last = path[-1]
    if is_a(owner, type):
        return _follow_type(owner, (last,))
    thing = stored(owner, last)
    if is_a(owner, ModuleType):
        home = stored(owner, "__name__")
        if thing is UNKNOWN or type(home) is not str:
            return None
        # As it is written, if the module is where users take it from: os.system, not posix.system.
        written = f"{home}.{last}"
        if module_name is None or is_a(thing, FunctionType, type):
            return _name_of(thing) or written
        return _known_as(written)
    if thing is not UNKNOWN:
        return _name_of(thing)
    return _follow_type(type(owner), (last,))


def _follow_type(kind: type, path: tuple[str, ...]) -> str | None:
    if len(path) != 1:
        return None
    name = path[0]
    for base in mro(kind):
        names = names_of_class(base)
        if name in names:
            found = names[name]
            if is_a(found, staticmethod, classmethod):
                found = _INNER[is_a(found, staticmethod)].__get__(found)
            if is_a(found, FunctionType, BuiltinFunctionType, type):
                return _name_of(found)
            if is_a(found, property):
                return None
            # A C method: of the class that people know, not of the base where C keeps it.
            holder = next((k for k in mro(kind) if module_and_name(k)[0] not in _OWN_CODE), base)
            return f"{_name_of(holder)}.{name}"
    return None


_INNER: Final[tuple[Any, Any]] = (
    classmethod.__dict__["__func__"],
    staticmethod.__dict__["__func__"],
)
# Classes of a script or a test are nobody's library: a C method in one is its base's.
_OWN_CODE: Final = frozenset({"__main__"})


def _name_of(thing: Any, depth: int = 0) -> str | None:
    if is_a(thing, partial):
        return _name_of(_PARTIAL_OF.__get__(thing))
    if is_a(thing, MethodType):
        return _name_of(thing.__func__)
    if is_a(thing, type):
        return public_name(*module_and_name(thing))
    if is_a(thing, FunctionType):
        return public_name(_text(thing.__module__), thing.__qualname__)
    if is_a(thing, BuiltinFunctionType):
        owner = thing.__self__
        if owner is None or is_a(owner, ModuleType):
            home = thing.__module__ or stored(owner, "__name__")
            return public_name(_text(home), thing.__name__)
        kind = owner if is_a(owner, type) else type(owner)
        return _follow_type(kind, (thing.__name__,))
    if is_a(thing, ModuleType) or not callable(thing):
        return None
    wrapped = stored(thing, "__wrapped__")  # as functools.lru_cache keeps it
    if wrapped is not UNKNOWN and depth < _DEEPEST_WRAPPER:
        return _name_of(wrapped, depth + 1)
    return _follow_type(type(thing), ("__call__",))


_DEEPEST_WRAPPER: Final = 16
_PARTIAL_OF: Final[Any] = partial.__dict__["func"]


def _text(name: Any) -> str:
    return name if type(name) is str else ""


def _known_as(name: str) -> str:
    module, _, rest = name.rpartition(".")
    return f"{_KNOWN_AS.get(module, module)}.{rest}" if module != "builtins" else rest
