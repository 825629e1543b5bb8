"""Several workers behind one endpoint: what each knows, in files that all of them read.

In the multiprocess mode of prometheus-client whichever worker is scraped merges the `*.db` files
of `PROMETHEUS_MULTIPROC_DIR`. Collectors never get there, so a thread writes the catalogue into
files of our own, in the same format, about once a second and at once when a stall opens. Each
series carries the label `pid`: a sum over workers would lie about most of them.

A worker owns a *slot*: its counter file, by a lock that ends with the process however it ends.
Whoever finds a slot without an owner clears it, so a killed worker's series go away without help
from the server. Counter and histogram files are emptied and used again, never deleted: a reader
that has listed them would fail. It forgives that for gauges alone.

Checked on prometheus-client 0.20 to 0.26: `MmapedDict`, `mmap_key`, the `pid` taken from the
third part of a gauge file's name, and the word at the start of a file that says how much is used.
"""

from __future__ import annotations

import errno
import os
import struct
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import mmap_dict, utils

from loopwatch.catalogue import METRICS, Kind, Metric
from loopwatch.exporters.files import is_at
from loopwatch.exporters.pulse import Pulse

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from loopwatch.exporters.base import Source
    from loopwatch.model import Snapshot

__all__ = ["SharedFiles"]

# Both modules of prometheus-client come without types.
_mmap_dict: Any = mmap_dict
_utils: Any = utils

_PAUSE_S: Final = 1.0
# While a loop is stalled its age is what people look at.
_STALLED_PAUSE_S: Final = 0.5
_BEATS_PER_SWEEP: Final = 2

_MOST_SLOTS: Final = 4096
_SLOT: Final = "loopwatch-"
_EMPTY: Final = struct.pack("i", 8)
# Room that is written at once: a write into a file with holes on a full disk is a SIGBUS.
_ROOM: Final = 1 << 16


class SharedFiles:
    """The files of one loop."""

    def __init__(self, folder: Path, source: Source) -> None:
        self._source = source
        self._folder = folder
        self._slot: _Slot | None = None
        self._written: dict[str, float] = {}
        self._keys: dict[tuple[str, tuple[str, ...]], str] = {}
        self._beats = 0
        self._pulse = Pulse("multiprocess", source, self._beat)

    @property
    def read(self) -> Callable[[], Snapshot]:
        """What says what is true of the loop."""
        return self._source.snapshot

    def start(self) -> None:
        """Start the thread that writes. Raises `OSError` where the folder cannot be used."""
        if fcntl is None:
            raise OSError("there are no file locks on this system")
        self._slot = _Slot(self._folder)
        self._pulse.start()

    def soon(self) -> None:
        """Write now: there is news."""
        self._pulse.soon()

    def stop(self) -> None:
        """Take the series of this loop away."""
        self._pulse.stop()
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.leave()

    def forget(self) -> None:
        """Let go of the slot in a forked child; the parent's goes on."""
        self._pulse.forget()
        slot, self._slot = self._slot, None
        if slot is not None:
            slot.close()

    def _beat(self) -> float:
        slot = self._slot
        if slot is None:
            return _PAUSE_S
        if not slot.is_there():
            # Somebody has wiped the folder, as one does before a new release starts.
            slot.close()
            self._written.clear()
            self._slot = slot = _Slot(self._folder)
        snapshot = self._source.snapshot()
        gone = dict.fromkeys(self._keys)
        for metric in METRICS:
            for name, labels, value in _readings(metric, snapshot):
                self._write(slot, metric, name, labels, value)
                gone.pop((name, tuple(labels.values())), None)
        for series in gone:
            # An executor that has ended, say: what is in a file cannot be taken out, only be 0.
            self._set(slot, Kind.GAUGE, self._keys[series], 0.0)
        self._beats += 1
        if self._beats % _BEATS_PER_SWEEP == 0:
            slot.sweep()
        return _STALLED_PAUSE_S if snapshot.active_s else _PAUSE_S

    def _write(
        self, slot: _Slot, metric: Metric, name: str, labels: dict[str, str], value: float
    ) -> None:
        series = (name, tuple(labels.values()))
        key = self._keys.get(series)
        if key is None:
            # A gauge's label comes from the name of its file.
            own = labels if metric.kind is Kind.GAUGE else {**labels, "pid": slot.pid}
            family = metric.name.removesuffix("_total")
            key = _mmap_dict.mmap_key(family, name, list(own), list(own.values()), metric.help)
            self._keys[series] = key
        self._set(slot, metric.kind, key, value)

    def _set(self, slot: _Slot, kind: Kind, key: str, value: float) -> None:
        if self._written.get(key) != value:
            slot.files[kind].write_value(key, float(value), 0.0)
            self._written[key] = value


