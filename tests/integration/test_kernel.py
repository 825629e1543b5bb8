"""What the kernel says of threads that are really blocked, and of the descriptors they wait for."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import platform
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from loopwatch.probes import kernel
from loopwatch.probes.descriptors import detail_of, kind_of
from loopwatch.probes.kernel import GIL, RUNNING, KernelThread, Sleep, ThrottleProbe
from loopwatch.probes.kernel_files import KernelFile

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")

SECRET = "jane-doe-salary"
WAIT_S = 20


class Case(NamedTuple):
    """Something to block in, how to end it, and what is to be told of it."""

    block: Callable[[], object]
    release: Callable[[], object]
    kind: str
    detail: str | None = None


Make = Callable[[contextlib.ExitStack, Path], Case]
CASES: dict[str, Make] = {}


def case(make: Make) -> Make:
    CASES[make.__name__] = make
    return make


def again(sleep: Callable[[], object]) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what sleeps again and again, and what ends it."""
    stop = threading.Event()

    def block() -> None:
        while not stop.is_set():
            sleep()

    return block, stop.set


@case
def time_sleep(stack: contextlib.ExitStack, folder: Path) -> Case:
    return Case(*again(lambda: time.sleep(0.2)), "sleep")


@case
def select_of_nothing(stack: contextlib.ExitStack, folder: Path) -> Case:
    return Case(*again(lambda: select.select([], [], [], 0.2)), "sleep")


@case
def poll_of_nothing(stack: contextlib.ExitStack, folder: Path) -> Case:
    return Case(*again(lambda: select.poll().poll(200)), "sleep")


@case
def lock(stack: contextlib.ExitStack, folder: Path) -> Case:
    held = threading.Lock()
    held.acquire()
    return Case(held.acquire, held.release, "lock")


@case
def lock_with_timeout(stack: contextlib.ExitStack, folder: Path) -> Case:
    held = threading.Lock()
    held.acquire()
    return Case(lambda: held.acquire(timeout=60), held.release, "lock")


@case
def event(stack: contextlib.ExitStack, folder: Path) -> Case:
    happened = threading.Event()
    return Case(happened.wait, happened.set, "lock")


@case
def event_with_timeout(stack: contextlib.ExitStack, folder: Path) -> Case:
    happened = threading.Event()
    return Case(lambda: happened.wait(60), happened.set, "lock")


@case
def join_of_a_thread_that_computes(stack: contextlib.ExitStack, folder: Path) -> Case:
    stop = threading.Event()

    def compute() -> None:
        while not stop.is_set():
            sum(range(1000))

    hog = threading.Thread(target=compute)
    hog.start()
    stack.callback(hog.join)
    stack.callback(stop.set)
    return Case(hog.join, stop.set, "lock")


@case
def join_with_timeout_of_a_thread_that_computes(stack: contextlib.ExitStack, folder: Path) -> Case:
    made = join_of_a_thread_that_computes(stack, folder)
    join = made.block
    return made._replace(block=lambda: join(60))  # type: ignore[call-arg]


