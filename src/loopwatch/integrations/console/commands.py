"""The commands: they ask the agents and print. All of them answer while the loop is blocked.

They run on the monitor's own thread and never touch the watched loop. aiomonitor has one table of
commands for the process, so a command finds out by the monitor which loop it is asked about.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, Final

import click
from aiomonitor import monitor_cli  # type: ignore[import-untyped]
from aiomonitor.context import command_done  # type: ignore[import-untyped]
from aiomonitor.termui.commands import (  # type: ignore[import-untyped]
    auto_command_done,
    custom_help_option,
)
from prompt_toolkit.application.current import get_app_session
from prompt_toolkit.output import ColorDepth

from loopwatch.errors import ConfigError
from loopwatch.integrations.console.pages import (
    census_page,
    flame_page,
    lag_page,
    loop_page,
    stall_page,
    stalls_page,
)
from loopwatch.registry import agent_of, agents
from loopwatch.views.text import clean
from loopwatch.views.units import duration, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from loopwatch.agent import Agent
    from loopwatch.integrations.console.pages import Paint
    from loopwatch.model import Stall

__all__ = ["COMMANDS", "add_commands"]

_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 60.0
# Each look costs the host some 50 µs of the GIL, and a thousand of them draw any tree.
_LOOKS: Final = 1000
_DENSEST_S: Final = 0.01
_STYLES: Final[dict[str, dict[str, Any]]] = {
    "good": {"fg": "green"},
    "bad": {"fg": "red", "bold": True},
    "warn": {"fg": "yellow"},
    "strong": {"bold": True},
    "faint": {"dim": True},
}
# The event loop keeps no reference to a task.
_BURSTS: Final[set[asyncio.Task[None]]] = set()


def add_commands() -> None:
    """Put the commands into aiomonitor's table; twice is the same as once."""
    for command in COMMANDS:
        name = command.name or ""
        if monitor_cli.commands.get(name) not in (None, command):
            name = f"loopwatch-{name}"
        monitor_cli.add_command(command, name)


def _command(
    name: str, *parameters: Callable[..., Any], answers_later: bool = False
) -> Callable[[Callable[..., Iterable[str]]], click.Command]:
    """Make a command of a function that is told the agent, and prints the lines it returns.

    With `answers_later` the function sees to it that the next prompt comes.
    """

    def decorate(ask: Callable[..., Iterable[str]]) -> click.Command:
        def answer(ctx: click.Context, loop_name: str | None, **given: Any) -> None:
            try:
                _print(ask(_agent(ctx, loop_name), **given))
            except click.ClickException:
                raise
            except Exception as error:  # noqa: BLE001 - the monitor must go on
                # aiomonitor prints tracebacks, and a message may carry values of the host.
                raise click.UsageError(f"{name} failed with {type(error).__name__}") from None

        answer.__doc__ = ask.__doc__
        made: Callable[..., Any] = answer if answers_later else auto_command_done(answer)
        which_loop = click.option(
            "--loop", "loop_name", metavar="NAME", help="Which loop, where several are watched."
        )
        for add in (click.pass_context, *parameters, which_loop, custom_help_option):
            made = add(made)
        return click.command(name)(made)

    return decorate


@_command("lag")
def lag(agent: Agent) -> Iterable[str]:
    """Show how late the loop runs what is due"""
    return lag_page(agent.snapshot(), _paint())


@_command("loop")
def loop(agent: Agent) -> Iterable[str]:
    """Show the state of the loop: lag, tasks, utilization, stalls"""
    return loop_page(agent.snapshot(), _paint())


@_command(
    "stalls", click.option("-n", "wanted", type=click.IntRange(1), default=20, help="How many; 20.")
)
def stalls(agent: Agent, wanted: int) -> Iterable[str]:
    """List the newest stalls, newest last"""
    known, active_s = _known(agent)
    return stalls_page(agent.loop_name, known, wanted, active_s, _paint())


@_command("stall", click.argument("wanted", metavar="ID|last", default="last"))
def stall(agent: Agent, wanted: str) -> Iterable[str]:
    """Show all of one stall: the start of its id will do, or 'last'"""
    known, _ = _known(agent)
    found = known[-1:] if wanted == "last" else [s for s in known if s.id.startswith(wanted)]
    if not found:
        raise click.UsageError(f"no stall {clean(wanted)} is on record: `stalls` lists them")
    if len(found) > 1:
        several = ", ".join(s.id for s in found[:5])
        raise click.UsageError(f"{clean(wanted)} is the start of several: {several}")
    return stall_page(found[0], _paint())


