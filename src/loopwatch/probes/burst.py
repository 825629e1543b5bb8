"""A burst of looks at one loop's thread, now: where it is, and how often it only waits.

Whoever wants one takes the looks at a pace of its own, on a thread of its own: nothing runs on
the loop. Like stacks are counted together, as in a record.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from loopwatch.clock import monotonic_ns, ns_to_s
from loopwatch.model import Frame, Sample
from loopwatch.probes.kernel_files import KernelFile
from loopwatch.probes.stacks import Capture, stacks_work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from loopwatch.probes.stacks import FrameNamer, Position

__all__ = ["Burst"]

# Where a loop of the standard library waits for events.
_WAITS: Final = ("selectors", "select")


class Burst:
    """Looks at a thread and merges what it sees. One thread; close it when done."""

    def __init__(
        self, thread: Callable[[], tuple[int, int]], native_id: int, namer: FrameNamer
    ) -> None:
        """Take the thread's ident and how many of its outermost frames run the loop itself."""
        self._thread = thread
        self._namer = namer
        self._syscall = KernelFile(f"/proc/self/task/{native_id}/syscall")
        self._works = stacks_work()
        self._began_ns = monotonic_ns()
        self._names: dict[Position, Frame] = {}
        self._first_ns: dict[tuple[Frame, ...], int] = {}
        self._counts: Counter[tuple[Frame, ...]] = Counter()
        self.looks = 0
        # Looks that found the loop waiting for events, and those that found nothing to name.
        self.waits = 0

    def look(self) -> None:
        """Take one look, of a tenth of a millisecond or less."""
        if not self._works:
            return
        ident, base_depth = self._thread()
        positions = Capture(ident, base_depth).positions
        self.looks += 1
        if positions:
            if _is_wait(positions):
                self.waits += 1
            else:
                self._count(positions)
        # No frames: the loop itself. It waits, unless the kernel sees it compute (uvloop has none).
        elif not self._syscall.read(64).startswith(b"running"):
            self.waits += 1

    def _count(self, positions: Sequence[Position]) -> None:
        names = self._names
        for position in positions:
            if position not in names:
                names[position] = self._namer.name(position)
        frames = tuple(names[position] for position in positions)
        self._first_ns.setdefault(frames, monotonic_ns() - self._began_ns)
        self._counts[frames] += 1

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The stacks at work, like ones counted together; frames from innermost to outermost."""
        return tuple(
            Sample(ns_to_s(first_ns), self._counts[frames], "burst", frames)
            for frames, first_ns in self._first_ns.items()
        )

    def close(self) -> None:
        """Give back what was opened. Idempotent."""
        self._syscall.close()


def _is_wait(positions: Sequence[Position]) -> bool:
    outermost = positions[-1]
    return (outermost.module, outermost.code.co_name) == _WAITS
