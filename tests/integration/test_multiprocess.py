"""The files that several workers share: faults, forks, two loops, and slots that are used again."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import shutil
import struct
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

import loopwatch
from loopwatch.config import Config
from loopwatch.exporters import multiprocess
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


def source(
    read: Callable[[], Snapshot] | None = None,
    fault: Callable[[str, BaseException], None] = lambda *_: None,
) -> Source:
    return Source(Config(), read or ledger().snapshot, fault=fault)


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
    assert "a directory that every worker can write to" in lines[0]
    assert ("No such file" if kind == "missing" else "Not a directory") in lines[0]


def test_a_disk_without_room_is_an_error_not_a_signal(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is allotted before anything is mapped: what does not fit fails here, not in a store."""
    files = SharedFiles(shared, source())
    monkeypatch.setattr(os, "pwrite", lambda *_: 100)  # as much as there was room for
    with pytest.raises(OSError, match="No space left"):
        files.start()
    files.stop()
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
    other.start()
    dead_one = ("main", dead)
    assert dead_one not in values(shared, "loopwatch_tasks"), "its slot was the first to take"
    other.stop()

    survivor = SharedFiles(shared, source())
    survivor.start()
    child(script)
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
    slot = multiprocess._Slot(shared)
    for path in shared.iterdir():
        used = struct.unpack_from("i", path.read_bytes())[0]
        assert used == 8
        assert path.stat().st_size == 1 << 16
    slot.leave()


def test_a_wiped_folder_is_filled_again(shared: Path) -> None:
    """A new release wipes the folder: who still runs comes back, and harms nobody as it stops."""
    book = ledger()
    book.identity = replace(book.identity, loop="new")
    old, new = SharedFiles(shared, source()), SharedFiles(shared, source(book.snapshot))
    old.start()
    wait_until(lambda: values(shared, "loopwatch_tasks"))
    for path in shared.iterdir():
        path.unlink()
    new.start()  # takes the number that was the old one's
    old.soon()
    wait_until(lambda: len(values(shared, "loopwatch_tasks")) == 2)
    old.stop()
    left = {loop for loop, _ in values(shared, "loopwatch_tasks")}
    assert left == {"new"}
    assert values(shared, "loopwatch_lag_seconds_count")
    new.stop()


def test_a_slot_that_was_wiped_is_not_cleared_for_its_next_owner(shared: Path) -> None:
    """Whoever stops after the wipe finds another worker's files under its number."""
    old = multiprocess._Slot(shared)
    for path in shared.iterdir():
        path.unlink()
    new = SharedFiles(shared, source())
    new.start()
    wait_until(lambda: values(shared, "loopwatch_lag_seconds_count"))
    old.leave()
    assert values(shared, "loopwatch_lag_seconds_count")
    assert values(shared, "loopwatch_tasks")
    new.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_slot_of_another_user_is_passed_over() -> None:
    """A process of root's in the folder costs the others neither their place nor their sweep."""
    shared = Path(tempfile.mkdtemp())  # pytest's own folder is for root alone
    shared.chmod(0o1777)
    roots = SharedFiles(shared, source())
    roots.start()
    wait_until(lambda: values(shared, "loopwatch_tasks"))

    def child() -> None:
        roots.forget()
        os.setuid(65534)
        failed: list[str] = []
        own = SharedFiles(shared, source(fault=lambda what, _: failed.append(what)))
        own.start()
        wait_until(lambda: len(values(shared, "loopwatch_tasks")) == 2)
        own._slot.sweep()
        own.stop()
        assert not failed

    process = multiprocessing.get_context("fork").Process(target=child)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12+: fork with threads
        process.start()
    process.join(10)
    assert process.exitcode == 0
    roots.stop()
    shutil.rmtree(shared)


def test_two_exporters_of_one_agent_count_once(shared: Path) -> None:
    """The same loop twice in the files would be a sum that lies."""

    async def main() -> None:
        exporters = [PrometheusExporter(CollectorRegistry()) for _ in range(2)]
        with loopwatch.install(exporters=exporters):
            wait_until(lambda: values(shared, "loopwatch_tasks"))
            assert len(list(shared.glob("counter_*.db"))) == 1

    asyncio.run(main())


def test_a_registry_that_the_host_emptied_does_not_keep_us(shared: Path) -> None:
    """Everything is let go of although the collector is not there to be taken out."""
    registry = CollectorRegistry()

    async def main() -> None:
        with loopwatch.install(exporters=[PrometheusExporter(registry)]):
            wait_until(lambda: values(shared, "loopwatch_tasks"))
            for collector in list(registry._collector_to_names):
                registry.unregister(collector)

    asyncio.run(main())
    assert values(shared, "loopwatch_tasks") == {}
    assert not any(t.name == "loopwatch-multiprocess" for t in threading.enumerate())
