"""Stall logs line by line: what counts as a record, and what is said of the rest."""

from __future__ import annotations

import gzip
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from loopwatch.report.reading import Reading, in_order, not_given
from loopwatch.report.record import NotARecordError, told
from tests.unit.factories import stall


def line(**changes: Any) -> bytes:
    return json.dumps({**stall().to_dict(), **changes}).encode() + b"\n"


def read(path: Path, content: bytes) -> tuple[list[str], list[str]]:
    """Return the ids of the records in a file, and what is said of it without its path."""
    path.write_bytes(content)
    reading = Reading([str(path)])
    ids = [record.data["id"] for each in reading if (record := each.read()) is not None]
    return ids, [str(note).removeprefix(str(path)) for note in reading.notes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "stalls.jsonl"


def test_every_record_is_read(path: Path) -> None:
    """Empty lines, CRLF and a byte order mark are no trouble, and a last line may lack its end."""
    content = b"\xef\xbb\xbf" + line(id="a") + b"\n \r\n" + line(id="b")[:-1] + b"\r\n"
    assert read(path, content + line(id="c")[:-1]) == (["a", "b", "c"], [])


@pytest.mark.parametrize(
    ("wrong", "note"),
    [
        (b"Traceback\n", ":2: not JSON, so no stall record"),
        (b"\x00\xff\x00\n", ":2: not JSON, so no stall record"),
        (b'{"schema": "loopwatch.st\n', ":2: not JSON, so no stall record"),
        (line()[:200] + b"\n", ":2: half a record: its writer died, or still writes"),
        (b"[1]\n", ":2: JSON, but no stall record"),
        (b"[" * 100_000 + b"\n", ":2: not JSON, so no stall record"),
        (b'{"level": "info"}\n', ":2: JSON, but no stall record: it has no schema"),
        (b"9" * 5000 + b"\n", ":2: not JSON, so no stall record"),
        (
            line(schema="loopwatch.stall/2"),
            ":2: schema loopwatch.stall/2, but this loopwatch reads loopwatch.stall/1: update it",
        ),
        (line(schema="other/1"), ":2: schema other/1, not loopwatch.stall/1"),
        (line(id=7), ":2: a stall record without a usable id"),
        (line(phase=["final"]), ":2: a stall record without a usable phase"),
        (line(duration_s="1"), ":2: a stall record without a usable duration_s"),
        (line(duration_s=float("nan")), ":2: a stall record without a usable duration_s"),
        (line(duration_s=10**400), ":2: a stall record without a usable duration_s"),
        (line(duration_s=-1), ":2: a stall record without a usable duration_s"),
        (line(duration_s=True), ":2: a stall record without a usable duration_s"),
        (line(started_at=1.5), ":2: a stall record without a usable started_at"),
        (line(started_at="soon"), ":2: a stall record without a usable started_at"),
        (
            line(started_at="0001-01-01T00:00:00+14:00"),
            ":2: a stall record without a usable started_at",
        ),
        (b"x" * (5 << 20) + b"\n", ":2: longer than 4 MiB: no stall record"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_what_is_no_record_is_named_by_file_and_line(path: Path, wrong: bytes, note: str) -> None:
    """In one line; the records around it count."""
    # Another test may have taken the interpreter's limit away.
    sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    assert read(path, line(id="a") + wrong + line(id="b")) == (["a", "b"], [note])


def test_half_a_last_line(path: Path) -> None:
    """A crash in mid-line, or a process that is still writing."""
    ids, notes = read(path, line(id="a") + b'{"sch')
    assert ids == ["a"]
    assert notes == [":2: half a record: its writer died, or still writes"]


def test_a_record_behind_the_half_of_another_counts(path: Path) -> None:
    """What the next process appends to a torn line is not lost."""
    ids, notes = read(path, line(id="a")[:-50] + line(id="b") + line(id="c"))
    assert ids == ["b", "c"]
    assert notes == [":1: half a record beside a whole one: its writer died"]


def test_records_that_share_a_line_all_count(path: Path) -> None:
    """What joins logs may lose the end of a line; nothing is torn then, and nothing is said."""
    early = {"id": "0123456789abcdef", "phase": "ongoing"}
    tight = json.dumps(json.loads(line(**early)), separators=(",", ":")).encode()
    joined = tight + line(id="b")[:-1] + line(id="c")
    assert read(path, joined + line(id="d")) == ([early["id"], "b", "c", "d"], [])
    ids, notes = read(path, line(id="a")[:-1] + line(id="b")[:-50] + line(id="c") + b"\n")
    assert ids == ["a", "c"]
    assert notes == [":1: half a record beside a whole one: its writer died"]
    ids, notes = read(path, line(id="a")[:-1] + line(duration_s="1")[:-1] + b"junk\n")
    assert ids == ["a"]
    assert notes == [":1: a stall record without a usable duration_s"]


@pytest.mark.parametrize("zeros", [7, 4 << 20, 9_000_000])
def test_a_record_behind_zeros_counts(path: Path, zeros: int) -> None:
    """logrotate's copytruncate leaves as many as the log was long."""
    ids, notes = read(path, bytes(zeros) + line(id="a") + line(id="b"))
    assert ids == ["a", "b"]
    assert notes == [
        ":1: zero bytes before a record: the log was cut while it was written (copytruncate)"
    ]
    assert read(path, bytes(zeros))[0] == []


def test_like_trouble_is_one_line(path: Path) -> None:
    """The first is named, the others are counted, kind by kind."""
    ids, notes = read(path, b"x\n" * 1001 + line(id="a") + b"[]\n")
    assert ids == ["a"]
    assert notes == [
        ":1: not JSON, so no stall record, and 1,000 more like it in this file",
        ":1003: JSON, but no stall record",
    ]


def test_gzip_is_told_by_its_content(path: Path) -> None:
    """Whatever the file is called."""
    assert read(path, gzip.compress(line(id="a") + line(id="b"))) == (["a", "b"], [])


def test_a_damaged_gzip_file(path: Path) -> None:
    """Cut off or with a wrong checksum, it counts as far as it goes."""
    many = b"".join(line(id=os.urandom(8).hex()) for _ in range(500))
    ids, notes = read(path, gzip.compress(many)[:-2000])
    assert 100 < len(ids) < 500
    assert len(notes) == 1
    assert "the gzip file ends too early" in notes[0]
    ids, notes = read(path, gzip.compress(many)[:-8] + bytes(8))
    assert len(ids) == 500
    assert notes == [":501: gzip cannot unpack it from here on"]


def test_other_packers_are_named(path: Path) -> None:
    """With the command that unpacks."""
    _, notes = read(path, b"\x28\xb5\x2f\xfd" + bytes(100))
    assert notes == [f": is packed: zstdcat {path} | loopwatch report -"]


def test_an_empty_file_says_so(path: Path) -> None:
    """It is fine, only nothing is in it."""
    assert read(path, b"") == ([], [": is empty: no stall was told"])


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    """A folder, a missing file: one line each, and the rest is read."""
    good = tmp_path / "good.jsonl"
    good.write_bytes(line(id="a"))
    reading = Reading([str(tmp_path), str(tmp_path / "gone"), str(good)])
    assert len(list(reading)) == 1
    assert [file.read for file in reading.files] == [False, False, True]
    assert [str(note) for note in reading.notes] == [
        f"{tmp_path}: is a directory: name the logs in it, as {tmp_path}/*.jsonl*",
        f"{tmp_path}/gone: no such file: loopwatch makes it when it tells the first stall",
    ]


def test_standard_input() -> None:
    """`-` is read from there, packed or not, and every byte is told."""
    sizes: list[int] = []
    for content in (line(id="a"), gzip.compress(line(id="a"))):
        sizes.clear()
        reading = Reading(["-"], io.BytesIO(content), sizes.append)
        assert [each.read().data["id"] for each in reading] == ["a"]
        assert sum(sizes) == len(content)


def test_ongoing_records_as_loopwatch_writes_them_are_read_late(path: Path) -> None:
    """They say which stall they are of as others do, and what is wrong once they are read."""
    identity = {"id": "0123456789abcdef", "phase": "ongoing"}
    spaced = line(**identity)
    tight = json.dumps(json.loads(spaced), separators=(",", ":")).encode() + b"\n"
    damaged = tight.replace(b'"culprit":{', b'"culprit":[')
    foreign = tight.replace(b'"duration_s":0.512', b'"duration_s":9999999999')
    path.write_bytes(spaced + tight + damaged + foreign + tight[:-1])
    reading = Reading([str(path)])
    lines = list(reading)
    assert [each.told is None for each in lines] == [False, True, True, True, False]
    assert len({each.key for each in lines}) == 1
    assert reading.files[0].records == 5
    assert [each.read() for each in lines].count(None) == 2
    assert lines[1].read() == lines[0].read()
    assert reading.files[0].records == 3
    assert [str(note).removeprefix(str(path)) for note in reading.notes] == [
        ":3: half a record: its writer died, or still writes",
        ":4: a stall record without a usable duration_s",
    ]


def test_rotated_files_are_one_log(tmp_path: Path) -> None:
    """So a worker is one worker in all of them."""
    names = ("s.jsonl", "s.jsonl.1", "s.jsonl.12.gz", "s.jsonl-20261121", "s.jsonl-20261121.gz")
    for name in names:
        (tmp_path / name).write_bytes(line())
    reading = Reading([str(tmp_path / name) for name in names])
    assert {each.file.log for each in reading} == {str(tmp_path / "s.jsonl")}


def test_files_come_oldest_first_and_once(tmp_path: Path) -> None:
    """Whatever the order and the names they are given by; standard input is last."""
    paths = [tmp_path / name for name in ("b", "a", "c")]
    for age, path in enumerate(paths):
        path.write_bytes(line())
        os.utime(path, (1000 + age, 1000 + age))
    link = tmp_path / "link"
    link.symlink_to(paths[0])
    b, a, c = map(str, paths)
    assert in_order(["-", c, a, b, b, "-"]) == [b, a, c, "-"]
    assert len(in_order([b, str(link)])) == 1


def test_rotated_files_that_were_not_named_are_told(tmp_path: Path) -> None:
    """Half of a log is easily taken for all of it."""
    for name in ("s.jsonl", "s.jsonl.1", "s.jsonl.2.gz", "other.jsonl"):
        (tmp_path / name).touch()
    every = [str(tmp_path / name) for name in ("s.jsonl", "s.jsonl.1", "s.jsonl.2.gz")]
    assert not_given(every) == []
    assert not_given(["-", str(tmp_path / "gone")]) == []
    assert [str(note) for note in not_given(every[:1])] == [
        f"{every[0]}: 2 rotated files beside it not read: name s.jsonl* for all"
    ]
    assert [note.what for note in not_given(every[:2])] == [
        "s.jsonl.2.gz beside it not read: name s.jsonl* for all"
    ]


def test_a_record_says_what_it_knows() -> None:
    """Only id, phase, start and duration are needed."""
    bare = {
        "schema": "loopwatch.stall/1",
        "id": "a",
        "phase": "final",
        "started_at": "2026-11-21T10:00:00",
        "duration_s": 1,
        "pid": "7",
        "cause": None,
        "loop": 3,
        "allowed": ["x"],
        "fingerprint": None,
        "culprit": {"function": "f"},
    }
    record = told(bare)
    assert (record.pid, record.cause, record.loop) == (None, "unknown", "?")
    assert (record.started_at_s, record.duration_us) == (1795255200.0, 1_000_000)
    assert record.allowed == "?"
    # Like stalls still share a fingerprint, and others do not.
    assert told({**bare, "id": "b"}).fingerprint == record.fingerprint
    assert told({**bare, "cause": "cpu"}).fingerprint != record.fingerprint
    with pytest.raises(NotARecordError):
        told(None)
