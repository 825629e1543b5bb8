"""Whether a debugger holds the process: what stands still then is nobody's fault.

Known ones: a tracer of the kernel (gdb, strace: `TracerPid`), a tool registered as debugger with
`sys.monitoring` (3.12+: pydevd, debugpy, PyCharm), a trace function of pydevd or pdb for all
threads.
A debugger that stops the loop thread itself, as `breakpoint()` does, is seen in its stack.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, Final

from loopwatch.probes.kernel_files import KernelFile

__all__ = ["DebuggerProbe", "is_debugger"]

_MODULES: Final = frozenset({"bdb", "pdb", "pydevd", "debugpy", "ipdb", "pudb", "_pydevd_bundle"})
_DEBUGGER_ID: Final = 0


def is_debugger(module: str) -> bool:
    """Return whether a frame of this module means that somebody is debugging."""
    return module.partition(".")[0] in _MODULES


class DebuggerProbe:
    """Looks for a debugger of this process."""

    def __init__(self) -> None:
        self._status = KernelFile("/proc/self/status")

    def attached(self) -> bool:
        """Return whether one is attached now."""
        monitoring: Any = getattr(sys, "monitoring", None)
        if monitoring is not None and monitoring.get_tool(_DEBUGGER_ID) is not None:
            return True
        trace = threading.gettrace()
        if trace is not None and is_debugger(getattr(trace, "__module__", None) or ""):
            return True
        return self._traced()

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        self._status.close()

    def _traced(self) -> bool:
        for line in self._status.read().splitlines():
            if line.startswith(b"TracerPid:"):
                return int(line.split()[1]) != 0
        return False
