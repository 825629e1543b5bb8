"""What the kernel knows of one thread: the system call it sleeps in, its waits for a CPU.

Linux `/proc/self/task/TID/syscall` and `schedstat`, and `cpu.stat` of the cgroup (v1 and v2).
What cannot be read (other systems, gVisor, hardened kernels) is `None`.

The `syscall` file is read with the GIL held, so its answer is sharp: a thread that sleeps there is
in that system call; one that runs has let go of the GIL and computes; one that waits for the GIL
was executing Python, or a C call that kept it, until just now.
"""

from __future__ import annotations

import platform
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from loopwatch.clock import NS_PER_S
from loopwatch.probes.descriptors import kind_of
from loopwatch.probes.kernel_files import KernelFile

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GIL", "RUNNABLE", "RUNNING", "KernelThread", "Sleep", "ThrottleProbe"]

# What `KernelThread.sleep` says beside the kinds of sleep.
RUNNING: Final = "running"
RUNNABLE: Final = "runnable"
GIL: Final = "gil"

# System calls a thread may sleep in, by kind; see `_kind`. A kind that ends in "(fd)" depends on
# what the descriptor in the first argument is.
_KINDS: Final = {
    "sleep": ("nanosleep", "clock_nanosleep"),
    "process": ("wait4", "waitid"),
    "lock": ("flock", "semop", "semtimedop", "msgrcv", "msgsnd"),
    "futex": ("futex",),
    "fd": (
        "read", "write", "pread64", "pwrite64", "readv", "writev", "sendfile", "splice", "fsync",
        "fdatasync", "recvfrom", "recvmsg", "recvmmsg", "sendto", "sendmsg", "sendmmsg", "connect",
        "accept", "accept4", "fcntl", "ftruncate", "fallocate", "getdents64", "ioctl",
        "epoll_wait", "epoll_pwait", "epoll_pwait2",
    ),
    "poll": ("poll", "ppoll"),
    "select": ("select", "pselect6"),
    "file": ("open", "openat", "openat2", "stat", "lstat", "rename", "renameat", "unlink",
             "unlinkat", "mkdir", "sync", "truncate", "statx",
             "newfstatat"),
    "signal": ("pause", "rt_sigtimedwait", "rt_sigsuspend"),
}  # fmt: skip
# Numbers of the generic table (aarch64, riscv64) and of x86_64; other machines: no kinds.
_X86_64: Final = {
    0: "read", 1: "write", 2: "open", 4: "stat", 6: "lstat", 7: "poll", 16: "ioctl",
    17: "pread64", 18: "pwrite64", 19: "readv", 20: "writev", 23: "select", 34: "pause",
    35: "nanosleep", 40: "sendfile", 42: "connect", 43: "accept", 44: "sendto", 45: "recvfrom",
    46: "sendmsg", 47: "recvmsg", 61: "wait4", 65: "semop", 69: "msgsnd", 70: "msgrcv",
    72: "fcntl", 73: "flock", 74: "fsync", 75: "fdatasync", 76: "truncate", 77: "ftruncate",
    82: "rename", 83: "mkdir", 87: "unlink", 128: "rt_sigtimedwait", 130: "rt_sigsuspend",
    162: "sync", 202: "futex", 217: "getdents64", 220: "semtimedop", 230: "clock_nanosleep",
    232: "epoll_wait", 247: "waitid", 257: "openat", 262: "newfstatat", 263: "unlinkat",
    264: "renameat", 270: "pselect6", 271: "ppoll", 275: "splice", 281: "epoll_pwait",
    285: "fallocate", 288: "accept4", 299: "recvmmsg", 307: "sendmmsg", 332: "statx",
    437: "openat2", 441: "epoll_pwait2",
}  # fmt: skip
_GENERIC: Final = {
    22: "epoll_pwait", 25: "fcntl", 29: "ioctl", 32: "flock", 35: "unlinkat", 38: "renameat",
    45: "truncate", 46: "ftruncate", 47: "fallocate", 56: "openat", 61: "getdents64", 63: "read",
    64: "write", 65: "readv", 66: "writev", 67: "pread64", 68: "pwrite64", 71: "sendfile",
    72: "pselect6", 73: "ppoll", 76: "splice", 79: "newfstatat", 81: "sync", 82: "fsync",
    83: "fdatasync", 95: "waitid", 98: "futex", 101: "nanosleep", 115: "clock_nanosleep",
    133: "rt_sigsuspend", 137: "rt_sigtimedwait", 188: "msgrcv", 189: "msgsnd",
    192: "semtimedop", 193: "semop", 202: "accept", 203: "connect", 206: "sendto",
    207: "recvfrom", 211: "sendmsg", 212: "recvmsg", 242: "accept4", 243: "recvmmsg",
    260: "wait4", 269: "sendmmsg", 291: "statx", 437: "openat2", 441: "epoll_pwait2",
}  # fmt: skip
_TABLES: Final = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC}
_KIND_OF: Final = {name: kind for kind, names in _KINDS.items() for name in names}

