"""What works here: one row per part in `CHECKS`, and how each is tried out.

A part is used, not looked up: the sampler has to bring a stack, the kernel has to see a thread
sleep. What the platform cannot do is missing; what should work here and does not is broken.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import platform
import sys
import sysconfig
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from loopwatch._version import __version__
from loopwatch.clock import NS_PER_S, monotonic_ns
from loopwatch.config import ENV_PREFIX, Config
from loopwatch.errors import ConfigError
from loopwatch.probes.cpu import ThreadCpu
from loopwatch.probes.debugger import DebuggerProbe
from loopwatch.probes.kernel import KernelThread, ThrottleProbe
from loopwatch.probes.native_stacks import NativeSampler, NativeSamplerError, why_not
from loopwatch.probes.stacks import Capture, stacks_work
from loopwatch.probes.variables import variable
from loopwatch.sensors import EXACT, Alarm
from loopwatch.sensors.base import SensorUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "CHECKS",
    "DEBUGGER",
    "LOOPS",
    "NATIVE",
    "PROC_MEM",
    "SCHEDSTAT",
    "STACKS",
    "SYSCALL",
    "THREAD_CPU",
    "Check",
    "Finding",
    "Here",
    "Status",
    "examine",
    "new_loop",
]

# Names of the parts that trials depend on.
STACKS: Final = "stacks"
NATIVE: Final = "native sampler"
SYSCALL: Final = "/proc syscall"
PROC_MEM: Final = "/proc mem"
SCHEDSTAT: Final = "/proc schedstat"
THREAD_CPU: Final = "thread CPU clock"
DEBUGGER: Final = "debugger"

# The kinds of loop that have an exact sensor, as `--loop` calls them.
LOOPS: Final = ("asyncio", "uvloop")

_OLDEST: Final = (3, 11)
_NEWEST: Final = (3, 15)
_OLDEST_UVLOOP: Final = (0, 19)
# A thread is found where it waits within milliseconds, on any machine that is not overloaded.
_PATIENCE_S: Final = 0.5
_POLL_S: Final = 0.002
# Nothing of the host runs here that could be met in a bad moment.
_GRACE_NS: Final = 5_000_000
_NAP_S: Final = 0.1
# Coarser than this, durations of stalls are too.
_COARSE_S: Final = 0.001
_EXTRAS: Final = ("structlog", "opentelemetry-api", "aiomonitor", "fastapi", "starlette")


class Status(StrEnum):
    """What became of a check."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"
    OFF = "off"


class Result(NamedTuple):
    """What one look found."""

    status: Status
    detail: str


class Finding(NamedTuple):
    """One row of the table: `lost` says what does not work without this part, and what to do."""

    name: str
    status: Status
    detail: str
    lost: str = ""


@dataclass(frozen=True, slots=True)
class Here:
    """What the checks are told: the environment, its settings, and whether all should work."""

    environ: Mapping[str, str]
    config: Config
    all_should_work: bool

    @classmethod
    def now(cls, environ: Mapping[str, str] | None = None) -> Here:
        """Return what is true of this process; settings that cannot work count as not set."""
        environ = os.environ if environ is None else environ
        try:
            config = Config.from_env(environ)
        except ConfigError:
            config = Config()
        return cls(environ, config, _is_supported())

    def failed(self, detail: str) -> Result:
        """Return that a part does not work: broken where it should."""
        return Result(Status.BROKEN if self.all_should_work else Status.MISSING, detail)


@dataclass(frozen=True, slots=True)
class Check:
    """One row: its name, how to try it, and what is lost without it or what to do."""

    name: str
    look: Callable[[Here], Result]
    lost: str


def examine(here: Here, checks: Sequence[Check] | None = None) -> list[Finding]:
    """Return what each check found. Never raises: a check that fails is a finding, too."""
    findings = []
    for check in CHECKS if checks is None else checks:
        try:
            status, detail = check.look(here)
        except Exception as error:  # noqa: BLE001 - the next check may say why
            status, detail = Status.BROKEN, f"trying it failed with {type(error).__name__}: {error}"
        lost = "" if status is Status.OK else check.lost
        findings.append(Finding(check.name, status, detail, lost))
    return findings


