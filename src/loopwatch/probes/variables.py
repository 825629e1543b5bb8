"""One variable of a frame that is running in another thread, by name.

`frame.f_locals` would do on 3.13 and later. Before, it copies all locals into a dict that the
host may hold (`ns = locals()`) and that keeps them alive, so:

- CPython 3.12 and later: `PyFrame_GetVarString` of the C API.
- CPython 3.11: the slot is read from `_PyInterpreterFrame` in memory. That the layout is the known
  one is checked each time by the code object in it; if not, local variables are not known.

The caller looks at the type and lets the value go at once. Called with the GIL held, as all
Python code is, so the frame cannot move meanwhile. Other implementations: nothing is known.
"""

from __future__ import annotations

import builtins
import ctypes
import sys
from types import CellType
from typing import TYPE_CHECKING, Any, Final

from loopwatch.probes.attributes import UNKNOWN

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["UNKNOWN", "module_variable", "variable"]

# Offsets in CPython 3.11 on 64-bit machines: PyFrameObject.f_frame; in _PyInterpreterFrame f_code
# and localsplus.
_F_FRAME: Final = 24
_F_CODE: Final = 32
_LOCALSPLUS: Final = 72
_POINTER: Final = ctypes.sizeof(ctypes.c_void_p)


def variable(frame: FrameType, name: str) -> Any:
    """Return what `name` means in a frame, or `UNKNOWN`: a local, global or builtin."""
    code = frame.f_code
    if name in code.co_varnames or name in code.co_cellvars or name in code.co_freevars:
        return _local(frame, name)
    return module_variable(frame.f_globals, name)


def module_variable(module_globals: dict[str, Any], name: str) -> Any:
    """Return a global or builtin."""
    # Code may run in a subclass of dict, with methods of its own.
    return dict.get(module_globals, name, vars(builtins).get(name, UNKNOWN))


def _local(frame: FrameType, name: str) -> Any:
    if sys.implementation.name != "cpython":
        return UNKNOWN
    if sys.version_info >= (3, 12):
        return _from_c_api(frame, name)
    return _from_memory(frame, name)


def _from_c_api(frame: FrameType, name: str) -> Any:
    get = ctypes.pythonapi.PyFrame_GetVarString
    get.restype = ctypes.py_object
    get.argtypes = (ctypes.py_object, ctypes.c_char_p)
    try:
        return get(frame, name.encode())
    except NameError:
        return UNKNOWN  # not bound yet


def _from_memory(frame: FrameType, name: str) -> Any:
    code = frame.f_code
    index = _slots(code).index(name)
    interpreter_frame = _pointer_at(id(frame) + _F_FRAME)
    if _POINTER != 8 or not interpreter_frame:  # noqa: PLR2004 - bytes
        return UNKNOWN
    if _pointer_at(interpreter_frame + _F_CODE) != id(code):
        return UNKNOWN
    address = interpreter_frame + _LOCALSPLUS + index * _POINTER
    if not _pointer_at(address):
        return UNKNOWN  # not bound yet
    value: Any = ctypes.py_object.from_address(address).value
    if type(value) is CellType:
        try:
            return value.cell_contents
        except ValueError:
            return UNKNOWN
    return value


def _pointer_at(address: int) -> int:
    return ctypes.c_void_p.from_address(address).value or 0


def _slots(code: CodeType) -> list[str]:
    names = list(code.co_varnames)
    names += [name for name in code.co_cellvars if name not in names]
    return names + list(code.co_freevars)
