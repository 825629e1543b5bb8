"""An attribute put on a host object, and taken off again without a trace."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Patch"]

_ABSENT: Final = object()


class Patch:
    """Sets `owner.name` to `value` on the instance; `restore` puts back what was there.

    Raises `AttributeError` if the object takes no attributes. If somebody patched on top of us
    meanwhile, `restore` leaves theirs alone. Idempotent, any thread.
    """

    def __init__(self, owner: Any, name: str, value: object) -> None:
        self._before = getattr(owner, "__dict__", {}).get(name, _ABSENT)
        setattr(owner, name, value)
        self._owner: Any = owner
        self._name = name
        self._value = value

    def restore(self) -> None:
        """Put back the attribute, if it is still ours."""
        owner, self._owner = self._owner, None
        if owner is None or owner.__dict__.get(self._name) is not self._value:
            return
        if self._before is _ABSENT:
            delattr(owner, self._name)
        else:
            setattr(owner, self._name, self._before)
