"""A case: a function that blocks in a known way, and what a true record says about it.

Of each tuple of names the first is the best one and all are right. `None` means that it is not
judged, and an empty tuple that the record must say `null`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from tests.accuracy.ways import in_task

THRESHOLD_S: Final = 0.1
STALL_S: Final = 0.3
QUIET_S: Final = 2.0
# By then the watchdog knows whether the loop is at work.
LEAD_S: Final = 0.7
TICK_S: Final = 0.01

# How the reason begins if a case did not block as it should: the machine was too fast, or idle.
NOT_PRODUCED: Final = "not produced"

F = TypeVar("F", bound=Callable[..., Any])
Names = tuple[str, ...]


class NotHereError(Exception):
    """A case cannot be run, or did not come about, on this machine; the message says why."""


def nothing() -> None:
    """Begin nothing."""


class Scene(NamedTuple):
    """What a helper is called with, and what has to begin at the moment it blocks."""

    args: tuple[Any, ...] = ()
    begin: Callable[[], object] = nothing


Setup = Callable[[float], AbstractContextManager[Scene]]
Way = Callable[[Any], Awaitable[None]]


@contextmanager
def seconds(asked_s: float) -> Iterator[Scene]:
    """Call the helper with how long to block."""
    yield Scene((asked_s,))


@contextmanager
def no_scene(asked_s: float) -> Iterator[Scene]:
    """Prepare nothing."""
    yield Scene()


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case and its label.

    `truth` tells where the true period comes from: the `call` on the loop, or the `tick` of the
    background that ran too late, where it is not the loop that does something. `several` allows
    more than one record in the time from the first late tick to the last. `honest_unknown` marks
    what is hard to tell: `unknown` is a miss there, but a wrong cause is worse. `light` ones
    sleep, so that two can run at a time. The loop ticks for `lead_s` before.
    """

    name: str
    family: str
    how: str
    helper: Callable[..., Any]
    setup: Setup = seconds
    way: Way = in_task
    asked_s: tuple[float, float] = (STALL_S, STALL_S)
    causes: Names = ()
    culprits: Names | None = None
    calls: Names | None = None
    tasks: Names | None = None
    waits: Names | None = None
    other_thread: str | None = None
    loop: str = "main"
    truth: str = "call"
    several: bool = False
    endless: bool = False
    quiet: bool = False
    light: bool = False
    honest_unknown: bool = False
    needs: Names = ()
    tick_s: float = TICK_S
    lead_s: float = LEAD_S
    settings: tuple[tuple[str, Any], ...] = ()


# Filled by the decorators below when the modules of cases are imported; see `cases`.
REGISTRY: Final[dict[str, Case]] = {}

_FROM_HELPER: Final = ("<the helper>",)


def stall(
    *,
    name: str = "",
    asked_s: float | tuple[float, float] = STALL_S,
    culprits: Names | None = _FROM_HELPER,
    tasks: Names | None = ("ways.handler",),
    **label: Any,
) -> Callable[[F], F]:
    """Register a helper that blocks. It stays as it is: a wrapper would be a frame of its own."""

    def register(helper: F) -> F:
        blamed = (f"{_module_of(helper)}.{helper.__qualname__}",)
        _add(
            helper,
            name or helper.__qualname__,
            asked_s=asked_s if isinstance(asked_s, tuple) else (asked_s, asked_s),
            culprits=blamed if culprits is _FROM_HELPER else culprits,
            tasks=tasks,
            **label,
        )
        return helper

    return register


def quiet(*, name: str = "", **label: Any) -> Callable[[F], F]:
    """Register a coroutine function under which a healthy loop stays healthy."""

    def register(helper: F) -> F:
        label.setdefault("setup", no_scene)
        _add(helper, name or helper.__name__, asked_s=(QUIET_S, QUIET_S), quiet=True, **label)
        return helper

    return register


def _add(helper: Callable[..., Any], name: str, **label: Any) -> None:
    assert name not in REGISTRY, f"two cases are called {name}"
    how = label.pop("how", None) or (helper.__doc__ or "").strip().splitlines()[0].rstrip(".")
    family = label.pop("family", None) or _module_of(helper)
    REGISTRY[name] = Case(name=name, family=family, how=how, helper=helper, **label)


def _module_of(helper: Callable[..., Any]) -> str:
    return helper.__module__.rpartition(".")[2]
