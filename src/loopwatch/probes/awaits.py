"""One coroutine, generator or async generator: its code, its frame, and what it awaits.

What one awaits is asked only while it is suspended. Of one that runs, 3.11 and 3.12 take whatever
lies beside the instruction it is at for an opcode, and whatever lies in its frame for an object:
a crash. `x.cr_await if x.cr_suspended else None` never gives the GIL away in between.

C attributes only, no code of the host. Private API, checked on CPython 3.11 to 3.15: what the
collector says (`gc.get_referents`) of the C objects between a coroutine and an async generator.
What is of another type has no code and ends a chain.
"""

from __future__ import annotations

import gc
import sys
from types import AsyncGeneratorType, CoroutineType, GeneratorType, GetSetDescriptorType
from typing import TYPE_CHECKING, Any, Final

from loopwatch.probes.attributes import class_attribute, module_and_name

if TYPE_CHECKING:
    from types import CodeType, FrameType

__all__ = ["code_of", "foreign_name", "frame_of", "has_begun", "step"]


async def _nothing() -> Any:
    yield


def _types_between() -> frozenset[type]:
    """Return the types of what a coroutine awaits while it waits for a generator."""
    coroutine = _void()
    generator: Any = _nothing()
    # Nor may a loop that runs in this thread hear of the generator.
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        step, end, first = generator.__anext__(), generator.aclose(), anext(generator, None)
    finally:
        sys.set_asyncgen_hooks(*hooks)
    types = frozenset({type(coroutine.__await__()), type(step), type(end), type(first)})
    coroutine.close()
    # Else they warn of not having been awaited.
    for awaitable in (step, end, first.__await__()):
        awaitable.close()
    return types


async def _void() -> None:
    pass


_BETWEEN: Final = _types_between()
_TOLD: Final = hasattr(AsyncGeneratorType, "ag_suspended")


def code_of(coro: Any) -> CodeType | None:
    """Return the code of a coroutine or generator; `None` of other types."""
    return coro.cr_code if type(coro) is CoroutineType else step(coro)[0]


def step(coro: Any) -> tuple[CodeType | None, Any]:
    """Return the code of what is awaited and what it awaits itself; nothing of other types."""
    kind = type(coro)
    if kind is CoroutineType:
        return coro.cr_code, coro.cr_await if coro.cr_suspended else None
    if kind is GeneratorType:
        return coro.gi_code, coro.gi_yieldfrom if coro.gi_suspended else None
    if kind is AsyncGeneratorType:
        # 3.11 does not say of these whether they run: there the chain ends with one.
        return coro.ag_code, coro.ag_await if _TOLD and coro.ag_suspended else None
    return None, _awaited_by(coro) if kind in _BETWEEN else None


def frame_of(coro: Any) -> FrameType | None:
    """Return its frame, which is made for that and stays; `None` if it has ended."""
    kind = type(coro)
    frame: FrameType | None = None
    if kind is CoroutineType:
        frame = coro.cr_frame
    elif kind is GeneratorType:
        frame = coro.gi_frame
    elif kind is AsyncGeneratorType:
        frame = coro.ag_frame
    return frame


def has_begun(coro: Any, frame: FrameType) -> bool:
    """Return whether it waits or runs: before its first step it is nowhere."""
    kind = type(coro)
    if kind is CoroutineType:
        return coro.cr_suspended or coro.cr_running  # type: ignore[no-any-return]
    if kind is GeneratorType:
        return coro.gi_suspended or coro.gi_running  # type: ignore[no-any-return]
    return frame.f_lasti >= 0


def _awaited_by(thing: Any) -> Any:
    """Return the coroutine or generator inside of what is between it and its caller."""
    for inner in gc.get_referents(thing):
        kind = type(inner)
        if kind in {CoroutineType, GeneratorType, AsyncGeneratorType} or kind in _BETWEEN:
            return inner
    return None


def foreign_name(coro: Any) -> tuple[str, str]:
    """Return module and name of a coroutine that Python did not make, from Cython for one."""
    module, name = module_and_name(type(coro))
    getter = class_attribute(type(coro), "__qualname__")
    if type(getter) is GetSetDescriptorType:  # C code
        found = getter.__get__(coro)
        if type(found) is str:
            return "", found
    return module, name
