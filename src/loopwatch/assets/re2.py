"""What the regular expressions of Prometheus (RE2, as Go has it) do not take, told without RE2.

Python's `re` knows much that RE2 has not and misses some that it has, so patterns are read here.
Left to Prometheus: the names in braces behind an escaped p, and how large an expression may become.
https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import re
import warnings
from typing import Final

__all__ = ["problem"]

# `a{1001}`, and `(a{100}){11}` as well.
_MAX_REPEAT: Final = 1000

_TOKEN: Final = re.compile(
    r"""
      \\Q (?P<literal>.*?) \\E
    | (?P<escape>\\ (?: x[0-9A-Fa-f]{2} | x\{[0-9A-Fa-f]+\} | [pP](?:\{\^?\w+\}|[A-Z])
        | 0[0-7]{0,2} | [1-7][0-7]{1,2} | . | \Z ))
    | (?P<set>\[ \^? \]? (?: \[:\^?\w+:\] | \\. | [^\]\\] )* (?: (?P<closed>\]) | \\?\Z))
    | (?P<group>\( (?: \? (?: P<\w+> | [imsU]*(?:-[imsU]+)?[:)] )? )? )
    | (?P<repeat>[*+?] | \{\d+(?:,\d*)?\})
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPED: Final = re.compile(r"\\(?:x\{\w+\}|x\w\w|[pP](?:\{\^?\w+\}|\w)|[0-7]+|.)", re.ASCII)
_CLASS: Final = re.compile(r"\[:\^?\w+:\]|\\[pP](?:\{[^}]*\}|\w)|\\x\{\w+\}|\\[dDsSwW]", re.ASCII)
_ESCAPES: Final = re.compile(r"\\(?:[afnrtvdswDSW]|[xpP].+|0[0-7]*|[1-7][0-7]+|[!-/:-@\[-`{-~])")
_ZERO_WIDTH: Final = frozenset({r"\A", r"\b", r"\B", r"\z"})
_CLASSES: Final = re.compile(
    "alnum|alpha|ascii|blank|cntrl|digit|graph|lower|print|punct|space|upper|word|xdigit"
)
# Behind `(?`: what it is that RE2 has not.
_UNKNOWN_GROUPS: Final = (
    (("=", "!", "<=", "<!"), "look-around"),
    (("P=",), "a backreference"),
    ((">",), "an atomic group"),
    (("(",), "a conditional"),
    (("#",), "a comment"),
)


def problem(pattern: str) -> str | None:
    """Return in words what RE2 does not take in a pattern, None if nothing is known."""
    reader = _Reader(pattern)
    for token in _TOKEN.finditer(pattern):
        why = reader.take(token)
        if why:
            return why
    return "misses a )" if len(reader.groups) > 1 else None


class _Reader:
    """Reads a pattern token by token and keeps in mind what can be repeated."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        # The most repetitions of anything in each open group, the whole pattern being the first.
        self.groups = [1]
        # Those of what stands just before; None: nothing that could be repeated.
        self.atom: int | None = None
        self.before = ""

    def take(self, token: re.Match[str]) -> str | None:
        """Return what is wrong with the next token."""
        text = token[0]
        if token["repeat"]:
            return self._repeat(text)
        self.before = ""
        if token["group"]:
            return self._group(text, self.pattern[token.end() :])
        if text == ")":
            return self._close()
        if text == "|":
            self.atom = None
        elif token["literal"] != "":
            self.atom = 1
        return _of_atom(token)

    def _repeat(self, text: str) -> str | None:
        if self.before == "repeat" and text == "?":
            self.before = "lazy"
            return None
        if self.before:
            return f"has the repetition {text!r} of a repetition"
        if self.atom is None:
            return f"has nothing before the repetition {text!r}"
        self.before = "repeat"
        self.atom *= _times(text)
        self.groups[-1] = max(self.groups[-1], self.atom)
        if self.atom > _MAX_REPEAT or _is_backwards(text):
            return f"has the repetition {text!r}, {_MAX_REPEAT} times are the most"
        return None

    def _group(self, text: str, rest: str) -> str | None:
        if text.startswith("(?") and text[-1] not in ":)>":
            return _unknown_group(rest)
        if text[-1] != ")":  # else it only sets flags
            self.groups.append(1)
            self.atom = None
        return None

    def _close(self) -> str | None:
        if len(self.groups) == 1:
            return "has a ) too many"
        self.atom = self.groups.pop()
        self.groups[-1] = max(self.groups[-1], self.atom)
        return None


def _of_atom(token: re.Match[str]) -> str | None:
    text = token[0]
    if token["set"]:
        return _of_set(text) if token["closed"] else "misses a ]"
    if token["escape"] and text not in _ZERO_WIDTH and not _ESCAPES.fullmatch(text):
        return f"has the escape {text!r}"
    return None


def _of_set(text: str) -> str | None:
    for name in re.findall(r"\[:\^?(\w+):\]", text):
        if not _CLASSES.fullmatch(name):
            return f"has the unknown class {name!r}"
    for found in _ESCAPED.finditer(text):
        if not _ESCAPES.fullmatch(found[0]):
            return f"has the escape {found[0]!r} in brackets"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sets in sets, which Python may have one day
            # Python lacks some classes; for the order of ranges any character stands for one.
            re.compile(_CLASS.sub(".", text))
    except re.error as error:
        return f"has a set with {error.msg}"
    return None


def _times(text: str) -> int:
    counts = [int(n) for n in re.findall(r"\d+", text)]
    return max(1, *counts) if counts else 1


def _is_backwards(text: str) -> bool:
    least, _, most = text.strip("{}").partition(",")
    return bool(most) and int(most) < int(least)


def _unknown_group(rest: str) -> str:
    for starts, name in _UNKNOWN_GROUPS:
        if rest.startswith(starts):
            return f"uses {name}, which Prometheus does not have"
    return f"has the group '(?{rest[:1]}'"
