"""What a frame is calling, by name; found without running any code of the host."""

from __future__ import annotations

import asyncio
import gc
import importlib
import linecache
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Self

import pytest

from loopwatch.probes import callees
from loopwatch.probes.callees import callee_at, callee_on_line, public_name
from loopwatch.probes.expressions import Expression, at_instruction, on_line
from loopwatch.probes.kernel import GIL, RUNNING, KernelThread
from loopwatch.probes.variables import UNKNOWN, variable

# A module that others import: what is called there blocks until it is let go.
GATEKEEPER = """
import os, threading

entered, released = threading.Event(), threading.Event()
lock = threading.Lock()
lock.acquire()
reader, writer = os.pipe()

def gate(*_, **__):
    entered.set()
    released.wait(60)
    return 1

def second_time(counter=iter(range(9))):
    return gate() if next(counter) else 0

async def coro():
    gate()

class Base:
    def method(self):
        gate()
    @classmethod
    def made(cls):
        gate()
    @staticmethod
    def helped():
        gate()
    def __enter__(self):
        gate()
    def __exit__(self, *_):
        pass
    def __call__(self):
        gate()
    def __iter__(self):
        return self
    def __next__(self):
        gate()
        raise StopIteration

class Derived(Base):
    def __init__(self, wait=False):
        if wait:
            gate()

class Slotted:
    __slots__ = ("base",)
    def __init__(self):
        self.base = Derived()
"""

HEAD = """
import asyncio, functools, json, os, re, sqlite3, threading
from functools import partial
from pathlib import Path
import gatekeeper
import gatekeeper as keeper
from gatekeeper import Base, Derived, Slotted, coro, gate, lock, reader, second_time
from os import read
nap = os.read
"""


class Blocked:
    """A module, as a user would write one, with its function `run` blocked in a call."""

    def __init__(self, folder: Path, keeper: ModuleType, source: str) -> None:
        file = folder / "snip.py"
        file.write_text(HEAD + textwrap.dedent(source), encoding="utf-8")
        self.module = importlib.import_module("snip")
        self.keeper = keeper
        self.result: list[Any] = []
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        made = self.module.run()
        if asyncio.iscoroutine(made):
            made = asyncio.run(made)
        self.result.append(made)

    def __enter__(self) -> Self:
        self.thread.start()
        assert self.thread.native_id is not None
        kernel = KernelThread(self.thread.native_id)
        deadline = time.monotonic() + 20
        seen: list[int] = []
        while True:
            found = kernel.sleep()
            waits = found is not None and found.kind not in (GIL, RUNNING)
            frame = self.frame()
            # Something on the way, as reading a file, may wait for a moment, too.
            seen = [*seen, frame.f_lasti] if waits and frame is not None else []
            if len(seen) > 4 and len(set(seen)) == 1:
                break
            seen = seen if len(set(seen)) == 1 else []
            assert time.monotonic() < deadline, "it never blocked"
            assert self.thread.is_alive(), "it ran to its end"
            time.sleep(0.002)
        kernel.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.keeper.released.set()
        os.close(self.keeper.writer)
        if self.keeper.lock.locked():
            self.keeper.lock.release()
        self.thread.join()

    def frame(self, name: str = "run") -> FrameType | None:
        frame = sys._current_frames().get(self.thread.ident or 0)
        while frame is not None and frame.f_code.co_name != name:
            frame = frame.f_back
        return frame

    def callee(self, name: str = "run") -> str | None:
        frame = self.frame(name)
        assert frame is not None
        return callee_at(frame, frame.f_lasti)


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "gatekeeper.py").write_text(GATEKEEPER)
    keeper = importlib.import_module("gatekeeper")
    yield keeper
    os.close(keeper.reader)
    for name in ("snip", "gatekeeper", "slowmod", "slowpkg", "slowpkg.part"):
        sys.modules.pop(name, None)
    callees._CACHE.clear()
    linecache.clearcache()


