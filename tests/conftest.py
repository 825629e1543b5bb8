"""What all tests share: real loops of each kind, child processes, and proof of nothing left."""

from __future__ import annotations

import asyncio
import gc
import os
import selectors
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from loopwatch import Stall, registry

try:
    import uvloop
except ImportError:
    uvloop = None

needs_uvloop = pytest.mark.skipif(uvloop is None, reason="uvloop is not installed here")


class OpaqueSelector:
    """A selector that cannot be wrapped, as loops that are not the stdlib's have."""

    __slots__ = ("_inner",)

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def select(self, timeout: float | None = None) -> Any:
        return self._inner.select(timeout)


def _opaque_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop(OpaqueSelector())  # type: ignore[arg-type]


# What the sampler does is tested on every Python it can be switched on for; the default asks for
# one on which faulthandler is safe (decision 0017). Child processes inherit it.
os.environ.setdefault("LOOPWATCH_NATIVE_SAMPLER", "on")

FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "opaque": _opaque_loop,
}
if uvloop is not None:
    FACTORIES["uvloop"] = uvloop.new_event_loop

SENSORS = {"asyncio": "selector", "uvloop": "libuv", "opaque": "tick"}

Run = Callable[[Coroutine[Any, Any, Any]], Any]
Child = Callable[..., subprocess.CompletedProcess[str]]


def _run(factory: Callable[[], asyncio.AbstractEventLoop], main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def exact_loop(request: pytest.FixtureRequest) -> str:
    """Name of a loop kind with an exact sensor."""
    return str(request.param)


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=needs_uvloop), "opaque"])
def any_loop(request: pytest.FixtureRequest) -> str:
    """Name of a loop kind; together they use every sensor."""
    return str(request.param)


@pytest.fixture
def run_exact(exact_loop: str) -> Run:
    """Run a coroutine on a loop with an exact sensor."""
    return lambda main: _run(FACTORIES[exact_loop], main)


@pytest.fixture
def run_any(any_loop: str) -> Run:
    """Run a coroutine on each kind of loop."""
    return lambda main: _run(FACTORIES[any_loop], main)


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread, signal handler, GC callback, registry entry or agent outlives a test."""
    callbacks = list(gc.callbacks)
    handlers = _signal_handlers()
    yield
    deadline = time.monotonic() + 2
    while _own_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    if "leaves_a_blocked_thread" not in request.keywords:
        assert _own_threads() == []
    assert gc.callbacks == callbacks
    assert _signal_handlers() == handlers
    assert registry._AGENTS == {}
    assert not [m for m in REGISTRY.collect() if m.name.startswith("loopwatch")]


def _own_threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("loopwatch")]


def _signal_handlers() -> dict[int, Any]:
    # SIGALRM is pytest-timeout's.
    return {int(s): signal.getsignal(s) for s in signal.valid_signals() if s != signal.SIGALRM}


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Run a script in a child process and wait for it."""

    def run(script: str, *args: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
        with start_child(tmp_path, script, *args) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                pytest.fail(f"the child did not end in {timeout} s\n{out}\n{err}")
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    return run


PRELUDE = """
import asyncio, json, logging, os, signal, sys, threading, time
import loopwatch
logging.basicConfig(level=logging.INFO, format="LOG %(message)s")

def factory(name):
    if name == "uvloop":
        import uvloop
        return uvloop.new_event_loop
    return asyncio.SelectorEventLoop

def run(main, name="asyncio"):
    with asyncio.Runner(loop_factory=factory(name)) as runner:
        return runner.run(main)
"""


def start_child(folder: Path, script: str, *args: str) -> subprocess.Popen[str]:
    """Start a script, after a common prelude, as a child process with pipes."""
    file = folder / "child_script.py"
    file.write_text(PRELUDE + textwrap.dedent(script))
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(file), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


class Told:
    """Collects records; `on_stall` of an agent under test."""

    def __init__(self) -> None:
        self.records: list[Stall] = []

    def __call__(self, stall: Stall) -> None:
        self.records.append(stall)

    @property
    def final(self) -> list[Stall]:
        return [stall for stall in self.records if stall.phase == "final"]

    @property
    def ongoing(self) -> list[Stall]:
        return [stall for stall in self.records if stall.phase == "ongoing"]


@pytest.fixture
def no_shots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Go without native stacks, where coroutines end by the ten thousand (decision 0017)."""
    monkeypatch.setenv("LOOPWATCH_NATIVE_SAMPLER", "off")


@pytest.fixture
def told() -> Told:
    """An `on_stall` that remembers."""
    return Told()


async def settle(told: Told, count: int = 1, timeout_s: float = 3.0) -> None:
    """Wait until `count` final records were delivered."""
    deadline = time.monotonic() + timeout_s
    while len(told.final) < count and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.05)
