"""From the three words of a faulthandler dump back to the function."""

from __future__ import annotations

import faulthandler
import importlib
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, ModuleType

import pytest

from loopwatch.probes.native_stacks import NativeFrame, parse_dumps
from loopwatch.probes.source_map import SourceMap

SOURCE = """
import contextlib, functools

looks = []

def look():
    looks.append(dump())

def plain():
    look()

def outer():
    def inner():
        def innermost():
            look()
        innermost()
    inner()

def kept(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args)
    return wrapper

def lost(function):
    def wrapper(*args):
        return function(*args)
    return wrapper

@kept
def decorated():
    look()

@lost
@kept
def twice():
    look()

class Service:
    def method(self):
        look()
    @classmethod
    def made(cls):
        look()
    @staticmethod
    def helped():
        look()
    @property
    def value(self):
        look()
    @kept
    def decorated(self):
        look()
    class Part:
        def method(self):
            look()
    def build(self):
        class Local:
            def method(self):
                look()
        Local().method()

nod = lambda: look()
table = {"nod": lambda: look()}

def comprehends():
    return [look() for _ in (1,)]

def generates():
    look()
    yield

@contextlib.contextmanager
def manages():
    look()
    yield

def größe():
    look()

same = plain
"""

RUN: dict[str, tuple[Callable[[ModuleType], object], str]] = {
    "a function": (lambda m: m.plain(), "plain"),
    "a nested function": (lambda m: m.outer(), "outer.<locals>.inner.<locals>.innermost"),
    "a decorated function": (lambda m: m.decorated(), "decorated"),
    "a function decorated twice": (lambda m: m.twice(), "twice"),
    "a method": (lambda m: m.Service().method(), "Service.method"),
    "a classmethod": (lambda m: m.Service.made(), "Service.made"),
    "a staticmethod": (lambda m: m.Service.helped(), "Service.helped"),
    "a property": (lambda m: m.Service().value, "Service.value"),
    "a decorated method": (lambda m: m.Service().decorated(), "Service.decorated"),
    "a method of a nested class": (lambda m: m.Service.Part().method(), "Service.Part.method"),
    "a method of a local class": (
        lambda m: m.Service().build(),
        "Service.build.<locals>.Local.method",
    ),
    "a lambda": (lambda m: m.nod(), "<lambda>"),
    "a generator": (lambda m: next(m.generates()), "generates"),
    "a context manager": (lambda m: m.manages().__enter__(), "manages"),
    "a name that is not ASCII": (lambda m: m.größe(), "größe"),
}


def dump() -> bytes:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=False)
        file.seek(0)
        return file.read()