CALLS = {
    # The function, however it is reached.
    "a module's function": ("def run():\n    os.read(reader, 1)", "os.read"),
    "from its module": ("def run():\n    read(reader, 1)", "os.read"),
    "a module's alias": ("def run():\n    keeper.gate()", "gatekeeper.gate"),
    "a global alias": ("def run():\n    nap(reader, 1)", "os.read"),
    "a local alias": ("def run():\n    doze = os.read\n    doze(reader, 1)", "os.read"),
    "an argument": ("def run(doze=os.read):\n    doze(reader, 1)", "os.read"),
    "a closure's": (
        """
        def outer():
            doze = os.read
            def run():
                doze(reader, 1)
            return run
        run = outer()
        """,
        "os.read",
    ),
    "a variable that a closure shares": (
        """
        def run():
            doze = os.read
            def other():
                return doze
            doze(reader, 1)
        """,
        "os.read",
    ),
    "a nested function": (
        """
        def run():
            def inner():
                gate()
            inner()
        """,
        "snip.run.inner",
    ),
    "a lambda": ("nod = lambda: gate()\ndef run():\n    nod()", "snip.<lambda>"),
    "a local shadows a global": (
        "def run():\n    nap = gate\n    nap(reader, 1)",
        "gatekeeper.gate",
    ),
    "a builtin": ("def run():\n    sorted([1], key=gate)", "sorted"),
    "a builtin type": ("def run():\n    list(map(gate, [1]))", "list"),
    "a C function of a package": ("def run():\n    json.dumps({0j}, default=gate)", "json.dumps"),
    "a C function's callback": (
        "def run():\n    re.sub('a', lambda _: gate() and '', 'a')",
        "re.sub",
    ),
    "a partial": ("def run():\n    partial(gate, 1)()", None),
    "a partial in a variable": (
        "later = partial(os.read, reader, 1)\ndef run():\n    later()",
        "os.read",
    ),
    "wrapped": (
        """
        def keep(function):
            @functools.wraps(function)
            def inner(*args):
                return function(*args)
            return inner
        @keep
        def waits():
            gate()
        def run():
            waits()
        """,
        "snip.waits",
    ),
    # Methods.
    "a method of a local": ("def run():\n    b = Base()\n    b.method()", "gatekeeper.Base.method"),
    "an inherited method": (
        "def run():\n    b = Derived()\n    b.method()",
        "gatekeeper.Base.method",
    ),
    "a method of an attribute": (
        """
        class Service:
            def __init__(self):
                self.base = Derived()
            def run(self):
                self.base.method()
        run = Service().run
        """,
        "gatekeeper.Base.method",
    ),
    "a C method of an attribute": (
        """
        class Service:
            def __init__(self):
                self.lock = lock
            def run(self):
                self.lock.acquire()
        run = Service().run
        """,
        "threading.Lock.acquire",
    ),
    "a method of a slot": (
        "def run():\n    s = Slotted()\n    s.base.method()",
        "gatekeeper.Base.method",
    ),
    "its own method": (
        """
        class Service:
            def work(self):
                gate()
            def run(self):
                self.work()
        run = Service().run
        """,
        "snip.Service.work",
    ),
    "super's": (
        """
        class Service(Base):
            def run(self):
                super().method()
        run = Service().run
        """,
        None,
    ),
    "a cached function": (
        "@functools.lru_cache\ndef waits():\n    gate()\ndef run():\n    waits()",
        "snip.waits",
    ),
    "a C function in a class": (
        """
        class Service:
            doze = os.read
            def run(self):
                self.doze(reader, 1)
        run = Service().run
        """,
        "os.read",
    ),
    "a function in a slot": (
        """
        class Service:
            __slots__ = ("doze",)
            def __init__(self):
                self.doze = os.read
            def run(self):
                self.doze(reader, 1)
        run = Service().run
        """,
        "os.read",
    ),
    "a classmethod": ("def run():\n    Base.made()", "gatekeeper.Base.made"),
    "a classmethod of an instance": (
        "def run():\n    b = Derived()\n    b.made()",
        "gatekeeper.Base.made",
    ),
    "a staticmethod": ("def run():\n    Base.helped()", "gatekeeper.Base.helped"),
    "a staticmethod of an instance": (
        "def run():\n    b = Derived()\n    b.helped()",
        "gatekeeper.Base.helped",
    ),
    "a class": ("def run():\n    Derived(wait=True)", "gatekeeper.Derived"),
    "an object that is called": ("def run():\n    b = Base()\n    b()", "gatekeeper.Base.__call__"),
    "a bound method in a variable": (
        "def run():\n    go = Derived().method\n    go()",
        "gatekeeper.Base.method",
    ),
    "a bound C method in a variable": (
        "def run():\n    go = lock.acquire\n    go()",
        "threading.Lock.acquire",
    ),
    "a function stored in an object": (
        """
        class Service:
            def __init__(self):
                self.doze = os.read
            def run(self):
                self.doze(reader, 1)
        run = Service().run
        """,
        "os.read",
    ),
    # What calls return.
    "a method of what a function returns": (
        "def run():\n    open(reader, closefd=False).read(1)",
        "open().read",
    ),
    "a method of a new object": (
        "def run():\n    Derived().method()",
        "gatekeeper.Base.method",
    ),
    "a method of a new path": (
        "def run():\n    Path('/proc/self/fd/' + str(reader)).read_bytes()",
        # Where it is defined; 3.13 has it in a base.
        "pathlib._abc.PathBase.read_bytes"
        if sys.version_info[:2] == (3, 13)
        else "pathlib.Path.read_bytes",
    ),
    "a statement": (
        """
        def run():
            db = sqlite3.connect(":memory:")
            db.create_function("gate", 0, gate)
            db.execute("select gate()")
            db.close()
        """,
        "sqlite3.Connection.execute",
    ),
    "a method of what a method returns": (
        """
        class Made:
            def base(self):
                return Base()
        def run():
            made = Made()
            made.base().method()
        """,
        "snip.Made.base().method",
    ),
    # Statements that call without parentheses.
    "with a lock": ("def run():\n    with lock:\n        pass", "threading.Lock.__enter__"),
    "with an object": (
        "def run():\n    b = Base()\n    with b:\n        pass",
        "gatekeeper.Base.__enter__",
    ),
    "with, as": (
        "def run():\n    b = Base()\n    with b as c:\n        print(c)",
        "gatekeeper.Base.__enter__",
    ),
    "with several": (
        "def run():\n    b = Base()\n    with open(os.devnull), b:\n        pass",
        "gatekeeper.Base.__enter__" if sys.version_info >= (3, 13) else None,
    ),
    "the end of with": (
        """
        class Late(Base):
            def __enter__(self):
                pass
            def __exit__(self, *_):
                gate()
        def run():
            late = Late()
            with late:
                pass
        """,
        "snip.Late.__exit__",
    ),
    "the end of with, by an exception": (
        """
        class Late(Base):
            def __enter__(self):
                pass
            def __exit__(self, *_):
                gate()
                return True
        def run():
            late = Late()
            with late:
                raise ValueError
        """,
        "snip.Late.__exit__",
    ),
    "for, over what a call returns": (
        "def run():\n    for _ in keeper.Base():\n        pass",
        "gatekeeper.Base",
    ),
    "for, deep in a function": (
        """
        def run():
            if True:
                b = Base()
                for _ in b:
                    x = '''
        not indented
        '''
        """,
        "gatekeeper.Base.__next__",
    ),
    "for": (
        "def run():\n    b = Base()\n    for _ in b:\n        pass",
        "gatekeeper.Base.__next__",
    ),
    "for, over rows": (
        """
        def run():
            db = sqlite3.connect(":memory:")
            db.create_function("wait", 0, second_time)
            rows = db.execute("select wait() from (select 1 union all select 2)")
            for row in rows:
                pass
            db.close()
        """,
        "sqlite3.Cursor.__next__",
    ),
    "import": ("def run():\n    import slowmod", "import slowmod"),
    "import as": ("def run():\n    import slowpkg.part as p", "import slowpkg.part"),
    "from import": ("def run():\n    from slowmod import x", "import slowmod"),
    "from a package import": ("def run():\n    from slowpkg.part import x", "import slowpkg.part"),
    "await": ("async def run():\n    await coro()", "gatekeeper.coro"),
    "await in an expression": (
        "async def run():\n    return [await coro(), 1]",
        "gatekeeper.coro",
    ),
    "an operator": (
        """
        class Odd:
            def __add__(self, other):
                gate()
        def run():
            Odd() + 1
        """,
        None,
    ),
    "an attribute that is computed": (
        """
        class Odd:
            @property
            def value(self):
                gate()
        def run():
            o = Odd()
            o.value
        """,
        None,
    ),
    # Where it stands.
    "over several lines": (
        """
        def run():
            return (
                os
                .read(
                    reader,
                    1,
                )
            )
        """,
        "os.read",
    ),
    "after text that is not ASCII": (
        'def run():\n    "größer 中文 🎉"; x = ["ü", os.read(reader, 1)]',
        "os.read",
    ),
    "in a comprehension": (
        "def run():\n    return [keeper.gate(n) for n in (1,)]",
        "gatekeeper.gate" if sys.version_info >= (3, 12) else None,  # a frame of its own before
    ),
    "in an f-string": ('def run():\n    return f"ü{keeper.gate()}"', "gatekeeper.gate"),
    "the inner of nested calls": (
        "def run():\n    return str(abs(keeper.gate()))",
        "gatekeeper.gate",
    ),
    "the second argument": (
        "def run():\n    return max(abs(1), keeper.gate())",
        "gatekeeper.gate",
    ),
    "the outer of nested calls": (
        "def run():\n    return sorted(list([1]), key=gate)",
        "sorted",
    ),
    "with arguments in stars": (
        "def run():\n    args = (reader, 1)\n    return os.read(*args)",
        "os.read",
    ),
    "in a condition": ("def run():\n    return 1 if keeper.gate() else 2", "gatekeeper.gate"),
    "what an item is": ("def run():\n    table = [os.read]\n    table[0](reader, 1)", None),
}