def tcp(stack: contextlib.ExitStack, host: str) -> tuple[socket.socket, socket.socket, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = stack.enter_context(socket.socket(family))
    try:
        listener.bind((host, 0))
    except OSError:
        pytest.skip(f"no {host} here")
    listener.listen()
    client = stack.enter_context(socket.socket(family))
    client.connect(listener.getsockname())
    server = stack.enter_context(listener.accept()[0])
    return client, server, listener.getsockname()[1]


@case
def tcp_recv(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "127.0.0.1")
    return Case(
        lambda: client.recv(1), lambda: server.send(b"x"), "socket", f"tcp 127.0.0.1:{port}"
    )


@case
def tcp_recv_with_timeout(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "127.0.0.1")
    client.settimeout(60)
    return Case(
        lambda: client.recv(1), lambda: server.send(b"x"), "socket", f"tcp 127.0.0.1:{port}"
    )


@case
def tcp_recv_ipv6(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "::1")
    return Case(lambda: client.recv(1), lambda: server.send(b"x"), "socket", f"tcp [::1]:{port}")


@case
def tcp_send(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, _, port = tcp(stack, "127.0.0.1")

    def block() -> None:
        with contextlib.suppress(OSError):
            client.sendall(bytes(64 << 20))  # more than all buffers hold

    return Case(
        block,
        lambda: client.shutdown(socket.SHUT_RDWR),
        "socket",
        f"tcp 127.0.0.1:{port}",
    )


@case
def accept(stack: contextlib.ExitStack, folder: Path) -> Case:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

    def release() -> None:
        socket.create_connection(listener.getsockname()).close()

    def block() -> None:
        listener.accept()[0].close()

    return Case(block, release, "socket", "tcp")


@case
def connect(stack: contextlib.ExitStack, folder: Path) -> Case:
    """A listener whose queue is full answers nobody."""
    listener = stack.enter_context(socket.socket())
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    address = listener.getsockname()
    for _ in range(8):
        waiting = stack.enter_context(socket.socket())
        waiting.setblocking(False)
        waiting.connect_ex(address)
    client = stack.enter_context(socket.socket())

    def block() -> None:
        with contextlib.suppress(OSError):
            client.connect(address)

    def release() -> None:
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)

    return Case(block, release, "socket", f"tcp 127.0.0.1:{address[1]}")


@case
def unix_socket(stack: contextlib.ExitStack, folder: Path) -> Case:
    path = str(folder / SECRET)
    listener = stack.enter_context(socket.socket(socket.AF_UNIX))
    listener.bind(path)
    listener.listen()
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(path)
    server = stack.enter_context(listener.accept()[0])
    return Case(lambda: client.recv(1), lambda: server.send(b"x"), "socket", "unix socket")


@case
def udp(stack: contextlib.ExitStack, folder: Path) -> Case:
    receiver = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    receiver.bind(("127.0.0.1", 0))
    sender = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    return Case(
        lambda: receiver.recvfrom(1),
        lambda: sender.sendto(b"x", receiver.getsockname()),
        "socket",
        "udp",
    )


@case
def udp_of_one_peer(stack: contextlib.ExitStack, folder: Path) -> Case:
    one = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    other = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
    one.bind(("127.0.0.1", 0))
    other.bind(("127.0.0.1", 0))
    one.connect(other.getsockname())
    return Case(
        lambda: one.recv(1),
        lambda: other.sendto(b"x", one.getsockname()),
        "socket",
        f"udp 127.0.0.1:{other.getsockname()[1]}",
    )


@case
def select_on_a_socket(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "127.0.0.1")
    return Case(
        lambda: select.select([client], [], []),
        lambda: server.send(b"x"),
        "socket",
        f"tcp 127.0.0.1:{port}",
    )


@case
def poll_on_a_socket(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "127.0.0.1")
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return Case(poll.poll, lambda: server.send(b"x"), "socket", f"tcp 127.0.0.1:{port}")


@case
def epoll_on_a_socket(stack: contextlib.ExitStack, folder: Path) -> Case:
    client, server, port = tcp(stack, "127.0.0.1")
    epoll = stack.enter_context(select.epoll())
    epoll.register(client, select.EPOLLIN)
    return Case(epoll.poll, lambda: server.send(b"x"), "socket", f"tcp 127.0.0.1:{port}")


@case
def pipe_read(stack: contextlib.ExitStack, folder: Path) -> Case:
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    stack.callback(os.close, writer)
    return Case(lambda: os.read(reader, 1), lambda: os.write(writer, b"x"), "pipe")


@case
def fifo_read(stack: contextlib.ExitStack, folder: Path) -> Case:
    path = folder / SECRET
    os.mkfifo(path)
    reader = os.open(path, os.O_RDWR)
    stack.callback(os.close, reader)
    return Case(lambda: os.read(reader, 1), lambda: os.write(reader, b"x"), "pipe")


@case
def fifo_open(stack: contextlib.ExitStack, folder: Path) -> Case:
    path = folder / SECRET
    os.mkfifo(path)
    return Case(
        lambda: os.close(os.open(path, os.O_RDONLY)),
        lambda: os.close(os.open(path, os.O_WRONLY)),
        "file",
    )


@case
def subprocess_wait(stack: contextlib.ExitStack, folder: Path) -> Case:
    process = stack.enter_context(subprocess.Popen(["sleep", "60"]))
    return Case(process.wait, process.kill, "process")


@case
def pidfd(stack: contextlib.ExitStack, folder: Path) -> Case:
    process = stack.enter_context(subprocess.Popen(["sleep", "60"]))
    fd = os.pidfd_open(process.pid)
    stack.callback(os.close, fd)
    return Case(lambda: select.select([fd], [], []), process.kill, "process")


@case
def flock(stack: contextlib.ExitStack, folder: Path) -> Case:
    (folder / SECRET).write_text("")
    mine = stack.enter_context((folder / SECRET).open())
    theirs = stack.enter_context((folder / SECRET).open())
    fcntl.flock(mine, fcntl.LOCK_EX)
    return Case(
        lambda: fcntl.flock(theirs, fcntl.LOCK_EX),
        lambda: fcntl.flock(mine, fcntl.LOCK_UN),
        "lock",
    )


@case
def terminal(stack: contextlib.ExitStack, folder: Path) -> Case:
    leader, follower = os.openpty()
    stack.callback(os.close, leader)
    stack.callback(os.close, follower)
    return Case(lambda: os.read(follower, 1), lambda: os.write(leader, b"x\n"), "terminal")


@case
def a_signal(stack: contextlib.ExitStack, folder: Path) -> Case:
    ident: list[int] = []

    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        ident.append(threading.get_ident())
        signal.sigwait({signal.SIGUSR2})

    return Case(block, lambda: signal.pthread_kill(ident[0], signal.SIGUSR2), "signal")


@case
def python_that_computes(stack: contextlib.ExitStack, folder: Path) -> Case:
    return Case(*again(lambda: sum(range(1000))), GIL)


@case
def c_that_computes_without_the_gil(stack: contextlib.ExitStack, folder: Path) -> Case:
    return Case(
        *again(lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000)), RUNNING
    )


