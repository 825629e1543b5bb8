"""Every setting, declared once: its name, default, unit, what it means and what is allowed.

The table is the dataclass itself. Environment variables (`LOOPWATCH_` + the name in capitals),
error messages and the reference page derive from it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from loopwatch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ENV_PREFIX", "Config", "Setting", "settings"]

ENV_PREFIX: Final = "LOOPWATCH_"

_PORTS: Final = 65536

T = TypeVar("T")

# Kubernetes puts these into every pod beside a Service that is called loopwatch.
_OF_KUBERNETES: Final = re.compile(r"LOOPWATCH_(SERVICE_(HOST|PORT.*)|PORT(_.*)?)").fullmatch


@dataclass(frozen=True, slots=True)
class Kind:
    """What values a setting takes: how to read one from text, and what is allowed."""

    allowed: str
    parse: Callable[[str], object]
    check: Callable[[object], bool]
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the settings table."""

    name: str
    env: str
    default: object
    unit: str
    allowed: str
    help: str
    kind: Kind


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _seconds(low: float, high: float) -> Kind:
    return Kind(
        f"a number of seconds from {low:g} to {high:g}",
        float,
        lambda v: _is_number(v) and low <= v <= high,  # type: ignore[operator]
    )


def _ratio() -> Kind:
    return Kind(
        "a ratio above 0 and at most 1",
        float,
        lambda v: _is_number(v) and 0 < v <= 1,  # type: ignore[operator]
    )


def _count(low: int, high: int, *, optional: bool = False) -> Kind:
    return Kind(
        f"a whole number from {low} to {high}",
        int,
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
        optional,
    )


def _text(*, optional: bool = False) -> Kind:
    return Kind("a text that is not empty", str, lambda v: isinstance(v, str) and v != "", optional)


def _path() -> Kind:
    return Kind(
        "a file path",
        str,
        lambda v: isinstance(v, (str, os.PathLike)) and os.fspath(v) != "",
        optional=True,
    )


def _flag() -> Kind:
    return Kind("True or False", _truth, lambda v: isinstance(v, bool))


