"""Pages that derive from tables are up to date, and links between files lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
REFERENCE = runpy.run_path(str(ROOT / "scripts" / "reference.py"))
PAGES = [p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.parts)]


@pytest.mark.parametrize("name", REFERENCE["PAGES"])
def test_a_reference_page_is_what_its_table_says(name: str) -> None:
    """Run `make docs` after a change of settings or metrics."""
    assert (ROOT / "docs" / "reference" / name).read_text() == REFERENCE["PAGES"][name]()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    """A reader who clicks arrives."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
