"""The task that runs on a loop, from any thread.

Private API, checked on CPython 3.11 to 3.15: from 3.14 on `asyncio.current_task` of another thread
does not see tasks that are written in Python (nest_asyncio makes such), `asyncio.tasks`' own
`_py_current_task` does. Where it is missing such tasks have no name.
"""

from __future__ import annotations

import asyncio
import asyncio.tasks
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

__all__ = ["current_task"]

_PY_CURRENT_TASK: Final[Callable[[AbstractEventLoop], Any] | None] = getattr(
    asyncio.tasks, "_py_current_task", None
)


def current_task(loop: AbstractEventLoop) -> asyncio.Task[Any] | None:
    """Return the task that runs on `loop` now; `None` in a plain callback."""
    task = asyncio.current_task(loop)
    if task is None and _PY_CURRENT_TASK is not None:
        task = _PY_CURRENT_TASK(loop)
    return task
