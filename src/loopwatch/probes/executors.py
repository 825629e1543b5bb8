"""Threads and queue length of the default executor and of registered ones.

Private API, checked on CPython 3.11 to 3.15 and uvloop 0.19 to 0.23: `loop._default_executor`,
`ThreadPoolExecutor._threads` and `._work_queue`, `ProcessPoolExecutor._processes` and
`._pending_work_items`. uvloop keeps its default executor in a C field; the collector's own
`gc.get_referents` shows it (3 µs). Where something is missing the executor is not listed.
"""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import Executor as HostExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from loopwatch.model import Executor
from loopwatch.probes.attributes import is_a

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["DEFAULT_EXECUTOR", "ExecutorProbe"]

DEFAULT_EXECUTOR: Final = "default"


class ExecutorProbe:
    """Reads the pools of one loop. It holds them weakly: watching never keeps a pool alive."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._registered: dict[str, weakref.ref[HostExecutor]] = {}
        self._lock = threading.Lock()

    def register(self, name: str, executor: HostExecutor) -> None:
        """Watch `executor` as `name` too; a known name is replaced."""
        with self._lock:
            self._registered[name] = weakref.ref(executor)

    def read(self) -> tuple[Executor, ...]:
        """Return one row per pool that exists; the default one first."""
        found = [_read(DEFAULT_EXECUTOR, _default_executor(self._loop))]
        with self._lock:
            registered = list(self._registered.items())
        found += [_read(name, reference()) for name, reference in registered]
        return tuple(row for row in found if row is not None)


def _default_executor(loop: AbstractEventLoop) -> Any:
    try:
        return loop._default_executor  # type: ignore[attr-defined]  # noqa: SLF001 - see module
    except AttributeError:
        pools = (thing for thing in gc.get_referents(loop) if is_a(thing, ThreadPoolExecutor))
        return next(pools, None)


def _read(name: str, executor: Any) -> Executor | None:
    if executor is None:
        return Executor(name, 0, 0) if name == DEFAULT_EXECUTOR else None
    try:
        if hasattr(executor, "_work_queue"):
            return Executor(name, len(executor._threads), executor._work_queue.qsize())  # noqa: SLF001
        processes = executor._processes or ()  # noqa: SLF001
        waiting = max(0, len(executor._pending_work_items) - len(processes))  # noqa: SLF001
        return Executor(name, len(processes), waiting)
    except AttributeError:
        return None
