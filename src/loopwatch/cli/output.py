"""Writes what a command made, to a file or to stdout, and what it has to say, to stderr."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, TextIO

from loopwatch.errors import LoopwatchError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["say", "stdout_encoding", "write"]


def write(
    text: str,
    file: Path | None = None,
    option: str = "--output",
    *,
    encoding: str = "utf-8",
    errors: str = "backslashreplace",
) -> None:
    """Write text to a file; None and `-` stand for stdout. UTF-8, whatever the locale says.

    What `encoding` cannot hold (in UTF-8 half a surrogate pair, as in a name of a file that is no
    text) is written as `errors` says. Raises `LoopwatchError` if it cannot be written; `option` is
    the one that chooses where to, empty if there is none. A reader of stdout that went away is a
    `BrokenPipeError`, as with `print`.
    """
    data = text.encode(encoding, errors)
    try:
        if file is None or str(file) == "-":
            _to_stdout(data, option, encoding)
        else:
            file.write_bytes(data)
    except BrokenPipeError:
        raise
    except OSError as error:
        where = "stdout" if file is None or str(file) == "-" else str(file)
        instead = f"choose another {option}" if option else "send it elsewhere"
        raise LoopwatchError(f"cannot write {where} ({error.strerror}): {instead}") from error


def say(line: str) -> None:
    """Write a line to stderr, if there is one: it must not get in the way of what was asked for."""
    if sys.stderr is None:  # closed (`2>&-`); `print` would take stdout
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _give_up(sys.stderr)


def stdout_encoding() -> str:
    """Return the encoding of whoever reads stdout."""
    return getattr(sys.stdout, "encoding", None) or "utf-8"


def _to_stdout(data: bytes, option: str, encoding: str) -> None:
    if sys.stdout is None:  # Python's way to say that it was closed (`>&-`)
        instead = f"use {option} FILE" if option else "leave it open"
        raise LoopwatchError(f"there is no stdout to write to: {instead}")
    binary = getattr(sys.stdout, "buffer", None)
    try:
        if binary is None:  # something that takes text, put there by `contextlib.redirect_stdout`
            sys.stdout.write(data.decode(encoding))
        else:
            sys.stdout.flush()
            left = memoryview(data)
            while left:
                # Without a buffer (PYTHONUNBUFFERED) it writes what there is room for.
                written = binary.write(left)
                if written is None:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                left = left[written:]
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError:
        _give_up(sys.stdout)
        raise


def _give_up(stream: TextIO) -> None:
    """Drop what is buffered: it must not fail once more, and with a traceback, at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
