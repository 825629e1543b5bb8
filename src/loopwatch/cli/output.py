"""Writes what a command made: UTF-8, whatever the locale says, to a file or to stdout."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from loopwatch.errors import LoopwatchError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write"]


def write(text: str, file: Path | None, option: str = "--output") -> None:
    """Write text to a file; None and `-` stand for stdout.

    What UTF-8 cannot hold (half a surrogate pair, as in a name of a file that is no text) is
    written as an escape. Raises `LoopwatchError` if it cannot be written; `option` is the one that
    chooses where to. A reader of stdout that went away is a `BrokenPipeError`, as with `print`.
    """
    data = text.encode("utf-8", "backslashreplace")
    try:
        if file is None or str(file) == "-":
            _to_stdout(data)
        else:
            file.write_bytes(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "stdout" if file is None or str(file) == "-" else str(file)
        raise LoopwatchError(
            f"cannot write {where} ({error.strerror}): choose another {option}"
        ) from error


def _to_stdout(data: bytes) -> None:
    if sys.stdout is None:  # Python's way to say that it was closed (`>&-`)
        raise LoopwatchError("there is no stdout to write to: use --output FILE")
    binary = getattr(sys.stdout, "buffer", None)
    try:
        if binary is None:  # something that takes text, put there by `contextlib.redirect_stdout`
            sys.stdout.write(data.decode())
        else:
            sys.stdout.flush()
            binary.write(data)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        # What is buffered must not fail once more, and with a traceback, at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise
