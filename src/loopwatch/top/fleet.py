"""Follows many addresses at once, one thread each: one that is slow delays no other."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from loopwatch.top.answers import Live, LoopNow, StallLine, read_live, read_record
from loopwatch.top.client import Client, GoneError, TroubleError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from loopwatch.top.address import Address
    from loopwatch.top.finding import Search

__all__ = ["POINTS_S", "SILENT_S", "Fleet", "Known", "Seen", "Wanted"]

# How far back points go.
POINTS_S: Final = 60.0
# A question that is open for so long is news: the server answers from a thread of its own.
SILENT_S: Final = 1.0
_TIMEOUT_S: Final = 3.0
# The record of a stall is told a moment after its end, and points come late while a C call holds
# the GIL: ask for a little more than what is new.
_OVERLAP_S: Final = 5.0
_MAX_STALLS: Final = 500
_SEARCH_EVERY_S: Final = 2.0
# Where workers come and go on ports of their own, those that went must not pile up.
_FORGET_GONE_S: Final = 600.0
_STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of one loop; `stalls` are oldest first, at most 500. `server` as in `Live`."""

    now: LoopNow
    points: tuple[tuple[float, float], ...]
    stalls: tuple[StallLine, ...]
    server: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one address. Moments are of `time.monotonic()`.

    `asked_at_s` is when the last question was asked that has an answer, or the first since that
    has none. `answered_at_s` is `None` before the first answer. `trouble` says why the last
    question failed, empty if it did not; `gone` is true if nobody listens there any more.
    `silent_at_s` is when a question had last been open for `SILENT_S`.
    """

    address: Address
    loops: tuple[Seen, ...]
    asked_at_s: float
    answered_at_s: float | None
    trouble: str
    gone: bool
    silent_at_s: float | None = None


class Wanted:
    """A record that was asked for. Reads `done`, then `record` or `trouble`."""

    def __init__(self) -> None:
        self.done = False
        self.record: StallLine | None = None
        self.trouble = ""


class Fleet:
    """Everything that is watched. Any thread may read; call `start` once and `stop` at the end."""

    def __init__(
        self,
        addresses: Sequence[Address],
        search: Search | None = None,
        interval_s: float = 1.0,
    ) -> None:
        """`search` adds addresses as it finds them; each is asked every `interval_s`."""
        self.interval_s = interval_s
        self._search = search
        self._searched = threading.Event()
        self._problems: tuple[str, ...] = ()
        self._given = tuple(dict.fromkeys(addresses))
        self._followers: dict[Address, _Follower] = {}
        self._stopping = threading.Event()
        self._searcher = threading.Thread(target=self._look, name="loopwatch-top", daemon=True)

    def start(self) -> None:
        """Start to ask."""
        for address in self._given:
            self._follow(address)
        if self._search is None:
            self._searched.set()
        else:
            self._searcher.start()

    def stop(self) -> None:
        """Stop to ask; returns within about a second. Threads that hang in DNS are left alone."""
        self._stopping.set()
        if self._searcher.ident is not None:
            self._searcher.join(_STOP_S)
        followers = list(self._followers.values())
        for follower in followers:
            follower.stop()
        deadline_s = time.monotonic() + _STOP_S
        for follower in followers:
            follower.thread.join(max(0.0, deadline_s - time.monotonic()))

    def known(self) -> list[Known]:
        """Return what is known of each address, in the order in which they were named or found."""
        return [follower.known for follower in list(self._followers.values())]

    def problems(self) -> list[str]:
        """Return, one line each, which targets give nothing to show, and why."""
        never = [each for each in self.known() if each.answered_at_s is None and each.trouble]
        return [*self._problems, *(f"{each.address.url}: {each.trouble}" for each in never)]

    def wait_for_first(self) -> None:
        """Return when each target has answered or failed once: some four seconds at most."""
        deadline_s = time.monotonic() + _TIMEOUT_S + 1.0
        self._searched.wait(_TIMEOUT_S + 1.0)
        for follower in list(self._followers.values()):
            follower.tried.wait(max(0.0, deadline_s - time.monotonic()))

    def ask_for(self, address: Address, stall_id: str) -> Wanted:
        """Ask for the whole record of a stall; the answer comes later, by itself."""
        wanted = Wanted()

        def ask() -> None:
            try:
                answer = Client(address, _TIMEOUT_S).get(f"/api/stalls/{quote(stall_id, safe='')}")
                wanted.record = read_record(answer)
            except TroubleError as trouble:
                wanted.trouble = str(trouble)
            except Exception as error:  # noqa: BLE001 - see `_odd`
                wanted.trouble = _odd(error)
            wanted.done = True

        threading.Thread(target=ask, name="loopwatch-top-record", daemon=True).start()
        return wanted

    def _look(self) -> None:
        assert self._search is not None  # noqa: S101 - started only then
        while not self._stopping.is_set():
            found = self._search.look()
            self._problems = found.problems
            for address in found.addresses:
                if address not in self._followers and not self._stopping.is_set():
                    self._follow(address)
            self._forget(found.addresses)
            self._searched.set()
            self._stopping.wait(_SEARCH_EVERY_S)

    def _forget(self, found: Sequence[Address]) -> None:
        now_s = time.monotonic()
        for address, follower in list(self._followers.items()):
            if address in found or address in self._given:
                continue
            known = follower.known
            seen_at_s = known.answered_at_s
            if known.gone and (seen_at_s is None or now_s - seen_at_s > _FORGET_GONE_S):
                follower.stop()
                # A copy, as readers go through it meanwhile.
                self._followers = {a: f for a, f in self._followers.items() if a != address}

    def _follow(self, address: Address) -> None:
        follower = _Follower(address, self.interval_s)
        self._followers = {**self._followers, address: follower}
        follower.thread.start()


class _Follower:
    """Asks one address again and again, and keeps what it said."""

    def __init__(self, address: Address, interval_s: float) -> None:
        self.known = Known(address, (), time.monotonic(), None, "", gone=False)
        self.tried = threading.Event()
        self.thread = threading.Thread(
            target=self._run, name=f"loopwatch-top {address.place}", daemon=True
        )
        self._client = Client(address, _TIMEOUT_S)
        self._interval_s = interval_s
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self._client.abort()

    def _run(self) -> None:
        while not self._stopping.is_set():
            began_s = time.monotonic()
            self._ask(began_s)
            self.tried.set()
            self._stopping.wait(max(0.0, began_s + self._interval_s - time.monotonic()))

    def _ask(self, began_s: float) -> None:
        before = self.known
        if not before.trouble:
            self.known = replace(before, asked_at_s=began_s)
        try:
            live = read_live(self._client.get(f"/api/live?since={_since(before.loops):.3f}"))
        except TroubleError as trouble:
            self._failed(str(trouble), gone=isinstance(trouble, GoneError))
            return
        except Exception as error:  # noqa: BLE001 - see `_odd`
            self._failed(_odd(error), gone=False)
            return
        now_s = time.monotonic()
        silent_at_s = now_s if now_s - began_s > SILENT_S else before.silent_at_s
        loops = tuple(_merged(before.loops, now, live) for now in live.loops)
        # A server without loops is about to stop: what was known stays on show.
        self.known = Known(
            before.address,
            loops or before.loops,
            began_s,
            now_s,
            "",
            gone=False,
            silent_at_s=silent_at_s,
        )

    def _failed(self, trouble: str, *, gone: bool) -> None:
        # Where nobody listens there is nobody who could be silent.
        silent_at_s = None if gone else time.monotonic()
        self.known = replace(self.known, trouble=trouble, gone=gone, silent_at_s=silent_at_s)


def _odd(error: Exception) -> str:
    """Return the trouble with an answer that nobody thought of: it must not end the asking."""
    return f"answered with something that makes no sense here ({type(error).__name__})"


def _since(loops: Sequence[Seen]) -> float:
    """Return the moment, by the clock of the server, from which on news is wanted."""
    # `now` and not the newest point: a loop may be so young that it has none.
    return min((seen.now.at_s for seen in loops), default=_OVERLAP_S) - _OVERLAP_S


def _merged(before: Sequence[Seen], now: LoopNow, live: Live) -> Seen:
    """Return what is known of a loop with this answer added."""
    told = [stall for stall in live.stalls if stall.loop == now.loop]
    old = next((seen for seen in before if _is_same(seen, now, live.server)), None)
    if old and "census" not in now.raw and "census" in old.now.raw:
        # Told once, when it is new.
        now = replace(now, raw={**now.raw, "census": old.now.raw["census"]})
    points = dict(old.points if old else ())
    points.update(now.points)
    stalls = {stall.id: stall for stall in (old.stalls if old else ())}
    for stall in told:
        # A stall that is counted when it opens keeps its place when it ends.
        stalls[stall.id] = stall
    oldest_s = now.at_s - POINTS_S
    return Seen(
        now,
        tuple((at_s, lag_s) for at_s, lag_s in sorted(points.items()) if at_s >= oldest_s),
        tuple(stalls.values())[-_MAX_STALLS:],
        live.server,
    )


def _is_same(seen: Seen, now: LoopNow, server: str) -> bool:
    """Return whether it is the loop seen before: a restarted process has a history of its own."""
    # In a container every process has pid 1. Those that name no server still count from 0 again.
    return (seen.now.loop, seen.now.pid, seen.server) == (
        now.loop,
        now.pid,
        server,
    ) and seen.now.stalls <= now.stalls