@pytest.mark.parametrize(("source", "expected"), CALLS.values(), ids=CALLS)
def test_the_call_is_named(
    tmp_path: Path, keeper: ModuleType, source: str, expected: str | None
) -> None:
    """A function in the middle of a call says what it calls, by the name in its own module."""
    (tmp_path / "slowmod.py").write_text("import gatekeeper\ngatekeeper.gate()\nx = 1\n")
    (tmp_path / "slowpkg").mkdir()
    (tmp_path / "slowpkg" / "__init__.py").write_text("")
    (tmp_path / "slowpkg" / "part.py").write_text("import gatekeeper\ngatekeeper.gate()\nx = 1\n")
    with Blocked(tmp_path, keeper, source) as blocked:
        found = blocked.callee()
    assert found == expected


# Nothing of the host is run, changed or kept.

TRAPS = """
ran = []
armed = []

def trap(name):
    def method(self, *args, **kwargs):
        if armed:
            ran.append(name)
        raise AttributeError(name)
    return method

def passing(name, base):
    def method(self, *args, **kwargs):
        if armed:
            ran.append(name)
        return getattr(base, name)(self, *args, **kwargs)
    return method

class Descriptor:
    __get__ = trap("__get__")
    __set__ = trap("__set__")

class Reading:
    def __get__(self, owner, kind=None):
        if armed:
            ran.append("__get__")
        return gate

class Meta(type):
    __getattribute__ = passing("__getattribute__", type)
    __getattr__ = trap("meta __getattr__")
    __instancecheck__ = passing("__instancecheck__", type)
    __subclasscheck__ = passing("__subclasscheck__", type)
    __call__ = passing("__call__", type)
    __repr__ = passing("__repr__", type)
    @property
    def __dictoffset__(self):
        ran.append("meta property")

class Trap(metaclass=Meta):
    field = Descriptor()
    reading = Reading()
    @property
    def value(self):
        if armed:
            ran.append("property")
        return gate
    def work(self):
        gate()
    __getattr__ = trap("__getattr__")
    __getattribute__ = passing("__getattribute__", object)
    __repr__ = passing("__repr__", object)
    __eq__ = passing("__eq__", object)
    __hash__ = passing("__hash__", object)
    def __call__(self):
        if armed:
            ran.append("__call__")
        gate()

class Proxy:
    \"\"\"Like werkzeug's: says it is of another class, and outside of a request raises.\"\"\"
    def __getattr__(self, name):
        ran.append("proxied " + name)
        raise RuntimeError("outside of a request")
    @property
    def __class__(self):
        if armed:
            ran.append("__class__")
            raise RuntimeError("outside of a request")
        return Base
    @property
    def __dict__(self):
        if armed:
            ran.append("__dict__")
            raise RuntimeError("outside of a request")
        return {"method": gate}
    def method(self):
        gate()
    def __call__(self):
        gate()

class Dict(dict):
    get = __getitem__ = __contains__ = passing("get", dict)

class Module(type(os)):
    def __getattribute__(self, name):
        if armed:
            ran.append("a module's " + name)
        return super().__getattribute__(name)

lazy = Module("lazy")
lazy.gate = gate
trap, proxy = Trap(), Proxy()
class Holder:
    pass
holder = Holder()
holder.trap, holder.proxy = trap, proxy
"""

