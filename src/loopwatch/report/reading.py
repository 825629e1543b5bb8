"""Stall logs line by line: plain or gzipped, with lines that are torn, foreign or damaged.

What cannot be counted is noted, not raised: one note for each file and kind of trouble, with the
first line where it was met.
"""

from __future__ import annotations

import glob
import gzip
import io
import itertools
import json
import os
import re
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from loopwatch.report.record import NotARecordError, key_of, told
from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from loopwatch.report.record import Told

__all__ = ["STDIN", "Line", "LogFile", "Note", "Reading", "in_order", "not_given"]

STDIN: Final = "-"

# A record has some 2 kB, with many deep samples some 100: what is longer is no stall log.
_MAX_LINE: Final = 4 << 20
_BUFFER: Final = 1 << 18
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
# First bytes of what logrotate can be told to make besides, and what reads it.
_OTHER_PACKERS: Final = {b"BZh": "bzcat", b"\xfd7zXZ": "xzcat", b"\x28\xb5\x2f\xfd": "zstdcat"}
# A worker that died in mid-line leaves its half before the record of the next; and what joins logs
# may lose the end of a line. Inside of a text its quotes are escaped.
_START: Final = b'{"schema"'
_RECORD: Final = re.compile(_START + rb': ?"loopwatch\.stall/')
# The beginning of an ongoing record as exporters.jsonl writes it, up to what identifies the stall.
_ONGOING: Final = re.compile(
    rb'\{"schema":"loopwatch\.stall/1","id":"([0-9a-f]{16})","phase":"ongoing",'
    rb'"started_at":"[^"\\]{,40}","duration_s":[0-9.]{1,20},"loop":"[^"\\]{,200}",'
    rb'"loop_impl":"[^"\\]{,40}","pid":([1-9][0-9]{,8}),'
).match
# `stalls.jsonl.3`, `stalls.jsonl.3.gz`, `stalls.jsonl-20261121`, `stalls.jsonl-20261121.gz`
_ROTATED: Final = re.compile(r"(?:\.\d{1,6}|[.-]\d{8}(?:-\d+)?)?(?:\.gz)?$")


_HALF: Final = "half a record: its writer died, or still writes"
_HALF_AND_WHOLE: Final = "half a record beside a whole one: its writer died"
_CUT: Final = "zero bytes before a record: the log was cut while it was written (copytruncate)"
_DECODER: Final = json.JSONDecoder()


class Note(NamedTuple):
    """What is to be said of a file: where (`line` 0 is the file itself), what, how many alike."""

    path: str
    line: int
    what: str
    alike: int = 1

    def __str__(self) -> str:
        """Return it as one line."""
        where = f"{clean(self.path)}:{self.line}" if self.line else clean(self.path)
        more = self.alike - 1
        tail = f", and {more:,} more like it in this file" if more else ""
        return f"{where}: {self.what}{tail}"


@dataclass(slots=True)
class LogFile:
    """What came of one file: lines and records in it, and notes. `log` is it without rotation."""

    path: str
    log: str = ""
    read: bool = False
    lines: int = 0
    records: int = 0
    notes: dict[str, Note] = field(default_factory=dict)

    @property
    def said(self) -> list[Note]:
        """What is to be said of it."""
        return list(self.notes.values())

    def note(self, kind: str, line: int, what: str) -> None:
        """Note trouble; of each kind the first is kept, the others counted."""
        known = self.notes.get(kind)
        if known is None:
            self.notes[kind] = Note(self.path, line, what)
        else:
            self.notes[kind] = known._replace(alike=known.alike + 1)


class Line(NamedTuple):
    """One record, the text it was read from, and where it stood.

    `told` is `None` for an ongoing record as loopwatch writes it: most of them are followed by a
    final one and never have to be read closely, which is most of the work. `key` is as in `Told`.
    """

    key: int
    told: Told | None
    raw: bytes
    file: LogFile
    number: int

    def read(self) -> Told | None:
        """Return the record; `None`, and a note, if it is none after all."""
        if self.told is not None:
            return self.told
        for found in _lines(self.file, self.number, self.raw):
            return found.told
        self.file.records -= 1
        return None


class Reading:
    """Reads all records of `paths`, in the order given; `-` is `stdin`.

    `on_bytes(n)` is told how many bytes were read since, of the files as they lie on the disk.
    Iterating reads; then `files` says what came of each, `notes` what is to be said.
    """

    def __init__(
        self,
        paths: Iterable[str],
        stdin: BinaryIO | None = None,
        on_bytes: Callable[[int], None] | None = None,
    ) -> None:
        self._stdin = stdin
        self._on_bytes = on_bytes
        self.files = [LogFile(path) for path in paths]

    def __iter__(self) -> Iterator[Line]:
        for file in self.files:
            try:
                yield from self._read(file)
            except EOFError:
                # What was read until then counts: a copy may have been cut off.
                file.note("gzip", file.lines, "the gzip file ends too early: its rest is missing")
            except (gzip.BadGzipFile, zlib.error):
                file.note("gzip", file.lines + 1, "gzip cannot unpack it from here on")
            except OSError as error:
                file.note("os", 0, f"cannot be read ({error.strerror or error})")

    @property
    def notes(self) -> list[Note]:
        """What is to be said, file by file."""
        return [note for file in self.files for note in file.said]

    def _read(self, file: LogFile) -> Iterator[Line]:
        if file.path == STDIN and self._stdin is not None:
            yield from self._records(file, self._stdin)
            return
        path = Path(file.path)
        if path.is_dir():
            file.note(
                "os", 0, f"is a directory: name the logs in it, as {clean(file.path)}/*.jsonl*"
            )
        elif not path.exists():
            file.note("os", 0, "no such file: loopwatch makes it when it tells the first stall")
        else:
            with path.open("rb", buffering=0) as raw:
                yield from self._records(file, raw)

    def _records(self, file: LogFile, raw: Any) -> Iterator[Line]:
        source = io.BufferedReader(_Counted(raw, self._on_bytes), _BUFFER)
        head = source.peek(len(max(_OTHER_PACKERS, key=len)))
        packer = next((p for magic, p in _OTHER_PACKERS.items() if head.startswith(magic)), None)
        if packer is not None:
            file.note("os", 0, f"is packed: {packer} {clean(file.path)} | loopwatch report -")
            return
        file.read = True
        stream = gzip.GzipFile(fileobj=source) if head.startswith(_GZIP) else source
        file.log = _ROTATED.sub("", os.path.abspath(file.path))  # noqa: PTH100 - follows no links
        for raw_line in _whole_lines(file, stream):
            sketch = _sketch(file, raw_line)
            for line in _lines(file, file.lines, raw_line) if sketch is None else (sketch,):
                file.records += 1
                yield line
        if not file.lines:
            file.note("empty", 0, "is empty: no stall was told")


