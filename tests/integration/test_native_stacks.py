"""Stacks from the middle of C calls that keep the GIL, and what the host notices of it: nothing."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import fcntl
import functools
import itertools
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from loopwatch.clock import NS_PER_S
from loopwatch.probes.cpu import ThreadCpu
from loopwatch.probes.native_stacks import (
    NativeFrame,
    NativeSampler,
    NativeSamplerError,
    Shot,
    parse_dumps,
    why_not,
)
from tests.conftest import Child

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="needs Linux timers"),
    pytest.mark.skipif(why_not(accept_risk=True) is not None, reason="faulthandler crashes here"),
]

# CPU time of a C call that is sure to be sampled, several times.
LONG_NS = 150_000_000
LIBC = ctypes.PyDLL(None, use_errno=True)
HERE = __file__


def sized(call: Callable[[int], object], size: int, growth: float) -> int:
    """Return the size at which `call` takes long enough, on this machine today."""
    while True:
        began_ns = time.thread_time_ns()
        call(size)
        if time.thread_time_ns() - began_ns >= LONG_NS:
            return size
        size = int(size * growth) + 1


def regex(size: int) -> object:
    return re.match("(a*)*b", "a" * size)


def load_json(size: int) -> object:
    return json.loads("[" + "[[]]," * size + "1]")


def sort(size: int) -> object:
    return sorted([(n * 7919) % 1_000_003 for n in range(size)])


CALLS = {
    "regex": (regex, 15, 1.05, ("match", "regex")),
    "json.loads": (load_json, 100_000, 2, ("raw_decode", "load_json")),
    "sorted": (sort, 50_000, 2, ("sort",)),
}


@contextlib.contextmanager
def sampler_of(thread: threading.Thread) -> Iterator[NativeSampler]:
    assert thread.ident is not None
    assert thread.native_id is not None
    # Soon and often: nothing of a host is at risk here, and the usual times take seconds.
    sampler = NativeSampler(thread.native_id, grace_ns=8_000_000, interval_ns=20_000_000)
    try:
        yield sampler
    finally:
        sampler.stop()


@pytest.fixture
def sampler() -> Iterator[NativeSampler]:
    """A sampler of the thread that runs the test."""
    with sampler_of(threading.current_thread()) as own:
        yield own


def action_of(signum: int) -> int:
    """Return the handler the kernel knows, whatever Python thinks it is."""
    action = (ctypes.c_void_p * 32)()
    assert LIBC.sigaction(signum, None, ctypes.byref(action)) == 0
    return action[0] or 0


def descriptors() -> set[str]:
    # Without the one that lists them.
    return {fd.name for fd in Path("/proc/self/fd").iterdir() if fd.exists()}


@functools.cache
def regex_size() -> int:
    return sized(regex, 15, 1.05)


def work_for_a_while() -> None:
    regex(regex_size())


def names_of(shot: Shot) -> tuple[str, ...]:
    return tuple(frame.name for frame in shot.frames)


@pytest.mark.parametrize(("call", "size", "growth", "names"), CALLS.values(), ids=CALLS)
def test_a_call_in_the_main_thread(
    sampler: NativeSampler,
    call: Callable[[int], object],
    size: int,
    growth: float,
    names: tuple[str, ...],
) -> None:
    """A C call that keeps the GIL is sampled in the middle, again and again, with its callers."""
    size = sized(call, size, growth)
    sampler.collect()
    sampler.arm(0)
    call(size)
    shots = sampler.collect()
    assert len(shots) > 1
    inside = [shot for shot in shots if names_of(shot)[0] == names[0]]
    assert inside
    for shot in inside:
        assert set(names) < set(names_of(shot))
        frame = next(frame for frame in shot.frames if frame.name == names[-1])
        assert frame.file == HERE
        code = call.__code__  # type: ignore[attr-defined]
        assert frame.line == code.co_firstlineno + 1


def test_a_call_in_another_thread() -> None:
    """The thread that is sampled need not be the main thread, and only its own stack is seen."""
    size = regex_size()
    go = threading.Event()

    def work() -> None:
        go.wait()
        regex(size)

    thread = threading.Thread(target=work)
    thread.start()
    with sampler_of(thread) as sampler:
        sampler.arm(0)
        go.set()
        thread.join()
        shots = sampler.collect()
    assert shots
    assert any("regex" in names_of(shot) for shot in shots)
    for shot in shots:
        assert "test_a_call_in_another_thread" not in names_of(shot)
        assert shot.whole


def test_the_next_thread_can_be_followed(sampler: NativeSampler) -> None:
    """After `follow` it is the other thread that is sampled, not the first."""
    size = regex_size()
    go = threading.Event()

    def work() -> None:
        go.wait()
        regex(size)

    thread = threading.Thread(target=work)
    thread.start()
    assert thread.ident is not None
    assert thread.native_id is not None
    sampler.follow(thread.native_id)
    sampler.arm(0)
    work_for_a_while()
    assert sampler.collect() == []
    sampler.arm(0)
    go.set()
    thread.join()
    assert any("work" in names_of(shot) for shot in sampler.collect())


def test_shots_are_in_order_and_timed(sampler: NativeSampler) -> None:
    """Each shot says at which CPU time since the timer was armed it was taken, oldest first."""
    size = regex_size()
    sampler.arm(5_000_000)
    regex(size)
    times = [shot.cpu_ns for shot in sampler.collect()]
    assert times[0] == 13_000_000
    assert [later - earlier for earlier, later in itertools.pairwise(times)] == [20_000_000] * (
        len(times) - 1
    )


def test_a_timer_that_is_put_off_never_fires(sampler: NativeSampler) -> None:
    """While somebody gets to put it off, a thread that computes gets no signal."""
    until_ns = time.thread_time_ns() + LONG_NS
    while time.thread_time_ns() < until_ns:
        sampler.arm(0)
    sampler.arm(10**12)
    assert sampler.collect() == []


def test_collected_shots_are_told_once(sampler: NativeSampler) -> None:
    """What was collected is gone; the timer goes on."""
    sampler.arm(0)
    work_for_a_while()
    assert sampler.collect()
    sampler.arm(10**12)
    sampler.collect()
    assert sampler.collect() == []


def test_sleeping_gives_no_samples(sampler: NativeSampler) -> None:
    """A thread in `time.sleep` gets no signal."""
    sampler.arm(0)
    time.sleep(0.15)
    assert sampler.collect() == []


def test_receiving_gives_no_samples_and_no_eintr() -> None:
    """A thread that waits for a socket in C, where EINTR would show, waits to the end."""
    ours, theirs = socket.socketpair()
    read = ctypes.CDLL(None, use_errno=True).read
    got: list[int] = []
    go = threading.Event()

    def receive() -> None:
        buffer = ctypes.create_string_buffer(8)
        go.wait()
        got.append(read(ours.fileno(), buffer, 8))

    thread = threading.Thread(target=receive)
    thread.start()
    with ours, theirs, sampler_of(thread) as sampler:
        sampler.arm(0)
        go.set()
        time.sleep(0.15)
        theirs.send(b"late")
        thread.join()
        assert got == [4]
        assert sampler.collect() == []


def test_a_c_call_that_sleeps_with_the_gil_is_not_shortened(sampler: NativeSampler) -> None:
    """`usleep` in C with the GIL held sleeps all its time: no signal ends it with EINTR."""
    sampler.arm(0)
    began_ns = time.monotonic_ns()
    result = LIBC.usleep(300_000)
    took_ns = time.monotonic_ns() - began_ns
    assert result == 0
    assert took_ns >= 300_000_000
    assert sampler.collect() == []


def test_deep_stacks_are_not_whole(sampler: NativeSampler) -> None:
    """faulthandler ends its list after 100 frames: what is beyond is said to be missing."""
    size = regex_size()

    def deep(depth: int) -> object:
        return deep(depth - 1) if depth else regex(size)

    sampler.arm(0)
    deep(150)
    shots = sampler.collect()
    inside = [shot for shot in shots if "regex" in names_of(shot)]
    assert inside
    # The pipe holds a few of such a size, and of the last what fits.
    assert {len(shot.frames) for shot in inside[:3]} == {100}
    assert not any(shot.whole for shot in inside)


def test_a_full_pipe_loses_the_end_and_nothing_else() -> None:
    """What does not fit is lost, the cut-off stack says so, and later ones are read again."""
    size = regex_size()

    def deep(depth: int) -> object:
        return deep(depth - 1) if depth else regex(size)

    with sampler_of(threading.current_thread()) as sampler:
        fcntl.fcntl(sampler._write_fd, 1031, 4096)  # F_SETPIPE_SZ
        for _ in range(2):
            sampler.arm(0)
            deep(50)
            shots = sampler.collect()
            assert 0 < len(shots) < 4
            assert not shots[-1].whole
            assert "regex" in names_of(shots[0])


# Beside what the host does with signals.


def test_the_hosts_own_dumps_on_a_signal(sampler: NativeSampler, tmp_path: Path) -> None:
    """A host that has registered SIGUSR1 with faulthandler keeps it, and its file."""
    with (tmp_path / "dump").open("w+") as file:
        faulthandler.register(signal.SIGUSR1, file=file, all_threads=False)
        try:
            signal.raise_signal(signal.SIGUSR1)
            sampler.arm(0)
            work_for_a_while()
            assert sampler.collect()
            sampler.stop()
            signal.raise_signal(signal.SIGUSR1)
        finally:
            faulthandler.unregister(signal.SIGUSR1)
        file.seek(0)
        assert file.read().count("(most recent call first)") == 2


@pytest.mark.parametrize("kind", ["python", "c", "ignored"])
def test_a_signal_that_is_taken_is_left_alone(kind: str) -> None:
    """The next free one is picked, whoever has taken the first, and that one stays as it was."""
    taken = [signal.SIGRTMAX - 1, signal.SIGRTMAX - 2]
    address = ctypes.cast(LIBC.abs, ctypes.c_void_p).value or 0
    LIBC.signal.restype = ctypes.c_void_p
    LIBC.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    try:
        for signum in taken:
            if kind == "python":
                signal.signal(signum, lambda *_: None)
            else:
                LIBC.signal(signum, address if kind == "c" else 1)
        before = [action_of(signum) for signum in taken]
        with sampler_of(threading.current_thread()) as sampler:
            assert sampler.signum == signal.SIGRTMAX - 3
            sampler.arm(0)
            work_for_a_while()
            assert sampler.collect()
        assert [action_of(signum) for signum in taken] == before
        assert 0 not in before
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def test_no_signal_is_free() -> None:
    """If every real-time signal is taken it says so, and leaves no descriptor open."""
    before = descriptors()
    every = range(signal.SIGRTMIN + 1, signal.SIGRTMAX)
    try:
        for signum in every:
            signal.signal(signum, lambda *_: None)
        with pytest.raises(NativeSamplerError, match="taken"):
            NativeSampler(threading.get_native_id())
    finally:
        for signum in every:
            signal.signal(signum, signal.SIG_DFL)
    assert descriptors() == before


def test_two_samplers_have_two_signals(sampler: NativeSampler) -> None:
    """Two at once do not meet: each collects its own, and one goes on after the other."""
    with sampler_of(threading.current_thread()) as other:
        assert other.signum != sampler.signum
        other.arm(0)
        work_for_a_while()
        assert other.collect()
        assert sampler.collect() == []
    assert action_of(other.signum) == 0
    sampler.arm(0)
    work_for_a_while()
    assert sampler.collect()


COMPUTE = """
import ctypes, faulthandler, re
from pathlib import Path
from loopwatch.probes.native_stacks import NativeSampler