TRAPPED = {
    "a method": ("t = trap\n    t.work()", "snip.Trap.work"),
    "a global's method": ("trap.work()", "snip.Trap.work"),
    "a class's method": ("Trap.work(trap)", "snip.Trap.work"),
    "an attribute's method": ("holder.trap.work()", "snip.Trap.work"),
    "a property's result": ("trap.value()", None),
    "a property's method": ("trap.value.__call__()", None),
    "a descriptor's result": ("trap.reading()", ...),
    "a class's descriptor's result": ("Trap.reading()", ...),
    "the object itself": ("trap()", "snip.Trap.__call__"),
    "a new object's method": ("Trap().work()", "snip.Trap.work"),
    "a proxy's method": ("proxy.method()", "snip.Proxy.method"),
    "a held proxy's method": ("holder.proxy.method()", "snip.Proxy.method"),
    "a proxy": ("proxy()", "snip.Proxy.__call__"),
    "a module of the host's own": ("lazy.gate()", "gatekeeper.gate"),
    "with a trap around": ("sorted([trap], key=gate)", "sorted"),
    "a partial of a trap": ("p = partial(trap)\n    p()", "snip.Trap.__call__"),
    "a bound method of a trap": ("w = trap.work\n    w()", "snip.Trap.work"),
}


