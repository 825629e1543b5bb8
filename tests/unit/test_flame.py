"""Trees of samples, and figures and names as they are shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from loopwatch import Frame, Sample
from loopwatch.views import units
from loopwatch.views.flame import MORE, Flame, Room, flame_tree, stacks
from loopwatch.views.text import clean


def frame(function: str, line: int = 1) -> dict[str, Any]:
    return {"function": function, "file": "app.py", "line": line, "in_app": True}


def sample(*functions: str, count: int = 1) -> dict[str, Any]:
    """Return a sample of these frames, innermost first."""
    return {"count": count, "frames": [frame(function) for function in functions]}


def shape(tree: dict[str, Any]) -> Any:
    return (tree["name"], tree["value"], [shape(child) for child in tree["children"]])


def test_stacks_share_what_they_have_in_common() -> None:
    """Frames are merged from the outermost inwards, the largest child first."""
    tree = flame_tree([sample("a", "main"), sample("b", "main", count=3), sample("c", "other")])
    assert shape(tree) == (
        "all",
        5,
        [("main", 4, [("b", 3, []), ("a", 1, [])]), ("other", 1, [("c", 1, [])])],
    )


def test_it_takes_the_samples_of_a_record() -> None:
    """`Sample.to_dict()` is the form that is merged, and a node says where it is."""
    of_a_record = Sample(0.1, 2, "watchdog", (Frame("app.slow", "app.py", 7, in_app=True),))
    tree = flame_tree([of_a_record.to_dict()])
    assert tree["children"] == [
        {
            "name": "app.slow", "file": "app.py", "line": 7, "in_app": True,
            "value": 2, "children": [],
        }
    ]  # fmt: skip


def test_two_lines_of_a_function_are_two_nodes() -> None:
    """The line is what a stall is about."""
    samples = [{"count": 1, "frames": [frame("f", line)]} for line in (1, 2)]
    assert [child["line"] for child in flame_tree(samples)["children"]] == [1, 2]


def test_a_duration_is_shared_by_the_counts() -> None:
    """No microsecond is lost, however it divides."""
    tree = flame_tree([sample("a"), sample("b"), sample("c")], duration_s=0.1)
    assert tree["value"] == 0.1
    assert sum(child["value"] for child in tree["children"]) == pytest.approx(0.1, abs=1e-12)


def test_the_order_of_stalls_does_not_matter() -> None:
    """Values are whole numbers, so equal stalls make equal trees."""
    stalls = [([sample("a", "m"), sample("b", "m", count=2)], 100_001), ([sample("c")], 7)]
    one, other = Flame(), Flame()
    for samples, value in stalls:
        one.add(samples, value)
    for samples, value in reversed(stalls):
        other.add(samples, value)
    assert one.to_dict() == other.to_dict()


def test_a_stall_without_stacks_is_the_roots_own() -> None:
    """Its time is in the total and in no child."""
    flame = Flame()
    flame.add([], 5)
    flame.add(None, 6)
    flame.add([sample("a")], 7)
    tree = flame.to_dict()
    assert shape(tree) == ("all", 18, [("a", 7, [])])
    assert next(iter(stacks(tree))) == ([], 11)


def test_stacks_come_with_their_own_values() -> None:
    """Each path once, outermost first, with what is not in its children."""
    tree = flame_tree([sample("a", "m", count=2), sample("m", count=3)])
    assert [([node["name"] for node in path], own) for path, own in stacks(tree)] == [
        (["m"], 3),
        (["m", "a"], 2),
    ]


def test_a_tree_has_a_largest_size() -> None:
    """What there is no room for is summed up where it would have been; nothing is lost."""
    flame = Flame()
    for number in range(5000):
        flame.add([sample(f"f{number}", "main")], 1)
    tree = flame.to_dict()
    children = tree["children"][0]["children"]
    assert tree["value"] == 5000
    assert sum(child["value"] for child in children) == 5000
    assert len(children) == 2000
    assert children[0]["name"] == MORE


def test_trees_share_room() -> None:
    """Several trees together are bounded too, and long names take more of it."""
    room = Room(10)
    first, second = Flame(room=room), Flame(room=room)
    first.add([sample("x" * 2000)], 1)
    second.add([sample("a", "b", "c", "d")], 1)
    assert room.left == 0
    assert shape(second.to_dict()) == ("all", 1, [("d", 1, [("c", 1, [(MORE, 1, [])])])])


def test_no_stack_is_too_deep() -> None:
    """A stack of any length gives a tree that can be walked and written as JSON."""
    tree = flame_tree([sample(*(f"f{n}" for n in range(10_000)))])
    assert json.dumps(tree).count('"name"') == 201


@pytest.mark.parametrize(
    "samples",
    [
        "text",
        [None, 1, []],
        [{"count": 1}],
        [{"frames": "main"}],
        [{"frames": [None, 3]}],
        {"frames": []},
    ],
)
def test_what_is_no_sample_is_left_out(samples: Any) -> None:
    """Wrong types give an empty tree."""
    assert flame_tree(samples)["children"] == []


def test_damaged_frames_are_shown_as_far_as_they_go() -> None:
    """A frame of wrong types has a `?` for what is missing."""
    frames = [{"function": ["x"], "file": None, "line": "4", "in_app": 1}, frame("main")]
    tree = flame_tree([{"count": True, "frames": frames}, {"count": -1, "frames": [{}]}])
    assert shape(tree) == ("all", 2, [("?", 1, []), ("main", 1, [("?", 1, [])])])
    assert tree["children"][0]["line"] == 0


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("app.views.export", "app.views.export"),
        ("größe_日本", "größe_日本"),
        ("a\x1b[31m\nb", "a\\x1b[31m\\nb"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\ud800", "\\ud800"),
        ("x" * 400, "x" * 299 + "…"),
        (None, "?"),
        (3, "?"),
    ],
)
def test_names_are_printable(text: object, shown: str) -> None:
    """What a terminal would obey, or what cannot be encoded, is spelt out."""
    assert clean(text) == shown
    assert clean(text).encode()


@pytest.mark.parametrize(
    ("of_s", "shown"),
    [
        (0, "0 s"),
        (0.0004, "0.4 ms"),
        (0.00996, "10 ms"),
        (0.512, "512 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.21, "3.2 s"),
        (9.96, "10 s"),
        (119, "119 s"),
        (120, "2.0 min"),
        (40 * 60, "40 min"),
        (5 * 3600, "5.0 h"),
        (86400 * 12, "12 d"),
        (-0.25, "-250 ms"),
        (float("nan"), "?"),
        (float("inf"), "?"),
        pytest.param(10**400, "?", id="huge"),
    ],
)
def test_durations_are_written_in_the_unit_that_suits_them(of_s: float, shown: str) -> None:
    """Two digits or so, and never 1000 ms."""
    assert units.duration(of_s) == shown


@pytest.mark.parametrize(
    ("text", "of_s"),
    [("200ms", 0.2), ("1.5s", 1.5), ("2min", 120), ("2 h", 7200), ("1d", 86400), (".5s", 0.5)],
)
def test_durations_are_read_with_their_unit(text: str, of_s: float) -> None:
    """As people write them."""
    assert units.seconds(text) == pytest.approx(of_s)


@pytest.mark.parametrize(
    "text",
    ["", "200", "ms", "-1s", "1e3s", "2 weeks", "1.s", "nans", "9" * 310 + "s", "9" * 305 + "h"],
)
def test_what_is_no_duration_says_how_to_write_one(text: str) -> None:
    """A number without a unit could be either, so it is neither."""
    with pytest.raises(ValueError, match="write it like 200ms"):
        units.seconds(text)


def test_counts_and_moments() -> None:
    """Thousands are apart, one is not many, and no moment fails."""
    assert units.counted(1, "stall") == "1 stall"
    assert units.counted(1512, "stall") == "1,512 stalls"
    assert units.count(1512) == "1,512"
    assert units.moment(1795246203.25) == "2026-11-21 07:30:03"
    assert units.moment(1e300) == "?"
