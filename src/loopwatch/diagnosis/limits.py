"""How many records of the same kind are told. Counters count every stall; records are bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from loopwatch.clock import NS_PER_S

__all__ = ["RateLimit"]

_WINDOW_NS: Final = 60 * NS_PER_S
_KINDS_REMEMBERED: Final = 1000


@dataclass(slots=True)
class _Kind:
    told: list[int]
    suppressed: int = 0


class RateLimit:
    """At most `like` stalls of one fingerprint and `all_` of any are told in a minute."""

    def __init__(self, like: int, all_: int) -> None:
        self._like = like
        self._all = all_
        self._told: list[int] = []
        self._kinds: OrderedDict[str, _Kind] = OrderedDict()

    def admit(self, fingerprint: str, now_ns: int) -> int | None:
        """Return how many like this were suppressed since the last told one; `None`: this too."""
        kind = self._kinds.setdefault(fingerprint, _Kind([]))
        self._kinds.move_to_end(fingerprint)
        if len(self._kinds) > _KINDS_REMEMBERED:
            self._kinds.popitem(last=False)
        oldest_ns = now_ns - _WINDOW_NS
        kind.told = [at_ns for at_ns in kind.told if at_ns > oldest_ns]
        self._told = [at_ns for at_ns in self._told if at_ns > oldest_ns]
        if len(kind.told) >= self._like or len(self._told) >= self._all:
            kind.suppressed += 1
            return None
        kind.told.append(now_ns)
        self._told.append(now_ns)
        suppressed, kind.suppressed = kind.suppressed, 0
        return suppressed