@pytest.mark.parametrize(("statement", "expected"), TRAPPED.values(), ids=TRAPPED)
def test_nothing_of_the_host_is_run(
    tmp_path: Path, keeper: ModuleType, statement: str, expected: Any
) -> None:
    """No property, descriptor, `__getattr__`, metaclass or proxy notices that it is looked at."""
    source = f"{TRAPS}\ndef run():\n    {statement}\n"
    with Blocked(tmp_path, keeper, source) as blocked:
        blocked.module.armed.append(True)
        blocked.module.ran.clear()
        try:
            found = blocked.callee()
            line = callee_on_line(
                blocked.module.run.__code__,
                blocked.module.run.__code__.co_firstlineno + statement.count("\n") + 1,
                vars(blocked.module),
            )
            ran = list(blocked.module.ran)
        finally:
            blocked.module.armed.clear()
    assert ran == []
    if expected is not ...:
        assert found == expected
        assert line in (expected, None)


def test_globals_of_a_class_of_the_hosts_own(tmp_path: Path, keeper: ModuleType) -> None:
    """Code that runs in a subclass of dict is looked at as in a dict."""
    source = """
    ran = []
    class Names(dict):
        def __getitem__(self, name):
            ran.append(name)
            return dict.__getitem__(self, name)
        def __contains__(self, name):
            ran.append(name)
            return dict.__contains__(self, name)
        get = __getitem__
    def inner():
        gate()
    def run():
        eval(inner.__code__, Names(globals()))
    """
    with Blocked(tmp_path, keeper, source) as blocked:
        ran = blocked.module.ran
        before = len(ran)
        assert blocked.callee("inner") == "gatekeeper.gate"
        assert len(ran) == before


