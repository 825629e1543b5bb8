"""The view of `loopwatch top`, key by key, over real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from loopwatch.cli.top_table import Table
from loopwatch.cli.top_view import TopApp
from loopwatch.top.address import Address, parse_address
from loopwatch.top.fleet import Fleet
from tests.servers import free_port
from tests.watched import Watched, watched

Keys = Callable[[Pilot[None]], Awaitable[None]]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Watched, Watched]]:
    """Two processes."""
    folder = tmp_path_factory.mktemp("pair")
    with watched(folder, "calm") as calm, watched(folder, "other") as other:
        yield calm, other


def shown(keys: Keys, *addresses: Address, mistakes: tuple[str, ...] = ()) -> TopApp:
    """Run the view while `keys` drives it; return the app, which has ended."""
    fleet = Fleet(addresses, interval_s=0.1)
    fleet.start()
    fleet.wait_for_first()
    app = TopApp(fleet, mistakes)

    async def main() -> None:
        async with app.run_test(size=(200, 20)) as pilot:
            await keys(pilot)

    try:
        asyncio.run(main())
    finally:
        fleet.stop()
    return app


async def until(pilot: Pilot[None], what: str, true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 15
    while not true():
        assert time.monotonic() < deadline, f"waited for {what}; there is:\n{screen(pilot)}"
        await pilot.pause(0.02)


def screen(pilot: Pilot[None]) -> str:
    """Return the texts on the screen: labels, and the cells of tables, a line each."""
    lines = [str(each.render()) for each in pilot.app.screen.query(Static)]
    for table in pilot.app.screen.query(Table):
        rows = [table.get_row_at(number) for number in range(table.row_count)]
        lines += ["  ".join(str(cell) for cell in row) for row in rows]
    return "\n".join(lines)


def names(pilot: Pilot[None]) -> list[str]:
    """Return the names of the loops from top to bottom."""
    table = pilot.app.screen.query_one(Table)
    return [str(table.get_row_at(number)[1]) for number in range(table.row_count)]


def selected(pilot: Pilot[None]) -> str:
    table = pilot.app.screen.query_one(Table)
    return str(table.get_row_at(table.cursor_row)[1])


def address(process: Watched) -> Address:
    return parse_address(process.url)


def test_sorting_keeps_the_selection(pair: tuple[Watched, Watched]) -> None:
    """`s` goes through the orders; the cursor stays on its loop wherever that goes."""
    first, second = sorted(pair, key=lambda process: process.port)

    async def keys(pilot: Pilot[None]) -> None:
        await pilot.press("s")
        assert "by process" in screen(pilot)
        assert names(pilot) == [first.name, second.name]
        await pilot.press("up", "down")
        assert selected(pilot) == second.name
        os.kill(second.pid, signal.SIGSTOP)
        try:
            await until(pilot, "its silence", lambda: "no answer" in screen(pilot))
            assert names(pilot) == [first.name, second.name]
            await pilot.press("s")
            assert "by stalls" in screen(pilot)
            await pilot.press("s")
            assert "worst first" in screen(pilot)
            assert names(pilot) == [second.name, first.name]
            assert selected(pilot) == second.name
            await pilot.press("down")
            assert selected(pilot) == first.name
        finally:
            os.kill(second.pid, signal.SIGCONT)

    shown(keys, *map(address, pair))


def test_filtering(pair: tuple[Watched, Watched]) -> None:
    """`/` and some letters leave the lines that have them; Enter keeps that, Escape ends it."""

    async def keys(pilot: Pilot[None]) -> None:
        await pilot.press("slash", *"CAL")
        assert names(pilot) == ["calm"]
        assert "2 loops, 0 stalled, 1 shown" in screen(pilot)
        await pilot.press("enter")
        await pilot.press("enter")
        await until(pilot, "its stalls", lambda: ", calm, serving: " in screen(pilot))
        await pilot.press("escape")
        assert names(pilot) == ["calm"]
        await pilot.press("escape")
        assert sorted(names(pilot)) == ["calm", "other"]
        await pilot.press("f", *"zz")
        assert names(pilot) == []
        await pilot.press("enter", "enter")  # nothing is selected, so nothing opens
        assert len(pilot.app.screen_stack) == 1

    shown(keys, *map(address, pair))


def test_q_ends_it_with_code_0(pair: tuple[Watched, Watched]) -> None:
    """From every screen."""

    async def keys(pilot: Pilot[None]) -> None:
        await pilot.press("enter", "q")

    app = shown(keys, address(pair[0]))
    assert app.return_code == 0


def test_what_is_wrong_stands_below(pair: tuple[Watched, Watched]) -> None:
    """Targets that give nothing are told in lines of their own, never as markup."""
    nobody = Address("http", "127.0.0.1", free_port())

    async def keys(pilot: Pilot[None]) -> None:
        assert names(pilot) == ["calm"]
        assert "a [bold]mistake[/bold]" in screen(pilot)
        assert f"{nobody.url}: nobody listens there" in screen(pilot)

    shown(keys, address(pair[0]), nobody, mistakes=("a [bold]mistake[/bold]",))


def test_many_problems_leave_room(pair: tuple[Watched, Watched]) -> None:
    """Five of them are told, and how many more there are."""

    async def keys(pilot: Pilot[None]) -> None:
        assert "mistake 5" in screen(pilot)
        assert "mistake 6" not in screen(pilot)
        assert "and 15 more" in screen(pilot)

    shown(keys, address(pair[0]), mistakes=tuple(f"mistake {n}" for n in range(1, 21)))


def test_the_record_of_a_process_that_died(tmp_path: Path) -> None:
    """Its stalls are still listed, and of each there is what was known, with the reason why."""
    with contextlib.ExitStack() as stack:
        process = stack.enter_context(watched(tmp_path, "doomed"))

        async def keys(pilot: Pilot[None]) -> None:
            process.tell("block")
            await until(pilot, "the stall", lambda: "STALLED" in screen(pilot))
            process.tell("go")
            await until(pilot, "its end", lambda: "serving" in screen(pilot))
            process.process.kill()
            await until(pilot, "the loss", lambda: "gone for" in screen(pilot))
            await pilot.press("enter")
            await until(pilot, "the list", lambda: "wait_for_the_parent" in screen(pilot))
            assert "gone for" in screen(pilot)
            await pilot.press("enter")
            await until(pilot, "the reason", lambda: "nobody listens there" in screen(pilot))
            assert "culprit     __main__.wait_for_the_parent at doomed.py" in screen(pilot)
            assert "no samples" in screen(pilot)

        shown(keys, address(process))


def test_new_stalls_do_not_move_the_cursor(tmp_path: Path) -> None:
    """In the list of stalls a newer one comes above, and the cursor stays on the one it was on."""
    with watched(tmp_path, "often") as process:

        async def stalled(pilot: Pilot[None], count: int) -> None:
            process.tell("block")
            await until(pilot, "the stall", lambda: "so far" in screen(pilot))
            process.tell("go")
            await until(pilot, "its end", lambda: "so far" not in screen(pilot))
            assert f"{count} stall" in screen(pilot)

        async def keys(pilot: Pilot[None]) -> None:
            await pilot.press("enter")
            await stalled(pilot, 1)
            table = pilot.app.screen.query_one(Table)
            first = table.selected
            await stalled(pilot, 2)
            assert table.selected == first
            assert table.cursor_row == 1
            await pilot.press("up")
            assert table.selected != first

        shown(keys, address(process))
