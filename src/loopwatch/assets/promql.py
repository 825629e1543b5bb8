r"""Applies options to PromQL: selectors, thresholds, windows.

The tables hold expressions as they are with default options, so that one can paste them into
Prometheus; `Terms.apply` rewrites them token by token. A token is a name, a duration or a text:

- `loopwatch_…`, recorded `…:loopwatch_…:…` and `up` get the matchers of the selector;
- a metric that is a threshold, and a name in capitals, becomes its number, if there is one;
- durations, also the one at the end of a recorded name (`…:rate5m`), are scaled.

It also says which labels tell targets, loops and workers apart: rules, inhibitions and dashboards
take these sets from here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from loopwatch.assets.re2 import problem
from loopwatch.catalogue import METRICS
from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "LOOP",
    "MIN_WINDOW_S",
    "SERVICE",
    "TARGET",
    "WORKER",
    "Matcher",
    "Terms",
    "duration",
    "labels",
    "parse_selector",
    "scaled_s",
    "seconds",
]

# What Prometheus scrapes: a job and an address may be there once in each cluster and namespace.
TARGET: Final = ("cluster", "namespace", "job", "instance")
# What came over OTLP may have names of its own instead. A label that nobody has costs nothing.
LOOP: Final = (*TARGET, "service_name", "service_instance_id", "loop")
# One of several processes behind one endpoint; elsewhere there is no pid.
WORKER: Final = (*LOOP, "pid")
SERVICE: Final = ("cluster", "namespace", "job", "service_name")

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

# Not on `up`; the labels of single metrics would leave the other metrics out.
_LABELS_OF_OURS: Final = frozenset(WORKER) - frozenset(TARGET)
_LABELS_OF_METRICS: Final = frozenset({"le"}.union(*(metric.labels for metric in METRICS)))

_MATCHER: Final = re.compile(
    r"""
    \s* (?P<label>[a-zA-Z_]\w*) \s* (?P<op>=~|!~|!=|=) \s*
    (?: "(?P<double>(?:[^"\\]|\\.)*)" | '(?P<single>(?:[^'\\]|\\.)*)' | `(?P<raw>[^`]*)` )
    \s* (?P<comma>,|$)
    """,
    re.VERBOSE | re.ASCII,
)
# As Go has them. An octal or hexadecimal one is a byte of the UTF-8.
_ESCAPE: Final = re.compile(
    r"""\\(?:x(?P<hex>[0-9a-fA-F]{2})|(?P<octal>[0-3][0-7]{2})|u(?P<u>[0-9a-fA-F]{4})"""
    r"""|U(?P<U>[0-9a-fA-F]{8})|(?P<one>.))"""
)
_ESCAPES: Final = dict(zip("""\\"'ntrabfv""", "\\\"'\n\t\r\a\b\f\v", strict=True))


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
        shown = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in value)
        return f'{self.label}{self.op}"{shown}"'


def parse_selector(text: str) -> tuple[Matcher, ...]:
    """Return the matchers of `job="api",namespace=~"shop|pay"`, with or without braces.

    A `ConfigError` says what is wrong with it.
    """
    # The text stands in the head of the file as it is.
    if not text.isprintable():
        raise _wrong(text, r"has a control character: write it as \n, \t or \x07")
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
    if label == "__name__":
        raise _wrong(text, "has the label '__name__', of which each query has its own")
    if label in _LABELS_OF_METRICS:
        raise _wrong(text, f"has the label {label!r}, which only some of the metrics have")
    value = found["raw"]
    if value is None:
        value = _unescaped(text, found["single"] if found["double"] is None else found["double"])
    why = problem(value) if "~" in op else None
    if why:
        raise _wrong(text, f"has a regular expression that {why}")
    return Matcher(label, op, value)


def _unescaped(text: str, quoted: str) -> str:
    def meant(escape: re.Match[str]) -> bytes:
        if escape["hex"] or escape["octal"]:
            return bytes([int(escape["hex"] or "0", 16) + int(escape["octal"] or "0", 8)])
        if escape["u"] or escape["U"]:
            return chr(int(escape["u"] or escape["U"], 16)).encode()
        if escape["one"] not in _ESCAPES:
            raise _wrong(text, rf"has the unknown escape '{escape[0]}', a backslash is '\\'")
        return _ESCAPES[escape["one"]].encode()

    done, at = bytearray(), 0
    try:
        for escape in _ESCAPE.finditer(quoted):
            done += quoted[at : escape.start()].encode() + meant(escape)
            at = escape.end()
        return (done + quoted[at:].encode()).decode()
    except ConfigError:
        raise
    except (ValueError, OverflowError):  # also that it is no UTF-8
        raise _wrong(text, "has an escape that is no character") from None


def _wrong(text: str, why: str) -> ConfigError:
    return ConfigError(
        f"selector {text!r} {why}: use conditions on labels like "
        '\'job="api",namespace=~"shop|pay"\''
    )


def labels(names: Iterable[str]) -> str:
    """Return names of labels as they stand behind `by` and `on`."""
    return f"({', '.join(names)})"


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

    `numbers` maps names (threshold metrics, names in capitals) to what stands there instead: a
    number, or a text as it is.
    """

    selector: tuple[Matcher, ...] = ()
    numbers: Mapping[str, float | str] = field(default_factory=dict)
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
            number = self.numbers[name]
            return number if isinstance(number, str) else f"{number:.12g}"
        ours = name.startswith("loopwatch_") or ":loopwatch_" in name
        if not ours and name != "up":
            return token[0]
        matchers = ",".join(str(m) for m in self.selector if ours or m.label not in _LABELS_OF_OURS)
        if brace:
            return f"{self.record(name)}{{{matchers}{',' * bool(matchers)}"
        return f"{self.record(name)}{{{matchers}}}" if matchers else self.record(name)

    def _window(self, text: str) -> str:
        return duration(scaled_s(text, self.scale, MIN_WINDOW_S))
