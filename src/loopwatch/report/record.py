"""What a report needs of a record, checked: anybody can write a stall log."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from loopwatch.model import STALL_SCHEMA, Phase
from loopwatch.views.text import clean

__all__ = ["NotARecordError", "Told", "key_of", "told"]

_US_PER_S: Final = 1_000_000
# Longer than any process lived: the field is damaged.
_MAX_DURATION_S: Final = 1e9
# The year 10000, which no calendar here can write.
_MAX_UNIX_S: Final = 253_402_300_800
_SCHEMA_FAMILY: Final = "loopwatch.stall/"
_MAX_PID: Final = 1 << 31
_SHOWN: Final = 40
# Ours have 16; a digest stands for those that are longer, as thousands of them are kept.
_MAX_FINGERPRINT: Final = 64
_MAX_CAUSE: Final = 301


class NotARecordError(Exception):
    """A line is no record of ours. `kind` groups like lines, the message is for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Told(NamedTuple):
    """One record. `key` is the same for both records of a stall; `data` is the whole of it."""

    key: int
    final: bool
    started_at_s: float
    duration_us: int
    cause: str
    loop: str
    pid: int | None
    allowed: str | None
    fingerprint: str
    data: dict[str, Any]


def told(data: object) -> Told:
    """Return what a line of JSON says; raise `NotARecordError` if it is no record of a stall.

    Without id, phase, start or duration there is no stall to count. Everything else may be damaged
    or missing, and is not known then.
    """
    if not isinstance(data, dict):
        raise NotARecordError("foreign", "JSON, but no stall record")
    schema = data.get("schema")
    if schema != STALL_SCHEMA:
        raise _foreign(schema)
    identity, phase = data.get("id"), data.get("phase")
    if not isinstance(identity, str) or not identity:
        raise _damaged("id")
    if phase not in ("final", "ongoing"):
        raise _damaged("phase")
    pid, cause, loop = data.get("pid"), data.get("cause"), data.get("loop")
    if type(pid) is not int or not 0 < pid < _MAX_PID:
        pid = None
    if not isinstance(cause, str):
        cause = "unknown"
    allowed = data.get("allowed")
    fingerprint = data.get("fingerprint")
    if not isinstance(fingerprint, str) or not fingerprint:
        fingerprint = _stand_in(cause, data.get("culprit"))
    if len(fingerprint) > _MAX_FINGERPRINT:
        fingerprint = _digest(fingerprint)
    return Told(
        key_of(identity, pid),
        phase == Phase.FINAL,
        _started_at_s(data.get("started_at")),
        _duration_us(data.get("duration_s")),
        cause[:_MAX_CAUSE],
        loop if isinstance(loop, str) else "?",
        pid,
        None if allowed is None else clean(allowed),
        fingerprint,
        data,
    )


def key_of(identity: str, pid: int | None) -> int:
    """Return what identifies a stall while this process runs.

    Ids are random, so the pid is only for logs in which somebody numbered them anew.
    """
    return hash((identity, pid))


def _duration_us(value: object) -> int:
    # NaN is in no range; a bool is an int.
    if isinstance(value, (int, float)) and value is not True and 0 <= value <= _MAX_DURATION_S:
        return round(value * _US_PER_S)
    raise _damaged("duration_s")


def _started_at_s(value: object) -> float:
    if not isinstance(value, str):
        raise _damaged("started_at")
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        at_s = moment.timestamp()
    except (ValueError, OverflowError):
        raise _damaged("started_at") from None
    if not 0 <= at_s < _MAX_UNIX_S:
        raise _damaged("started_at")
    return at_s


def _stand_in(cause: str, culprit: object) -> str:
    """Return a fingerprint for a record whose own is damaged: cause and culprit, as in ours."""
    blamed = culprit if isinstance(culprit, dict) else {}
    parts = [clean(blamed.get(part)) for part in ("function", "file", "call")]
    return "\0".join((cause, *parts))


def _digest(text: str) -> str:
    # Half a surrogate pair is no UTF-8, but may be in JSON.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _damaged(field: str) -> NotARecordError:
    return NotARecordError("damaged", f"a stall record without a usable {field}")


def _foreign(schema: object) -> NotARecordError:
    if not isinstance(schema, str):
        return NotARecordError("foreign", "JSON, but no stall record: it has no schema")
    shown = clean(schema, _SHOWN)
    if schema.startswith(_SCHEMA_FAMILY):
        return NotARecordError(
            "version", f"schema {shown}, but this loopwatch reads {STALL_SCHEMA}: update it"
        )
    return NotARecordError("schema", f"schema {shown}, not {STALL_SCHEMA}")
