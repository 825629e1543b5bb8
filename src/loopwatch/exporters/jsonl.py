"""The stall log: one JSON object a line, appended, rotated by size.

Each record is one `write` to a file opened for appending, so workers may share a file and a crash
tears at most the last line. The file is opened for each record: a stall is rare, and so logrotate,
a full disk that has room again and a folder that appears later need no care.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from loopwatch.errors import ConfigError
from loopwatch.exporters.base import Exporter, Source
from loopwatch.exporters.files import is_at

if TYPE_CHECKING:
    from loopwatch.model import Stall

try:
    import fcntl
except ImportError:  # Windows has no fcntl: workers there need a stall log each
    fcntl = None  # type: ignore[assignment]

__all__ = ["JsonlExporter"]

log = logging.getLogger("loopwatch")


class JsonlExporter(Exporter):
    """Appends to the setting `stall_log`."""

    name = "jsonl"

    def __init__(self) -> None:
        self._path = Path()
        self._max_bytes = 0
        self._backups = 0
        self._torn = False

    def start(self, source: Source) -> None:
        """Take the path; the file itself is opened when there is something to write."""
        config = source.config
        if config.stall_log is None:
            raise ConfigError("exporter jsonl needs a file: set stall_log to a path")
        # Absolute now: the host may change its working directory.
        self._path = Path(config.stall_log).absolute()
        self._max_bytes = config.stall_log_max_bytes
        self._backups = config.stall_log_backups
        if not os.access(self._path if self._path.exists() else self._path.parent, os.W_OK):
            log.warning(
                "loopwatch: stall log %s cannot be written now; each stall will try again",
                self._path,
            )

    def export(self, stall: Stall) -> None:
        """Append one line. Raises `OSError` if that did not work; the next record tries again."""
        line = json.dumps(stall.to_dict(), separators=(",", ":")).encode() + b"\n"
        if self._torn:
            line = b"\n" + line  # the disk filled up in mid-line: keep this one apart from it
        descriptor = self._open()
        try:
            size = os.fstat(descriptor).st_size
            if size and size + len(line) > self._max_bytes:
                self._rotate(descriptor)
                os.close(descriptor)
                descriptor = self._open()
            written = os.write(descriptor, line)
            self._torn = written != len(line)
            if self._torn:
                raise OSError(f"only {written} of {len(line)} bytes were written")
        finally:
            os.close(descriptor)

    def explain(self, error: Exception) -> str:
        """Return the reason and the file; neither holds a value of the host."""
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        return f"cannot write stall log {self._path}: {reason}"

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        return os.open(self._path, flags, 0o644)

    def _rotate(self, descriptor: int) -> None:
        """Move the full file away unless another worker just did; the lock ends with its close."""
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if not is_at(descriptor, self._path):
            return
        if self._backups == 0:
            self._path.unlink()
            return
        for number in range(self._backups - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
