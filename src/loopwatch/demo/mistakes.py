"""Plain functions that block, as they sit some frames below many an async handler."""

from __future__ import annotations

import math
import re
import sqlite3
import subprocess
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import requests

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Sizes",
    "add_up_invoices",
    "fetch_price",
    "make_thumbnail",
    "sum_of_orders",
    "trim_comment",
    "wait_for_payment",
    "wait_for_report",
]

# Well over the default threshold, and still a demo in which several fit into a few seconds.
STALL_S: Final = 0.3

# An empty proxy wins over HTTP_PROXY and ALL_PROXY: the neighbour is on this machine.
_NO_PROXY: Final = {"http": ""}

_SUM_OF_ORDERS: Final = """
    WITH RECURSIVE orders(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM orders WHERE id < ?)
    SELECT sum(id * id % 97) FROM orders
"""


def fetch_price(url: str) -> float:
    """Ask another service, with a client that waits for it."""
    response = requests.get(url, timeout=5, proxies=_NO_PROXY)
    return float(response.json()["price"])


def wait_for_payment() -> None:
    """Pause before asking again."""
    time.sleep(STALL_S)


def sum_of_orders(orders: int) -> int:
    """Run a query that looks at every row."""
    with closing(sqlite3.connect(":memory:")) as database:
        rows = database.execute(_SUM_OF_ORDERS, (orders,)).fetchall()
    return int(rows[0][0])


def make_thumbnail() -> int:
    """Have another program do it, and wait for the program."""
    return subprocess.run(["sleep", str(STALL_S)], check=False).returncode


def wait_for_report() -> None:
    """Have a thread do it, and wait for the thread."""
    worker = threading.Thread(target=time.sleep, args=(STALL_S,), name="demo-report")
    worker.start()
    worker.join()


def add_up_invoices(invoices: int) -> int:
    """Calculate, in Python."""
    total = 0
    for number in range(invoices):
        total += number * number % 97
    return total


def trim_comment(text: str) -> str:
    r"""Cut off white space at the end, with a pattern that takes n² steps over a run of n.

    `re` keeps the GIL for all of it: neither the loop nor any other thread runs meanwhile.
    """
    return re.sub(r"\s+$", "", text)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much work each calculation gets, so that it takes about `STALL_S` on this machine."""

    orders: int
    invoices: int
    blanks: int

    @classmethod
    def measure(cls) -> Self:
        """Try the calculations out; takes a fraction of a second."""
        return cls(
            orders=_size(sum_of_orders, 1),
            invoices=_size(add_up_invoices, 1),
            blanks=_size(lambda blanks: trim_comment(comment(blanks)), 2),
        )


def comment(blanks: int) -> str:
    """Return a comment whose white space is not at the end."""
    return " " * blanks + "!"


def _size(work: Callable[[int], object], power: int) -> int:
    """Return the size at which `work` takes about `STALL_S`; its time grows with size**power."""
    size = 1000
    while True:
        # CPU time: the load of other processes must not make the work look longer than it is.
        began_s = time.thread_time()
        work(size)
        took_s = time.thread_time() - began_s
        if took_s >= STALL_S / 10:
            return math.ceil(size * math.pow(STALL_S / took_s, 1 / power))
        size *= 2
