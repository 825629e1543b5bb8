"""A real pseudo-terminal with a program in it: keys in, what was drawn out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers import wait_for

# Escape sequences: with parameters, of strings up to BEL or ST, and short ones.
_SEQUENCES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]P^_][^\x07\x1b]*(\x07|\x1b\\)|\x1b[()][0-9A-B]|\x1b[=>78c]"
)


class Terminal:
    """A program and the other end of its terminal."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self._master = master
        self._drawn = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def raw(self) -> str:
        """Everything that came so far."""
        return self._drawn.decode(errors="replace")

    def press(self, keys: str) -> int:
        """Type; return where in `raw` what is drawn from now on begins."""
        drawn = len(self.raw)
        os.write(self._master, keys.encode())
        return drawn

    def text(self, since: int = 0) -> str:
        """Return what was drawn, without colours and positions."""
        return _SEQUENCES.sub("", self.raw[since:])

    def wait_for(self, part: str, since: int = 0) -> None:
        """Wait until this is drawn."""
        wait_for(f"{part!r} on the terminal", lambda: part in self.text(since))

    def ended(self) -> int:
        """Wait for the end of the program and of what it drew; return its exit code."""
        code = self.process.wait(10)
        self._reader.join(5)
        return code

    def close(self) -> None:
        """Read to the end and close."""
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._master, 65536)
            except OSError:  # how Linux says that the other end is closed
                return
            if not part:
                return
            self._drawn += part


@contextmanager
def terminal(
    args: Sequence[str], folder: Path, columns: int = 200, lines: int = 30
) -> Iterator[Terminal]:
    """Run a program in a terminal of its own; end it by its pid."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        args,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=folder,
        env={**os.environ, "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"},
        start_new_session=True,
    )
    os.close(slave)
    made = Terminal(process, master)
    try:
        yield made
    except BaseException:
        print(f"--- drawn\n{made.text()[-4000:]}")
        raise
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        made.close()
