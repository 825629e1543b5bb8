"""Which function a frame is calling, by the name it has in its own module.

`nap = time.sleep; nap(1)` is `time.sleep`, `self.db.execute(…)` is `sqlite3.Connection.execute`.
Names are followed through variables and attributes without running any code of the host: no
property, no `__getattr__`, no `__repr__`. Only names come out; every object is let go at once.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial
from types import (
    BuiltinFunctionType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import TYPE_CHECKING, Any, Final

from loopwatch.probes.expressions import Expression, at_instruction, on_line
from loopwatch.probes.variables import UNKNOWN, module_variable, variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

__all__ = ["callee_at", "callee_on_line", "public_name"]

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
    if module == "builtins" or (module in {"io", "_io"} and qualname == "open"):
        return qualname
    known = _KNOWN_AS.get(module) or _KNOWN_AS.get(f"{module}.{qualname}")
    if known is not None:
        return known if known.count(".") else f"{known}.{qualname}"
    first, _, rest = qualname.partition(".")
    home = sys.modules.get(module)
    thing = _static(home, first) if home is not None else UNKNOWN
    if thing is UNKNOWN:
        return f"{module}.{qualname}"
    parts = module.split(".")
    shorter = [".".join(parts[:length]) for length in range(1, len(parts))]
    if module.startswith("_"):
        shorter.insert(0, module.lstrip("_"))
    for candidate in shorter:
        if _static(sys.modules.get(candidate), first) is thing:
            return f"{candidate}.{first}" + (f".{rest}" if rest else "")
    return f"{module}.{qualname}"


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
    return _follow(owner, path, root if isinstance(owner, ModuleType) else None)


def _name_of_result(expression: Expression, lookup: Callable[[str], Any]) -> str | None:
    """Return the name of an attribute of what a call returned; of a function: `open().read`."""
    assert expression.of is not None  # noqa: S101 - the caller has looked
    made = _object(expression.of, lookup)
    if isinstance(made, type):
        return _follow_type(made, expression.names)
    maker = _name(expression.of, lookup)
    return f"{maker}().{'.'.join(expression.names)}" if maker is not None else None


def _object(expression: Expression, lookup: Callable[[str], Any]) -> Any:
    if expression.of is not None or expression.imports:
        return UNKNOWN
    root, *path = expression.names
    thing = lookup(root)
    for name in path:
        thing = _value(thing, name)
    return thing


def _follow(owner: Any, path: list[str], module_name: str | None) -> str | None:
    """Return the name of what `path` leads to from `owner`."""
    if not path:
        return _name_of(owner)
    for name in path[:-1]:
        owner = _value(owner, name)
        if owner is UNKNOWN:
            return None
    last = path[-1]
    if isinstance(owner, ModuleType):
        thing = _static(owner, last)
        if thing is UNKNOWN:
            return None
        # As it is written, if the module is where users take it from: os.system, not posix.system.
        written = f"{owner.__name__}.{last}"
        if module_name is None or isinstance(thing, (FunctionType, type)):
            return _name_of(thing) or written
        return _known_as(written)
    if isinstance(owner, type):
        return _follow_type(owner, (last,))
    stored = vars(owner).get(last, UNKNOWN) if _has_plain_dict(owner) else UNKNOWN
    if stored is not UNKNOWN:
        return _name_of(stored)
    return _follow_type(type(owner), (last,))


def _follow_type(kind: type, path: tuple[str, ...]) -> str | None:
    if len(path) != 1:
        return None
    name = path[0]
    for base in _mro(kind):
        if name in vars(base):
            found = vars(base)[name]
            if isinstance(found, (staticmethod, classmethod)):
                found = found.__func__
            if isinstance(found, FunctionType):
                return _name_of(found)
            if isinstance(found, property):
                return None
            # A C method: of the class that people know, not of the base where C keeps it.
            holder = next((k for k in _mro(kind) if k.__module__ not in _OWN_CODE), base)
            return f"{_name_of(holder)}.{name}"
    return None


# Classes of a script or a test are nobody's library: a C method in one is its base's.
_OWN_CODE: Final = frozenset({"__main__"})


def _name_of(thing: Any) -> str | None:
    if isinstance(thing, partial):
        return _name_of(thing.func)
    if isinstance(thing, MethodType):
        return _name_of(thing.__func__)
    if isinstance(thing, (FunctionType, type)):
        return public_name(str(thing.__module__), thing.__qualname__)
    if isinstance(thing, BuiltinFunctionType):
        owner = thing.__self__
        if owner is None or isinstance(owner, ModuleType):
            return public_name(
                str(thing.__module__ or getattr(owner, "__name__", "")), thing.__name__
            )
        kind = owner if isinstance(owner, type) else type(owner)
        return _follow_type(kind, (thing.__name__,))
    if isinstance(thing, ModuleType):
        return None
    return _follow_type(type(thing), ("__call__",)) if callable(thing) else None


def _known_as(name: str) -> str:
    module, _, rest = name.rpartition(".")
    return f"{_KNOWN_AS.get(module, module)}.{rest}" if module != "builtins" else rest


def _value(thing: Any, name: str) -> Any:
    """Return an attribute that is simply stored; `UNKNOWN` where code would have to run."""
    if thing is UNKNOWN:
        return UNKNOWN
    found = _static(thing, name)
    if isinstance(found, MemberDescriptorType) and not isinstance(thing, type):
        try:
            return found.__get__(thing, type(thing))  # a slot: C code that returns a pointer
        except AttributeError:
            return UNKNOWN
    if isinstance(found, (property, staticmethod, classmethod)):
        return UNKNOWN
    return found


def _static(thing: Any, name: str) -> Any:
    if thing is None:
        return UNKNOWN
    try:
        return inspect.getattr_static(thing, name, UNKNOWN)
    except Exception:  # noqa: BLE001 - a metaclass of the host's own
        return UNKNOWN


def _mro(kind: type) -> tuple[type, ...]:
    return type.__dict__["__mro__"].__get__(kind)  # type: ignore[no-any-return]


def _has_plain_dict(thing: Any) -> bool:
    # vars() runs a property called __dict__, if a class has one.
    return (
        not any(isinstance(vars(base).get("__dict__"), property) for base in _mro(type(thing)))
        and hasattr(type(thing), "__dictoffset__")
        and type(thing).__dictoffset__ != 0
    )
