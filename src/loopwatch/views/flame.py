"""Samples of stalls, merged into one tree: what a flame graph, or any other tree, is drawn from.

Samples are taken as they stand in a record (`Sample.to_dict()`), from a log that may be damaged:
what has a wrong type is left out or shown as `?`, and a tree has a largest size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from loopwatch.views.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["MORE", "Flame", "Room", "flame_tree", "stacks"]

# The child in which all those are that a full tree has no room for.
MORE: Final = "(more)"

_US_PER_S: Final = 1_000_000
# Records have at most 128 frames. Trees are walked recursively, by us and by whoever draws them.
_MAX_DEPTH: Final = 200
_MAX_NODES: Final = 2_000
_MAX_COUNT: Final = 1_000_000_000
# A node with long names takes the room of several.
_CHARACTERS_PER_NODE: Final = 256

# function, file, line, in_app: as they came, so of any type
_Key = tuple[Any, Any, Any, Any]
_MORE_KEY: Final[_Key] = (MORE, "", 0, False)


class Room:
    """How many nodes several trees may have together."""

    __slots__ = ("left",)

    def __init__(self, nodes: int) -> None:
        self.left = nodes


class _Node:
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.value = 0
        self.children: dict[_Key, _Node] = {}


class Flame:
    """A tree that grows by the samples of one stall after another.

    Values are whole numbers of whatever the caller counts (looks, microseconds): so the sum of
    a tree does not depend on the order in which stalls were added.
    """

    def __init__(self, name: str = "all", room: Room | None = None) -> None:
        self._name = name
        self._own = Room(_MAX_NODES)
        self._shared = room or self._own
        self._root = _Node()

    @property
    def value(self) -> int:
        """What was added so far."""
        return self._root.value

    def add(self, samples: object, value: int | None = None) -> None:
        """Add the samples of one stall, a list of dicts with `count` and `frames`.

        They share `value` by their counts; without one each is worth its count. Where no sample is
        readable the value is the root's own.
        """
        seen = _readable(samples)
        total = sum(count for count, _ in seen)
        if value is None:
            value = total
        self._root.value += value
        so_far = given = 0
        for count, keys in seen:
            so_far += count
            upto = value * so_far // total
            self._descend(keys, upto - given)
            given = upto

    def to_dict(self, per_unit: int = 1) -> dict[str, Any]:
        """Return `{name, file, line, in_app, value, children}`, largest children first.

        The root stands for all of it, with file "" and line 0, and its callees are outermost
        frames. Values are divided by `per_unit`: 1,000,000 makes seconds of microseconds.
        """
        return _as_dict((self._name, "", 0, False), self._root, per_unit)

    def _descend(self, keys: Sequence[_Key], value: int) -> None:
        node = self._root
        for key in reversed(keys):
            child = node.children.get(key)
            if child is None:
                child = self._grown(node, key)
                if child is None:
                    node.children.setdefault(_MORE_KEY, _Node()).value += value
                    return
            child.value += value
            node = child

    def _grown(self, node: _Node, key: _Key) -> _Node | None:
        size = 1 + sum(len(part) for part in key if isinstance(part, str)) // _CHARACTERS_PER_NODE
        if size > self._own.left or size > self._shared.left:
            return None
        self._own.left -= size
        if self._shared is not self._own:
            self._shared.left -= size
        child = node.children[key] = _Node()
        return child


def flame_tree(
    samples: Sequence[Mapping[str, Any]], duration_s: float | None = None, name: str = "all"
) -> dict[str, Any]:
    """Return the tree of one stall's samples; see `Flame.to_dict`.

    Values are seconds if `duration_s` is given, which the samples share by their counts; else they
    are looks.
    """
    flame = Flame(name)
    if duration_s is None:
        flame.add(samples)
        return flame.to_dict()
    flame.add(samples, round(duration_s * _US_PER_S))
    return flame.to_dict(_US_PER_S)


def stacks(tree: Mapping[str, Any]) -> Iterator[tuple[list[Mapping[str, Any]], int]]:
    """Yield each stack of a tree of whole numbers, outermost frame first, with its own value.

    The root is left out, so what it has of its own comes with an empty stack.
    """
    path: list[Mapping[str, Any]] = []

    def walk(node: Mapping[str, Any]) -> Iterator[tuple[list[Mapping[str, Any]], int]]:
        own = node["value"] - sum(child["value"] for child in node["children"])
        if own:
            yield list(path), own
        for child in node["children"]:
            path.append(child)
            yield from walk(child)
            path.pop()

    return walk(tree)


def _readable(samples: object) -> list[tuple[int, list[_Key]]]:
    """Return count and frames of those samples that have any."""
    seen: list[tuple[int, list[_Key]]] = []
    if not isinstance(samples, (list, tuple)):
        return seen
    for sample in samples:
        if not isinstance(sample, dict):
            continue
        frames, count = sample.get("frames"), sample.get("count")
        if not isinstance(frames, (list, tuple)):
            continue
        if type(count) is not int or not 0 < count < _MAX_COUNT:
            count = 1
        keys = _keys(frames[:_MAX_DEPTH])
        if keys:
            seen.append((count, keys))
    return seen


def _keys(frames: Sequence[Any]) -> list[_Key]:
    try:
        keys = [(f["function"], f["file"], f["line"], f["in_app"]) for f in frames]
        hash(tuple(keys))
    except (AttributeError, IndexError, KeyError, TypeError):
        # Damaged: what is left of it, in types that can be told apart.
        return [_mended(frame) for frame in frames if isinstance(frame, dict)]
    return keys


def _mended(frame: Mapping[str, Any]) -> _Key:
    function, file, line = frame.get("function"), frame.get("file"), frame.get("line")
    return (
        function if isinstance(function, str) else "?",
        file if isinstance(file, str) else "",
        line if isinstance(line, int) else 0,
        frame.get("in_app") is True,
    )


def _as_dict(key: _Key, node: _Node, per_unit: int) -> dict[str, Any]:
    function, file, line, in_app = key
    children = [_as_dict(child, below, per_unit) for child, below in node.children.items()]
    # By everything: equal logs give equal files, in whatever order they were read.
    children.sort(key=lambda c: (-c["value"], c["name"], c["file"], c["line"], c["in_app"]))
    return {
        "name": clean(function),
        "file": clean(file) if isinstance(file, str) else "",
        "line": line if type(line) is int and 0 <= line < _MAX_COUNT else 0,
        "in_app": in_app is True,
        "value": node.value if per_unit == 1 else node.value / per_unit,
        "children": children,
    }
