"""A real browser for tests, and a watched process whose loop blocks when it is told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.servers import fetch, free_port, program, wait_for

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:
    # Tests that want a browser are skipped; see `chromium`.
    sync_playwright = None  # type: ignore[assignment]

_TIMEOUT_MS: Final = 10_000

# What a page does that it must not, noted from its first moment.
_WATCH: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation",
  (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run Chromium without a window; skip where there is none, fail in CI."""
    if sync_playwright is None:
        why = "playwright is not installed here: pip install playwright (no browser download)"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    path = program("chromium")
    with sync_playwright() as playwright:
        # As root there is no sandbox; what it opens is ours alone.
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Visit:
    """One page in a browser context of its own, and what went wrong in it."""

    def __init__(self, browser: Browser, url: str, **context: Any) -> None:
        self.url = url
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(_TIMEOUT_MS)
        self.context.add_init_script(_WATCH)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on(
            "console",
            lambda said: (
                self.complaints.append(said.text) if said.type in ("error", "warning") else None
            ),
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(url)
        self.page.wait_for_selector(".loop")

    def text(self, selector: str) -> str:
        """Return the text of the first such element."""
        return self.page.locator(selector).first.inner_text()

    def overflow(self) -> int:
        """Return by how many pixels the page is wider than its window."""
        wide: int = self.page.evaluate(
            "document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
        )
        return wide

    def close(self) -> None:
        self.context.close()

    def check(self) -> None:
        """No error, nothing its policy had to stop, nothing from elsewhere, nothing stored."""
        assert self.complaints == []
        assert self.page.evaluate("window.violations") == []
        assert {url.split("/")[2] for url in self.asked} == {self.url.split("/")[2]}
        assert self.context.cookies() == []
        assert self.page.evaluate("localStorage.length + sessionStorage.length") == 0


# `block` runs a task on the loop which does not return before `release`, nor does anything else
# there; lines that come in and go out are JSON.
_APP: Final = """
import asyncio, json, sys, threading, time, types
import loopwatch

released = threading.Event()

def wait_for_payment():
    while not released.is_set():
        time.sleep(0.02)  # LINE

async def check_out():
    wait_for_payment()

def called(name, function):
    code = function.__code__.replace(co_name=name, co_qualname=name)
    return types.FunctionType(code, globals())

def tell(**what):
    print(json.dumps(what), flush=True)

async def block(orders):
    released.clear()
    work = called(orders["function"], wait_for_payment) if "function" in orders else None
    async def odd():
        work()
    await asyncio.create_task(odd() if work else check_out(), name=orders.get("task", "checkout"))
    tell(served=True)

def obey(loop):
    for line in sys.stdin:
        orders = json.loads(line)
        if orders["do"] == "block":
            asyncio.run_coroutine_threadsafe(block(orders), loop)
        else:
            released.set()

async def forever(name, port):
    with loopwatch.install(http_port=port, loop_name=name, like_stalls_per_minute=1000):
        await asyncio.Event().wait()

async def main(port, others):
    for name in others:
        threading.Thread(target=asyncio.run, args=(forever(name, port),), daemon=True).start()
    with loopwatch.install(http_port=port, like_stalls_per_minute=1000):
        threading.Thread(target=obey, args=(asyncio.get_running_loop(),), daemon=True).start()
        tell(ready=True)
        await asyncio.Event().wait()

asyncio.run(main(int(sys.argv[1]), sys.argv[2:]))
"""


class App:
    """A watched child process; its loop blocks from `block` to `release`."""

    def __init__(self, folder: Path, *other_loops: str) -> None:
        self.file = folder / "shop.py"
        script = textwrap.dedent(_APP)
        self.file.write_text(script, encoding="utf-8")
        self.line = next(n for n, text in enumerate(script.split("\n"), 1) if "# LINE" in text)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        self.process = subprocess.Popen(
            [sys.executable, str(self.file), str(port), *other_loops],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=folder,
        )
        assert self._told() == {"ready": True}
        wait_for("its loops", lambda: len(self.get("api/live")["loops"]) == 1 + len(other_loops))

    def block(self, **orders: str) -> None:
        """Block the loop, in a task and a function of these names, until `release`."""
        self._tell({"do": "block", **orders})

    def release(self) -> None:
        """Let the loop go on, and wait until it serves again."""
        self._tell({"do": "release"})
        assert self._told() == {"served": True}

    def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        return json.loads(fetch(f"{self.url}{path}"))

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _tell(self, orders: dict[str, str]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{json.dumps(orders)}\n")
        self.process.stdin.flush()

    def _told(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())
