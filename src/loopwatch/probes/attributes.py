"""Attributes of the host's objects, read without running any code of the host.

`isinstance` asks a proxy for its `__class__`, `vars` and even `inspect.getattr_static` (checked on
3.11 to 3.13) ask a metaclass for `__dict__`. Here only C descriptors of the interpreter are called.
"""

from __future__ import annotations

from types import GetSetDescriptorType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "UNKNOWN",
    "attribute",
    "class_attribute",
    "is_a",
    "module_and_name",
    "mro",
    "names_of_class",
    "stored",
]

UNKNOWN: Final[Any] = object()

_MRO: Final[Any] = type.__dict__["__mro__"]
_DICT: Final[Any] = type.__dict__["__dict__"]
_MODULE: Final[Any] = type.__dict__["__module__"]
_QUALNAME: Final[Any] = type.__dict__["__qualname__"]


def is_a(thing: Any, *kinds: type) -> bool:
    """Return whether an object really is of one of these types, whatever it says."""
    return issubclass(type(thing), kinds)


def mro(kind: type) -> tuple[type, ...]:
    """Return a class and its bases."""
    return _MRO.__get__(kind)  # type: ignore[no-any-return]


def names_of_class(kind: type) -> Mapping[str, Any]:
    """Return what is defined in the body of a class."""
    return _DICT.__get__(kind)  # type: ignore[no-any-return]


def module_and_name(kind: type) -> tuple[str, str]:
    """Return the module and the qualified name of a class."""
    module = _MODULE.__get__(kind)
    return module if type(module) is str else "", _QUALNAME.__get__(kind)


def class_attribute(kind: type, name: str) -> Any:
    """Return what a class or a base of it defines under a name, or `UNKNOWN`."""
    for base in mro(kind):
        names = names_of_class(base)
        if name in names:
            return names[name]
    return UNKNOWN


def stored(thing: Any, name: str) -> Any:
    """Return what an object holds in its own dict or slot under a name, or `UNKNOWN`."""
    found = class_attribute(type(thing), name)
    if type(found) is MemberDescriptorType:
        try:
            return found.__get__(thing, type(thing))
        except AttributeError:
            return UNKNOWN
    if found is not UNKNOWN and class_attribute(type(found), "__set__") is not UNKNOWN:
        return UNKNOWN  # a property or the like goes first
    getter = class_attribute(type(thing), "__dict__")
    if type(getter) not in (GetSetDescriptorType, MemberDescriptorType):
        return UNKNOWN  # none, or one that the class computes
    names = getter.__get__(thing, type(thing))
    return dict.get(names, name, UNKNOWN) if is_a(names, dict) else UNKNOWN


def attribute(thing: Any, name: str) -> Any:
    """Return an attribute of an object or a class; `UNKNOWN` where code would have to run."""
    if is_a(thing, type):
        found = class_attribute(thing, name)
    else:
        found = stored(thing, name)
        if found is not UNKNOWN:
            return found
        found = class_attribute(type(thing), name)
    return found if class_attribute(type(found), "__get__") is UNKNOWN else UNKNOWN
