"""What `loopwatch top` remembers of servers, and which it goes on asking, over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from loopwatch import Cause
from loopwatch.model import Phase
from loopwatch.top.address import Address
from loopwatch.top.finding import Search
from loopwatch.top.fleet import Fleet, Known
from loopwatch.top.rows import rows
from tests.servers import wait_for
from tests.unit.factories import stall
from tests.unit.test_top import told
from tests.unit.test_top_client import http, listening, says


@contextlib.contextmanager
def followed(answer: Callable[[], dict[str, Any]]) -> Iterator[Callable[[], Known]]:
    """Follow a server that says this; give what reads what is known of it."""

    def answerer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(http("200 OK", json.dumps(answer()).encode()))

    with listening(answerer) as address:
        fleet = Fleet([address], interval_s=0.02)
        fleet.start()
        try:
            fleet.wait_for_first()
            yield lambda: fleet.known()[0]
        finally:
            fleet.stop()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"server": "a"}, {"server": "b"}),
        # Older versions name no server, but count from 0 again.
        ({}, {}),
    ],
)
def test_a_restart_under_the_same_pid(first: dict[str, Any], second: dict[str, Any]) -> None:
    """In a container each process has pid 1: what the one before did is not told of the next."""
    ongoing = stall(id="old", phase=Phase.ONGOING)
    before = {**told(ongoing, stalls_total={Cause.CPU: 41}), **first}
    after = {**told(stalls_total={Cause.CPU: 40 if "server" not in first else 41}), **second}
    answers = [before]
    with followed(lambda: answers[0]) as read:
        assert [each.id for each in read().loops[0].stalls] == ["old"]
        answers[0] = {**before, "stalls": []}
        asked_at_s = read().asked_at_s
        wait_for("the next answer", lambda: (read().answered_at_s or 0.0) > asked_at_s + 0.1)
        assert [each.id for each in read().loops[0].stalls] == ["old"], "the same process"
        answers[0] = after
        wait_for("the new process", lambda: not read().loops[0].stalls)


def test_a_slow_answer_is_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers late was silent, and its rows keep that rank."""
    monkeypatch.setattr("loopwatch.top.fleet.SILENT_S", 0.05)
    late = [True]

    def answer() -> dict[str, Any]:
        if late[0]:
            time.sleep(0.1)
        return {**told(), "server": "a"}

    with followed(answer) as read:
        assert read().silent_at_s is not None
        late[0] = False
        at_s = time.monotonic()
        known = wait_for(
            "an answer at once", lambda: (k := read()).asked_at_s > at_s and not k.trouble and k
        )
        (row,) = rows([known], time.monotonic())
        assert row.cells[2].text == "serving"
        (calm,) = rows([known], time.monotonic() + 61)
        assert row.rank > calm.rank


def test_an_answer_nobody_thought_of_does_not_end_the_asking() -> None:
    """Whatever goes wrong with a question is told, and the next one is asked."""
    fleet = Fleet([Address("http", "127.0.0.1", 2**70)], interval_s=0.02)
    fleet.start()
    try:
        (problem,) = wait_for("the trouble", fleet.problems)
        assert problem.endswith("makes no sense here (OverflowError)")
        assert any("127.0.0.1:1180" in thread.name for thread in threading.enumerate())
        wanted = fleet.ask_for(Address("http", "127.0.0.1", 2**70), "x")
        wait_for("the record", lambda: wanted.done)
        assert "OverflowError" in wanted.trouble
    finally:
        fleet.stop()


def test_silence_lasts_since_the_question() -> None:
    """However often it is asked again meanwhile."""
    with listening(lambda _: None) as address:
        fleet = Fleet([address], interval_s=0.02)
        fleet.start()
        try:
            known = wait_for("the trouble", lambda: (k := fleet.known()[0]).trouble and k)
            silent_at_s = known.silent_at_s
            later = wait_for(
                "more of it",
                lambda: (k := fleet.known()[0]).silent_at_s != silent_at_s and k,
            )
            assert later.asked_at_s == known.asked_at_s
        finally:
            fleet.stop()


@pytest.mark.parametrize(("by_pid", "asked"), [(False, 3), (True, 5)])
def test_what_never_answers_is_left_alone(
    by_pid: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python server that speaks no HTTP is asked three times, and for ever if it was named."""
    monkeypatch.setattr("loopwatch.top.finding._AGAIN_S", 0.0)
    connections: list[bytes] = []
    with listening(lambda connection: connections.append(connection.recv(65536))):
        search = Search([os.getpid()] if by_pid else None)
        for _ in range(5):
            search.look()
    assert len(connections) == asked


def test_an_odd_answer_does_not_end_the_search() -> None:
    """A server whose answer has no end is none of ours."""
    with listening(says(http("200 OK", b"{}", length=10**30))):
        (problem,) = Search([os.getpid()]).look().problems
    assert problem.startswith(f"process {os.getpid()} has no loopwatch server")
