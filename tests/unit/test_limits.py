"""The rate limit of records: how many are told, and what is said of the others."""

from __future__ import annotations

from loopwatch.diagnosis.limits import _KINDS_REMEMBERED, RateLimit

S = 1_000_000_000
MINUTE = 60 * S


def test_like_stalls_are_told_up_to_their_limit() -> None:
    """Of one fingerprint `like` are told, the next is not."""
    limit = RateLimit(like=3, all_=100)
    assert [limit.admit("a", at * S) for at in range(5)] == [0, 0, 0, None, None]


def test_another_fingerprint_has_its_own_limit() -> None:
    """What is suppressed of one kind does not suppress another."""
    limit = RateLimit(like=1, all_=100)
    assert [limit.admit(kind, S) for kind in "aabb"] == [0, None, 0, None]


def test_all_together_have_a_limit() -> None:
    """Whatever their kinds, `all_` are told in a minute."""
    limit = RateLimit(like=10, all_=3)
    assert [limit.admit(kind, S) for kind in "abcde"] == [0, 0, 0, None, None]


def test_the_next_one_told_says_how_many_were_not() -> None:
    """The number of suppressed ones is handed on once, and only to its own kind."""
    limit = RateLimit(like=1, all_=100)
    assert limit.admit("a", 0) == 0
    assert [limit.admit("a", S) for _ in range(4)] == [None] * 4
    assert limit.admit("b", S) == 0
    assert limit.admit("a", MINUTE) == 4
    assert limit.admit("a", 2 * MINUTE) == 0


def test_what_the_overall_limit_suppressed_is_handed_on_too() -> None:
    """A kind that was never told says later how often it was not."""
    limit = RateLimit(like=10, all_=1)
    assert limit.admit("a", 0) == 0
    assert [limit.admit("b", S), limit.admit("b", 2 * S)] == [None, None]
    assert limit.admit("b", MINUTE) == 2


def test_the_window_slides() -> None:
    """A told one makes room exactly a minute later, not at the turn of some minute."""
    limit = RateLimit(like=2, all_=100)
    assert [limit.admit("a", at) for at in (10 * S, 50 * S)] == [0, 0]
    assert limit.admit("a", 70 * S - 1) is None
    assert limit.admit("a", 70 * S) == 1
    assert limit.admit("a", 110 * S - 1) is None
    assert limit.admit("a", 110 * S) == 1


def test_the_overall_window_slides_too() -> None:
    """The limit of all kinds looks back one minute from each stall."""
    limit = RateLimit(like=9, all_=2)
    assert [limit.admit("a", 0), limit.admit("b", 30 * S)] == [0, 0]
    assert limit.admit("c", MINUTE - 1) is None
    assert limit.admit("d", MINUTE) == 0
    assert limit.admit("c", MINUTE) is None
    assert limit.admit("c", 90 * S) == 2


def test_suppressed_ones_do_not_prolong_the_silence() -> None:
    """Only told stalls count: a kind that never stops is told once a minute."""
    limit = RateLimit(like=1, all_=100)
    told = [at for at in range(180) if limit.admit("a", at * S) is not None]
    assert told == [0, 60, 120]


def test_a_limit_of_nothing_tells_nothing() -> None:
    """A limit of 0 suppresses every stall."""
    assert RateLimit(like=0, all_=9).admit("a", 0) is None
    assert RateLimit(like=9, all_=0).admit("a", 0) is None


def test_memory_is_bounded() -> None:
    """However many kinds come, a fixed number is remembered, and few moments of each."""
    limit = RateLimit(like=2, all_=5)
    for number in range(3 * _KINDS_REMEMBERED):
        for _ in range(2):
            limit.admit(f"kind {number}", number * S)
    assert len(limit._kinds) == _KINDS_REMEMBERED
    assert len(limit._told) <= 5
    assert all(len(kind.told) <= 2 for kind in limit._kinds.values())


def test_the_kinds_seen_last_are_remembered() -> None:
    """A kind that goes on is not forgotten for the sake of others that come and go."""
    limit = RateLimit(like=1, all_=10 * _KINDS_REMEMBERED)
    assert limit.admit("steady", 0) == 0
    suppressed = 0
    for number in range(2 * _KINDS_REMEMBERED):
        limit.admit(f"kind {number}", 1)
        if number % 100 == 0:
            assert limit.admit("steady", 1) is None
            suppressed += 1
    assert limit.admit("steady", MINUTE) == suppressed