@_command("census")
def census(agent: Agent) -> Iterable[str]:
    """Group the pending tasks by what they run and where they wait"""
    return census_page(agent.loop_name, agent.census(), _paint())


@_command("threshold", click.argument("value", required=False))
def threshold(agent: Agent, value: str | None) -> Iterable[str]:
    """Show or set how long a stall is: 200ms, 0.2, 1.5s"""
    if value is not None:
        try:
            agent.set_stall_threshold(_seconds(value))
        except ConfigError as error:
            raise click.UsageError(clean(str(error))) from None
    stall_s = agent.snapshot().thresholds.stall_s
    setting_s = agent.config.stall_threshold_s
    note = ""
    if stall_s != setting_s:
        note = f", until the agent stops; the setting is {duration(setting_s)}"
    return [f"loop {clean(agent.loop_name)}: stalled from {duration(stall_s)} on{note}"]


@_command(
    "flame", click.argument("how_long", metavar="[SECONDS]", required=False), answers_later=True
)
def flame(agent: Agent, how_long: str | None) -> Iterable[str]:
    """Sample the loop's thread now, for 1 s or so long, and draw where it is"""
    for_s = 1.0 if how_long is None else _seconds(how_long)
    if not _SHORTEST_S <= for_s <= _LONGEST_S:
        raise click.UsageError(
            f"{clean(how_long)} is not allowed: use {_SHORTEST_S:g} to {_LONGEST_S:g} seconds"
        )
    # Parsing --help has set it, and what is set lets the next prompt come too early.
    done = command_done.get()
    done.clear()
    task = asyncio.get_running_loop().create_task(_burst(agent, for_s, done, _paint()))
    _BURSTS.add(task)
    task.add_done_callback(_BURSTS.discard)
    return []


COMMANDS: Final = (lag, stalls, stall, loop, census, flame, threshold)


async def _burst(agent: Agent, for_s: float, done: asyncio.Event, paint: Paint) -> None:
    """Take looks, with pauses in which other sessions are served; then print."""
    burst = agent.burst()
    pause_s = max(_DENSEST_S, for_s / _LOOKS)
    began_s = time.monotonic()
    try:
        while (took_s := time.monotonic() - began_s) < for_s:
            burst.look()
            await asyncio.sleep(pause_s)
        _print(flame_page(agent.loop_name, burst.samples, burst.looks, burst.waits, took_s, paint))
    except Exception as error:  # noqa: BLE001 - nobody else would tell
        click.echo(f"flame failed with {type(error).__name__}")
    finally:
        burst.close()
        done.set()


def _agent(ctx: click.Context, name: str | None) -> Agent:
    """Return the agent that is asked for by name, by the monitor's loop, or the only one."""
    known = agents()
    names = ", ".join(clean(agent.loop_name) for agent in known)
    if name is not None:
        for agent in known:
            if agent.loop_name == name:
                return agent
        raise click.UsageError(f"no loop {clean(name)} is watched; there is: {names or 'none'}")
    # Not promised by aiomonitor; without it --loop is needed where there are several.
    monitored = getattr(ctx.obj, "_monitored_loop", None)
    own = agent_of(monitored) if monitored is not None else None
    if own is not None:
        return own
    if len(known) == 1:
        return known[0]
    if not known:
        raise click.UsageError("no loop is watched: call loopwatch.install() in the app")
    raise click.UsageError(f"several loops are watched, this monitor's is not: --loop {names}")


def _known(agent: Agent) -> tuple[list[Stall], float]:
    """Return the stalls on record, newest last, and the age of one in progress (s)."""
    now = agent.snapshot()
    known = list(agent.stalls)
    active = now.active_stall
    if active is not None and all(stall.id != active.id for stall in known):
        known.append(active)
    return known, now.active_s


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return seconds(text)
    except ValueError:
        raise click.UsageError(
            f"{clean(text)} is no duration: write it like 200ms, 0.2 or 1.5s"
        ) from None


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _paint() -> Paint:
    """Return what colours a text, if the client's terminal can and nobody minds."""
    depth = get_app_session().output.get_default_color_depth()
    if os.environ.get("NO_COLOR") or depth is ColorDepth.DEPTH_1_BIT:
        return lambda text, _style: text
    return lambda text, style: click.style(text, **_STYLES.get(style, {})) if style else text