def new_loop(kind: str) -> asyncio.AbstractEventLoop:
    """Return a new loop: the default one of asyncio, or uvloop's. May raise `ImportError`."""
    if kind == "asyncio":
        return asyncio.new_event_loop()
    # By name: the doctor works, and is checked, without uvloop.
    loop: asyncio.AbstractEventLoop = importlib.import_module(kind).new_event_loop()
    return loop


def _is_supported() -> bool:
    return (
        sys.platform == "linux"
        and sys.implementation.name == "cpython"
        and _OLDEST <= sys.version_info[:2] <= _NEWEST
        and not _is_free_threaded()
    )


def _is_free_threaded() -> bool:
    return bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def _ok(detail: str) -> Result:
    return Result(Status.OK, detail)


def _missing(detail: str) -> Result:
    return Result(Status.MISSING, detail)


# Versions and settings.


def _python(_here: Here) -> Result:
    name = f"{platform.python_implementation()} {platform.python_version()}"
    if sys.implementation.name != "cpython":
        return _missing(f"{name}: only CPython is known")
    if not _OLDEST <= sys.version_info[:2] <= _NEWEST:
        return _missing(f"{name}: not checked on this version")
    if _is_free_threaded():
        return _missing(f"{name}, a free-threaded build")
    return _ok(name)


def _own_version(_here: Here) -> Result:
    return _ok(f"{__version__}, in {Path(__file__).parent.parent}")


def _system(_here: Here) -> Result:
    name = f"{platform.system()} {platform.release()}, {platform.machine()}"
    return _ok(name) if sys.platform == "linux" else _missing(name)


def _settings(here: Here) -> Result:
    try:
        Config.from_env(here.environ)
    except ConfigError as error:
        return Result(Status.BROKEN, str(error))
    names = [name for name in here.environ if name.startswith(ENV_PREFIX)]
    return _ok(", ".join(sorted(names)) or f"no {ENV_PREFIX}* variable is set")


def _prometheus(_here: Here) -> Result:
    version = _version_of("prometheus-client")
    if version is None:
        # A dependency: pip would have brought it, anywhere.
        return Result(Status.BROKEN, "prometheus-client is not installed")
    return _ok(f"prometheus-client {version}")


def _extras(_here: Here) -> Result:
    versions = {name: _version_of(name) for name in _EXTRAS}
    there = [f"{name} {version}" for name, version in versions.items() if version]
    gone = [name for name, version in versions.items() if not version]
    parts = [", ".join(there), "not installed: " + ", ".join(gone) if gone else ""]
    return _ok("; ".join(part for part in parts if part))


def _console(here: Here) -> Result:
    version = _version_of("aiomonitor")
    if version is None:
        return _missing("aiomonitor is not installed")
    try:
        for part in ("monitor", "commands"):
            importlib.import_module(f"loopwatch.integrations.console.{part}")
    except Exception as error:  # noqa: BLE001 - it, or what it needs, may do anything here
        said = f"aiomonitor {version} does not work here: {type(error).__name__}: {error}"
        return Result(Status.BROKEN if here.config.console else Status.MISSING, said)
    return _ok(f"aiomonitor {version}")