def compute(seconds=0.15):
    size = 15
    while True:
        began = time.thread_time()
        re.match("(a*)*b", "a" * size)
        if time.thread_time() - began >= seconds:
            return
        size += 1

def action_of(signum):
    action = (ctypes.c_void_p * 32)()
    assert ctypes.PyDLL(None).sigaction(signum, None, ctypes.byref(action)) == 0
    return action[0] or 0

TRIAL = {"grace_ns": 8_000_000, "interval_ns": 20_000_000}
sampler = NativeSampler(threading.get_native_id(), **TRIAL)
"""


def outcome(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_host_with_an_interval_timer(child: Child) -> None:
    """A host that uses SIGALRM gets all its signals, and its timer goes on after we are gone."""
    script = """
    alarms = []
    signal.signal(signal.SIGALRM, lambda *_: alarms.append(sampler.signum))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    sampler.arm(0)
    compute()
    print(len(sampler.collect()) > 1)
    sampler.stop()
    print(len(alarms) > 1, signal.getitimer(signal.ITIMER_REAL)[1])
    alarms.clear()
    while not alarms:
        time.sleep(0.01)
    signal.setitimer(signal.ITIMER_REAL, 0)
    """
    assert outcome(child(COMPUTE + _dedent(script))).split() == ["True", "True", "0.02"]


def test_a_host_with_a_dump_later_and_faults_on(child: Child) -> None:
    """`faulthandler.enable` and `dump_traceback_later` of the host work on, before and after."""
    script = """
    dumps = lambda: Path("later").read_text().count("Timeout")
    with open("later", "a") as later, open("fault", "a") as fault:
        faulthandler.enable(fault)
        segfault = action_of(signal.SIGSEGV)
        faulthandler.dump_traceback_later(0.05, file=later)
        sampler.arm(0)
        compute(0.3)
        print(len(sampler.collect()) > 1)
        sampler.stop()
        print(faulthandler.is_enabled(), segfault != 0, action_of(signal.SIGSEGV) == segfault)
        print(dumps())
        faulthandler.dump_traceback_later(0.01, file=later)
        while dumps() == 1:
            time.sleep(0.01)
    """
    assert outcome(child(COMPUTE + _dedent(script))).split() == ["True"] * 4 + ["1"]


# Letting go.


def test_stop_gives_everything_back() -> None:
    """After `stop` the kernel has the default action again and no descriptor is left."""
    before = descriptors()
    with sampler_of(threading.current_thread()) as sampler:
        assert action_of(sampler.signum) != 0
        sampler.arm(0)
        work_for_a_while()
    assert action_of(sampler.signum) == 0
    assert signal.getsignal(sampler.signum) is signal.SIG_DFL
    assert descriptors() == before
    sampler.stop()
    sampler.arm(0)
    work_for_a_while()
    assert sampler.collect() == []


def test_stop_while_the_thread_computes() -> None:
    """Stopped from another thread in the middle of a call, the thread just computes on."""
    before = descriptors()
    go, stopped = threading.Event(), threading.Event()
    done: list[str] = []

    def work() -> None:
        go.wait()
        # pbkdf2 gives the GIL back: the other thread can stop it meanwhile.
        import hashlib  # noqa: PLC0415 - names the call beside its use

        while not stopped.is_set():
            hashlib.pbkdf2_hmac("sha256", b"p", b"s", 100_000)
        done.append("done")

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        with sampler_of(thread) as sampler:
            sampler.arm(-8_000_000)
            go.set()
            time.sleep(0.01)
        assert action_of(sampler.signum) == 0
    stopped.set()
    thread.join()
    assert done == ["done"]
    assert descriptors() == before


def test_a_signal_that_waits_does_not_end_the_process(child: Child) -> None:
    """A host thread that blocks all signals survives unblocking them after we are gone."""
    script = """
    signal.pthread_sigmask(signal.SIG_BLOCK, {sampler.signum})
    sampler.arm(0)
    compute()
    print(sampler.signum in signal.sigpending())
    sampler.stop()
    print(sampler.signum in signal.sigpending(), action_of(sampler.signum))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {sampler.signum})
    compute()
    print("alive")
    """
    assert outcome(child(COMPUTE + _dedent(script))).split() == ["True", "False", "0", "alive"]


def test_the_process_survives_a_thread_that_ends(child: Child) -> None:
    """The sampled thread may end with its timer armed."""
    script = """
    sampler.stop()
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    sampler = NativeSampler(thread.native_id)
    sampler.arm(-8_000_000)
    go.set()
    thread.join()
    sampler.arm(0)
    compute()
    print(sampler.collect())
    sampler.stop()
    print(action_of(sampler.signum))
    """
    assert outcome(child(COMPUTE + _dedent(script))).split() == ["[]", "0"]


def test_a_forked_child_lets_go(child: Child) -> None:
    """A forked child has no handler and no pipe after `forget`; its parent samples on."""
    script = """
    fds = lambda: sorted(os.listdir("/proc/self/fd"))
    with_pipe = fds()
    pid = os.fork()
    if pid == 0:
        sampler.forget()
        print(action_of(sampler.signum), len(with_pipe) - len(fds()))
        sampler.forget()
        sampler.stop()
        sampler.arm(0)
        compute()
        print(sampler.collect(), flush=True)
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    sampler.arm(0)
    compute()
    print(len(sampler.collect()) > 1)
    sampler.stop()
    """
    assert outcome(child(COMPUTE + _dedent(script))).split() == ["0", "2", "[]", "0", "True"]


def test_a_refusal_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """If faulthandler or the kernel refuses, the error says why and nothing stays behind."""
    before = descriptors()

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no file")

    with monkeypatch.context() as patch:
        patch.setattr(faulthandler, "register", refuse)
        with pytest.raises(NativeSamplerError, match="no file"):
            NativeSampler(threading.get_native_id())
    with pytest.raises(NativeSamplerError, match="timer_create"):
        NativeSampler(2**22 + 1)  # beyond pid_max: no such thread
    assert descriptors() == before
    assert action_of(signal.SIGRTMAX - 1) == 0


# The text that faulthandler writes.

WHOLE = b"""Stack (most recent call first):
  File "/app/a.py", line 3 in inner
  File "/app/a.py", line 30 in outer
