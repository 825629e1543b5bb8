"""The groups worth listing of all that pending tasks do, and how fast they grow.

Pure: looks in, each with its moment; a `Census` out.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from loopwatch.clock import NS_PER_S

__all__ = ["GrowthWatch", "Look", "listed"]

# Growth is over this long, and told from this long on: a burst is no growth.
_WINDOW_NS: Final = 5 * 60 * NS_PER_S
_SHORTEST_NS: Final = 60 * NS_PER_S
_APART_NS: Final = _WINDOW_NS // 32
_PER_MINUTE: Final = 60 * NS_PER_S
# Of an estimate, changes below so many times its error are noise.
_SIGMAS: Final = 2.0
_BY_COUNT: Final = 8
_BY_GROWTH: Final = 2

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Look:
    """So many tasks of each group at one moment; `looked_at` of `tasks` were seen.

    `clump` of those stand for one that was chosen by chance.
    """

    at_ns: int
    tasks: int
    looked_at: int
    counts: Mapping[Any, int]
    clump: int = 1

    def estimate(self, group: Hashable) -> int:
        """Return how many tasks of a group there are, of all."""
        seen = self.counts.get(group, 0)
        if self.looked_at in {0, self.tasks}:
            return seen
        return round(seen * self.tasks / self.looked_at)

    def error(self, group: Hashable) -> float:
        """Return the standard error of that."""
        if self.looked_at in {0, self.tasks}:
            return 0.0
        share = self.counts.get(group, 0) / self.looked_at
        chosen = self.looked_at / self.clump
        return self.tasks * math.sqrt(share * (1 - share) / chosen)


class GrowthWatch:
    """Remembers the looks of the last minutes. One writer; reads may come from any thread."""

    def __init__(self) -> None:
        self._looks: tuple[Look, ...] = ()

    def add(self, look: Look) -> None:
        """Remember a look, and none that is older than the window needs."""
        looks = self._looks
        # Looks that come fast take the place of the one before, so that few span the window.
        if len(looks) > 1 and looks[-1].at_ns - looks[-2].at_ns < _APART_NS:
            looks = looks[:-1]
        looks += (look,)
        while len(looks) > 1 and look.at_ns - looks[1].at_ns >= _WINDOW_NS:
            looks = looks[1:]
        self._looks = looks

    def per_minute(self, look: Look, group: Hashable) -> float | None:
        """Return by how many tasks a minute a group grew; `None` if that is not known.

        Over all that is remembered or over the last minute, whichever is nearer to none: what came
        in one burst grows no more.
        """
        old = [then for then in self._looks if look.at_ns - then.at_ns >= _SHORTEST_NS]
        if not old:
            return None
        rates = [self._rate(then, look, group) for then in (old[0], old[-1])]
        known = [rate for rate in rates if rate is not None]
        return min(known, key=abs) if len(known) == len(rates) else None

    @staticmethod
    def _rate(then: Look, look: Look, group: Hashable) -> float | None:
        passed_ns = look.at_ns - then.at_ns
        grown = look.estimate(group) - then.estimate(group)
        if grown and abs(grown) < _SIGMAS * math.hypot(look.error(group), then.error(group)):
            return None
        return round(grown * _PER_MINUTE / passed_ns, 1)


def listed(counts: Mapping[K, int], growth: Mapping[K, float | None]) -> list[K]:
    """Return the largest groups and those that grow fastest, ten at most, largest first."""
    order = sorted(counts, key=lambda group: counts[group], reverse=True)
    rest = order[_BY_COUNT:]
    growing = [group for group in rest if (growth.get(group) or 0) > 0]
    growing.sort(key=lambda group: growth[group] or 0, reverse=True)
    chosen = [*order[:_BY_COUNT], *growing[:_BY_GROWTH]]
    chosen += [group for group in rest if group not in chosen]
    return sorted(chosen[: _BY_COUNT + _BY_GROWTH], key=order.index)
