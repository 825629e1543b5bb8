"""Writes YAML that people read: nested dicts and lists of text, with comments.

The rules must come out of a plain `pip install loopwatch`, which brings no YAML library. What is
written is YAML 1.1 and 1.2 alike; PyYAML reads the same data back (a test compares).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Noted", "comment", "dump"]

_WIDTH: Final = 100
# Text that needs no quotes behind a key or a dash, and durations, which no YAML takes for numbers.
_PLAIN: Final = re.compile(r"(\d+[smhd])+|[A-Za-z_/(]([ -~]*[!-~])?", re.ASCII).fullmatch
_NOT_PLAIN: Final = re.compile(r": | #|:$").search
_NOT_TEXT: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_BLOCK_LINE: Final = re.compile(r" *[!-~]([ -~]*[!-~])?").fullmatch
# Templates are easier to read in one piece.
_TEMPLATE: Final = re.compile(r"\{\{.*?\}\}")


@dataclass(frozen=True, slots=True)
class Noted:
    """An item of a list with a comment above it."""

    text: str
    item: Mapping[str, object]


def dump(data: Mapping[str, object]) -> str:
    """Return the document, ending with a line break.

    Values are text, truth, dicts, and lists of text and of dicts that are not empty. All else
    raises `TypeError`: no rule needs it, and YAML versions read numbers differently.
    """
    return "\n".join(_mapping(data, 0)) + "\n"


def comment(text: str, indent: int = 0) -> str:
    """Return lines of text as comment lines without a line break at the end."""
    pad = " " * indent
    return "\n".join(f"{pad}# {line}".rstrip() for line in text.splitlines())


def _mapping(data: Mapping[str, object], indent: int) -> list[str]:
    lines: list[str] = []
    for key, value in data.items():
        lines += _entry(f"{' ' * indent}{_scalar(key, 0)}:", value, indent)
    return lines


def _entry(head: str, value: object, indent: int) -> list[str]:
    if isinstance(value, Mapping):
        return [head, *_mapping(value, indent + 2)] if value else [f"{head} {{}}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [head, *_sequence(value, indent + 2)] if value else [f"{head} []"]
    return [f"{head} {_scalar(value, indent + 2)}"]


def _sequence(items: Sequence[object], indent: int) -> list[str]:
    lines: list[str] = []
    for thing in items:
        item = thing
        if isinstance(thing, Noted):
            item = thing.item
            lines += ["", comment(thing.text, indent)]
        if isinstance(item, Mapping) and item:
            # The first key stands behind the dash, the others below it.
            first, *rest = _mapping(item, indent + 2)
            lines += [f"{' ' * indent}- {first[indent + 2 :]}", *rest]
        else:
            lines.append(f"{' ' * indent}- {_scalar(item, indent + 2)}")
    return lines


def _scalar(value: object, indent: int) -> str:
    """Return a value as it stands behind its key; `indent` is that of the lines of a block."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} has no form in this YAML")
    if indent and "\n" in value and value[0] != " " and all(map(_BLOCK_LINE, value.split("\n"))):
        return "|-\n" + textwrap.indent(value, " " * indent)
    if indent and len(value) + indent > _WIDTH and " " in value and _folds(value):
        return ">-\n" + textwrap.indent(_wrapped(value, _WIDTH - indent), " " * indent)
    if _PLAIN(value) and not _NOT_PLAIN(value) and value.lower() not in _NOT_TEXT:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() else f"\\U{ord(char):08x}" for char in quoted)


def _folds(value: str) -> bool:
    return _BLOCK_LINE(value) is not None and value[0] != " " and "  " not in value


def _wrapped(value: str, width: int) -> str:
    whole = _TEMPLATE.sub(lambda found: found[0].replace(" ", "\0"), value)
    wide = textwrap.TextWrapper(width, break_long_words=False, break_on_hyphens=False)
    return wide.fill(whole).replace("\0", " ")