@contextlib.contextmanager
def looking_at(block: Callable[[], object]) -> Iterator[tuple[KernelThread, threading.Thread]]:
    thread = threading.Thread(target=block)
    thread.start()
    assert thread.native_id is not None
    probe = KernelThread(thread.native_id)
    try:
        yield probe, thread
    finally:
        probe.close()


def seen(probe: KernelThread, kind: str) -> Sleep | None:
    """Return what it was found in, once it is of that kind; the last look if it never is."""
    deadline = time.monotonic() + WAIT_S
    while True:
        found = probe.sleep()
        if (found is not None and found.kind == kind) or time.monotonic() > deadline:
            return found
        time.sleep(0.005)


@pytest.mark.parametrize("make", CASES.values(), ids=CASES)
def test_a_blocked_thread(make: Make, tmp_path: Path) -> None:
    """Each way to wait is told by its kind, and descriptors by what they lead to."""
    with contextlib.ExitStack() as stack:
        made = make(stack, tmp_path)
        with looking_at(made.block) as (probe, thread):
            try:
                found = seen(probe, made.kind)
                detail = detail_of(found.fd) if found is not None and found.fd is not None else None
            finally:
                made.release()
                thread.join()
    assert found is not None
    assert found.kind == made.kind
    assert detail == made.detail


def test_several_at_once_tell_a_kind_and_no_descriptor(tmp_path: Path) -> None:
    """Of many descriptors waited for nobody knows which one it is about."""
    with contextlib.ExitStack() as stack:
        reader, writer = os.pipe()
        stack.callback(os.close, reader)
        stack.callback(os.close, writer)
        first, second = socket.socketpair()
        stack.enter_context(first)
        stack.enter_context(second)
        poll = select.poll()
        poll.register(reader, select.POLLIN)
        poll.register(first, select.POLLIN)
        with looking_at(poll.poll) as (probe, thread):
            found = seen(probe, "pipe")
            os.write(writer, b"x")
            thread.join()
    assert found == Sleep("pipe", None)


