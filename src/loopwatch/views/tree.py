"""A tree of samples as lines of text: shares on the left, a step to the right only at a fork.

Stacks are deep and mostly straight; drawn with a step a call they leave the screen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Branch", "branches"]

# Smaller shares are counted in one line: they are no answer to "where is it".
_LEAST: Final = 0.01


class Branch(NamedTuple):
    """One line: the share of the whole (0..1), the lines that lead to it, what and where it is.

    `place` is file and line, empty where there is none.
    """

    share: float
    guide: str
    name: str
    place: str
    in_app: bool


def branches(tree: Mapping[str, Any], whole: float | None = None) -> Iterator[Branch]:
    """Yield the lines of a tree (see `views.flame.Flame.to_dict`) below its root, outermost first.

    Shares are of `whole`, by default the root's own value. Nothing for a tree without children.
    """
    total = tree["value"] if whole is None else whole
    if total > 0:
        yield from _below(tree, total, "", "")


def _below(node: Mapping[str, Any], total: float, own: str, further: str) -> Iterator[Branch]:
    children = [child for child in node["children"] if child["value"] >= _LEAST * total]
    small = [child for child in node["children"] if child["value"] < _LEAST * total]
    # A fork also where some looks ended in this very function.
    straight = len(children) == 1 and not small and children[0]["value"] == node["value"]
    for number, child in enumerate(children):
        if straight:
            branch, rest = own, further
        else:
            last = number == len(children) - 1 and not small
            branch, rest = (
                further + ("└─ " if last else "├─ "),
                further + ("   " if last else "│  "),
            )
        place = f"{child['file']}:{child['line']}" if child["file"] else ""
        yield Branch(child["value"] / total, branch, child["name"], place, child["in_app"])
        yield from _below(child, total, rest, rest)
    if small:
        share = sum(child["value"] for child in small) / total
        yield Branch(
            share, f"{further}└─ ", f"({len(small)} more, each below 1 %)", "", in_app=False
        )
