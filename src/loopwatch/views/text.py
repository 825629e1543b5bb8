"""Names of functions, tasks and files as they may be shown.

They are hostile input: a coroutine can be called anything, and what reads a log from a terminal
must not obey it.
"""

from __future__ import annotations

from typing import Final

__all__ = ["clean"]

_LIMIT: Final = 300


def clean(text: object, limit: int = _LIMIT) -> str:
    """Return `text` on one line, printable and encodable: `?` for what is no text.

    What cannot be printed (control characters, marks that change the direction of writing, lone
    surrogates) is spelt as its escape. More than `limit` characters are cut.
    """
    if not isinstance(text, str):
        return "?"
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
