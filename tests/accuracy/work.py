"""Work of Python on the loop: loops, recursions, generators, garbage collections."""

from __future__ import annotations

import contextlib
import copy
import gc
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from tests.accuracy.label import NOT_PRODUCED, NotHereError, Scene, nothing, stall
from tests.accuracy.scenes import number, rows, sized_stall

python = partial(sized_stall, causes=("cpu",))


@python(number, calls=())
def add_up(count: int) -> int:
    """A loop in Python."""
    total = 0
    for n in range(count):
        total += n * n % 97
    return total


for _work_s in (0.11, 0.25, 1.0, 2.0, 5.0):
    python(
        name=f"add_up_{_work_s:g}_s",
        asked_s=_work_s,
        how=f"a loop in Python for {_work_s:g} s",
        make=number,
        calls=(),
    )(add_up)
for _name, _range_s in (("just_over", (0.105, 0.12)), ("just_under", (0.08, 0.095))):
    python(
        name=f"add_up_{_name}",
        asked_s=_range_s,
        how=f"a loop in Python {_name.replace('_', ' ')} the threshold",
        make=number,
        calls=(),
    )(add_up)


@stall(
    name="endless_loop",
    causes=("cpu",),
    asked_s=60.0,
    endless=True,
    calls=None,
)
def spin(work_s: float) -> None:
    """A loop in Python that does not end; the process is killed after 1.5 s."""
    until_s = time.monotonic() + work_s
    while time.monotonic() < until_s:
        pass


def descend(depth: int, count: int) -> int:
    """Work at the end of a deep recursion."""
    return descend(depth - 1, count) if depth else sum_of_squares(count)


def sum_of_squares(count: int) -> int:
    total = 0
    for n in range(count):
        total += n * n % 89
    return total


@python(number, calls=None)
def take_smaller(count: int) -> int:
    """A loop in Python that calls a small C function each time round."""
    total = 0
    for n in range(count):
        total += min(n, 5) + int("7")
    return total


@python(number, calls=None)
def match_many(count: int) -> int:
    """A loop in Python over many short matches."""
    matched = 0
    for _ in range(count):
        matched += re.match("a+b", "aab") is not None
    return matched


_DEPTH: Final = 300


@python(number, culprits=("work.sum_of_squares",), calls=())
def work_deep_down(count: int) -> int:
    """A loop in Python, 300 frames down."""
    return descend(_DEPTH, count)


def fibonacci(n: int) -> int:
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


@contextlib.contextmanager
def fibonacci_size(asked_s: float) -> Iterator[Scene]:
    """Give a number whose recursion takes about as long."""
    n, took_s = 15, 0.0
    while took_s < asked_s * 0.8:
        n += 1
        began_s = time.thread_time()
        fibonacci(n)
        took_s = time.thread_time() - began_s
    yield Scene((n,))


@stall(causes=("cpu",), setup=fibonacci_size, culprits=("work.fibonacci",), calls=None)
def recurse(n: int) -> None:
    """A recursion in Python."""
    fibonacci(n)


def squares(count: int) -> Iterator[int]:
    for n in range(count):
        yield n * n % 97


@python(
    number,
    culprits=("work.squares", "work.read_generator"),
    calls=None,
)
def read_generator(count: int) -> int:
    """A generator in Python."""
    total = 0
    for n in squares(count):
        total += n
    return total


@python(
    number,
    culprits=("work.comprehend", "work.comprehend.<locals>.<listcomp>"),
    calls=(),
)
def comprehend(count: int) -> int:
    """A list comprehension."""
    return len([n * n % 97 for n in range(count)])


@python(
    number,
    culprits=("work.comprehend_dict", "work.comprehend_dict.<locals>.<dictcomp>"),
    calls=(),
)
def comprehend_dict(count: int) -> int:
    """A dict comprehension."""
    return len({n % 997: n * n for n in range(count)})


@python(rows, calls=("copy.deepcopy",))
def copy_orders(data: list[Any]) -> None:
    """`copy.deepcopy`, which is Python."""
    copy.deepcopy(data)


# Garbage collections.

_SOME_OBJECTS: Final = 1_000_000
_MOST_OBJECTS: Final = 30_000_000


def _collected_s() -> float:
    gc.collect()
    began_s = time.thread_time()
    gc.collect()
    return time.thread_time() - began_s


def heap(prepare: Callable[[], object], begin: Callable[[], object]) -> Any:
    """Return a setup that makes as many objects as take the collector the asked time."""

    @contextlib.contextmanager
    def setup(asked_s: float) -> Iterator[Scene]:
        gc.disable()
        before_s = _collected_s()
        kept: list[Any] = [[] for _ in range(_SOME_OBJECTS)]
        # A young heap is collected faster than an old one: rather too many objects.
        wanted = round(_SOME_OBJECTS * 1.5 * asked_s / (_collected_s() - before_s))
        if wanted > _MOST_OBJECTS:
            raise NotHereError(f"{NOT_PRODUCED}: it takes {wanted} objects")
        kept += [[] for _ in range(wanted - len(kept))]
        prepare()
        yield Scene((), begin)
        gc.disable()
        kept.clear()
        gc.enable()

    return setup


def _settle_heap() -> None:
    gc.collect()
    gc.enable()


@stall(causes=("gc",), setup=heap(_settle_heap, nothing), calls=("gc.collect",))
def collect() -> None:
    """`gc.collect` of a heap of millions."""
    gc.collect()


@stall(causes=("gc",), setup=heap(nothing, gc.enable), culprits=None, calls=None)
def make_garbage() -> None:
    """An automatic collection that finds a heap of millions."""
    len([[n] for n in range(2000)])
