"""C calls that burn CPU on the loop: those that keep the GIL, and those that let it go."""

from __future__ import annotations

import contextlib
import decimal
import hashlib
import json
import pickle
import random
import re
import sqlite3
import sys
import zlib
from functools import partial
from typing import Any, Final

from tests.accuracy.scenes import number, rows, sized_stall

native = partial(sized_stall, causes=("native_call",))

# C calls that keep the GIL.


@native(
    lambda n: json.dumps(rows(n)),
    calls=("json.loads",),
)
def parse_orders(text: str) -> None:
    """`json.loads` of a big text."""
    json.loads(text)


@native(rows, calls=("json.dumps",))
def print_orders(data: list[Any]) -> None:
    """`json.dumps` of big data."""
    json.dumps(data)


@native(rows, calls=("pickle.dumps", "_pickle.dumps"))
def pickle_orders(data: list[Any]) -> None:
    """`pickle.dumps`."""
    pickle.dumps(data)


def comment(blanks: int) -> str:
    """Give a comment whose white space is not at the end."""
    return " " * blanks + "!"


@native(comment, 2, calls=("re.sub",))
def trim(text: str) -> None:
    """`re.sub` that backtracks."""
    re.sub(r"\s+$", "", text)


class Comments:
    """Keeps its pattern compiled."""

    trailing = re.compile(r"\s+$")

    def __init__(self, text: str) -> None:
        self.text = text

    @native(
        lambda n: Comments(comment(n)),
        2,
        calls=("re.Pattern.sub",),
    )
    def trim(self) -> None:
        """`sub` of a compiled pattern that backtracks."""
        self.trailing.sub("", self.text)


for _name, _range_s in (("just_over", (0.105, 0.12)), ("just_under", (0.08, 0.093))):
    native(
        name=f"trim_{_name}",
        asked_s=_range_s,
        how=f"`re.sub` that backtracks {_name.replace('_', ' ')} the threshold",
        make=comment,
        power=2,
        calls=("re.sub",),
    )(trim)
for _work_s in (1.0, 5.0):
    native(
        name=f"trim_{_work_s:g}_s",
        asked_s=_work_s,
        how=f"`re.sub` that backtracks for {_work_s:g} s",
        make=comment,
        power=2,
        calls=("re.sub",),
    )(trim)


def numbers(count: int) -> list[float]:
    """Give numbers in no order."""
    rng = random.Random(1)
    return [rng.random() for _ in range(count)]


@native(numbers, calls=("sorted", "builtins.sorted"))
def sort(data: list[float]) -> None:
    """`sorted` of a big list."""
    sorted(data)


_MODULUS: Final = (1 << 1279) - 1


@native(lambda bits: (1 << bits) - 1, calls=("pow", "builtins.pow"))
def power(exponent: int) -> None:
    """`pow` with a long exponent."""
    pow(3, exponent, _MODULUS)


@native(
    lambda digits: (1 << digits) - 1,
    2,
    calls=("str", "builtins.str"),
)
def print_number(big: int) -> None:
    """`str` of a big number."""
    str(big)


# A calibration must not fail on what the interpreter forbids by default.
sys.set_int_max_str_digits(0)


@native(range, calls=("sum", "builtins.sum"))
def add_up_in_c(given: range) -> None:
    """`sum` of a range."""
    sum(given)


@native(
    number,
    1.5,
    calls=("decimal.Decimal.ln",),
)
def take_root(digits: int) -> None:
    """`Decimal.ln` with many digits."""
    decimal.Decimal(2).ln(decimal.Context(prec=digits))


# C calls that let the GIL go.


@native(number, calls=("hashlib.pbkdf2_hmac",))
def hash_password(rounds: int) -> None:
    """`hashlib.pbkdf2_hmac`, which lets the GIL go."""
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", rounds)


def noise(count: int) -> bytes:
    """Give bytes that compress badly."""
    return random.Random(1).randbytes(count * 100)


@native(noise, calls=("zlib.compress",))
def compress(data: bytes) -> None:
    """`zlib.compress`, which lets the GIL go."""
    zlib.compress(data)


_SUM_OF_ORDERS: Final = """
    WITH RECURSIVE orders(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM orders WHERE id < ?)
    SELECT sum(id * id % 97) FROM orders
"""


@native(number, calls=("sqlite3.Connection.execute",))
def query(orders: int) -> None:
    """A sqlite3 query over every row, which lets the GIL go."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute(_SUM_OF_ORDERS, (orders,)).fetchall()
