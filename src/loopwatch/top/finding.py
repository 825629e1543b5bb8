"""From processes to the addresses of their thread servers, through Linux's /proc.

A listening socket has an inode; /proc/PID/net/tcp says which address it has, /proc/PID/fd who
holds it. Whether it is loopwatch's is asked once, up to three times if there is no answer: later
looks read two files, unless a new socket has come.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loopwatch.top.address import Address
from loopwatch.top.client import Client, NotLoopwatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Found", "Search"]

_PROC: Final = Path("/proc")
_LISTEN: Final = "0A"
_PROBE_S: Final = 1.0
# A server that could not answer is asked again after so long, and then ever more rarely.
_AGAIN_S: Final = 2.0
_MAX_DOUBLINGS: Final = 5
# Where nobody asked for it by name: then it speaks no HTTP.
_MAX_FAILURES: Final = 3
_PROBES_AT_ONCE: Final = 16
_SET: Final = "set http_port=9464 (or LOOPWATCH_HTTP_PORT) there"


@dataclass(frozen=True, slots=True)
class Found:
    """Addresses of thread servers, and in one line each which processes have none and why."""

    addresses: tuple[Address, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listener:
    inode: int
    uid: int
    address: Address


@dataclass(slots=True)
class _Verdict:
    """What is known of a listener: `ours` is `None` until it has answered."""

    ours: bool | None = None
    again_at_s: float = 0.0
    failures: int = 0


class Search:
    """Looks for the servers of some processes, or of all that are ours. One thread looks."""

    def __init__(self, pids: Sequence[int] | None) -> None:
        """`pids` are processes; `None` is every process of this user, for root of everybody."""
        self._pids = pids
        self._verdicts: dict[_Listener, _Verdict] = {}

    def look(self) -> Found:
        """Return what there is now. Asks new listeners, together for about a second at most."""
        if not _PROC.joinpath("self", "net", "tcp").exists():
            return Found((), ("finding processes needs /proc of Linux: give the URL instead",))
        if self._pids is None:
            return self._look_everywhere()
        problems = []
        addresses: list[Address] = []
        for pid in self._pids:
            listeners, why_not = _listeners_of(pid)
            mine = self._ours(listeners)
            if not mine and not why_not:
                # A supervisor: its workers have the servers.
                children = [each for child in _workers(pid) for each in _listeners_of(child)[0]]
                mine = self._ours(children)
                listeners += children
            addresses += mine
            if not mine:
                problems.append(why_not or self._why_none(pid, listeners))
        return Found(tuple(dict.fromkeys(addresses)), tuple(problems))

    def _look_everywhere(self) -> Found:
        uid = os.geteuid()
        listeners = [each for each in _listening("self") if uid in (0, each.uid)]
        self._verdicts = {each: v for each, v in self._verdicts.items() if each in listeners}
        new = [each for each in listeners if each not in self._verdicts]
        if new:
            held = _held_by_python()
            for each in new:
                if each.inode not in held:
                    # Other programs are not bothered with questions.
                    self._verdicts[each] = _Verdict(ours=False)
        return Found(tuple(self._ours(listeners)), ())

    def _ours(self, listeners: Sequence[_Listener]) -> list[Address]:
        """Ask those that are new, and return the addresses of those that are loopwatch's."""
        self._ask(listeners)
        return [each.address for each in listeners if self._verdicts[each].ours is True]

    def _why_none(self, pid: int, listeners: Sequence[_Listener]) -> str:
        if any(self._verdicts[each].ours is None for each in listeners):
            return f"process {pid} does not answer, it may be loopwatch or not: give its URL"
        return f"process {pid} has no loopwatch server: {_SET}"

    def _ask(self, listeners: Iterable[_Listener]) -> None:
        now_s = time.monotonic()
        due = []
        for each in listeners:
            verdict = self._verdicts.setdefault(each, _Verdict())
            if verdict.ours is None and now_s >= verdict.again_at_s:
                due.append(each)
        while due:
            batch, due = due[:_PROBES_AT_ONCE], due[_PROBES_AT_ONCE:]
            # Side by side, for one that does not answer must not delay the others.
            threads = [
                threading.Thread(
                    target=self._probe, args=(each,), name="loopwatch-top-probe", daemon=True
                )
                for each in batch
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def _probe(self, listener: _Listener) -> None:
        verdict = self._verdicts[listener]
        try:
            answer = Client(listener.address, _PROBE_S).get("/api/snapshot")
            verdict.ours = isinstance(answer, dict) and isinstance(answer.get("loops"), list)
        except NotLoopwatchError:
            verdict.ours = False
        except Exception:  # noqa: BLE001 - one odd answer must not end the search
            wait_s = _AGAIN_S * 2 ** min(verdict.failures, _MAX_DOUBLINGS)
            verdict.again_at_s = time.monotonic() + wait_s
            verdict.failures += 1
            if self._pids is None and verdict.failures >= _MAX_FAILURES:
                verdict.ours = False


def _listeners_of(pid: int) -> tuple[list[_Listener], str]:
    """Return the listeners of a process, or why they cannot be had."""
    try:
        same_network = _network(str(pid)) == _network("self")
        inodes = _inodes(pid)
    except (FileNotFoundError, ProcessLookupError):
        return [], f"no process {pid}"
    except PermissionError:
        return [], f"process {pid} is not yours: run this as its user, or give its URL"
    if not same_network:
        return [], (
            f"process {pid} has a network of its own: run this in its container, or forward the "
            "port and give the URL"
        )
    return [each for each in _listening(str(pid)) if each.inode in inodes], ""


def _workers(pid: int) -> Iterator[int]:
    """Yield the Python processes that a process has started, and those that they have."""
    todo = [pid]
    while todo:
        children = []
        for task in (_PROC / str(todo.pop()) / "task").glob("*/children"):
            with contextlib.suppress(OSError):  # ended meanwhile
                children += [int(word) for word in task.read_text().split()]
        for child in children:
            with contextlib.suppress(OSError):  # or somebody else's
                if _runs_python(_PROC / str(child)):
                    yield child
        todo += children


def _network(process: str) -> Path:
    return (_PROC / process / "ns" / "net").readlink()


def _held_by_python() -> set[int]:
    """Return the inodes of all sockets that Python processes hold, where they may be read."""
    held: set[int] = set()
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            inodes = _inodes(int(entry.name))
            if inodes and _runs_python(entry):
                held |= inodes
        except OSError:
            pass  # ended meanwhile, or somebody else's
    return held


def _runs_python(entry: Path) -> bool:
    if "python" in (entry / "exe").readlink().name:
        return True
    # Embedded, as in uWSGI: a library, or modules compiled for CPython.
    return "python" in (entry / "maps").read_text(errors="replace")


def _inodes(pid: int) -> set[int]:
    """Return the inodes of the sockets of a process; raises `OSError`."""
    inodes = set()
    with os.scandir(_PROC / str(pid) / "fd") as entries:
        for entry in entries:
            try:
                target = str(Path(entry.path).readlink())
            except FileNotFoundError:
                continue  # closed meanwhile
            if target.startswith("socket:["):
                inodes.add(int(target[8:-1]))
    return inodes


def _listening(process: str) -> Iterator[_Listener]:
    """Yield the listening TCP sockets in the network that a process is in."""
    for name in ("tcp", "tcp6"):
        try:
            rows = (_PROC / process / "net" / name).read_text().splitlines()[1:]
        except OSError:
            continue  # no IPv6, or ended meanwhile
        for row in rows:
            fields = row.split()
            if fields[3] == _LISTEN:
                yield _Listener(int(fields[9]), int(fields[7]), _address(fields[1]))


def _address(field: str) -> Address:
    """Return where to ask what listens at an address of /proc/net/tcp."""
    digits, _, port = field.partition(":")
    # Words of 32 bits in the byte order of the machine.
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    packed = b"".join(word.to_bytes(4, sys.byteorder) for word in words)
    host = ipaddress.ip_address(packed)
    if isinstance(host, ipaddress.IPv6Address) and host.ipv4_mapped is not None:
        host = host.ipv4_mapped
    if host.is_unspecified:
        host = ipaddress.ip_address("127.0.0.1" if host.version == 4 else "::1")  # noqa: PLR2004
    return Address("http", str(host), int(port, 16))
