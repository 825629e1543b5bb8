"""Whose line is it?"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import prometheus_client

import loopwatch.demo
from loopwatch.diagnosis.culprit import blame, entry_of, in_app_rule
from loopwatch.model import Frame


def frame(name: str, line: int = 1, *, app: bool = True) -> Frame:
    return Frame(f"app.{name}" if app else f"lib.{name}", "f.py", line, app)


def test_the_innermost_in_app_frame_is_blamed() -> None:
    """Not the library under it, and not the handler above it."""
    stack = (frame("recv", app=False), frame("fetch"), frame("handler"))
    assert blame([(3, stack)]) == frame("fetch")


def test_most_samples_decide() -> None:
    """One sample elsewhere does not move the blame."""
    assert blame([(1, (frame("a"),)), (4, (frame("b"),))]) == frame("b")


def test_a_loop_over_many_lines_is_one_function() -> None:
    """Samples of one function on several lines count together; its commonest line is told."""
    samples = [(2, (frame("hot", 10),)), (3, (frame("hot", 11),)), (4, (frame("other"),))]
    assert blame(samples) == frame("hot", 11)


def test_a_library_alone_is_named_as_such() -> None:
    """Nothing of the host is on the stack: the innermost frame, marked as not in-app."""
    assert blame([(1, (frame("x", app=False),))]) == frame("x", app=False)


def test_nothing_sampled_means_nobody_blamed() -> None:
    """Absent knowledge is None, never a guess."""
    assert blame([]) is None
    assert blame([(1, ())]) is None
    assert entry_of(()) is None


def test_the_entry_is_the_outermost_in_app_frame() -> None:
    """Where the loop went into the host's code."""
    stack = (frame("fetch"), frame("handler"), frame("route", app=False))
    assert entry_of(stack) == frame("handler")


def test_what_is_in_app() -> None:
    """Not the standard library, installed packages, frozen modules or loopwatch itself."""
    in_app = in_app_rule()
    assert not in_app(asyncio.__file__, "asyncio")
    assert not in_app(json.__file__, "json")
    assert not in_app(prometheus_client.__file__, "prometheus_client")
    assert not in_app("<frozen importlib._bootstrap>", "importlib._bootstrap")
    assert not in_app(loopwatch.agent.__file__, "loopwatch.agent")
    assert in_app(str(Path(__file__)), __name__)
    assert in_app("<stdin>", "__main__")
    assert in_app(str(Path(loopwatch.demo.__file__).with_name("app.py")), "loopwatch.demo.app")


def test_the_settings_move_the_border() -> None:
    """Included modules are the host's, excluded ones are not; the longer name wins."""
    in_app = in_app_rule(include=("json",), exclude=("json.tool", "app.vendor"))
    assert in_app(json.__file__, "json")
    assert in_app(json.__file__, "json.decoder")
    assert not in_app(json.__file__, "json.tool")
    assert not in_app(json.__file__, "jsonschema")
    assert in_app(str(Path(__file__)), "app.views")
    assert not in_app(str(Path(__file__)), "app.vendor.sdk")