def load(folder: Path, name: str, source: str) -> ModuleType:
    (folder / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    module = importlib.import_module(name)
    module.__dict__["dump"] = dump
    return module


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to import from, with a name that is not ASCII."""
    folder = tmp_path / "größe 中 🎉"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize(("run", "qualname"), RUN.values(), ids=RUN)
def test_the_function_is_found_again(
    home: Path, run: Callable[[ModuleType], object], qualname: str
) -> None:
    """A real dump leads to the very code object that ran, in its module, on its line."""
    module = load(home, "mapped", SOURCE)
    run(module)
    [text] = module.looks
    [(frames, _)] = parse_dumps(text)
    mine = [frame for frame in frames if "mapped" in frame.file]
    assert mine[0].name == "look"
    position = SourceMap()._find(mine[1])
    assert position.module == "mapped"
    assert position.code.co_qualname == qualname
    assert position.code.co_filename == module.__file__
    assert position.line == mine[1].line
    assert position.line in {line for _, _, line in position.code.co_lines()}


def test_two_functions_of_one_name_are_told_apart_by_their_lines(home: Path) -> None:
    """Of several with the same name it is the one around the line."""
    module = load(
        home,
        "mapped",
        """
        class A:
            def work(self):
                return 1

        class B:
            def work(self):
                return 2
        """,
    )
    file = str(module.__file__)
    assert SourceMap()._find(NativeFrame(file, 4, "work")).code is module.A.work.__code__
    assert SourceMap()._find(NativeFrame(file, 8, "work")).code is module.B.work.__code__


@pytest.mark.parametrize(
    ("file", "name", "module"),
    [
        ("<string>", "f", ""),
        ("/nowhere/at/all.py", "f", ""),
        ("mapped", "deleted", "mapped"),
        ("mapped", "<module>", "mapped"),
        ("mapped", "caf\\xe9", "mapped"),
    ],
)
def test_unknown_code_keeps_its_bare_name(home: Path, file: str, name: str, module: str) -> None:
    """Code that no module holds has the file, line and name of the dump, and what else is sure."""
    loaded = load(home, "mapped", SOURCE)
    path = str(loaded.__file__) if file == "mapped" else file
    position = SourceMap()._find(NativeFrame(path, 7, name))
    expected = name.replace("\\xe9", "é")
    assert (position.code.co_name, position.code.co_qualname) == (expected, expected)
    assert (position.code.co_filename, position.line, position.module) == (path, 7, module)


def test_the_call_on_the_line(home: Path) -> None:
    """The innermost frame of the host's code says what it calls, if that is certain."""
    module = load(
        home,
        "mapped",
        """
        import json, re

        def one():
            return re.compile("x")

        def two():
            return json.dumps(re.escape("x"))
        """,
    )
    file = str(module.__file__)

    def call(name: str, line: int) -> str | None:
        frames = (NativeFrame(file, line, name),)
        return SourceMap().stack(frames, lambda _, found: found == "mapped").call

    assert call("one", 5) == "re.compile"
    assert call("two", 8) is None


def test_a_call_with_a_frame_of_its_own(home: Path) -> None:
    """Where the line does not tell, the function below the blamed one is what it calls."""
    app = load(home, "mapped", "def run():\n    return [f() for f in (1, 2)], g()\n")
    helper = load(home, "helper", "def slow():\n    return sorted([])\n")
    frames = (
        NativeFrame(str(helper.__file__), 2, "slow"),
        NativeFrame(str(app.__file__), 2, "run"),
    )
    stack = SourceMap().stack(frames, lambda _, module: module == "mapped")
    assert stack.call == "helper.slow"
    assert stack.last_call == "sorted"
    assert [position.code.co_name for position in stack.positions] == ["slow", "run"]
    assert SourceMap().stack((), lambda *_: True).positions == ()


def test_what_was_found_is_remembered_and_bounded(home: Path) -> None:
    """A frame is searched for once; however many there are, memory is bounded."""
    module = load(home, "mapped", SOURCE)
    sources = SourceMap()
    frame = NativeFrame(str(module.__file__), 10, "plain")

    def look(*frames: NativeFrame) -> CodeType:
        return sources.stack(frames, lambda *_: False).positions[0].code

    first = look(frame)
    del module.plain, module.same
    assert look(frame) is first
    for number in range(3000):
        look(NativeFrame("<string>", number, "f"))
    assert 0 < len(sources._positions) <= 1024


def test_the_search_runs_no_code_of_the_host(home: Path) -> None:
    """Proxies, metaclasses and lazy modules among a module's names are passed by untouched."""
    module = load(
        home,
        "mapped",
        """
        ran = []
        armed = []

        class Meta(type):
            def __getattribute__(cls, name):
                if armed:
                    ran.append(name)
                return super().__getattribute__(name)

        class Odd(metaclass=Meta):
            def work(self):
                return 1

        class Proxy:
            @property
            def __class__(self):
                if armed:
                    ran.append("__class__")
                    raise RuntimeError("outside of a request")
                return int
            def __eq__(self, other):
                ran.append("__eq__")
                return True
            __hash__ = None

        request = Proxy()
        """,
    )
    module.armed.append(True)
    position = SourceMap()._find(NativeFrame(str(module.__file__), 13, "work"))
    module.armed.clear()
    assert module.ran == []
    assert position.code.co_qualname == "Odd.work"