def test_locals_that_the_host_has_taken_stay_as_they_were(
    tmp_path: Path, keeper: ModuleType
) -> None:
    """A dict that the host got from `locals()` is not refreshed by our look."""
    source = """
    taken = []
    def run():
        doze = gate
        taken.append(locals())
        taken.append(dict(taken[0]))
        later = 2
        doze()
        return later
    """
    with Blocked(tmp_path, keeper, source) as blocked:
        assert blocked.callee() == "gatekeeper.gate"
        taken, copied = blocked.module.taken
        assert taken == copied
        assert "later" not in taken


def test_locals_are_not_kept_alive(tmp_path: Path, keeper: ModuleType) -> None:
    """What a look has seen dies with its frame, and no reference to it is left over."""
    source = """
    kept = []
    def run():
        mine = Derived()
        kept.append(weakref.ref(mine))
        mine.method()
    import weakref
    """
    with Blocked(tmp_path, keeper, source) as blocked:
        [ref] = blocked.module.kept
        before = sys.getrefcount(ref())
        for _ in range(50):
            assert blocked.callee() == "gatekeeper.Base.method"
        after = sys.getrefcount(ref())  # by itself: a rewritten assert keeps what it has seen
        assert after == before
    gc.collect()
    assert ref() is None


def test_variables_of_a_running_frame(tmp_path: Path, keeper: ModuleType) -> None:
    """Locals, cells, closures, globals and builtins are found; what is unbound is unknown."""
    source = """
    one = 1
    def outer(free):
        def run(argument, *args, key=None, **kwargs):
            local = "local"
            cell = "cell"
            late_cell = late = removed = "yet"
            del late, late_cell, removed
            inner = lambda: (cell, late_cell)
            gate(free)
            late = late_cell = removed = inner
            return late, late_cell, removed
        return run
    run = functools.partial(outer("free"), "argument", "more", key="key", extra=1)
    """
    expected = {
        "free": "free",
        "argument": "argument",
        "args": ("more",),
        "key": "key",
        "kwargs": {"extra": 1},
        "local": "local",
        "cell": "cell",
        "late": UNKNOWN,
        "late_cell": UNKNOWN,
        "removed": UNKNOWN,
        "one": 1,
        "len": len,
        "nobody": UNKNOWN,
    }
    with Blocked(tmp_path, keeper, source) as blocked:
        frame = blocked.frame()
        assert frame is not None
        found = {name: variable(frame, name) for name in expected}
        del frame
    assert found == expected


def test_an_unbound_name_is_no_callee(tmp_path: Path, keeper: ModuleType) -> None:
    """A function that deleted the variable it called through is not named."""
    source = """
    def run():
        doze = lambda: wipe()
        def wipe():
            nonlocal doze
            del doze
            gate()
        doze()
    """
    with Blocked(tmp_path, keeper, source) as blocked:
        assert blocked.callee() is None


def test_without_source_nothing_is_known(tmp_path: Path, keeper: ModuleType) -> None:
    """Code from a string, or whose file is gone, has no callee, and no error either."""
    text = "def run():\\n    gate()\\n"
    source = f"""
    scope = dict(gate=gate)
    exec(compile("{text}", "/nowhere/at/all.py", "exec"), scope)
    run = scope["run"]
    """
    with Blocked(tmp_path, keeper, source) as blocked:
        assert blocked.callee() is None
        code = blocked.module.run.__code__
        assert callee_on_line(code, 2, blocked.module.scope) is None


