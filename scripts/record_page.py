"""Takes docs/images/live-*.png of the running demo: `python -m scripts.record_page`, two minutes.

Needs Chromium and playwright. What is in the pictures is what a browser showed of `loopwatch demo`;
nothing is drawn or staged, but a picture of a stall waits until there is one.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PIL import Image
from playwright.sync_api import Page, sync_playwright
from tests.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent.parent / "docs" / "images"
# So that the charts have something to show.
PLAY_S: Final = 100.0
DESK: Final[Any] = {"width": 1180, "height": 800}
TALL: Final[Any] = {"width": 1180, "height": 1080}
PHONE: Final[Any] = {"width": 360, "height": 740}
_STALLED: Final = ".loop[data-state=stalled] .source"
_SERVING: Final = ".loop[data-state=serving] .ago:not(:text('just now'))"
_STOP_S: Final = 10.0
_COLOURS: Final = 256
_TRIES: Final = 60


@contextmanager
def demo() -> Iterator[str]:
    """Run the demo; give the URL of its page."""
    port = free_port()
    command = [sys.executable, "-m", "loopwatch", "demo", "--port", "0", "--http-port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/"
        while process.poll() is None:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(_STOP_S)


def taken(page: Page, state: str) -> bytes:
    """Return a picture of a page in that state, which lasts for a part of a second."""
    for _ in range(_TRIES):
        page.wait_for_selector(state)
        picture = page.screenshot()
        if page.locator(state).count():
            return picture
    raise RuntimeError(f"{state} was never long enough for a picture: is this machine busy?")


def keep(name: str, picture: bytes) -> None:
    """Write a picture in few colours, a third of the size."""
    out = io.BytesIO()
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(out, format="PNG", optimize=True)
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / f"{name}.png").write_bytes(out.getvalue())
    print(f"wrote docs/images/{name}.png, {len(out.getvalue()) // 1000} kB")


def main() -> None:
    """Play, look, write."""
    with demo() as url, sync_playwright() as playwright:
        time.sleep(PLAY_S)
        # As root there is no sandbox; what it opens is ours alone.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )

        def opened(size: Any, scheme: Any) -> Page:
            page = browser.new_page(viewport=size, color_scheme=scheme)
            page.goto(url)
            page.wait_for_selector(".row")
            return page

        keep("live-serving", taken(opened(DESK, "light"), _SERVING))
        keep("live-stalled", taken(opened(DESK, "dark"), _STALLED))
        keep("live-phone", taken(opened(PHONE, "dark"), _STALLED))
        page = opened(TALL, "light")
        # A stall that has branches to show.
        page.locator(".row", has_text="/requests").first.click()
        keep("live-stall", taken(page, "dialog[open] .flame"))
        browser.close()


if __name__ == "__main__":
    main()