def _readings(metric: Metric, snapshot: Snapshot) -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield the name, labels and value of each series, buckets not yet summed up."""
    loop = {"loop": snapshot.loop}
    if metric.kind is Kind.HISTOGRAM:
        lag = snapshot.lag
        for bound, count in zip(chain(lag.bounds, [float("inf")]), lag.counts, strict=True):
            yield f"{metric.name}_bucket", {**loop, "le": _utils.floatToGoString(bound)}, count
        yield f"{metric.name}_sum", loop, lag.sum_s
        return
    for values, value in metric.read(snapshot):
        yield metric.name, {**loop, **dict(zip(metric.labels, values, strict=True))}, value


class _Slot:
    """One loop's place in the folder: three files, of which the counters' is locked."""

    def __init__(self, folder: Path) -> None:
        """Take the lowest one that is free. Raises `OSError` if there is none to be had."""
        self._folder = folder
        self.pid = str(os.getpid())
        self._number, self._lock = _take_slot(folder)
        self.files: dict[Kind, Any] = {}
        # The lock of a dead worker's slot, while that is cleared.
        self._others: int | None = None
        try:
            _clear(folder, self._number, self._lock)
            for kind, path in self._paths().items():
                _make(path)
                self.files[kind] = _mmap_dict.MmapedDict(str(path))
        except BaseException:
            self.close()
            raise

    def _paths(self) -> dict[Kind, Path]:
        name = f"{_SLOT}{self._number}.db"
        return {
            Kind.COUNTER: _counters(self._folder, self._number),
            Kind.HISTOGRAM: self._folder / f"histogram_{name}",
            Kind.GAUGE: self._folder / f"gauge_liveall_{self.pid}.db_{name}",
        }

    def is_there(self) -> bool:
        """Whether what readers find is what is written here."""
        return is_at(self._lock, _counters(self._folder, self._number))

    def sweep(self) -> None:
        """Clear the slots of workers that have died."""
        for path in self._folder.glob(f"counter_{_SLOT}*.db"):
            number = int(path.stem.rpartition("-")[2])
            self._others = _locked(path) if number != self._number else None
            if self._others is not None:
                try:
                    _clear(self._folder, number, self._others)
                finally:
                    os.close(self._others)
                    self._others = None

    def leave(self) -> None:
        """Clear this slot and let go of it."""
        try:
            _clear(self._folder, self._number, self._lock)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the files and of every lock, as they are."""
        for file in self.files.values():
            file.close()
        for descriptor in (self._lock, self._others):
            if descriptor is not None:
                os.close(descriptor)
        self._others = None


def _counters(folder: Path, slot: int) -> Path:
    return folder / f"counter_{_SLOT}{slot}.db"


def _take_slot(folder: Path) -> tuple[int, int]:
    """Return the lowest slot without an owner, and the descriptor that holds its lock."""
    for slot in range(_MOST_SLOTS):
        path = _counters(folder, slot)
        _make(path)
        descriptor = _locked(path)
        if descriptor is not None:
            return slot, descriptor
    raise OSError(f"more than {_MOST_SLOTS} workers use it")


def _make(path: Path) -> None:
    """Make a file that readers find empty from its first moment, with its room on the disk."""
    if path.exists():
        return
    new = path.with_suffix(f".{os.getpid()}.new")
    descriptor = os.open(new, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        if os.pwrite(descriptor, _EMPTY + bytes(_ROOM - len(_EMPTY)), 0) != _ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.link(new, path)
    except FileExistsError:
        pass  # another worker was faster
    finally:
        os.close(descriptor)
        new.unlink()


def _locked(path: Path) -> int | None:
    """Return a descriptor that holds the lock of a file; `None` if another process has it.

    So it has, for us, if another user made it.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _clear(folder: Path, slot: int, lock: int) -> None:
    """Take away all series of a slot whose lock is held."""
    if not is_at(lock, _counters(folder, slot)):
        return  # the folder was wiped: what bears this number now is another worker's
    os.pwrite(lock, _EMPTY, 0)
    for path in folder.glob(f"*_{_SLOT}{slot}.db"):
        if path.name.startswith("gauge_"):
            path.unlink(missing_ok=True)
        elif path.name.startswith("histogram_"):
            with path.open("r+b") as file:
                file.write(_EMPTY)
