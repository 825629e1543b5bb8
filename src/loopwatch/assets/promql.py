r"""Applies options to PromQL: selectors, thresholds, windows.

The tables hold expressions as they are with default options, so that one can paste them into
Prometheus; `Terms.apply` rewrites them token by token. A token is a name, a duration or a text:

- `loopwatch_…`, recorded `…:loopwatch_…:…` and `up` get the matchers of the selector;
- a metric that is a threshold, and a name in capitals, becomes its number, if there is one;
- durations, also the one at the end of a recorded name (`…:rate5m`), are scaled.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loopwatch.catalogue import METRICS
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MIN_WINDOW_S", "Matcher", "Terms", "duration", "parse_selector", "scaled_s", "seconds"]

# Four scrapes at one a second, and one to spare: a rate over fewer says little.
MIN_WINDOW_S: Final = 5

_UNITS_S: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}

_TOKEN: Final = re.compile(
    r"""
    (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<name>[a-zA-Z_:][\w:]*) (?P<open>\{)?
    | (?P<duration>(?:\d+[smhd])+) \b
    | \d+(?:\.\d+)?
    """,
    re.VERBOSE,
)

# Ours, and therefore not on `up`; the labels of single metrics would leave the other metrics out.
_LABELS_OF_OURS: Final = frozenset({"loop", "pid"})
_LABELS_OF_METRICS: Final = frozenset({"le"}.union(*(metric.labels for metric in METRICS)))

_MATCHER: Final = re.compile(
    r"""
    \s* (?P<label>[a-zA-Z_]\w*) \s* (?P<op>=~|!~|!=|=) \s*
    (?: "(?P<double>(?:[^"\\\n]|\\.)*)" | '(?P<single>(?:[^'\\\n]|\\.)*)' ) \s* (?P<comma>,|$)
    """,
    re.VERBOSE | re.ASCII,
)
_ESCAPES: Final = {"\\": "\\", '"': '"', "'": "'", "n": "\n", "t": "\t", "r": "\r"}
# RE2, which Prometheus uses, has none of these.
_LOOK_AROUND: Final = re.compile(r"\(\?(?:=|!|<=|<!)")


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; `value` is the text itself, without quotes and escapes."""

    label: str
    op: str
    value: str

    def __str__(self) -> str:
        value = self.value
        for char, escaped in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\t", r"\t")):
            value = value.replace(char, escaped)
        return f'{self.label}{self.op}"{value}"'


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of `job="api",namespace=~"shop|pay"`, with or without braces.

    A `ConfigError` says what is wrong with it.
    """
    inner = text.strip()
    if inner.startswith("{") and inner.endswith("}"):
        inner = inner[1:-1]
    matchers: list[Matcher] = []
    at = 0
    while at < len(inner):
        found = _MATCHER.match(inner, at)
        if found is None:
            raise _wrong(text, f"cannot be read from {inner[at:].strip()!r} on")
        matchers.append(_matcher(text, found))
        at = found.end()
    if not matchers:
        raise _wrong(text, "is empty")
    return tuple(matchers)


def _matcher(text: str, found: re.Match[str]) -> Matcher:
    label, op = found["label"], found["op"]
    if label in _LABELS_OF_METRICS:
        raise _wrong(text, f"has the label {label!r}, which only some of the metrics have")
    raw = found["double"] if found["double"] is not None else found["single"]
    unknown = [e for e in re.findall(r"\\(.)", raw) if e not in _ESCAPES]
    if unknown:
        raise _wrong(text, rf"has the unknown escape '\{unknown[0]}', a backslash is '\\'")
    value = re.sub(r"\\(.)", lambda escape: _ESCAPES[escape[1]], raw)
    if "~" in op:
        _check_regex(text, value)
    return Matcher(label, op, value)


def _check_regex(text: str, value: str) -> None:
    """Raise for what neither Python nor RE2 reads; the rest is left to Prometheus."""
    if _LOOK_AROUND.search(value):
        raise _wrong(text, "uses look-around, which Prometheus does not have")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `[[:alpha:]]` is fine for RE2
            re.compile(value)
    except re.error as error:
        # RE2 knows escapes (`\pL`) and places for flags that Python does not.
        if "escape" not in error.msg and "flags" not in error.msg:
            raise _wrong(text, f"has a regular expression with {error.msg}") from None


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"selector {text!r} {why}: use conditions on labels like "
        '\'job="api",namespace=~"shop|pay"\''
    )


def seconds(text: str) -> int:
    """Return the seconds of a duration as Prometheus writes it, `1h30m`."""
    return sum(int(n) * _UNITS_S[unit] for n, unit in re.findall(r"(\d+)([smhd])", text))


def duration(seconds: int) -> str:
    """Return seconds as Prometheus writes them, with the largest units first; 0 is `0s`."""
    parts = []
    for unit, size_s in _UNITS_S.items():
        count, seconds = divmod(seconds, size_s)
        parts += [f"{count}{unit}"] * (count > 0)
    return "".join(parts) or "0s"


def scaled_s(text: str, scale: float, least_s: int = 0) -> int:
    """Return a duration times `scale` in whole seconds; `least_s` holds unless it is 0 as it is."""
    plain_s = seconds(text)
    return max(least_s, round(plain_s * scale)) if plain_s else 0


@dataclass(frozen=True, slots=True)
class Terms:
    """What to put into expressions.

    `numbers` maps names (threshold metrics, names in capitals) to what stands there instead.
    """

    selector: tuple[Matcher, ...] = ()
    numbers: Mapping[str, float] = field(default_factory=dict)
    scale: float = 1.0

    def apply(self, expr: str) -> str:
        """Return an expression of the tables with these terms."""
        return _TOKEN.sub(self._token, expr)

    def record(self, name: str) -> str:
        """Return the name of a recorded series with its window scaled."""
        window = re.search(r"(?:\d+[smhd])+$", name)
        return name if window is None else name[: window.start()] + self._window(window[0])

    def _token(self, token: re.Match[str]) -> str:
        if token["duration"]:
            return self._window(token["duration"])
        name, brace = token["name"], token["open"] or ""
        if not name:
            return token[0]
        if name in self.numbers:
            return f"{self.numbers[name]:.12g}"
        ours = name.startswith("loopwatch_") or ":loopwatch_" in name
        if not ours and name != "up":
            return token[0]
        matchers = ",".join(str(m) for m in self.selector if ours or m.label not in _LABELS_OF_OURS)
        if brace:
            return f"{self.record(name)}{{{matchers}{',' * bool(matchers)}"
        return f"{self.record(name)}{{{matchers}}}" if matchers else self.record(name)

    def _window(self, text: str) -> str:
        return duration(scaled_s(text, self.scale, MIN_WINDOW_S))