"""
INNER = NativeFrame("/app/a.py", 3, "inner")
OUTER = NativeFrame("/app/a.py", 30, "outer")

TEXTS: dict[str, tuple[bytes, list[tuple[tuple[NativeFrame, ...], bool]]]] = {
    "nothing": (b"", []),
    "one": (WHOLE, [((INNER, OUTER), True)]),
    "two": (WHOLE + WHOLE, [((INNER, OUTER), True)] * 2),
    "another thread's header": (
        WHOLE.replace(b"Stack", b"Thread 0x00007f1dd1a1a740"),
        [((INNER, OUTER), True)],
    ),
    "3.14, a named thread": (
        WHOLE.replace(b"Stack", b"Current thread 0x00007f1dd1a1a740 [MainThread]"),
        [((INNER, OUTER), True)],
    ),
    "half a last line": (WHOLE[:-4], [((INNER,), False)]),
    "half a last line of the second": (
        WHOLE + WHOLE[:-30],
        [((INNER, OUTER), True), ((INNER,), False)],
    ),
    "half a header": (WHOLE + b"Stack (mo", [((INNER, OUTER), False)]),
    "only a header": (b"Stack (most recent call first):\n", []),
    "the tail of a dump whose head was read before": (
        b'e.py", line 7 in x\n  File "/app/a.py", line 9 in y\n' + WHOLE,
        [((INNER, OUTER), True)],
    ),
    "too deep": (WHOLE + b"  ...\n", [((INNER, OUTER), False)]),
    "too deep, another follows": (
        WHOLE + b"  ...\n" + WHOLE,
        [((INNER, OUTER), False), ((INNER, OUTER), True)],
    ),
    "escapes and spaces": (
        rb"""Stack (most recent call first):
  File "/app/caf\xe9 \u4e2d/a "b".py", line 1 in na\xefve
