"""What the kernel does for a process of ours."""

from __future__ import annotations

import ctypes
import signal
import sys
from typing import Final

__all__ = ["end_with_parent"]

# From <linux/prctl.h>.
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """Have the kernel kill this process once the thread that started it has ended. Linux alone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
