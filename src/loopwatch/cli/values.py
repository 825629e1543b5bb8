"""Reads the values of options for argparse, which tells a wrong one in one line."""

from __future__ import annotations

import argparse
import math
import re
import urllib.parse
from typing import TYPE_CHECKING, Final

from loopwatch.catalogue import LAG_BOUNDS_S
from loopwatch.config import settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "dashboard_uid",
    "dns_label",
    "dns_name",
    "duration",
    "label",
    "number",
    "severity",
    "threshold",
    "url",
]

_DNS_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?").fullmatch
_DNS_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL_KEY: Final = re.compile(
    r"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([\w.-]*[A-Za-z0-9])?", re.ASCII
)
_LABEL_VALUE: Final = re.compile(r"([A-Za-z0-9]([\w.-]*[A-Za-z0-9])?)?", re.ASCII)
_SEVERITY: Final = re.compile(r"(critical|warning)=([A-Za-z0-9][\w.-]*)", re.ASCII)
_DASHBOARD_UID: Final = re.compile(r"(overview|loop)=([A-Za-z0-9_-]{1,40})")
# As Prometheus writes them, in whole seconds; three digits are enough for all that is sensible.
_DURATION: Final = re.compile(r"(?=\d)(\d{1,3}d)?(\d{1,3}h)?(\d{1,3}m)?(\d{1,3}s)?", re.ASCII)
# Of Kubernetes, for labels and namespaces; and for the prefix of a label.
_MAX_LABEL: Final = 63
_MAX_PREFIX: Final = 253


def threshold(setting: str) -> Callable[[str], float]:
    """Return a reader of a number that the setting allows, and that the histogram can tell."""
    row = next(row for row in settings() if row.name == setting)

    def read(text: str) -> float:
        try:
            value = row.kind.parse(text)
        except ValueError:
            value = None
        if not isinstance(value, (int, float)) or not row.kind.check(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use {row.allowed}")
        if setting == "stall_threshold_s" and value >= LAG_BOUNDS_S[-1]:
            raise argparse.ArgumentTypeError(
                f"{text!r} is not allowed: use less than {LAG_BOUNDS_S[-1]:g}, the last bucket of "
                "the histogram"
            )
        return value

    return read


def number(allowed: str, check: Callable[[float], bool]) -> Callable[[str], float]:
    """Return a reader of a number; `allowed` says in words what `check` accepts."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not check(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not allowed: use {allowed}")
        return value

    return read


def severity(text: str) -> tuple[str, str]:
    """Return our name of a severity and theirs, from `critical=page`."""
    found = _SEVERITY.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use critical=NAME or warning=NAME, of letters, digits, ._-"
        )
    return found[1], found[2]


def dashboard_uid(text: str) -> tuple[str, str]:
    """Return the name of a dashboard and its uid in your Grafana, from `loop=team-loop`."""
    found = _DASHBOARD_UID.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use overview=UID or loop=UID, of 1 to 40 letters, digits, _-"
        )
    return found[1], found[2]


def duration(text: str) -> str:
    """Return a duration of Prometheus as it was given."""
    if not _DURATION.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use a duration like 30s or 1h30m"
        )
    return text


def url(text: str) -> str:
    """Return an address that a path can be put behind."""
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:
        parts = urllib.parse.urlsplit("")
    fine = parts.scheme in ("http", "https") and parts.netloc and not parts.query + parts.fragment
    if not fine or "{{" in text or not re.fullmatch(r"[!-~]+", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use an http or https address without ? and #"
        )
    return text


def dns_name(text: str) -> str:
    """Return a name of an object in Kubernetes (RFC 1123 subdomain)."""
    if not _DNS_NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use small letters, digits, - and ."
        )
    return text


def dns_label(text: str) -> str:
    """Return a name of a namespace in Kubernetes (RFC 1123 label)."""
    if not _DNS_LABEL(text) or len(text) > _MAX_LABEL:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use at most {_MAX_LABEL} small letters, digits and -"
        )
    return text


def label(text: str) -> tuple[str, str]:
    """Return key and value of a label in Kubernetes."""
    key, equals, value = text.partition("=")
    prefix, _, name = key.rpartition("/")
    fits = _LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)
    short = max(len(name), len(value)) <= _MAX_LABEL and len(prefix) <= _MAX_PREFIX
    if not equals or not fits or not short:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not allowed: use KEY=VALUE, of at most {_MAX_LABEL} letters, digits, "
            "._- each, and a prefix/"
        )
    return key, value