# Files and other descriptors.


@pytest.mark.parametrize("kind", ["open", "deleted", "folder", "odd name"])
def test_a_file_is_told_by_its_mount_alone(tmp_path: Path, kind: str) -> None:
    """No part of a file's name or path is told, only where the mount lies."""
    folder = tmp_path / SECRET
    folder.mkdir()
    names = {"folder": ".", "odd name": f"{SECRET}\n 2"}
    path = folder / names.get(kind, SECRET)
    if kind != "folder":
        path.write_text(SECRET)
    fd = os.open(path, os.O_RDONLY)
    try:
        if kind == "deleted":
            path.unlink()
        detail = detail_of(fd)
        assert kind_of(fd) == "file"
    finally:
        os.close(fd)
    mount = tmp_path
    while not mount.is_mount():
        mount = mount.parent
    assert detail == f"file on {mount}"
    assert SECRET not in detail


def test_a_file_elsewhere() -> None:
    """A file in /proc lies on another mount than one in /dev."""
    with Path("/proc/self/status").open() as status, Path(os.devnull).open() as null:
        assert detail_of(status.fileno()) == "file on /proc"
        assert detail_of(null.fileno()) == "file on /dev"


@pytest.mark.parametrize("fd", [-1, 1_000_000, 2**31, 0xFFFFFF9C, 2**64 - 100])
def test_what_is_no_descriptor(fd: int) -> None:
    """Numbers that are none, as AT_FDCWD is where a system call takes a folder, are harmless."""
    assert kind_of(fd) == "other"
    assert detail_of(fd) is None


def test_a_descriptor_that_was_closed() -> None:
    """A look comes late sometimes: the descriptor is gone."""
    fd = os.dup(1)
    os.close(fd)
    assert (kind_of(fd), detail_of(fd)) == ("other", None)


def test_other_descriptors() -> None:
    """An epoll and an event descriptor are nothing in particular."""
    with select.epoll() as epoll:
        assert (kind_of(epoll.fileno()), detail_of(epoll.fileno())) == ("other", None)


def test_a_socket_of_another_family() -> None:
    """A netlink socket, as name lookups use, has an address that is no host and port."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        assert (kind_of(netlink.fileno()), detail_of(netlink.fileno())) == ("socket", "socket")


def test_looking_at_a_socket_changes_nothing() -> None:
    """The host's socket stays open, blocking and without a timeout, whatever its defaults."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        default = socket.getdefaulttimeout()
        socket.setdefaulttimeout(3)
        try:
            assert detail_of(ours.fileno()) == "unix socket"
        finally:
            socket.setdefaulttimeout(default)
        assert os.get_blocking(ours.fileno())
        theirs.send(b"x")
        assert ours.recv(1) == b"x"


# The probe itself.


def descriptors() -> set[str]:
    # Without the one that lists them.
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


def test_descriptors_are_given_back() -> None:
    """Following another thread keeps as many open; `close` closes all, once."""
    before = descriptors()
    stop = threading.Event()
    with looking_at(stop.wait) as (probe, thread):
        opened = len(descriptors())
        assert opened > len(before)
        probe.follow(threading.get_native_id())
        assert len(descriptors()) == opened
        throttle = ThrottleProbe()
        stop.set()
        thread.join()
    throttle.close()
    throttle.close()
    probe.close()
    assert descriptors() == before
    assert (probe.sleep(), probe.runqueue_wait_ns()) == (None, None)


def test_another_thread_can_be_followed() -> None:
    """After `follow` it is the other thread that is looked at."""
    stop = threading.Event()
    with looking_at(stop.wait) as (probe, thread):
        assert seen(probe, "lock") == Sleep("lock")
        hog_stop = threading.Event()

        def compute() -> None:
            while not hog_stop.is_set():
                sum(range(1000))

        hog = threading.Thread(target=compute)
        hog.start()
        assert hog.native_id is not None
        probe.follow(hog.native_id)
        found = seen(probe, GIL)
        hog_stop.set()
        hog.join()
        stop.set()
        thread.join()
    assert found == Sleep(GIL)


