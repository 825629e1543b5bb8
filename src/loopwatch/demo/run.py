"""Runs the demo: app in the main thread, load and progress in threads, until the end."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from loopwatch.demo.app import HEALTHY, LEAK, MISTAKES, Shop, make_app
from loopwatch.demo.load import Load, Tally
from loopwatch.demo.mistakes import STALL_S, Sizes
from loopwatch.demo.slow import SlowServer
from loopwatch.demo.view import View, progress, summary, table
from loopwatch.errors import LoopwatchError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

__all__ = ["Options", "run_demo"]

_HOST: Final = "127.0.0.1"
_REWRITE_S: Final = 0.25
_LINE_S: Final = 2.0
# Ctrl-C should end a demo at once, and its longest request is a stall.
_GRACE_S: Final = 1
_JOIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `seconds` is `None` for "until Ctrl-C"; port 0 is a free one."""

    seconds: float | None
    loop: Literal["asyncio", "uvloop"]
    port: int
    http_port: int


def run_demo(options: Options) -> None:
    """Serve until the time is up, Ctrl-C or SIGTERM, then print the stalls. Main thread.

    Raises `LoopwatchError` if a port is taken or uvloop is missing.
    """
    if options.loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        raise MissingExtraError("loopwatch demo --loop uvloop", "uvloop")
    view = View()
    with ExitStack() as stack:
        listener = stack.enter_context(_bound(options.port, "--port"))
        with _bound(options.http_port, "--http-port") as probe:
            # Tried out here, where it can be told: an agent never fails its host for a port.
            http_port = _port_of(probe)
        neighbour = stack.enter_context(SlowServer(STALL_S))
        shop = Shop(neighbour.url, Sizes.measure())
        app = make_app(
            shop,
            exporters=["prometheus", view],
            http_host=_HOST,
            http_port=http_port,
            # A demo stalls all the time: its table is to show every one.
            like_stalls_per_minute=1_000_000,
            stalls_per_minute=1_000_000,
        )
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                loop=options.loop,
                ws="none",
                lifespan="on",
                access_log=False,
                log_level="warning",
                timeout_graceful_shutdown=_GRACE_S,
            )
        )
        show = _Show(options, server, shop, view, _port_of(listener), http_port)
        stack.enter_context(_ended_by_signals(server))
        show.start()
        try:
            server.run(sockets=[listener])
        except SystemExit:
            raise LoopwatchError("the app did not start; the lines above say why") from None
        finally:
            show.end()
    show.tell()


class _Show:
    """Everything but the app: starts the load, shows how it goes, ends it when the time is up."""

    def __init__(
        self,
        options: Options,
        server: uvicorn.Server,
        shop: Shop,
        view: View,
        port: int,
        http_port: int,
    ) -> None:
        self._options = options
        self._server = server
        self._shop = shop
        self._view = view
        self._app_url = f"http://{_HOST}:{port}"
        self._own_url = f"http://{_HOST}:{http_port}"
        self._load = Load(
            self._app_url,
            healthy=HEALTHY,
            mistakes=[mistake.path for mistake in MISTAKES],
            leak=LEAK,
        )
        self._tally = Tally()
        self._began_s = time.monotonic()
        self._elapsed_s = 0.0
        self._in_place = sys.stdout.isatty()
        self._thread = threading.Thread(target=self._run, name="demo-show", daemon=True)

    def start(self) -> None:
        """Start the thread; it waits for the app."""
        self._thread.start()

    def end(self) -> None:
        """Stop load and progress."""
        self._server.should_exit = True
        self._view.changed.set()
        self._thread.join(_JOIN_S)
        self._tally = self._load.end()

    def tell(self) -> None:
        """Print the table and the totals."""
        snapshot, groups = self._view.snapshot(), self._view.groups
        if snapshot is None:
            return  # ended before it began
        print()
        if groups:
            print(f"{table(groups, self._view.began_at_s)}\n")
        for sentence in summary(snapshot, self._elapsed_s, self._tally):
            print(sentence)
        print("\nNext: put lifespan=loopwatch.lifespan() into your own FastAPI(...) and run it.")

    def _run(self) -> None:
        try:
            while not self._server.started:
                if self._server.should_exit:
                    return
                time.sleep(0.01)
            self._began_s = time.monotonic()
            self._introduce()
            self._load.start()
            self._follow()
        except BrokenPipeError:
            pass  # nobody reads any more; the main thread finds that out too
        finally:
            self._server.should_exit = True

    def _introduce(self) -> None:
        lasts = f"Ends after {self._options.seconds:g} s" if self._options.seconds else "Runs on"
        print(
            f"loopwatch demo: a FastAPI app on {self._options.loop} that blocks its event loop in "
            f"{len(MISTAKES)} ways\n\n"
            f"  app      {self._app_url}/  lists the mistakes\n"
            f"  metrics  {self._app_url}/metrics/  from the app: silent while its loop is stalled\n"
            f"           {self._own_url}/metrics  from loopwatch's own thread: always answers\n"
            f"  live     {self._own_url}/  a page for the browser, always answers\n"
            f"  stalls   {self._own_url}/api/stalls\n"
            f"  health   {self._own_url}/livez\n\n"
            f"{lasts}; press Ctrl-C to end it.\n",
            flush=True,
        )

    def _follow(self) -> None:
        every_s = _REWRITE_S if self._in_place else _LINE_S
        next_s = 0.0
        while not self._server.should_exit:
            self._elapsed_s = time.monotonic() - self._began_s
            left_s = (self._options.seconds or float("inf")) - self._elapsed_s
            if left_s <= 0:
                break
            if self._elapsed_s >= next_s or self._in_place:
                next_s = self._elapsed_s + every_s
                self._show_progress()
            # News shows at once where it can: a stall is over soon.
            self._view.changed.wait(max(0.0, min(next_s - self._elapsed_s, left_s)))
            self._view.changed.clear()
        self._server.should_exit = True
        self._elapsed_s = time.monotonic() - self._began_s
        self._show_progress()
        if self._in_place:
            print()

    def _show_progress(self) -> None:
        snapshot = self._view.snapshot()
        if snapshot is None:
            return
        line = progress(snapshot, self._view.last, self._elapsed_s, self._shop.requests)
        if self._in_place:
            # A line that wraps cannot be rewritten.
            line = line[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line}\x1b[K", end="", flush=True)
        else:
            print(line, flush=True)


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """End quietly on Ctrl-C and SIGTERM.

    While it serves, uvicorn handles both itself, and afterwards raises what it caught once more
    for whoever handled signals before. That is us: it has been done already.
    """

    def end(_signal: int, _frame: Any) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _bound(port: int, option: str) -> socket.socket:
    """Return a socket bound to a loopback port."""
    bound = socket.socket()
    try:
        # As every server does: a port is free again right after its last owner ended.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, port))
    except OSError as error:
        bound.close()
        raise LoopwatchError(
            f"cannot listen on {_HOST}:{port} ({error.strerror}): "
            f"choose another port with {option}, or {option} 0 for a free one"
        ) from error
    return bound


def _port_of(bound: socket.socket) -> int:
    return int(bound.getsockname()[1])
