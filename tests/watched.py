"""A process whose loop is watched, which blocks when told to and until told to go on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PRELUDE

# What a function and a task may be called, to act on a terminal or as markup if they could.
HOSTILE = "\x1b]0;pwned\x07[bold red]evil[/]"

# Above what a busy machine does to a loop by itself.
THRESHOLD_S = 0.3

_SCRIPT = """
from loopwatch import install

go_on = threading.Event()

def wait_for_the_parent():
    go_on.wait(60)

async def hostile():
    wait = eval(compile("lambda: go_on.wait(60)", "evil.py", "eval"))
    wait.__code__ = wait.__code__.replace(co_name=HOSTILE, co_qualname=HOSTILE)
    wait()

async def main():
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    tasks = []

    def obey():
        for line in sys.stdin:
            word = line.strip()
            if word == "block":
                loop.call_soon_threadsafe(wait_for_the_parent)
            elif word == "hostile":
                start = lambda: tasks.append(loop.create_task(hostile(), name=HOSTILE))
                loop.call_soon_threadsafe(start)
            elif word == "go":
                go_on.set()
                go_on.clear()
        loop.call_soon_threadsafe(done.set)

    settings = {"loop_name": sys.argv[2], "stall_threshold_s": float(sys.argv[4])}
    with install(http_port=int(sys.argv[3]), warm_up_s=0, **settings) as agent:
        print(agent.http_port, flush=True)
        threading.Thread(target=obey, daemon=True).start()
        await done.wait()

run(main(), sys.argv[1])
"""


@dataclass
class Watched:
    """One such process; `url` is that of its thread server."""

    process: subprocess.Popen[str]
    port: int
    name: str

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell(self, command: str) -> None:
        """Send `block`, `hostile` (block in functions called `HOSTILE`) or `go`."""
        assert self.process.stdin
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()


@contextmanager
def watched(folder: Path, name: str, loop: str = "asyncio", port: int = 0) -> Iterator[Watched]:
    """Run such a process, its loop called `name`; end it by its pid."""
    file = folder / f"{name}.py"
    script = f"HOSTILE = {HOSTILE!r}\n{textwrap.dedent(_SCRIPT)}"
    file.write_text(PRELUDE + script)
    log = folder / f"{name}.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, str(file), loop, name, str(port), str(THRESHOLD_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        try:
            assert process.stdout
            told = process.stdout.readline()
            assert told, log.read_text()
            yield Watched(process, int(told), name)
        finally:
            process.kill()