def test_without_positions_nothing_is_known(
    child: Callable[..., subprocess.CompletedProcess[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under `-X no_debug_ranges` there is no callee, and no error either."""
    monkeypatch.setenv("PYTHONNODEBUGRANGES", "1")
    done = child(
        """
        from loopwatch.probes.callees import callee_at, callee_on_line
        def look():
            frame = sys._getframe(1)
            print(callee_at(frame, frame.f_lasti))
            print(callee_on_line(frame.f_code, frame.f_lineno, globals()))
        def run():
            look()
        run()
        """
    )
    assert (done.stdout.split(), done.stderr) == (["None", "None"], "")


def test_a_frame_that_has_not_begun_calls_nothing() -> None:
    """Before its first instruction a function calls nothing."""

    def run() -> None:
        os.getpid()

    assert at_instruction(run.__code__, -1) is None


def test_names_on_a_line() -> None:
    """Where only the line is known, all calls on it are found, and one is a callee."""

    def run(names: list[str]) -> None:
        os.getpid()
        len(os.urandom(1))
        len(names), len(names)

    code, first = run.__code__, run.__code__.co_firstlineno
    assert on_line(code, first + 1) == [Expression(("os", "getpid"))]
    assert on_line(code, first + 2) == [Expression(("os", "urandom")), Expression(("len",))]
    assert callee_on_line(code, first + 1, globals()) == "os.getpid"
    assert callee_on_line(code, first + 2, globals()) is None
    assert callee_on_line(code, first + 3, globals()) == "len"
    assert callee_on_line(code, first + 99, globals()) is None


def test_a_local_on_a_line_is_not_taken_for_a_global() -> None:
    """Where only the line is known a local variable is unknown, whatever the globals say."""

    def run(len: Callable[[str], int]) -> None:  # noqa: A002 - shadows on purpose
        len("")

    assert callee_on_line(run.__code__, run.__code__.co_firstlineno + 1, globals()) is None


PUBLIC = {
    ("builtins", "sorted"): "sorted",
    ("_io", "open"): "open",
    ("posix", "system"): "os.system",
    ("_thread", "lock"): "threading.Lock",
    ("json.decoder", "JSONDecoder.decode"): "json.JSONDecoder.decode",
    ("_socket", "gethostbyname"): "socket.gethostbyname",
    ("subprocess", "Popen.wait"): "subprocess.Popen.wait",
    ("not.imported", "function"): "not.imported.function",
    ("snip", "outer.<locals>.inner"): "snip.outer.inner",
}


@pytest.mark.parametrize(("where", "name"), PUBLIC.items(), ids=PUBLIC.values())
def test_the_public_name(where: tuple[str, str], name: str) -> None:
    """A function is called by the name it is imported under, not by where it is defined."""
    assert public_name(*where) == name


def test_looking_needs_no_memory_of_its_own(tmp_path: Path, keeper: ModuleType) -> None:
    """What is remembered of expressions is bounded, however much code there is."""
    for number in range(callees._CACHED + 50):
        code = compile(f"f{number}()", "<none>", "exec")
        callees._expression(code, 0)
    assert len(callees._CACHE) <= callees._CACHED


def test_naming_a_call_warns_of_nothing(tmp_path: Path) -> None:
    """The host's text is parsed once more, and what its compiler warned of is not said again."""
    file = tmp_path / "escapes.py"
    file.write_text('import re\ndef run():\n    re.match("\\d+$", "1")\n')
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code = compile(file.read_text(), str(file), "exec")
    names: dict[str, Any] = {}
    exec(code, names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (
            callee_on_line(names["run"].__code__, 3, names) == f"re.{re.match.__name__}"
        )  # 3.15: prefixmatch
