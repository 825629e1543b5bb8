"""Small files of the kernel, read again and again without giving the GIL away.

`open().read()` gives the GIL back three times, and on a loop that computes each hand-over costs the
reader 5 ms and the loop a switch. A descriptor that stays open and a `pread` through `ctypes.PyDLL`
take a few microseconds.
"""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

__all__ = ["KernelFile"]


class KernelFile:
    """One file of /proc or /sys, opened once. Unreadable ones read as empty."""

    def __init__(self, path: str, size: int = 4096, *, slow: bool = False) -> None:
        """Open a file; one that may be `slow` to read is read without the GIL after all."""
        self._fd = -1
        self._slow = slow
        self._buffer = ctypes.create_string_buffer(size)
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            pass  # not there, or not allowed

    @property
    def readable(self) -> bool:
        """Whether it could be opened."""
        return self._fd >= 0 and _pread is not None

    def read(self, size: int | None = None, offset: int = 0) -> bytes:
        """Return what is in it now, at most the size of the buffer; empty if that fails."""
        if self._fd < 0 or _pread is None:
            return b""
        wanted = len(self._buffer) if size is None else min(size, len(self._buffer))
        if self._slow:
            try:
                return os.pread(self._fd, wanted, offset)
            except OSError:
                return b""
        got = _pread(self._fd, self._buffer, wanted, offset)
        return self._buffer.raw[:got] if got > 0 else b""

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _load() -> Any:
    try:
        # An instance of its own: argument types are set on the function object.
        pread = ctypes.PyDLL(None).pread
    except (AttributeError, OSError, TypeError):
        return None  # no such C library
    pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_long)
    pread.restype = ctypes.c_ssize_t
    return pread


_pread: Final = _load()