def _truth(text: str) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True}
    words |= {"false": False, "0": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError(text)
    return words[text.lower()]


def _names(what: str) -> Kind:
    return Kind(
        f"a comma-separated list of {what}",
        lambda text: tuple(part.strip() for part in text.split(",") if part.strip()),
        lambda v: isinstance(v, tuple) and all(isinstance(name, str) and name for name in v),
    )


def _choice(*names: str) -> Kind:
    return Kind(" or ".join(repr(name) for name in names), str, lambda v: v in names)


def _setting(default: T, kind: Kind, unit: str, text: str) -> T:
    # The dataclass field carries its own row; typed as its default so that mypy sees a plain value.
    row: T = field(default=default, metadata={"kind": kind, "unit": unit, "help": text})
    return row


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """All settings of one agent. Frozen and checked: a `Config` that exists is valid.

    Raises `ConfigError` naming the setting, its value and what is allowed.
    """

    stall_threshold_s: float = _setting(
        0.1, _seconds(0.005, 3600), "s", "a loop that serves nothing for this long is stalled"
    )
    hang_threshold_s: float = _setting(
        10.0,
        _seconds(0.005, 86400),
        "s",
        "a stall this long makes /livez answer 503, so that an orchestrator restarts the process",
    )
    tasks_threshold: int = _setting(
        1000, _count(1, 10**9), "tasks", "more pending tasks than this are suspected to be a leak"
    )
    cpu_ratio_threshold: float = _setting(
        0.5, _ratio(), "ratio", "a loop thread that burns more CPU per second starves I/O"
    )
    tick_interval_s: float = _setting(
        0.5,
        _seconds(0.005, 60),
        "s",
        "longest time between two beats of the sidecar; a loop at work beats every half threshold",
    )
    sample_interval_s: float = _setting(
        0.025,
        _seconds(0.001, 60),
        "s",
        "time from the first to the second stack sample of a stall; later gaps grow",
    )
    max_samples: int = _setting(32, _count(1, 1000), "samples", "stack samples taken of one stall")
    native_sampler: str = _setting(
        "auto",
        _choice("auto", "on", "off"),
        "mode",
        "sample C calls that keep the GIL, by a timer signal to the loop thread; auto: from "
        "CPython 3.13.1 on, as faulthandler may crash before; on: accept that; off: no signal",
    )
    in_app_include: tuple[str, ...] = _setting(
        (),
        _names("module names"),
        "modules",
        "your code too, though it lies in site-packages: these modules and what is below them",
    )
    in_app_exclude: tuple[str, ...] = _setting(
        (),
        _names("module names"),
        "modules",
        "not your code: these modules and what is below them are never blamed for their callers",
    )
    warm_up_s: float = _setting(
        30.0,
        _seconds(0, 86400),
        "s",
        "for so long after the start, stalls of import statements are counted but not reported",
    )
    like_stalls_per_minute: int = _setting(
        12,
        _count(1, 1_000_000),
        "stalls",
        "stalls of one fingerprint that are told in a minute; the counters count all",
    )
    stalls_per_minute: int = _setting(
        120, _count(1, 1_000_000), "stalls", "stalls that are told in a minute, of any fingerprint"
    )
    history: int = _setting(100, _count(1, 100_000), "stalls", "newest stalls kept in memory")
    queue_size: int = _setting(
        1000, _count(1, 1_000_000), "records", "records that may wait for a slow exporter"
    )
    exporters: tuple[str, ...] = _setting(
        ("prometheus", "log"),
        _names("exporter names"),
        "names",
        "where snapshots and stall records go: jsonl (stall_log), log, otel, prometheus",
    )
    http_port: int | None = _setting(
        None,
        _count(0, _PORTS - 1, optional=True),
        "port",
        "serve a page, /metrics, /livez and /api from a thread of its own, on a port that the app "
        "itself does not use; 0 picks a free port",
    )
    http_port_count: int = _setting(
        1,
        _count(1, 1000),
        "ports",
        "workers of one host: each takes the first free one of so many ports from http_port on",
    )
    http_host: str = _setting("127.0.0.1", _text(), "address", "the address http_port listens on")
    stall_log: str | os.PathLike[str] | None = _setting(
        None, _path(), "path", "append one JSON line per stall record to this file"
    )
    stall_log_max_bytes: int = _setting(
        10 * 2**20, _count(1024, 2**40), "bytes", "rotate the stall log beyond this size"
    )
    stall_log_backups: int = _setting(
        3, _count(0, 1000), "files", "rotated stall logs kept as PATH.1, PATH.2, …"
    )
    loop_name: str = _setting("main", _text(), "name", "the `loop` label of metrics and records")
    task_sites: bool = _setting(
        False,
        _flag(),
        "switch",
        "remember which line made each task, by a task factory that costs about a microsecond",
    )
    console: bool = _setting(
        False, _flag(), "switch", "start an aiomonitor console for the loop; telnet to console_port"
    )
    console_host: str = _setting(
        "127.0.0.1", _text(), "address", "the address the console listens on; it asks no password"
    )
    console_port: int = _setting(
        20101, _count(0, _PORTS - 1), "port", "the port of the console; 0 picks a free one"
    )
    console_port_count: int = _setting(
        1,
        _count(1, 1000),
        "ports",
        "workers of one host: each takes the first free one of so many ports from console_port on",
    )
    console_repl: bool = _setting(
        False, _flag(), "switch", "the console may run Python code in the process (its own REPL)"
    )
    console_task_hook: bool = _setting(
        False,
        _flag(),
        "switch",
        "let aiomonitor record where tasks are made and end; costs about 80 µs a task",
    )
    otel_instrument_asyncio: bool = _setting(
        False,
        _flag(),
        "switch",
        "while the exporter otel runs, opentelemetry-instrumentation-asyncio does too",
    )

    def __post_init__(self) -> None:
        for row in settings():
            _check(row, getattr(self, row.name))
        if self.hang_threshold_s < self.stall_threshold_s:
            raise ConfigError(
                f"hang_threshold_s={self.hang_threshold_s!r} is below "
                f"stall_threshold_s={self.stall_threshold_s!r}: a hang is a long stall, raise it"
            )

        if self.http_port and self.http_port + self.http_port_count > _PORTS:
            raise ConfigError(
                f"http_port={self.http_port} and http_port_count={self.http_port_count} go beyond "
                f"port {_PORTS - 1}: lower one of them"
            )
        if self.console_port + self.console_port_count > _PORTS:
            raise ConfigError(
                f"console_port={self.console_port} and console_port_count="
                f"{self.console_port_count} go beyond port {_PORTS - 1}: lower one of them"
            )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, /, **overrides: Any) -> Self:
        """Return the settings of the `LOOPWATCH_*` variables, with `overrides` on top.

        An empty variable counts as not set. A name that no setting has, or a value that cannot
        be read, raises `ConfigError`.
        """
        environ = os.environ if environ is None else environ
        rows = {row.env: row for row in settings()}
        values: dict[str, Any] = {}
        for name, text in environ.items():
            if not name.startswith(ENV_PREFIX) or text.strip() == "" or _OF_KUBERNETES(name):
                continue
            row = rows.get(name)
            if row is None:
                raise ConfigError(_unknown(name, sorted(rows)))
            if row.name not in overrides:
                values[row.name] = _parse(row, text)
        return cls.of(**values, **overrides)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return a `Config` of these settings; an unknown name raises `ConfigError`."""
        known = {row.name for row in settings()}
        for name in values:
            if name not in known:
                raise ConfigError(_unknown(name, sorted(known)))
        rows = {row.name: row for row in settings()}
        for name, value in values.items():
            if isinstance(value, list):
                values[name] = tuple(value)
            elif isinstance(value, str) and isinstance(rows[name].default, tuple):
                values[name] = rows[name].kind.parse(value)  # as in the variable
        return cls(**values)


def settings() -> tuple[Setting, ...]:
    """Return the table of settings, in the order in which they are declared."""
    return tuple(
        Setting(
            name=f.name,
            env=ENV_PREFIX + f.name.upper(),
            default=f.default,
            unit=f.metadata["unit"],
            allowed=f.metadata["kind"].allowed
            + (" or None" if f.metadata["kind"].optional else ""),
            help=f.metadata["help"],
            kind=f.metadata["kind"],
        )
        for f in dataclasses.fields(Config)
    )


def _check(row: Setting, value: object) -> None:
    if value is None and row.kind.optional:
        return
    if not row.kind.check(value):
        raise ConfigError(f"{row.name}={value!r} is not allowed: use {row.allowed}")


def _parse(row: Setting, text: str) -> object:
    text = text.strip()
    if row.kind.optional and text.lower() == "none":
        return None
    try:
        value = row.kind.parse(text)
    except ValueError:
        raise ConfigError(f"{row.env}={text!r} is not allowed: use {row.allowed}") from None
    if not row.kind.check(value):
        raise ConfigError(f"{row.env}={text!r} is not allowed: use {row.allowed}")
    return value


def _unknown(name: str, known: list[str]) -> str:
    import difflib  # noqa: PLC0415 - only a mistake pays for the import

    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known settings: {', '.join(known)}"
    return f"{name} is not a setting of loopwatch: {hint}"
