"""The stall log on a real disk, full or missing ones included."""

from __future__ import annotations

import errno
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from loopwatch import Config, ConfigError, Stall
from loopwatch.exporters.base import Source
from loopwatch.exporters.jsonl import JsonlExporter
from tests.unit.factories import stall


def exporter(path: Path, **settings: Any) -> JsonlExporter:
    made = JsonlExporter()
    made.start(Source(Config(stall_log=path, **settings), lambda: pytest.fail("not read")))
    return made


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_record_is_one_line(tmp_path: Path) -> None:
    """Records are appended, each a JSON object of the schema."""
    path = tmp_path / "stalls.jsonl"
    path.write_text('{"schema": "loopwatch.stall/1", "id": "old"}\n')
    log = exporter(path)
    log.export(stall(id="a"))
    log.export(stall(id="b"))
    assert [line["id"] for line in lines(path)] == ["old", "a", "b"]
    assert lines(path)[1]["schema"] == "loopwatch.stall/1"


def test_it_rotates_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    """No line is lost or torn across files, and the oldest file goes."""
    path = tmp_path / "stalls.jsonl"
    log = exporter(path, stall_log_max_bytes=2048, stall_log_backups=2)
    for number in range(40):
        log.export(stall(id=str(number)))
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["stalls.jsonl", "stalls.jsonl.1", "stalls.jsonl.2"]
    kept = [int(line["id"]) for f in (files[2], files[1], files[0]) for line in lines(f)]
    assert kept == list(range(kept[0], 40))
    assert all(f.stat().st_size <= 2048 for f in files)


def test_a_record_larger_than_the_limit_is_still_written(tmp_path: Path) -> None:
    """One file, one line: rotation never loops."""
    path = tmp_path / "stalls.jsonl"
    log = exporter(path, stall_log_max_bytes=1024, stall_log_backups=0)
    for number in range(3):
        log.export(stall(id=str(number) * 3000))
    assert len(lines(path)) == 1


def test_two_writers_share_a_file_and_rotate_it_together(tmp_path: Path) -> None:
    """As workers do: every record is there once, in one file or another."""
    path = tmp_path / "stalls.jsonl"

    def write(name: str) -> None:
        log = exporter(path, stall_log_max_bytes=8192, stall_log_backups=100)
        for number in range(100):
            log.export(stall(id=f"{name}{number}"))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [line["id"] for file in tmp_path.iterdir() for line in lines(file)]
    assert sorted(ids) == sorted(f"{name}{n}" for name in "ab" for n in range(100))


def test_a_missing_folder_fails_with_the_path_and_recovers(tmp_path: Path) -> None:
    """The error says which file; once the folder is there, records arrive."""
    path = tmp_path / "later" / "stalls.jsonl"
    log = exporter(path)
    with pytest.raises(FileNotFoundError) as caught:
        log.export(stall())
    assert str(path) in log.explain(caught.value)
    path.parent.mkdir()
    log.export(stall(id="now"))
    assert [line["id"] for line in lines(path)] == ["now"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_its_own_words() -> None:
    """ENOSPC from the real kernel, told with the path."""
    log = exporter(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left") as caught:
        log.export(stall())
    assert caught.value.errno == errno.ENOSPC
    assert log.explain(caught.value) == (
        "cannot write stall log /dev/full: No space left on device"
    )


def test_a_line_torn_by_a_full_disk_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a short write the next record starts on a line of its own."""
    path = tmp_path / "stalls.jsonl"
    log = exporter(path)
    write = os.write
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        with pytest.raises(OSError, match="only 10 of"):
            log.export(stall(id="torn"))
    log.export(stall(id="whole"))
    assert json.loads(path.read_text().splitlines()[1])["id"] == "whole"


def test_without_a_path_it_says_which_setting_to_set() -> None:
    """Asking for the exporter by name alone is a ConfigError."""
    log = JsonlExporter()
    with pytest.raises(ConfigError, match="set stall_log"):
        log.start(Source(Config(), lambda: pytest.fail("not read")))


def test_records_hold_plain_json(tmp_path: Path) -> None:
    """What is read back equals what was told."""
    record: Stall = stall()
    path = tmp_path / "stalls.jsonl"
    exporter(path).export(record)
    assert lines(path) == [record.to_dict()]