def _version_of(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# Sensors.


def _asyncio(here: Here) -> Result:
    sensor, why = _sensor_of("asyncio")
    return _ok(f"sensor {sensor}") if sensor else here.failed(f"sensor tick: {why}")


def _uvloop(here: Here) -> Result:
    version = _version_of("uvloop")
    if version is None:
        return _missing("not installed")
    try:
        sensor, why = _sensor_of("uvloop")
    except ImportError as error:
        return here.failed(f"uvloop {version} cannot be imported: {error}")
    if sensor:
        return _ok(f"uvloop {version}, sensor {sensor}")
    said = f"uvloop {version}, sensor tick: {why}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    return here.failed(said) if numbers >= _OLDEST_UVLOOP else _missing(said)


def _sensor_of(kind: str) -> tuple[str | None, str]:
    """Return the exact sensor that can watch such a loop, or why none can."""
    with asyncio.Runner(loop_factory=lambda: new_loop(kind)) as runner:
        return runner.run(_try_sensors())


async def _try_sensors() -> tuple[str | None, str]:
    why = ""
    for sensor_class in EXACT:
        try:
            sensor = sensor_class(asyncio.get_running_loop())
            sensor.start(NS_PER_S)
        except SensorUnavailableError as error:
            why = f"{why}; {error}" if why else str(error)
            continue
        try:
            await asyncio.sleep(_POLL_S)
            reading = sensor.read(monotonic_ns())
        finally:
            sensor.stop()
        if reading.iterations and reading.idle_ns:
            return sensor_class.name, ""
        why = f"the {sensor_class.name} sensor saw neither an iteration nor a wait"
    return None, why


def _alarm(here: Here) -> Result:
    alarm = Alarm()
    try:
        if not alarm.can_be_put_off:
            return here.failed("no timerfd")
        alarm.sleep_until(monotonic_ns() + 1)
    finally:
        alarm.close()
    return _ok("timerfd")


# Probes.


@contextmanager
def _waiting_thread() -> Iterator[threading.Thread]:
    """Have a thread that waits for a lock, with a timeout."""
    lock = threading.Lock()
    with lock:
        thread = threading.Thread(target=_wait_for, args=(lock,), name="doctor-waiting")
        thread.start()
        try:
            yield thread
        finally:
            lock.release()
            thread.join()
            lock.acquire()


def _wait_for(lock: threading.Lock) -> None:
    if lock.acquire(timeout=2 * _PATIENCE_S):
        lock.release()


def _stacks(_here: Here) -> Result:
    if not stacks_work():
        return _missing("this interpreter shows no other thread's stack")
    with _waiting_thread() as thread:
        frames = _patiently(lambda: Capture(thread.ident or 0, 0).positions)
    return _ok(f"{len(frames)} frames of a waiting thread") if frames else _no_frames()


def _no_frames() -> Result:
    return Result(Status.BROKEN, "the stack of a waiting thread is empty")


def _patiently(look: Callable[[], Any]) -> Any:
    """Return what `look` sees: the first that is true, else the last."""
    deadline_s = time.monotonic() + _PATIENCE_S
    while not (seen := look()) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return seen


def _variables(here: Here) -> Result:
    found = object()
    frame = inspect.currentframe()
    if frame is None or variable(frame, "found") is not found:
        return here.failed("a local variable cannot be found by its name")
    return _ok("found by name")


def _native(here: Here) -> Result:
    if here.config.native_sampler == "off":
        return Result(Status.OFF, "switched off by native_sampler='off'")
    if _is_free_threaded():
        return _missing("a free-threaded build has no GIL to keep")
    reason = why_not(accept_risk=here.config.native_sampler == "on")
    if reason is not None:
        return _missing(reason)
    try:
        sampler = NativeSampler(threading.get_native_id(), grace_ns=_GRACE_NS)
    except NativeSamplerError as error:
        return here.failed(str(error))
    try:
        sampler.arm(0)
        until_s = time.thread_time() + _NAP_S
        while not (shots := sampler.collect()):
            if time.thread_time() > until_s:
                return here.failed("the timer brought no stack")
    finally:
        sampler.stop()
    return _ok(f"signal {sampler.signum}, {len(shots[0].frames)} frames")


def _syscall(here: Here) -> Result:
    unreadable = _unreadable(f"/proc/self/task/{threading.get_native_id()}/syscall")
    if unreadable:
        return _missing(unreadable)
    thread = threading.Thread(target=time.sleep, args=(_NAP_S,), name="doctor-asleep")
    thread.start()
    kernel = KernelThread(thread.native_id or 0)
    kinds = set()
    try:
        while thread.is_alive() and "sleep" not in kinds:
            sleep = kernel.sleep()
            kinds.add(sleep.kind if sleep is not None else "nothing")
            time.sleep(_POLL_S)
    finally:
        kernel.close()
        thread.join()
    if "sleep" in kinds:
        return _ok(f"system calls of {platform.machine()} are known")
    if "nothing" in kinds:
        return _missing(f"system calls of {platform.machine()} are not known")
    return here.failed(f"a thread that sleeps is said to be in: {', '.join(sorted(kinds))}")


def _proc_mem(here: Here) -> Result:
    unreadable = _unreadable("/proc/self/mem", 0)
    if unreadable:
        return _missing(unreadable)
    with _waiting_thread() as thread:
        kernel = KernelThread(thread.native_id or 0)
        try:
            # The timeout of its wait stands in memory; without that it could be the GIL.
            locked = _patiently(lambda: (s := kernel.sleep()) is not None and s.kind == "lock")
        finally:
            kernel.close()
    return _ok("readable") if locked else here.failed("a wait with a timeout is not understood")


def _schedstat(here: Here) -> Result:
    unreadable = _unreadable("/proc/self/schedstat")
    if unreadable:
        return _missing(unreadable)
    kernel = KernelThread(threading.get_native_id())
    try:
        waited_ns = kernel.runqueue_wait_ns()
    finally:
        kernel.close()
    return here.failed("no numbers in it") if waited_ns is None else _ok("readable")


def _unreadable(path: str, size: int = 1) -> str:
    try:
        with Path(path).open("rb", buffering=0) as file:
            file.read(size)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def _cgroup(_here: Here) -> Result:
    probe = ThrottleProbe()
    try:
        if probe.path is None or probe.read_ns() is None:
            return _missing("no cgroup with a CPU controller here")
    finally:
        probe.close()
    v2 = "throttled_usec" in Path(probe.path).read_text(encoding="ascii")
    return _ok(f"cgroup {'v2' if v2 else 'v1'}, {probe.path}")


def _clock(_here: Here) -> Result:
    clock = time.get_clock_info("monotonic")
    said = f"{clock.implementation}, resolution {clock.resolution:g} s"
    return _ok(said) if clock.resolution < _COARSE_S else _missing(said)


def _thread_cpu(here: Here) -> Result:
    cpu = ThreadCpu(threading.get_native_id())
    until_s = time.monotonic() + _PATIENCE_S
    while not (used_ns := cpu.read_ns()) and time.monotonic() < until_s:
        if used_ns is None:
            return here.failed("the CPU time of another thread cannot be read")
    return _ok("readable") if used_ns else here.failed("it stands still")


def _debugger(_here: Here) -> Result:
    probe = DebuggerProbe()
    try:
        attached = probe.attached()
    finally:
        probe.close()
    return Result(Status.OFF, "one is attached") if attached else _ok("none attached")


CHECKS: Final[tuple[Check, ...]] = (
    Check("Python", _python, "checked are CPython 3.11 to 3.15 with the GIL: see the rows below"),
    Check("loopwatch", _own_version, ""),
    Check("system", _system, "Linux is where everything works: see the rows below"),
    Check("settings", _settings, "install() raises ConfigError: correct or unset the variable"),
    Check(
        "asyncio loop", _asyncio, "stalls are exact to a quarter of the threshold; no utilization"
    ),
    Check(
        "uvloop loop",
        _uvloop,
        "nothing, unless your app runs on uvloop: pip install -U 'loopwatch[uvloop]'",
    ),
    Check("alarm", _alarm, "the watchdog wakes up more often: a higher cost on a busy loop"),
    Check(STACKS, _stacks, "stalls and durations are told, but no line, task or call"),
    Check("local variables", _variables, "calls of methods have no name (culprit.call)"),
    Check(
        NATIVE,
        _native,
        "a C call that keeps the GIL is told once it is over, often without its line",
    ),
    Check(
        SYSCALL,
        _syscall,
        "blocking calls are told with cause unknown; C calls without the GIL as cpu",
    ),
    Check(PROC_MEM, _proc_mem, "waits with a timeout may be told with cause unknown"),
    Check(
        SCHEDSTAT, _schedstat, "no cpu_starved by neighbours; the thread with the GIL has no name"
    ),
    Check("cgroup cpu.stat", _cgroup, "no cpu_starved by a CPU quota; nothing where there is none"),
    Check("clock", _clock, "durations are as coarse as the clock"),
    Check(THREAD_CPU, _thread_cpu, "no CPU-to-wall ratio; calculations have cause unknown"),
    Check(DEBUGGER, _debugger, "no stall is told while one is attached: run the app without it"),
    Check("metrics", _prometheus, "no /metrics: pip install prometheus-client"),
    Check(
        "console", _console, "no aiomonitor console: pip install -U 'loopwatch[console]' if wanted"
    ),
    Check("extras", _extras, ""),
)
