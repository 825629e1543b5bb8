"""The files that several workers share: faults, forks, two loops, and slots that are used again."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import struct
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

import loopwatch
from loopwatch.config import Config
from loopwatch.exporters.base import Source
from loopwatch.exporters.multiprocess import SharedFiles
from loopwatch.exporters.prometheus import PrometheusExporter
from loopwatch.model import Executor, Snapshot
from tests.conftest import Child, Told, settle
from tests.unit.factories import ledger


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of several workers."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    return folder


def values(folder: Path, name: str) -> dict[tuple[str, str], float]:
    """Return what a reader sees of a metric, by loop and pid."""
    return {
        (sample.labels["loop"], sample.labels["pid"]): sample.value
        for family in MultiProcessCollector(None, str(folder)).collect()
        for sample in family.samples
        if sample.name == name
    }


def wait_until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 5
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def source(read: Callable[[], Snapshot] | None = None) -> Source:
    return Source(Config(), read or ledger().snapshot)


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_folder_that_cannot_be_used_is_one_clear_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The line names the variable and the folder; the loop is watched and served all the same."""
    folder = tmp_path / "metrics"
    if kind == "a file":
        folder.touch()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    registry = CollectorRegistry()
    exporter = PrometheusExporter(registry)
    told = Told()

    async def main() -> None:
        async with loopwatch.install(exporters=[exporter, "log"], on_stall=told):
            await asyncio.sleep(0.05)
            time.sleep(0.25)
            await settle(told)
            labels = {"loop": "main", "cause": "blocking_call"}
            assert registry.get_sample_value("loopwatch_stalls_total", labels) == 1
            labels = {"loop": "main", "component": "exporter"}
            assert registry.get_sample_value("loopwatch_errors_total", labels) == 1

    with caplog.at_level(logging.INFO, "loopwatch"):
        asyncio.run(main())
    lines = [r.getMessage() for r in caplog.records if "PROMETHEUS_MULTIPROC_DIR" in r.getMessage()]
    assert len(lines) == 1
    assert str(folder) in lines[0]
    assert "is it a writable directory?" in lines[0]


def test_a_disk_without_room_is_an_error_not_a_signal(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is allotted before anything is mapped: what does not fit fails here, not in a store."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        SharedFiles(shared, source())
    assert not list(shared.iterdir())


def test_two_loops_of_a_process_have_their_own_series(shared: Path) -> None:
    """Both are there with the same pid, and each leaves alone."""

    async def main() -> None:
        first = loopwatch.install(exporters=["prometheus"])

        async def beside() -> None:
            with loopwatch.install(exporters=["prometheus"]):
                wait_until(lambda: len(values(shared, "loopwatch_tasks")) == 2)

        await asyncio.to_thread(asyncio.run, beside())
        pid = str(os.getpid())
        assert list(values(shared, "loopwatch_tasks")) == [("main", pid)]
        assert list(values(shared, "loopwatch_self_cpu_seconds_total")) == [("main", pid)]
        first.stop()
        assert values(shared, "loopwatch_tasks") == {}

    asyncio.run(main())


def test_a_slot_is_used_again_and_empty_at_first(shared: Path) -> None:
    """Files do not pile up over restarts, and nothing of the one before is left in them."""
    before = ledger()
    before.iterations = 7
    for _ in range(3):
        files = SharedFiles(shared, source(before.snapshot))
        files.start()
        wait_until(lambda: values(shared, "loopwatch_iterations_total"))
        files.stop()
        assert values(shared, "loopwatch_iterations_total") == {}
    names = sorted(path.name for path in shared.iterdir())
    assert names == ["counter_loopwatch-0.db", "histogram_loopwatch-0.db"]


def test_a_fork_leaves_its_parents_series_alone(shared: Path) -> None:
    """A child that ends clears nothing, and its own agent gets a slot of its own."""
    files = SharedFiles(shared, source())
    files.start()
    wait_until(lambda: values(shared, "loopwatch_tasks"))
    mine = ("main", str(os.getpid()))

    def child() -> None:
        files.forget()
        own = SharedFiles(shared, source())
        own.start()
        wait_until(lambda: len(values(shared, "loopwatch_tasks")) == 2)
        own.stop()

    process = multiprocessing.get_context("fork").Process(target=child)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        process.start()
    process.join(10)
    assert process.exitcode == 0
    assert list(values(shared, "loopwatch_tasks")) == [mine]
    files.stop()


def test_whoever_finds_a_slot_without_an_owner_clears_it(shared: Path, child: Child) -> None:
    """A process that was killed is gone from the page once another one has looked around."""
    script = """
    async def main():
        loopwatch.install(exporters=["prometheus"])
        await asyncio.sleep(0.3)
        print(os.getpid(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    asyncio.run(main())
    """
    dead = child(script).stdout.strip()
    assert list(values(shared, "loopwatch_tasks")) == [("main", dead)]
    other = SharedFiles(shared / ".." / "metrics", source())
    assert values(shared, "loopwatch_tasks") == {}, "the dead one's slot was the first to take"
    other.stop()

    survivor = SharedFiles(shared, source())
    dead = child(script).stdout.strip()
    assert ("main", dead) in values(shared, "loopwatch_tasks")
    survivor.start()
    alone = [("main", str(os.getpid()))]
    wait_until(lambda: list(values(shared, "loopwatch_tasks")) == alone)
    wait_until(lambda: list(values(shared, "loopwatch_iterations_total")) in ([], alone))
    survivor.stop()


def test_what_ends_is_zero_not_its_last_value(shared: Path) -> None:
    """An executor that is gone has no threads any more."""
    book = ledger()
    book.executors = (Executor("pool", 3, 5),)
    files = SharedFiles(shared, source(book.snapshot))
    files.start()
    wait_until(lambda: values(shared, "loopwatch_executor_threads").get(("main", str(os.getpid()))))
    book.executors = ()
    files.soon()
    wait_until(lambda: set(values(shared, "loopwatch_executor_threads").values()) == {0.0})
    files.stop()


def test_readers_never_meet_half_a_file(shared: Path) -> None:
    """Whatever workers come and go, each file says from its first moment how much is in it."""
    files = SharedFiles(shared, source())
    for path in shared.iterdir():
        used = struct.unpack_from("i", path.read_bytes())[0]
        assert used == 8
        assert path.stat().st_size == 1 << 16
    files.stop()
