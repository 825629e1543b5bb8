"""Documents of one file: what is in them, what their policy says, and what they refuse."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib import resources
from pathlib import Path

import pytest

import loopwatch
from loopwatch import Cause
from loopwatch.views.colours import CAUSE_COLOURS, cause_css
from loopwatch.web import document, live_page, piece

PIECES = sorted(
    path.name for path in (Path(loopwatch.__file__).parent / "web").iterdir()
    if path.suffix in (".js", ".css", ".html")
)  # fmt: skip


def test_the_page_is_made_of_all_pieces() -> None:
    """A file beside the package that no document uses is a mistake."""
    html = live_page(cause_css()).html
    assert PIECES
    for name in PIECES:
        assert piece(name) in html, name
        assert resources.files("loopwatch.web").joinpath(name).is_file()


@pytest.mark.parametrize("name", [name for name in PIECES if name.endswith(".js")])
def test_scripts_have_no_way_from_text_to_markup_or_code(name: str) -> None:
    """Names are hostile: they go into text and attributes, and nothing is kept or loaded."""
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|DOMParser"
    )
    stored = r"localStorage|sessionStorage|document\.cookie|indexedDB|XMLHttpRequest|import\("
    assert not re.search(f"{banned}|{stored}", piece(name))
    asked = re.findall(r"fetch\(([`\"'][^,]*)", piece(name))
    # Relative, so that the page also works behind a proxy that puts a path before its own.
    assert all(where[1:].startswith("api/") for where in asked)


def test_a_document_allows_its_own_style_and_script_alone() -> None:
    """The policy has the hash of each; a file for nobody's server carries it in itself."""
    made = document("a <title>", "<p>b</p>", style="p{}", script="let a = 1;", meta=True)
    for kind, text in (("style", "p{}"), ("script", "let a = 1;")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in made.policy
    assert "connect-src 'none'" in made.policy
    assert made.policy == f"{made.meta_policy}; frame-ancestors 'none'"
    assert "<title>a &lt;title&gt;</title>" in made.html
    assert made.html.index("Content-Security-Policy") < made.html.index("<style>")
    assert "unsafe" not in made.policy


@pytest.mark.parametrize(
    ("style", "script"), [("</STYLE>", ""), ("", "'</script>'"), ("", "'<!-- <script>'")]
)
def test_a_piece_cannot_end_its_element(style: str, script: str) -> None:
    """What a browser would read as the end of a script is refused, not shown as text."""
    with pytest.raises(ValueError, match="write it in two parts"):
        document("t", "", style=style, script=script)


def colours(css: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css))


def schemes() -> dict[str, dict[str, str]]:
    light, dark = piece("style.css").split("@media (prefers-color-scheme: dark)", 1)
    return {"light": colours(light), "dark": colours(dark)}


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours as WCAG 2 defines it."""

    def luminance(colour: str) -> float:
        parts = (int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5))
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out(scheme: str) -> None:
    """WCAG AA in both schemes: 4.5 to 1 for text, 3 to 1 for colours that mean something."""
    named = schemes()[scheme]
    for text in ("text", "dim", "good", "bad", "warn", "accent"):
        for ground in ("back", "card", "raised", "bad-back"):
            if (text, ground) in {("good", "bad-back"), ("warn", "bad-back")}:
                continue  # never on each other
            ratio = contrast(named[text], named[ground])
            assert ratio >= 4.5, f"{text} on {ground}: {ratio:.2f}"
    for frame in ("flame-app", "flame-library", "raised"):
        assert contrast(named["flame-text"], named[frame]) >= 4.5, frame
    for cause, colour in CAUSE_COLOURS.items():
        shown = colour.on_light if scheme == "light" else colour.on_dark
        for ground in ("card", "raised"):
            assert contrast(shown, named[ground]) >= 3, f"{cause} on {ground}"


def test_each_cause_has_its_own_colour() -> None:
    """None is missing, no two share one, and the CSS names them all."""
    assert set(CAUSE_COLOURS) == set(Cause)
    for kind in ("grafana", "on_light", "on_dark"):
        assert len({getattr(colour, kind) for colour in CAUSE_COLOURS.values()}) == len(Cause)
    assert all(cause_css().count(f'[data-cause="{cause}"]') == 2 for cause in Cause)