""",
        [((NativeFrame(r'/app/caf\xe9 \u4e2d/a "b".py', 1, r"na\xefve"),), True)],
    ),
    "not even ASCII": (
        b'Stack (most recent call first):\n  File "/app/\xe9.py", line 1 in f\n',
        [((NativeFrame(r"/app/\xe9.py", 1, "f"),), True)],
    ),
    "lambda and listcomp": (
        b'Stack (most recent call first):\n  File "<string>", line 1 in <lambda>\n',
        [((NativeFrame("<string>", 1, "<lambda>"),), True)],
    ),
    "a C stack after it": (
        WHOLE
        + b"\nCurrent thread's C stack trace (most recent call first):\n"
        + b'  Binary file "/usr/bin/python3", at _Py_DumpStack+0x33 [0x55d]\n'
        + b"  <truncated rest of calls>\n",
        [((INNER, OUTER), True)],
    ),
    "a line of which the pipe took only pieces": (
        b'Stack (most recent call first):\n  File "/app/a.py", line 3 in inner\n  File ""\n',
        [((INNER,), False)],
    ),
    "a head on the same line as what was left of the one before": (
        WHOLE + b'  File "' + WHOLE,
        [((INNER, OUTER), False), ((INNER, OUTER), True)],
    ),
    "half a C stack": (
        WHOLE + b"\nCurrent thread's C stack trace (most recent call first):\n  Binary fi",
        [((INNER, OUTER), True)],
    ),
}


@pytest.mark.parametrize(("text", "stacks"), TEXTS.values(), ids=TEXTS)
def test_dumps_are_read(text: bytes, stacks: list[tuple[tuple[NativeFrame, ...], bool]]) -> None:
    """Each stack comes out with what is sure of it, and says whether anything is missing."""
    assert parse_dumps(text) == stacks


def test_a_hundred_frames_may_be_more() -> None:
    """A list as long as faulthandler's longest does not count as whole."""
    line = b'  File "/app/a.py", line 3 in inner\n'
    head = b"Stack (most recent call first):\n"
    assert [whole for _, whole in parse_dumps(head + 99 * line + head + 100 * line)] == [
        True,
        False,
    ]


