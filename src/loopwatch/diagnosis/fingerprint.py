"""One key for stalls of the same kind: same cause, same culprit."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loopwatch.model import Cause, Culprit

__all__ = ["fingerprint"]


def fingerprint(cause: Cause, culprit: Culprit | None) -> str:
    """Return 16 hex digits that like stalls share, also across processes and releases.

    The line is left out on purpose: an edit above the culprit must not make a new stall.
    """
    blamed = (culprit.function, culprit.file, culprit.call or "") if culprit else ()
    return hashlib.blake2b("\0".join((cause, *blamed)).encode(), digest_size=8).hexdigest()
