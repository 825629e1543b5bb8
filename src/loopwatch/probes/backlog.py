"""The callbacks that are ready to run: whether the loop has gone on to another one.

Both kinds of loop keep a queue of handles and take the next from its front, so the front changes
with each callback that ends.

Private API, checked on CPython 3.11 to 3.15 and uvloop 0.19 to 0.23: `loop._ready`. uvloop keeps
it in a C field; the collector's own `gc.get_referents` shows it. Elsewhere nothing is known.
"""

from __future__ import annotations

import gc
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["Backlog"]


class Backlog:
    """Tells steps of one loop apart. Watchdog thread."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._ready: deque[Any] | None = getattr(loop, "_ready", None)
        if self._ready is None:
            queues = [thing for thing in gc.get_referents(loop) if type(thing) is deque]
            self._ready = queues[0] if len(queues) == 1 else None

    @property
    def known(self) -> bool:
        """Whether this loop shows its queue."""
        return self._ready is not None

    def front(self) -> int | None:
        """Return what names the next callback; `None` if none waits, or none can be seen."""
        try:
            return id(self._ready[0]) if self._ready else None
        except IndexError:
            return None  # taken between two steps