def _dedent(script: str) -> str:
    # The child fixture dedents the whole script; this one stands behind lines at the margin.
    return "\n".join(line.removeprefix("    ") for line in script.splitlines()) + "\n"


def test_a_handler_that_the_host_has_put_there_since_stays() -> None:
    """Whoever takes the signal after us keeps it when we stop."""
    done = subprocess.run(
        [sys.executable, "-c", TAKEN_SINCE], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "theirs\n"), done.stderr


TAKEN_SINCE = """
import signal, threading
from loopwatch.probes.native_stacks import NativeSampler
sampler = NativeSampler(threading.get_native_id())
signal.signal(sampler.signum, lambda *_: print("theirs"))
sampler.stop()
signal.raise_signal(sampler.signum)
"""


def test_a_thread_that_has_ended_is_refused_and_nothing_more() -> None:
    """The kernel knows no clock of it; the C library would have crashed."""
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert thread.native_id is not None
    deadline = time.monotonic() + 5
    while Path(f"/proc/self/task/{thread.native_id}").exists():
        assert time.monotonic() < deadline, "the kernel keeps it"
        time.sleep(0.001)  # Python is done with a thread a moment before the kernel is
    with pytest.raises(NativeSamplerError):
        NativeSampler(thread.native_id)
    assert ThreadCpu(thread.native_id).read_ns() is None


def test_a_shot_that_met_python_code_makes_the_next_come_later() -> None:
    """Each doubles the wait, up to some seconds."""
    sampler = NativeSampler(threading.get_native_id())
    try:
        waits = []
        for _ in range(7):
            sampler.arm(0)
            waits.append(sampler.after_ns / NS_PER_S)
            sampler.back_off()
        assert waits == [0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512]
    finally:
        sampler.stop()


@pytest.mark.parametrize(
    ("version", "by_default", "accepted"),
    [
        ((3, 11, 7), False, True),
        ((3, 12, 10), False, True),
        ((3, 13, 0), False, False),
        ((3, 13, 1), True, True),
        ((3, 14, 0), True, True),
    ],
)
def test_it_is_on_where_faulthandler_is_safe(
    version: tuple[int, int, int],
    by_default: bool,
    accepted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before 3.13.1 only who accepts the risk has it, and nobody on 3.13.0."""
    monkeypatch.setattr(sys, "version_info", (*version, "final", 0))
    assert (why_not() is None) == by_default
    assert (why_not(accept_risk=True) is None) == accepted