def in_order(paths: Sequence[str]) -> list[str]:
    """Return the paths oldest first, each file once, whatever it is called; `-` comes last.

    Rotation keeps the time of the last write. Nothing that is counted depends on the order: it
    keeps the two records of a stall close together.
    """
    seen: set[object] = set()
    timed = []
    for path in paths:
        try:
            found = Path(path).stat() if path != STDIN else None
        except OSError:
            found = None  # said when it is read
        identity = (found.st_dev, found.st_ino) if found is not None and found.st_ino else path
        if identity not in seen:
            seen.add(identity)
            timed.append((path == STDIN, found.st_mtime if found is not None else 0.0, path))
    return [path for *_, path in sorted(timed)]


def not_given(paths: Sequence[str]) -> list[Note]:
    """Return a note for each log of which rotated files lie beside those of `paths`, not read."""
    given = {os.path.abspath(path) for path in paths}  # noqa: PTH100 - must not follow links
    notes = []
    for path in sorted(given):
        folder, name = os.path.split(path)
        beside = Path(folder).glob(f"{glob.escape(name)}.[0-9]*")
        others = [each for each in beside if str(each) not in given]
        if others and Path(path).is_file():
            what = f"{len(others)} rotated files" if len(others) > 1 else clean(others[0].name)
            notes.append(Note(path, 0, f"{what} beside it not read: name {clean(name)}* for all"))
    return notes


class _Counted(io.RawIOBase):
    """Passes a stream through and says how much."""

    def __init__(self, raw: Any, on_bytes: Callable[[int], None] | None) -> None:
        super().__init__()
        self._raw = raw
        self._on_bytes = on_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        size: int | None = self._raw.readinto(buffer)
        if size and self._on_bytes is not None:
            self._on_bytes(size)
        return size


def _whole_lines(file: LogFile, stream: Any) -> Iterator[bytes]:
    """Yield the lines that may be records, and count all of them."""
    while line := stream.readline(_MAX_LINE):
        file.lines += 1
        if line.startswith(b"\0"):
            line = _behind_zeros(stream, line)
            if line.startswith(_START):
                file.note("zeros", file.lines, _CUT)
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            file.note("long", file.lines, f"longer than {_MAX_LINE >> 20} MiB: no stall record")
            while rest := stream.readline(_MAX_LINE):
                if rest.endswith(b"\n"):
                    break
        elif file.lines == 1 and line.startswith(_BOM):
            yield line[len(_BOM) :]
        elif line and not line.isspace():
            yield line


def _behind_zeros(stream: Any, line: bytes) -> bytes:
    """Return a line without the zeros before it, which may be more than a line may have."""
    rest = line.lstrip(b"\0")
    while not rest.endswith(b"\n") and (more := stream.readline(_MAX_LINE - len(rest))):
        rest = (rest + more).lstrip(b"\0")
        if len(rest) == _MAX_LINE:
            break
    return rest


def _sketch(file: LogFile, raw: bytes) -> Line | None:
    """Return an ongoing record as loopwatch writes it, not read closely."""
    found = _ONGOING(raw)
    if found is None or not raw.endswith(b"}\n") or raw.find(_START, 1) > 0:
        return None
    return Line(key_of(found[1].decode(), int(found[2])), None, raw, file, file.lines)


def _lines(file: LogFile, number: int, raw: bytes) -> Iterator[Line]:
    """Yield the record of a line read closely: one, several or, with a note, none."""
    try:
        record = told(json.loads(raw.decode()))
    except NotARecordError as error:
        file.note(error.kind, number, str(error))
    except (ValueError, RecursionError):
        yield from _pieces(file, number, raw)
    else:
        yield Line(record.key, record, raw, file, number)


def _pieces(file: LogFile, number: int, raw: bytes) -> Iterator[Line]:
    """Yield the whole records of a line that is not one, and note what is wrong."""
    starts = [found.start() for found in _RECORD.finditer(raw)]
    if not starts:
        if raw.endswith(b"\n"):
            file.note("text", number, "not JSON, so no stall record")
        else:
            file.note("torn", number, _HALF)
        return
    torn = bool(raw[: starts[0]].strip())
    whole = 0
    for start, end in itertools.pairwise((*starts, len(raw))):
        try:
            text = raw[start:end].decode()
            data, length = _DECODER.raw_decode(text)
            record = told(data)
        except NotARecordError as error:
            file.note(error.kind, number, str(error))
        except (ValueError, RecursionError):
            torn = True
        else:
            torn = torn or bool(text[length:].strip())
            whole += 1
            yield Line(record.key, record, text[:length].encode(), file, number)
    if torn:
        file.note("torn", number, _HALF_AND_WHOLE if whole else _HALF)