_FUTEX_COMMAND: Final = 0x7F
_FUTEX_WAITS: Final = (0, 9, 11, 13)  # WAIT, WAIT_BITSET, WAIT_REQUEUE_PI, LOCK_PI2
_FUTEX_CLOCK_REALTIME: Final = 256
_LOCK_WAITS: Final = (7, 38)  # F_SETLKW, F_OFD_SETLKW
_EPOLL: Final = ("epoll_wait", "epoll_pwait", "epoll_pwait2")
_ON_ITS_WAY_NS: Final = 50_000
_FDS_LOOKED_AT: Final = 64
_TIMESPEC: Final = struct.Struct("qq")


class Sleep(NamedTuple):
    """What a thread was found in: a kind of wait (or `RUNNING`, `GIL`), and the fd it is about."""

    kind: str
    fd: int | None = None


class KernelThread:
    """The kernel's view of the thread `native_id`. Watchdog thread."""

    def __init__(self, native_id: int, cpu_ns: Callable[[], int | None] | None = None) -> None:
        """Look at a thread; `cpu_ns` tells its CPU time, if somebody knows."""
        self._cpu_ns = cpu_ns
        self._names = _TABLES.get(platform.machine(), {})
        self._memory = KernelFile("/proc/self/mem")
        self._open(native_id)

    def follow(self, native_id: int) -> None:
        """Look at another thread from now on."""
        self._syscall.close()
        self._schedstat.close()
        self._open(native_id)

    def close(self) -> None:
        """Give the descriptors back. Idempotent."""
        for file in (self._syscall, self._schedstat, self._memory):
            file.close()

    def sleep(self) -> Sleep | None:
        """Return what the thread is in at this moment; `None` if the kernel does not say.

        A thread that has just lost the GIL to the caller is on its way to ask for it again, so
        what looks like running or like a lock is looked at twice more, some 50 µs later. And the
        kernel says "running" of a thread that would like to: it is `RUNNABLE` unless it used CPU
        time while the caller held the GIL.
        """
        found = self._sleep()
        computed = True
        for _ in range(2):
            if found is None or found.kind not in (RUNNING, "lock"):
                return found
            computed = self._computes()
            found = self._sleep()
        return Sleep(RUNNABLE) if found == Sleep(RUNNING) and not computed else found

    def _computes(self) -> bool:
        """Spin for a moment, as any kind of sleep would give the GIL back, and see who computed."""
        before_ns = self._cpu_ns() if self._cpu_ns is not None else None
        until_ns = time.monotonic_ns() + _ON_ITS_WAY_NS
        while time.monotonic_ns() < until_ns:
            pass
        after_ns = self._cpu_ns() if self._cpu_ns is not None else None
        if before_ns is None or after_ns is None:
            return True  # nobody knows: the kernel's word has to do
        return 2 * (after_ns - before_ns) >= _ON_ITS_WAY_NS

    def _sleep(self) -> Sleep | None:
        fields = self._syscall.read(256).split()
        if not fields or fields[0] == b"-1":
            return None  # not to be had, or blocked outside of any call: a page being read, say
        if fields[0] == b"running":
            return Sleep(RUNNING)
        name = self._names.get(int(fields[0]))
        kind = _KIND_OF.get(name or "")
        if name is None or kind is None:
            return Sleep("other") if self._names else None
        arguments = [int(field, 16) for field in fields[1:7]]
        if kind == "futex":
            return self._futex(arguments)
        if name == "fcntl" and arguments[1] in _LOCK_WAITS:
            return Sleep("lock", arguments[0])
        if kind == "poll":
            return _of_fds(self._polled(arguments[0], arguments[1]))
        if kind == "select":
            return _of_fds(self._selected(arguments[0], arguments[1]))
        if kind == "fd":
            return _of_fds([arguments[0]] if name not in _EPOLL else _epolled(arguments[0]))
        return Sleep(kind)

    def runqueue_wait_ns(self) -> int | None:
        """Return how long the thread has been runnable without a CPU, since it began."""
        fields = self._schedstat.read(128).split()
        return int(fields[1]) if len(fields) > 1 else None

    def _open(self, native_id: int) -> None:
        folder = f"/proc/self/task/{native_id}"
        self._syscall = KernelFile(f"{folder}/syscall")
        self._schedstat = KernelFile(f"{folder}/schedstat")

    def _futex(self, arguments: list[int]) -> Sleep | None:
        command, timeout_at = arguments[1], arguments[3]
        if command & _FUTEX_COMMAND not in _FUTEX_WAITS or not timeout_at:
            return Sleep("lock")
        raw = self._memory.read(_TIMESPEC.size, timeout_at)
        if len(raw) < _TIMESPEC.size:
            return None  # a lock or the GIL, who knows
        deadline_s, deadline_ns = _TIMESPEC.unpack(raw)
        now_ns = time.time_ns() if command & _FUTEX_CLOCK_REALTIME else time.monotonic_ns()
        left_ns = deadline_s * NS_PER_S + deadline_ns - now_ns
        # A thread that wants the GIL wakes up every switch interval to ask again.
        asks_again = abs(left_ns) <= 2 * sys.getswitchinterval() * NS_PER_S
        return Sleep(GIL if asks_again else "lock")

    def _polled(self, address: int, count: int) -> list[int]:
        # Reading our own memory like a file cannot fault, whatever has become of the address.
        raw = self._memory.read(8 * min(count, _FDS_LOOKED_AT), address)
        return [fd for fd, _, _ in struct.iter_unpack("ihh", raw[: len(raw) // 8 * 8]) if fd >= 0]

    def _selected(self, count: int, address: int) -> list[int]:
        bits = int.from_bytes(self._memory.read(128, address) if address else b"", "little")
        return [fd for fd in range(min(count, 1024)) if bits >> fd & 1]


class ThrottleProbe:
    """How long the cgroup of this process was kept from running by its CPU quota."""

    def __init__(self) -> None:
        path, key, self._unit_ns = _cpu_stat()
        self.path = str(path) if path is not None else None
        self._key = key.encode()
        self._file = KernelFile(self.path, slow=True) if self.path is not None else None

    def read_ns(self) -> int | None:
        """Return the time throttled so far; `None` without a cgroup that has a CPU controller."""
        for line in self._file.read().splitlines() if self._file is not None else ():
            key, _, value = line.partition(b" ")
            if key == self._key:
                return int(value) * self._unit_ns
        return None

    def close(self) -> None:
        """Give the descriptor back. Idempotent."""
        if self._file is not None:
            self._file.close()


def _cpu_stat() -> tuple[Path | None, str, int]:
    """Return the cpu.stat of our cgroup, the key of the throttled time in it, and its unit."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None, "", 0
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            roots, key, unit_ns = (
                ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"),
                "throttled_usec",
                1000,
            )
        elif "cpu" in controllers.split(","):
            roots, key, unit_ns = (
                (f"/sys/fs/cgroup/{controllers}", "/sys/fs/cgroup/cpu"),
                "throttled_time",
                1,
            )
        else:
            continue
        for root in roots:
            # Inside a container the path may be the host's: the root of the mount is ours then.
            for folder in (Path(root + path), Path(root)):
                file = folder / "cpu.stat"
                try:
                    if key in file.read_text(encoding="ascii"):
                        return file, key, unit_ns
                except OSError:
                    continue
    return None, "", 0


def _of_fds(fds: list[int]) -> Sleep:
    if not fds:
        return Sleep("sleep")  # poll() and select() of nothing are ways to sleep
    # Of several nobody knows which one it is about.
    kinds = Counter(map(kind_of, fds))
    return Sleep(kinds.most_common(1)[0][0], fds[0] if len(fds) == 1 else None)


def _epolled(fd: int) -> list[int]:
    """Return what an epoll descriptor watches."""
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii")
    except OSError:
        return [fd]
    watched = [int(line.split()[1]) for line in text.splitlines() if line.startswith("tfd:")]
    return watched or [fd]
