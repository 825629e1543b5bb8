"""The public surface: names, signatures, import cost in kind."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest

import loopwatch

CONTRACT = {
    "Agent", "Cause", "Config", "ConfigError", "Frame", "LoopwatchError", "MissingExtraError",
    "NoRunningLoopError", "Sample", "Snapshot", "Stall", "current", "install", "lifespan",
}  # fmt: skip


def test_all_is_sorted_and_real() -> None:
    """`__all__` names what there is, sorted, and holds the contract."""
    assert loopwatch.__all__ == sorted(loopwatch.__all__)
    for name in loopwatch.__all__:
        assert getattr(loopwatch, name) is not None
    assert set(loopwatch.__all__) >= CONTRACT
    assert dir(loopwatch) == loopwatch.__all__


def test_every_lazy_name_has_its_home() -> None:
    """The table of homes and `__all__` are the same set, and so is what type checkers see."""
    assert set(loopwatch._HOMES) | {"__version__"} == set(loopwatch.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = loopwatch.nothing


def test_signatures_are_those_of_the_contract() -> None:
    """Programs outside call these."""
    assert str(inspect.signature(loopwatch.install)).startswith(
        "(config: 'Config | None' = None, /"
    )
    parameters = inspect.signature(loopwatch.install).parameters
    assert list(parameters) == ["config", "on_stall", "exporters", "settings"]
    assert list(inspect.signature(loopwatch.lifespan).parameters) == ["inner", "settings"]
    assert issubclass(loopwatch.ConfigError, loopwatch.LoopwatchError)
    assert issubclass(loopwatch.NoRunningLoopError, loopwatch.LoopwatchError)
    assert issubclass(loopwatch.MissingExtraError, loopwatch.LoopwatchError)


def test_importing_loopwatch_imports_no_third_party() -> None:
    """Nor does asking for each public name."""
    code = (
        "import sys; before = set(sys.modules); import loopwatch, json\n"
        "for name in loopwatch.__all__: getattr(loopwatch, name)\n"
        "new = [sys.modules[name] for name in set(sys.modules) - before]\n"
        "files = [m.__file__ for m in new if getattr(m, '__file__', None)]\n"
        "print(json.dumps([f for f in files if '-packages' in f and 'loopwatch' not in f]))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(out) == []


def test_a_missing_extra_says_how_to_install_it() -> None:
    """One line with the command."""
    error = loopwatch.MissingExtraError("loopwatch demo", "demo")
    assert str(error) == ("loopwatch demo needs an extra: run `pip install 'loopwatch[demo]'`")
