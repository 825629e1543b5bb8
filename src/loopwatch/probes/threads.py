"""Which other threads of the process used the CPU, and where they are.

CPU time comes from the kernel's clock of each thread, a microsecond each. It is read once a second,
and only while threads other than the loop's and ours burn CPU at all; where there is no such
clock nobody is named.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Final, NamedTuple

from loopwatch.probes.cpu import thread_clock

__all__ = ["OtherThreads", "ThreadShare"]

_OWN_PREFIX: Final = "loopwatch-"
# Two baselines a second apart: one of them lies before a stall that is being looked at.
_BASELINES: Final = 3


class ThreadShare(NamedTuple):
    """CPU time that one thread used since a baseline, and how much of it is certain.

    The baseline may lie before the moment that was asked about; `at_least_ns` leaves that out.
    """

    ident: int
    name: str
    cpu_ns: int
    at_least_ns: int


class OtherThreads:
    """CPU time of the Python threads other than the loop's and loopwatch's own."""

    def __init__(self) -> None:
        self._baselines: deque[tuple[int, dict[int, int]]] = deque(maxlen=_BASELINES)
        self._names: dict[int | None, str] = {}

    def note(self, now_ns: int, loop_ident: int) -> None:
        """Take a baseline."""
        self._baselines.append((now_ns, self._read(loop_ident)))

    def vanished(self) -> str | None:
        """Return the name of the thread that has ended since the latest note, if it is one."""
        alive = {thread.native_id for thread in threading.enumerate()}
        gone = [name for native_id, name in self._names.items() if native_id not in alive]
        return gone[0] if len(gone) == 1 else None

    def remember(self) -> None:
        """Note who is there, if that has changed."""
        threads = threading.enumerate()
        if len(threads) != len(self._names) or any(t.native_id not in self._names for t in threads):
            self._names = {thread.native_id: thread.name for thread in threads}

    def since(self, start_ns: int, loop_ident: int) -> list[ThreadShare]:
        """Return who used CPU since `start_ns`, or since the baseline before it; most first."""
        known = [row for row in self._baselines if row[0] <= start_ns][-1:]
        at_ns, base = (known or [*self._baselines][:1] or [(start_ns, {})])[0]
        earlier_ns = max(0, start_ns - at_ns)
        shares = []
        for thread in threading.enumerate():
            ident, native_id = thread.ident, thread.native_id
            if ident is None or native_id is None or not _is_other(thread, loop_ident):
                continue
            # A thread without a baseline is new, so all it has used counts.
            cpu_ns = _cpu_ns(native_id) - base.get(native_id, 0)
            if cpu_ns > 0:
                at_least_ns = max(0, cpu_ns - earlier_ns)
                shares.append(ThreadShare(ident, thread.name, cpu_ns, at_least_ns))
        return sorted(shares, key=lambda share: (share.at_least_ns, share.cpu_ns), reverse=True)

    def _read(self, loop_ident: int) -> dict[int, int]:
        return {
            thread.native_id: _cpu_ns(thread.native_id)
            for thread in threading.enumerate()
            if thread.native_id is not None and _is_other(thread, loop_ident)
        }


def _is_other(thread: threading.Thread, loop_ident: int) -> bool:
    return thread.ident != loop_ident and not thread.name.startswith(_OWN_PREFIX)


def _cpu_ns(native_id: int) -> int:
    clock = thread_clock(native_id)
    try:
        return time.clock_gettime_ns(clock) if clock is not None else 0
    except OSError:
        return 0  # it has ended
