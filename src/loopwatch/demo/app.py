"""The app: async handlers of a shop, each with a mistake somewhere below it, and one without."""

# No `from __future__ import annotations`: FastAPI reads the annotations when the app is made.
import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from types import MethodType
from typing import Any, Final

from fastapi import Depends, FastAPI, Request
from prometheus_client import make_asgi_app

import loopwatch
from loopwatch.demo import mistakes

__all__ = ["HEALTHY", "LEAK", "MISTAKES", "Mistake", "Shop", "make_app"]

HEALTHY: Final = "/healthy"
LEAK: Final = "/task-leak"

_HEALTHY_WAIT_S: Final = 0.01
_LEAKED_AT_ONCE: Final = 90
_LEAKED_AT_MOST: Final = 1500


class Shop:
    """The handlers. `price_url` is the slow neighbour."""

    def __init__(self, price_url: str, sizes: mistakes.Sizes) -> None:
        self._price_url = price_url
        self._sizes = sizes
        self._listeners: set[asyncio.Task[None]] = set()
        self.requests = 0

    async def receive(self, request: Request) -> None:
        """Count a request and name its task.

        uvicorn calls the task Task-1234; with a name a stall tells which request it was.
        """
        self.requests += 1
        task = asyncio.current_task()
        if task is not None:
            task.set_name(f"{request.method} {request.url.path}")

    async def healthy(self) -> str:
        """Wait as one should: the loop serves others meanwhile."""
        await asyncio.sleep(_HEALTHY_WAIT_S)
        return "fine"

    async def show_prices(self) -> list[float]:
        """Call `requests`, two frames down."""
        return self._prices()

    def _prices(self) -> list[float]:
        return [mistakes.fetch_price(self._price_url)]

    async def check_out(self) -> str:
        """Call `time.sleep`."""
        mistakes.wait_for_payment()
        return "paid"

    async def show_turnover(self) -> int:
        """Call `sqlite3`."""
        return mistakes.sum_of_orders(self._sizes.orders)

    async def upload_picture(self) -> int:
        """Call `subprocess.run`."""
        return mistakes.make_thumbnail()

    async def print_report(self) -> str:
        """Call `Thread.join`."""
        mistakes.wait_for_report()
        return "printed"

    async def close_month(self) -> int:
        """Calculate in Python, two frames down."""
        return self._balance()

    def _balance(self) -> int:
        return mistakes.add_up_invoices(self._sizes.invoices)

    async def post_comment(self) -> int:
        """Match a slow regular expression, in C and with the GIL held."""
        return len(mistakes.trim_comment(mistakes.comment(self._sizes.blanks)))

    async def subscribe(self) -> int:
        """Create tasks that nobody ends. The demo stops at some number, a real leak does not."""
        for _ in range(min(_LEAKED_AT_ONCE, _LEAKED_AT_MOST - len(self._listeners))):
            self._listeners.add(asyncio.create_task(_listen()))
        return len(self._listeners)


async def _listen() -> None:
    await asyncio.Event().wait()


@dataclass(frozen=True, slots=True)
class Mistake:
    """One way to block the loop: where it is served, by which handler, and the line's function."""

    path: str
    handler: Callable[[Shop], Coroutine[Any, Any, object]]
    culprit: Callable[..., object]


# Every mistake that blocks; load, index page and tests go by this table.
MISTAKES: Final = (
    Mistake("/requests", Shop.show_prices, mistakes.fetch_price),
    Mistake("/time-sleep", Shop.check_out, mistakes.wait_for_payment),
    Mistake("/sqlite3", Shop.show_turnover, mistakes.sum_of_orders),
    Mistake("/subprocess", Shop.upload_picture, mistakes.make_thumbnail),
    Mistake("/thread-join", Shop.print_report, mistakes.wait_for_report),
    Mistake("/python-loop", Shop.close_month, mistakes.add_up_invoices),
    Mistake("/regex", Shop.post_comment, mistakes.trim_comment),
)


def make_app(shop: Shop, **settings: Any) -> FastAPI:
    """Return the app, watched with these settings of loopwatch."""
    app = FastAPI(
        title="loopwatch demo",
        lifespan=loopwatch.lifespan(**settings),
        dependencies=[Depends(shop.receive)],
    )
    handlers = {mistake.path: mistake.handler for mistake in MISTAKES}
    handlers |= {LEAK: Shop.subscribe, HEALTHY: Shop.healthy}
    for path, handler in handlers.items():
        app.add_api_route(path, MethodType(handler, shop), response_model=None)

    @app.get("/")
    async def index() -> dict[str, str]:
        return {path: (handler.__doc__ or "").strip() for path, handler in handlers.items()}

    # Not a route: the metrics that an app may serve already, with loopwatch's among them.
    app.mount("/metrics", make_asgi_app())
    return app
