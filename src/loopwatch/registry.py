"""`install` and `current`, and the registry of agents with its manners at fork and at exit."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from loopwatch.agent import Agent, OnStall
from loopwatch.config import Config
from loopwatch.errors import ConfigError, NoRunningLoopError
from loopwatch.exporters import Exporter, make_exporters
from loopwatch.forklock import ForkLock, renew_all
from loopwatch.patience import exit_within

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Iterator, Sequence

__all__ = ["agent_of", "agents", "current", "install"]

# All loops together: nobody waits a second for us at the end of a process.
_EXIT_S: Final = 0.9


def install(
    config: Config | None = None,
    /,
    *,
    on_stall: OnStall | None = None,
    exporters: Sequence[str | Exporter] | None = None,
    **settings: Any,
) -> Agent:
    """Start watching the running loop and return its agent.

    Settings are keywords, on top of the `LOOPWATCH_*` variables; or a whole `Config`, which is
    taken as it is. `exporters` are names or `Exporter` objects. `on_stall` is called off the
    loop, once while a stall is ongoing and once when it is over.

    A second call on the same loop returns the same agent. Raises `ConfigError` for settings that
    cannot work, or that differ from those the agent runs with, and `NoRunningLoopError` where no
    loop runs.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise NoRunningLoopError(
            "no event loop runs in this thread: call loopwatch.install() inside a coroutine, "
            "or use lifespan=loopwatch.lifespan()"
        ) from None
    if config is not None and settings:
        raise ConfigError(
            f"{', '.join(sorted(settings))}: pass settings as keywords or as a Config, not both"
        )
    with _LOCK:
        agent = _AGENTS.get(id(loop))
        if agent is not None:
            if config is None:
                config = Config.from_env(**settings) if settings else agent.config
            agent.check_same(config, on_stall, exporters)
            return agent
        if config is None:
            config = Config.from_env(**settings)
        made = make_exporters(_wanted(config, exporters))
        if config.console:
            made.append(_console(loop))
        agent = Agent(
            loop,
            config,
            _free_name(config.loop_name),
            made,
            on_stall,
            _leaving,
        )
        agent.start(tuple(_AGENTS.values()))
        _AGENTS[id(loop)] = agent
        return agent


def current() -> Agent | None:
    """Return the agent of the running loop; `None` without one, or without a running loop."""
    try:
        return _AGENTS.get(id(asyncio.get_running_loop()))
    except RuntimeError:
        return None


def agents() -> tuple[Agent, ...]:
    """Return the agents of all watched loops of this process. Any thread."""
    return tuple(_AGENTS.copy().values())


def agent_of(loop: AbstractEventLoop) -> Agent | None:
    """Return the agent of a loop; `None` if nobody watches it. Any thread."""
    return _AGENTS.get(id(loop))


# The one registry of agents, by the id of their loop: an agent keeps its loop alive, so the id
# cannot be taken by another one. The lock is held while agents start, never by the watchdog.
_AGENTS: Final[dict[int, Agent]] = {}
# Those that are in the middle of `stop`: their names are still on the metrics, and a child that is
# forked now has to forget them, too.
_LEAVING: Final[dict[int, Agent]] = {}
_LOCK: Final = ForkLock()


def _wanted(config: Config, exporters: Sequence[str | Exporter] | None) -> Sequence[str | Exporter]:
    wanted = list(config.exporters if exporters is None else exporters)
    if config.stall_log is not None and "jsonl" not in wanted:
        wanted.append("jsonl")
    return wanted


def _console(loop: AbstractEventLoop) -> Exporter:
    # By name, like the exporters of the table: `install` puts an agent together, so it may know
    # what is above it, but nothing here may need it to be imported.
    console: Exporter = importlib.import_module("loopwatch.integrations.console").Console(loop)
    return console


def _free_name(name: str) -> str:
    taken = {agent.loop_name for agent in _known()}
    number = 1
    free = name
    while free in taken:
        number += 1
        free = f"{name}-{number}"
    return free


def _known() -> tuple[Agent, ...]:
    return (*_AGENTS.copy().values(), *_LEAVING.copy().values())


@contextmanager
def _leaving(agent: Agent) -> Iterator[None]:
    # No lock: `stop` may run on a watchdog thread while another loop installs and waits for it.
    _LEAVING[id(agent)] = agent
    for key, other in list(_AGENTS.items()):
        if other is agent:
            _AGENTS.pop(key, None)
    try:
        yield
    finally:
        _LEAVING.pop(id(agent), None)


def _stop_all() -> None:
    exit_within(_EXIT_S)
    for agent in list(_AGENTS.values()):
        agent.stop()


def _forget_all() -> None:
    renew_all()
    for agent in _known():
        agent.forget()
    _AGENTS.clear()
    _LEAVING.clear()


# Both once per process: neither can be taken back without a trace, and without agents they do
# nothing. A child watches its own loops or nothing; records on their way are flushed at exit.
atexit.register(_stop_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