def test_a_thread_that_has_ended_is_not_known() -> None:
    """Of a thread that is gone the kernel says nothing."""
    with looking_at(lambda: None) as (probe, thread):
        thread.join()
        deadline = time.monotonic() + WAIT_S
        while probe.sleep() is not None:  # the kernel's thread ends a moment after Python's
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert probe.runqueue_wait_ns() is None


def test_running_needs_cpu_time_if_somebody_knows_it() -> None:
    """A thread that only wants to run has used no CPU time while we looked: nothing is known."""
    block, release = again(lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 300_000))
    with looking_at(block) as (probe, thread):
        native_id = thread.native_id or 0
        assert seen(probe, RUNNING) == Sleep(RUNNING)
        starved = KernelThread(native_id, lambda: 0)
        unknown = KernelThread(native_id, lambda: None)
        deadline = time.monotonic() + WAIT_S
        found = []
        while len(found) < 20 and time.monotonic() < deadline:
            found.append(starved.sleep())
            time.sleep(0.005)
        assert seen(unknown, RUNNING) == Sleep(RUNNING)
        release()
        thread.join()
        starved.close()
        unknown.close()
    assert Sleep(RUNNING) not in found


def test_without_proc_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is missing or unreadable every answer is `None`, and no error comes out."""
    monkeypatch.setattr(kernel, "KernelFile", lambda path, *size: KernelFile(f"/nowhere{path}"))
    monkeypatch.setattr(kernel, "Path", lambda path: Path(f"/nowhere{path}"))
    probe = KernelThread(threading.get_native_id())
    assert (probe.sleep(), probe.runqueue_wait_ns()) == (None, None)
    probe.follow(threading.get_native_id())
    probe.close()
    throttle = ThrottleProbe()
    assert (throttle.path, throttle.read_ns()) == (None, None)
    throttle.close()


def test_without_memory_a_timed_wait_is_not_told_from_the_gil() -> None:
    """If /proc/self/mem cannot be read a futex with a timeout may be either."""
    happened = threading.Event()
    with looking_at(lambda: happened.wait(60)) as (probe, thread):
        assert seen(probe, "lock") == Sleep("lock")
        probe._memory.close()
        assert probe.sleep() is None
        happened.set()
        thread.join()


def test_an_unknown_machine_knows_no_system_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine without a table a sleep has no kind; what runs is told all the same."""
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    happened = threading.Event()
    with looking_at(happened.wait) as (probe, thread):
        deadline = time.monotonic() + WAIT_S
        while probe.sleep() is not None:
            assert time.monotonic() < deadline
        happened.set()
        thread.join()


# Waiting for a CPU.


def test_a_starved_thread_waits_for_a_cpu() -> None:
    """A thread that shares its CPU with others sees its wait grow; one that sleeps does not."""
    cpu = min(os.sched_getaffinity(0))
    script = f"import os; os.sched_setaffinity(0, {{{cpu}}})\nwhile True: pass"
    block, release = again(lambda: hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 100_000))

    def pinned() -> None:
        os.sched_setaffinity(threading.get_native_id(), {cpu})
        block()

    with contextlib.ExitStack() as stack:
        for _ in range(2):
            hog = stack.enter_context(subprocess.Popen([sys.executable, "-c", script]))
            stack.callback(hog.kill)
        with looking_at(pinned) as (probe, thread):
            before = probe.runqueue_wait_ns()
            assert before is not None
            deadline = time.monotonic() + WAIT_S
            while (probe.runqueue_wait_ns() or 0) - before < 50_000_000:
                assert time.monotonic() < deadline, "the wait does not grow"
                time.sleep(0.01)
            release()
            thread.join()
    happened = threading.Event()
    with looking_at(happened.wait) as (probe, thread):
        seen(probe, "lock")
        before = probe.runqueue_wait_ns()
        time.sleep(0.2)
        assert probe.runqueue_wait_ns() == before
        happened.set()
        thread.join()


