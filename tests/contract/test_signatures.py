"""The table of signatures against its own rules and against what is installed."""

from __future__ import annotations

import importlib
import sys
import warnings
from itertools import pairwise
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.diagnosis.signatures import (
    CAUSE_ADVICE,
    NOT_BLOCKING,
    PUBLIC_HOMES,
    SIGNATURES,
    WAITS,
    find,
)

# The word for import statements is no name that could be resolved.
TARGETS = [row.target for row in SIGNATURES if row.target != "import"]

# Modules that not every supported Python has: (first version with it, first version without).
ONLY_IN = {
    "compression": ((3, 14), (99,)),
    "crypt": ((3, 0), (3, 13)),
    "telnetlib": ((3, 0), (3, 13)),
}

# Homes that moved: psycopg 3.3 put an underscore before its server cursors, 3.15 made one for
# the whole numbers of math.
MAY_BE_ABSENT = {"math.integer", "psycopg._server_cursor", "psycopg.server_cursor"}


def is_stdlib(target: str) -> bool:
    return target.split(".", maxsplit=1)[0] in sys.stdlib_module_names


def package_of(target: str) -> str:
    """Return the package that is installed or not; `google` is a namespace of many."""
    parts = target.split(".")
    return ".".join(parts[: 1 + (parts[0] == "google")])


def resolve(target: str) -> Any:
    """Return what a dotted name stands for: the longest module that imports, then attributes."""
    parts = target.split(".")
    found, rest = importlib.import_module(parts[0]), parts[1:]
    for depth in range(2, len(parts) + 1):
        try:
            found = importlib.import_module(".".join(parts[:depth]))
        except ImportError:
            break
        rest = parts[depth:]
    for part in rest:
        found = getattr(found, part)
    return found


def resolved() -> tuple[dict[str, Any], list[str], list[str]]:
    """Return what each target stands for, those that are wrong, and those that are not here."""
    there: dict[str, Any] = {}
    wrong, absent = [], []
    with warnings.catch_warnings():
        # Some of the modules are deprecated; that is no reason not to know them.
        warnings.simplefilter("ignore")
        for target in TARGETS:
            try:
                importlib.import_module(package_of(target))
            except Exception:  # a third party that is not installed, or does not run here
                absent.append(target)
                continue
            try:
                there[target] = resolve(target)
            except AttributeError:
                wrong.append(target)
    return there, wrong, absent


def own_name(thing: Any) -> str | None:
    """Return the dotted name that a function or class has in its own module."""
    owner = getattr(thing, "__objclass__", thing)
    module, name = getattr(owner, "__module__", None), getattr(thing, "__qualname__", None)
    return f"{module}.{name}" if module and name else None


def test_targets_are_sorted_and_unique() -> None:
    """Each row has one place in the table."""
    targets = [row.target for row in SIGNATURES]
    assert all(one < other for one, other in pairwise(targets))


def test_waits_are_closed_and_all_in_use() -> None:
    """No row invents a kind of wait, and no kind is left without a row."""
    assert {row.wait for row in SIGNATURES} == set(WAITS)
    assert list(WAITS) == sorted(WAITS)


@pytest.mark.parametrize("text", sorted({r.text for r in SIGNATURES} | set(CAUSE_ADVICE.values())))
def test_an_advice_is_one_short_line(text: str) -> None:
    """It fits behind a log line: no full stop, no capital, no line break, and it says something."""
    assert text.isprintable()
    assert text == text.strip()
    assert not text.endswith(".")
    assert text[0].islower()
    assert 15 <= len(text) <= 100


def test_each_cause_but_unknown_has_advice() -> None:
    """Where nothing was found out, nothing is advised."""
    assert set(CAUSE_ADVICE) == set(Cause) - {Cause.UNKNOWN}


def test_what_does_not_block_is_an_exception_to_a_row() -> None:
    """A row of NOT_BLOCKING that changes nothing is dead weight; none is also a signature."""
    assert list(NOT_BLOCKING) == sorted(set(NOT_BLOCKING))
    targets = {row.target for row in SIGNATURES}
    for name in NOT_BLOCKING:
        assert name not in targets
        assert find(name) is None
        if not name.startswith("*."):
            assert find(name.rpartition(".")[0]) is not None, name


def test_no_signature_is_out_of_reach() -> None:
    """Each row is what its own target finds."""
    assert [find(row.target) for row in SIGNATURES] == list(SIGNATURES)


def test_every_target_that_is_here_resolves() -> None:
    """All of the standard library, and each installed third party, has what the table names."""
    there, wrong, absent = resolved()
    assert set(wrong) <= MAY_BE_ABSENT
    stdlib = {t for t in TARGETS if is_stdlib(t)} - MAY_BE_ABSENT
    assert stdlib == {t for t in there if is_stdlib(t)} - MAY_BE_ABSENT
    assert not [t for t in absent if is_stdlib(t)]
    print(f"not checked, not installed: {' '.join(absent)}")


def test_a_target_is_found_by_its_own_name_too() -> None:
    """Whatever a row names is also found as its own module knows it, with advice that fits it."""
    there, _, _ = resolved()
    lost = {
        target: name
        for target, thing in there.items()
        if (name := own_name(thing)) is not None and find(name) is None
    }
    assert lost == {}


@pytest.mark.parametrize("name", ONLY_IN)
def test_modules_that_come_and_go_are_where_we_think(name: str) -> None:
    """A row for them is right on the Pythons that have them and harmless on the others."""
    since, until = ONLY_IN[name]
    assert (name in sys.stdlib_module_names) == (since <= sys.version_info[:2] < until)
    assert find(name) is not None


def test_public_homes_are_public_modules() -> None:
    """An implementation module is known by the name that people import."""
    assert list(PUBLIC_HOMES) == sorted(PUBLIC_HOMES)
    for private, public in PUBLIC_HOMES.items():
        assert private not in PUBLIC_HOMES.values()
        if public.split(".")[0] not in ONLY_IN:
            assert resolve(public) is not None
