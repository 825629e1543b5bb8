"""Whose thread the host's objects end on."""

from __future__ import annotations

import asyncio
import threading
from contextvars import Context, ContextVar

from loopwatch.keeper import Keeper

SESSION: ContextVar[object] = ContextVar("session")


class Session:
    """Notes on which thread it ends."""

    def __init__(self, ended: list[int]) -> None:
        self._ended = ended

    def __del__(self) -> None:
        self._ended.append(threading.get_ident())


def with_session(ended: list[int]) -> Context:
    context = Context()
    context.run(SESSION.set, Session(ended))
    return context


def test_what_another_thread_drops_last_ends_on_the_loops() -> None:
    """Nothing is let go of while somebody has it, and then here."""
    ended: list[int] = []
    dropped = threading.Event()
    kept = threading.Event()

    async def main() -> None:
        keeper = Keeper(asyncio.get_running_loop())
        box = [with_session(ended)]

        def use() -> None:
            copy = box[0].copy()
            keeper.keep(copy)
            box.clear()
            kept.set()
            dropped.wait(5)
            del copy

        thread = threading.Thread(target=use)
        thread.start()
        await asyncio.to_thread(kept.wait, 5)
        keeper.release()
        assert ended == []
        dropped.set()
        await asyncio.to_thread(thread.join, 5)
        assert ended == []
        keeper.release()
        assert ended == [threading.get_ident()]

    asyncio.run(main())


def test_the_end_of_a_loop_that_runs_elsewhere_is_left_to_it() -> None:
    """Closed from another thread, it hands over; closed after the loop, it lets go."""
    ended: list[int] = []

    async def main() -> Keeper:
        keeper = Keeper(asyncio.get_running_loop())
        keeper.keep(with_session(ended))
        await asyncio.to_thread(keeper.close)
        await asyncio.sleep(0)
        assert ended == [threading.get_ident()]
        keeper.keep(with_session(ended))
        return keeper

    keeper = asyncio.run(main())
    keeper.close()
    assert len(ended) == 2
