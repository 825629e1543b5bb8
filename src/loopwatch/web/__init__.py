"""Documents of one file: markup, style and script put together, and what a browser may do with it.

The pieces are the files beside this one. A document loads nothing, and its policy names the hashes
of its own style and script: a browser runs nothing else, whatever got into the markup.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib import resources
from typing import Final

__all__ = ["Document", "document", "live_page", "piece"]

_ISOLATED: Final = (
    ("Cross-Origin-Embedder-Policy", "require-corp"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
)
_SCRIPTS: Final = ("flame.js", "format.js", "charts.js", "stall.js", "loop.js", "live.js")


@dataclass(frozen=True, slots=True)
class Document:
    """A page: its HTML, and the value of the `Content-Security-Policy` that fits it.

    `policy` is for a header; a `<meta>` cannot carry `frame-ancestors`, so `meta_policy` has none.
    """

    html: str
    policy: str
    meta_policy: str

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """The headers a server sends along."""
        return (("Content-Security-Policy", self.policy), *_ISOLATED)


@cache
def piece(name: str) -> str:
    """Return the text of a file of this package, such as `flame.js` or `style.css`."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def document(
    title: str, body: str, *, style: str, script: str, connect: bool = False, meta: bool = False
) -> Document:
    """Return a document of these pieces.

    `body` is markup and goes in as it is; only `title` is escaped. With `connect` the script may
    ask where the page came from, else nobody. With `meta` the policy is in the HTML, for a file
    that no server sends. Raises `ValueError` if style or script would end its own element.
    """
    for text, end in ((style, "</style"), (script, "</script"), (script, "<!--")):
        if end in text.lower():
            raise ValueError(f"{end!r} in a style or script ends it early: write it in two parts")
    meta_policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(script)}",
            f"style-src {_hash(style)}",
            # The icon of the tab is in the page; without this browsers ask for one and complain.
            "img-src data:",
            "connect-src 'self'" if connect else "connect-src 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        )
    )
    policy = f"{meta_policy}; frame-ancestors 'none'"
    told = (
        f'<meta http-equiv="Content-Security-Policy" content="{escape(meta_policy)}">\n'
        if meta
        else ""
    )
    html = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"{told}"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{escape(title)}</title>\n"
        f'<link rel="icon" href="{_ICON}">\n'
        f"<style>{style}</style>\n</head>\n<body>\n{body}\n<script>{script}</script>\n"
        "</body>\n</html>\n"
    )
    return Document(html, policy, meta_policy)


@cache
def live_page(cause_css: str) -> Document:
    """Return the live page; `cause_css` sets the colours of causes (`views.colours`)."""
    return document(
        "loopwatch",
        piece("page.html"),
        style="\n".join((piece("style.css"), cause_css, piece("live.css"))),
        script="\n".join(piece(name) for name in _SCRIPTS),
        connect=True,
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


_ICON: Final = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E"
    "%3Ccircle cx='8' cy='8' r='6' fill='none' stroke='%2310794a' stroke-width='3'/%3E%3C/svg%3E"
)
