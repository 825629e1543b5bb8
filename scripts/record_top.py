"""Take pictures of `loopwatch top` over two running demos, into docs/images (about 40 seconds).

`top.svg` is the lines, `top-stall.svg` one stall opened. The view is the real one, with what the
real demos told; only its terminal is not a window.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from loopwatch.cli.top_table import Table
from loopwatch.cli.top_view import TopApp
from loopwatch.top.address import Address
from loopwatch.top.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
# Ports that nobody else is likely to have: they are in the picture.
PORTS: Final = {"asyncio": 9464, "uvloop": 9465}
# The sparkline shows a minute.
RUN_S: Final = 30.0
TIMEOUT_S: Final = 60.0
SIZE: Final = (184, 8)
STALL_SIZE: Final = (116, 22)


def main() -> None:
    with ExitStack() as stack:
        for loop, port in PORTS.items():
            command = [sys.executable, "-m", "loopwatch", "demo", "--port", "0"]
            demo = subprocess.Popen(
                [*command, "--http-port", str(port), "--loop", loop], stdout=subprocess.DEVNULL
            )
            stack.callback(demo.wait)
            stack.callback(demo.terminate)
        addresses = [Address("http", "127.0.0.1", port) for port in PORTS.values()]
        fleet = Fleet(addresses, interval_s=0.2)
        stack.callback(fleet.stop)
        fleet.start()
        time.sleep(RUN_S)
        asyncio.run(pictures(fleet))


async def pictures(fleet: Fleet) -> None:
    app = TopApp(fleet)
    async with app.run_test(size=SIZE) as pilot:
        await pilot.pause(1.0)
        await until(pilot, lambda: "STALLED" in line(pilot) and "blocking_call" in line(pilot))
        save(app, "top.svg")
        await pilot.resize_terminal(*STALL_SIZE)
        await pilot.press("enter")
        # One whose code has several calls below it.
        await until(pilot, lambda: selected_call(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) > 2)  # noqa: PLR2004 - the record
        await pilot.pause(1.0)
        save(app, "top-stall.svg")


async def until(pilot: Pilot[None], true: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not true():
        if time.monotonic() > deadline_s:
            sys.exit("the demos did not do what is to be shown: run it again")
        await pilot.pause(0.05)


def line(pilot: Pilot[None]) -> str:
    table = pilot.app.screen.query_one(Table)
    return " ".join(str(cell) for cell in table.get_row_at(0))


def selected_call(pilot: Pilot[None]) -> bool:
    """Go to a blocking call of a request that is over."""
    table = pilot.app.screen.query_one(Table)
    for number in range(table.row_count):
        cells = " ".join(str(cell) for cell in table.get_row_at(number))
        if "GET /requests" in cells and "blocking_call" in cells and "so far" not in cells:
            table.move_cursor(row=number)
            return True
    return False


def save(app: TopApp, name: str) -> None:
    # Readers of the picture ask nobody for a font.
    drawn = re.sub(r"@font-face \{.*?\}", "", app.export_screenshot(), flags=re.DOTALL)
    (IMAGES / name).write_text("\n".join(row.rstrip() for row in drawn.splitlines()) + "\n")
    print(f"docs/images/{name}")


if __name__ == "__main__":
    main()