V2 = "usage_usec 1\nnr_throttled 3\nthrottled_usec {}\nnr_bursts 0\n"
V1 = "nr_periods 7\nnr_throttled 3\nthrottled_time {}\n"
GROUPS: dict[str, tuple[str, str, str, int]] = {
    "v2": ("0::/app\n", "/sys/fs/cgroup/app/cpu.stat", V2, 1000),
    "v2, in a container": ("0::/../../kube/pod\n", "/sys/fs/cgroup/cpu.stat", V2, 1000),
    "v2 beside v1": (
        "4:memory:/app\n0::/app\n",
        "/sys/fs/cgroup/unified/app/cpu.stat",
        V2,
        1000,
    ),
    "v1": (
        "5:memory:/app\n4:cpu,cpuacct:/docker/abc\n0::/\n",
        "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.stat",
        V1,
        1,
    ),
    "v1, in a container": (
        "4:cpuacct,cpu:/docker/abc\n",
        "/sys/fs/cgroup/cpu/cpu.stat",
        V1,
        1,
    ),
    "v1, alone": ("2:cpuacct:/\n1:cpu:/a:b\n", "/sys/fs/cgroup/cpu/a:b/cpu.stat", V1, 1),
}


def rooted(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name[1:]).parent.mkdir(parents=True, exist_ok=True)
        (root / name[1:]).write_text(text)
    monkeypatch.setattr(kernel, "Path", lambda path: Path(f"{root}{path}"))


@pytest.mark.parametrize(("groups", "file", "text", "unit_ns"), GROUPS.values(), ids=GROUPS)
def test_throttled_time(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    groups: str,
    file: str,
    text: str,
    unit_ns: int,
) -> None:
    """The throttled time of our cgroup is found in either version, and read anew each time."""
    rooted(
        monkeypatch,
        tmp_path,
        {"/proc/self/cgroup": groups, "/sys/fs/cgroup/x": "", file: text.format(1234)},
    )
    probe = ThrottleProbe()
    try:
        assert probe.path == f"{tmp_path}{file}"
        assert probe.read_ns() == 1234 * unit_ns
        Path(probe.path).write_text(text.format(99))
        assert probe.read_ns() == 99 * unit_ns
    finally:
        probe.close()


@pytest.mark.parametrize(
    "files",
    [
        {"/proc/self/cgroup": ""},
        {"/proc/self/cgroup": "3:cpuset:/\n0::/\n"},
        {"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.stat": "usage_usec 5\n"},
    ],
    ids=["no groups", "no controller", "a group without quota"],
)
def test_no_throttled_time(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, str]
) -> None:
    """Without a cgroup that has a CPU controller nothing is known."""
    rooted(monkeypatch, tmp_path, {"/x": "", **files})
    probe = ThrottleProbe()
    assert (probe.path, probe.read_ns()) == (None, None)
    probe.close()


# Small files.


def test_a_small_file_is_read_again_and_again(tmp_path: Path) -> None:
    """It is what is in the file now, from an offset if wanted, and never more than its buffer."""
    path = tmp_path / "file"
    path.write_text("0123456789")
    file = KernelFile(str(path), 8)
    assert file.readable
    assert (file.read(), file.read(3), file.read(3, 6)) == (b"01234567", b"012", b"678")
    assert (file.read(99), file.read(5, 99)) == (b"01234567", b"")
    assert file.read(0) == b""
    path.write_text("new")
    assert file.read() == b"new"
    file.close()
    file.close()
    assert (file.readable, file.read()) == (False, b"")


def test_a_small_file_that_is_not_there() -> None:
    """It reads as empty."""
    file = KernelFile("/nowhere/at/all")
    assert (file.readable, file.read()) == (False, b"")
    file.close()


def test_own_memory_reads_like_a_file() -> None:
    """What lies at an address is read, and an address where nothing lies does no harm."""
    memory = KernelFile("/proc/self/mem")
    text = ctypes.create_string_buffer(b"here it is")
    assert memory.read(10, ctypes.addressof(text)) == b"here it is"
    assert memory.read(10, 8) == b""
    memory.close()
