"""Which request the loop serves, read from another thread while the loop is blocked."""

from __future__ import annotations

import asyncio
import asyncio.tasks
import contextlib
import contextvars
import gc
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

import loopwatch
from loopwatch import RequestMiddleware
from loopwatch.model import Request
from loopwatch.probes import requests as probe
from loopwatch.probes.requests import context_of, in_flight, read_request
from tests.conftest import Run

pytest.importorskip("fastapi", reason="the demo extra is not installed here")
pytest.importorskip("uvicorn", reason="the demo extra is not installed here")
import anyio
import httpx
from fastapi import APIRouter, BackgroundTasks, FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Host, Mount, Route, WebSocketRoute

from tests.integration.test_lifespan import get, serve


class Seen(NamedTuple):
    """What another thread could tell about the loop."""

    request: Request | None
    in_flight: int | None


def read(loop: asyncio.AbstractEventLoop) -> Seen:
    context = context_of(loop)
    return Seen(None if context is None else read_request(context), in_flight(loop))


def look() -> Seen:
    """Block the running loop until another thread has read what it is doing."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(read, loop).result()


async def nothing_to_receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def nowhere(message: Any) -> None:
    pass


def http_scope(path: str = "/", **more: Any) -> dict[str, Any]:
    return {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [],
        **more,
    }


async def request(app: Any, scope: dict[str, Any]) -> None:
    """Serve one request in a task of its own, as servers do."""
    await asyncio.create_task(app(scope, nothing_to_receive, nowhere))


def test_the_right_request_among_many(run_exact: Run) -> None:
    """With twelve in flight, each block is told as its own request, and all are counted."""
    app = FastAPI(lifespan=loopwatch.lifespan())
    seen: list[tuple[str, str, Seen]] = []
    together = asyncio.Event()
    arrived = []

    async def wait_and_block(method: str, route: str) -> None:
        arrived.append(route)
        if len(arrived) == 12:
            together.set()
        await together.wait()
        seen.append((method, route, look()))

    @app.get("/items/{item_id}")
    async def item(item_id: str) -> None:
        await wait_and_block("GET", "/items/{item_id}")

    @app.post("/orders/{order_id}/lines")
    async def order(order_id: str) -> None:
        await wait_and_block("POST", "/orders/{order_id}/lines")

    def visit(base: str) -> None:
        urls = [("GET", "items/secret{}?token=secret"), ("POST", "orders/secret{}/lines?a=secret")]
        with ThreadPoolExecutor(12) as pool:
            answers = [
                pool.submit(
                    httpx.request,
                    urls[n % 2][0],
                    f"{base}/{urls[n % 2][1].format(n)}",
                    timeout=10,
                    trust_env=False,
                )
                for n in range(12)
            ]
            assert [answer.result().status_code for answer in answers] == [200] * 12

    async def main() -> int | None:
        await serve(app, visit)
        return in_flight(asyncio.get_running_loop())

    assert run_exact(main()) == 0
    assert len(seen) == 12
    for method, route, (request, _) in seen:
        assert request == Request(method, route)
    assert "secret" not in repr(seen)
    # Handlers that have looked may be done; those that have not all are in flight.
    for number, (_, _, (_, count)) in enumerate(seen):
        assert count is not None
        assert 12 - number <= count <= 12


class Wrapped:
    """A middleware of somebody else's around an app."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


def make_routes(seen: list[Seen]) -> list[Any]:
    async def block(request: Any) -> PlainTextResponse:
        seen.append(look())
        return PlainTextResponse("")

    async def inner(request: Any) -> PlainTextResponse:
        return await block(request)

    async def wrapped(request: Any) -> PlainTextResponse:
        return await block(request)

    async def hosted(request: Any) -> PlainTextResponse:
        return await block(request)

    async def twice(request: Any) -> PlainTextResponse:
        return await block(request)

    async def in_fastapi(request: Any) -> PlainTextResponse:
        return await block(request)

    async def plain_asgi(scope: Any, receive: Any, send: Any) -> None:
        seen.append(look())
        await PlainTextResponse("")(scope, receive, send)

    again = [Route("/deep/{name}", twice)]
    fastapi = FastAPI()
    fastapi.add_route("/not-api/{name}", in_fastapi)
    return [
        Host("other.example", Starlette(routes=[Route("/hosted/{name}", hosted)])),
        Route("/plain/{name:str}", block),
        Mount("/tenants/{tenant}", routes=[Route("/users/{user:int}", inner)]),
        Mount("/wrapped", app=Wrapped(Starlette(routes=[Route("/of/{name}", wrapped)]))),
        Mount("/raw", app=plain_asgi),
        Mount("/fastapi", app=fastapi),
        Mount("/v1", routes=again),
        Mount("/v2", routes=again),
    ]


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/plain/secret", "/plain/{name}"),
        ("/tenants/secret/users/7", "/tenants/{tenant}/users/{user}"),
        ("/wrapped/of/secret", "/wrapped/of/{name}"),
        ("/raw/secret/secret", "/raw/{path}"),
        ("/fastapi/not-api/secret", "/fastapi/not-api/{name}"),
        ("//other.example/hosted/secret", "/hosted/{name}"),
    ],
)
def test_starlette_routes_are_templates(path: str, template: str) -> None:
    """Mounts add their prefix as a template, and nothing of the path is told."""
    seen: list[Seen] = []
    app = RequestMiddleware(Starlette(routes=make_routes(seen)))
    host, path = path[2:].split("/", 1) if path.startswith("//") else ("", path[1:])
    headers = [(b"host", (host or "here.example").encode())]
    asyncio.run(request(app, http_scope("/" + path, headers=headers)))
    assert seen == [(Request("GET", template), 1)]


def test_a_prefix_that_cannot_be_told_is_left_out() -> None:
    """Where one endpoint is mounted twice, at most the part that is certain is told."""
    seen: list[Seen] = []
    app = RequestMiddleware(Starlette(routes=make_routes(seen)))
    asyncio.run(request(app, http_scope("/v2/deep/secret")))
    ((seen_request, _),) = seen
    assert seen_request is not None
    assert seen_request.route in {"/deep/{name}", None}


def make_fastapi(seen: list[Seen]) -> FastAPI:
    def add(to: Any, path: str) -> None:
        @to.get(path)
        async def block(name: str) -> None:
            seen.append(look())

    inner, outer = APIRouter(), APIRouter()
    add(inner, "/leaf/{name}")
    add(outer, "/branch/{name}")
    outer.include_router(inner, prefix="/inner")
    sub = FastAPI()
    add(sub, "/own/{name}")
    sub.include_router(outer, prefix="/sub-outer")
    app = FastAPI(lifespan=loopwatch.lifespan())
    add(app, "/direct/{name}")
    app.include_router(outer, prefix="/outer")
    app.include_router(outer, prefix="/again")
    app.mount("/sub", sub)
    app.mount("/starlette", Starlette(routes=make_routes(seen)))
    return app


def test_fastapi_routes_are_templates(run_exact: Run) -> None:
    """Included routers and mounted apps, one in the other, add their prefixes as templates."""
    seen: list[Seen] = []
    wanted = {
        "/direct/secret": "/direct/{name}",
        "/outer/branch/secret": "/outer/branch/{name}",
        "/again/inner/leaf/secret": "/again/inner/leaf/{name}",
        "/sub/own/secret": "/sub/own/{name}",
        "/sub/sub-outer/inner/leaf/secret": "/sub/sub-outer/inner/leaf/{name}",
        "/starlette/plain/secret": "/starlette/plain/{name}",
        "/starlette/tenants/secret/users/1": "/starlette/tenants/{tenant}/users/{user}",
        "/starlette/raw/secret": "/starlette/raw/{path}",
    }

    def visit(base: str) -> None:
        for path in wanted:
            assert get(f"{base}{path}?token=secret").status_code == 200

    run_exact(serve(make_fastapi(seen), visit))
    assert [s.request for s in seen] == [Request("GET", route) for route in wanted.values()]


def test_before_the_routing_there_is_no_route_and_odd_methods_are_not_repeated(
    run_exact: Run,
) -> None:
    """A middleware that blocks has the method alone; a made-up method is the client's text."""
    seen: list[Seen] = []

    class Blocks(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            seen.append(look())
            return await call_next(request)

    app = FastAPI(lifespan=loopwatch.lifespan(), middleware=[Middleware(Blocks)])

    @app.get("/here")
    async def here() -> None:
        seen.append(look())

    def visit(base: str) -> None:
        get(f"{base}/here")
        get(f"{base}/not-here")
        httpx.request("SECRET", f"{base}/here", timeout=10, trust_env=False)
        httpx.request("WEBSOCKET", f"{base}/here", timeout=10, trust_env=False)

    run_exact(serve(app, visit))
    assert [s.request for s in seen] == [
        Request("GET", None),
        Request("GET", "/here"),
        Request("GET", None),
        Request("OTHER", None),
        Request("OTHER", None),
    ]


def test_tasks_of_a_request_belong_to_it_until_it_is_over(run_exact: Run) -> None:
    """Its task groups block in its name; what outlives it has no request any more."""
    seen: dict[str, Seen] = {}
    over = asyncio.Event()
    left: list[asyncio.Task[None]] = []

    async def block(name: str) -> None:
        seen[name] = look()

    async def outlive() -> None:
        await over.wait()
        seen["outlived"] = look()

    app = FastAPI(lifespan=loopwatch.lifespan())

    @app.get("/family/{name}")
    async def family(name: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(block("asyncio"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(block, "anyio")
        left.append(asyncio.create_task(outlive()))

    async def main() -> None:
        await serve(app, lambda base: get(f"{base}/family/secret"))
        over.set()
        await left[0]

    run_exact(main())
    mine = Seen(Request("GET", "/family/{name}"), 1)
    assert seen == {"asyncio": mine, "anyio": mine, "outlived": Seen(None, 0)}


def test_what_outlives_a_request_does_not_keep_its_scope() -> None:
    """The scope, with whatever the app put there, is free once the request is over."""

    class Payload:
        pass

    left = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        left.append(asyncio.create_task(asyncio.sleep(3600)))

    async def main() -> None:
        payload = Payload()
        gone = weakref.ref(payload)
        scope = http_scope(payload=payload)
        await request(RequestMiddleware(app), scope)
        del payload, scope
        gc.collect()
        assert gone() is None
        assert not left[0].done()
        left[0].cancel()

    asyncio.run(main())


def test_failed_and_abandoned_requests_are_not_in_flight(run_exact: Run) -> None:
    """After an error, a cancelled stream and a client that hung up, nothing is counted."""
    app = FastAPI(lifespan=loopwatch.lifespan())
    started = threading.Event()
    ended = threading.Event()
    counts = []

    @app.get("/boom")
    async def boom() -> None:
        counts.append(look().in_flight)
        raise RuntimeError("on purpose")

    @app.get("/endless")
    async def endless() -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 100
                    counts.append(look().in_flight)
                    started.set()
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        return StreamingResponse(chunks())

    def visit(base: str) -> None:
        assert get(f"{base}/boom").status_code == 500
        port = int(base.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
            assert started.wait(10)
        assert ended.wait(10)

    async def main() -> int | None:
        await serve(app, visit)
        return in_flight(asyncio.get_running_loop())

    assert run_exact(main()) == 0
    assert set(counts) == {1}


def test_a_cancelled_task_is_not_in_flight() -> None:
    """Cancelling the task of a request ends it, and the cancellation comes through."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        task = asyncio.create_task(request(RequestMiddleware(app), http_scope()))
        loop = asyncio.get_running_loop()
        while in_flight(loop) != 1:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert in_flight(loop) == 0

    asyncio.run(main())


def test_twice_is_once() -> None:
    """By hand and by the lifespan, even with a copy of the scope in between, it is one request."""
    seen: list[Seen] = []

    class Copies(Wrapped):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(dict(scope), receive, send)

    app = FastAPI(lifespan=loopwatch.lifespan())
    app.add_middleware(RequestMiddleware)
    app.add_middleware(Copies)
    app.add_middleware(RequestMiddleware)

    @app.get("/once/{name}")
    async def once(name: str) -> None:
        seen.append(look())

    async def main() -> int | None:
        await serve(app, lambda base: get(f"{base}/once/secret"))
        return in_flight(asyncio.get_running_loop())

    assert asyncio.run(main()) == 0
    assert seen == [(Request("GET", "/once/{name}"), 1)]


def test_a_request_from_inside_a_request_is_another_one() -> None:
    """An app that calls an app in its own task serves the inner one, and then its own again."""
    seen: list[Seen] = []

    async def inner(request: Any) -> PlainTextResponse:
        seen.append(look())
        return PlainTextResponse("")

    inner_app = RequestMiddleware(Starlette(routes=[Route("/inner/{name}", inner)]))

    async def outer(request: Any) -> PlainTextResponse:
        for _ in range(2):
            await inner_app(http_scope("/inner/secret"), nothing_to_receive, nowhere)
        seen.append(look())
        return PlainTextResponse("")

    app = RequestMiddleware(Starlette(routes=[Route("/outer/{name}", outer)]))
    asyncio.run(request(app, http_scope("/outer/secret")))
    inside = (Request("GET", "/inner/{name}"), 2)
    assert seen == [inside, inside, (Request("GET", "/outer/{name}"), 1)]


def test_pipelined_requests_do_not_pile_up(run_exact: Run) -> None:
    """Fifty on one connection are told one by one, and none keeps those that are over."""
    seen: list[tuple[int, Seen, int]] = []
    app = FastAPI(lifespan=loopwatch.lifespan())

    @app.get("/even/{number}")
    @app.get("/odd/{number}")
    async def one(number: int, background: BackgroundTasks) -> None:
        chain = 0
        flight = probe._CURRENT.get()
        while flight is not None:
            chain, flight = chain + 1, flight.outer
        seen.append((number, look(), chain))
        # Still busy when the next one is begun, in the context of this one.
        background.add_task(asyncio.sleep, 0.003)

    def visit(base: str) -> None:
        port = int(base.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            for number in range(50):
                path = f"/{'odd' if number % 2 else 'even'}/{number}"
                close = "Connection: close\r\n" if number == 49 else ""
                connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n{close}\r\n".encode())
            while connection.recv(65536):
                pass

    run_exact(serve(app, visit))
    assert [number for number, _, _ in seen] == list(range(50))
    for number, (request, count), chain in seen:
        assert request == Request("GET", "/odd/{number}" if number % 2 else "/even/{number}")
        assert count is not None
        assert chain <= count + 1


def test_a_websocket_is_told_but_not_counted() -> None:
    """It lives long and nobody waits for its answer, so it is no request in flight."""
    seen: list[Seen] = []

    async def chat(websocket: Any) -> None:
        await websocket.accept()
        seen.append(look())

    async def connect() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def main() -> None:
        app = RequestMiddleware(Starlette(routes=[WebSocketRoute("/rooms/{room}", chat)]))
        await request(app, http_scope())
        scope = http_scope("/rooms/secret", type="websocket", subprotocols=[])
        await asyncio.create_task(app(scope, connect, nowhere))

    asyncio.run(main())
    assert seen == [(Request("WEBSOCKET", "/rooms/{room}"), 0)]


def test_two_loops_do_not_mix() -> None:
    """One app on two loops in two threads: each loop has its own count and its own request."""
    barrier = threading.Barrier(2, timeout=10)
    seen: list[Seen] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/last":
            await asyncio.sleep(0)  # a thread may be faster than the tasks that are to wait
            await asyncio.to_thread(barrier.wait)
            seen.append(look())
            await asyncio.to_thread(barrier.wait)
        else:
            await asyncio.sleep(3600)

    shared = RequestMiddleware(app)

    async def main(more: int) -> None:
        waiting = [asyncio.create_task(request(shared, http_scope())) for _ in range(more)]
        await request(shared, http_scope("/last"))
        for task in waiting:
            task.cancel()

    with ThreadPoolExecutor(2) as pool:
        for result in [pool.submit(asyncio.run, main(more)) for more in (1, 4)]:
            result.result()
    assert sorted(s.in_flight or 0 for s in seen) == [2, 5]


def test_without_the_middleware_nothing_is_known(run_exact: Run) -> None:
    """No count, no request, and in a plain callback no context at all."""

    async def main() -> None:
        assert look() == (None, None)
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        loop.call_soon(lambda: done.set_result(context_of_other_thread(loop)))
        assert await done is None

    def context_of_other_thread(loop: asyncio.AbstractEventLoop) -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(context_of, loop).result()

    run_exact(main())


class PlainTask(asyncio.tasks._PyTask):  # type: ignore[name-defined, misc]
    """A task of pure Python."""


class SlottedTask(asyncio.Task):  # type: ignore[type-arg]
    """A task with a context of its own in a slot, which the collector sees first."""

    __slots__ = ("kept",)


@pytest.mark.parametrize("kind", [asyncio.Task, asyncio.tasks._PyTask, PlainTask, SlottedTask])  # type: ignore[attr-defined]
def test_the_context_is_the_tasks_own(kind: Any, run_exact: Run) -> None:
    """Never that of a done-callback, nor one the task happens to hold."""
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")
    other = contextvars.copy_context()
    other.run(name.set, "another")

    async def block() -> str | None:
        name.set("mine")
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as pool:
            context = pool.submit(context_of, loop).result()
        return None if context is None else context.get(name)

    async def main() -> str | None:
        task = kind(block(), loop=asyncio.get_running_loop())
        if kind is SlottedTask:
            task.kept = other
        task.add_done_callback(lambda _: None, context=other)
        task.add_done_callback(lambda _: None, context=other)
        found: str | None = await task
        return found

    # Before 3.12 a task class of the host's own does not say what its context is.
    unknown = kind is SlottedTask and sys.version_info < (3, 12)
    assert run_exact(main()) == (None if unknown else "mine")


class Hostile:
    """Raises whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no ==")

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


@pytest.mark.parametrize(
    "more",
    [
        {"method": Hostile()},
        {"method": None},
        {"route": Hostile(), "endpoint": Hostile()},
        {"route": SimpleNamespace(path_format=7, endpoint=print), "endpoint": print},
        {"route": SimpleNamespace(path="/secret"), "endpoint": print},
        {"endpoint": print, "router": SimpleNamespace(routes=[Hostile()])},
        {"endpoint": print, "router": SimpleNamespace(routes=7)},
        {"fastapi": Hostile(), "endpoint": print},
    ],
)
def test_odd_host_objects_make_it_know_less_and_never_fail(more: dict[str, Any]) -> None:
    """Whatever stands in a scope, there is a request and no exception."""
    seen: list[Seen] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(look())

    asyncio.run(request(RequestMiddleware(app), http_scope(**more)))
    method = "OTHER" if "method" in more else "GET"
    assert seen == [(Request(method, None), 1)]


def test_an_endless_table_of_routes_is_given_up() -> None:
    """Routes that contain themselves cost a bounded search."""
    mount = SimpleNamespace(path="/again")
    mount.app = SimpleNamespace(routes=[mount, mount, mount])
    flight = http_scope(endpoint=print, router=mount.app)
    assert probe._route(flight) is None
    looped = SimpleNamespace()
    looped.app = looped
    assert probe._route(http_scope(endpoint=print, router=looped)) is None
    routes = [SimpleNamespace(path=f"/{n}", endpoint=object()) for n in range(2001)]
    for known, wanted in ((2000, "/7"), (2001, None)):
        long = SimpleNamespace(routes=routes[:known])
        assert probe._route(http_scope(endpoint=routes[7].endpoint, router=long)) == wanted


def test_the_app_sees_no_difference() -> None:
    """Same scope, same channels, its own exceptions, and other kinds of scope pass through."""
    calls: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        calls.append(arguments)
        raise LookupError("the app's own")

    wrapped = RequestMiddleware(app)
    for kind in ("http", "websocket", "lifespan", "something.new"):
        scope = http_scope(type=kind)
        before = dict(scope)
        with pytest.raises(LookupError, match="the app's own"):
            asyncio.run(wrapped(scope, nothing_to_receive, nowhere))
        assert calls[-1][0] is scope
        assert scope == before
        assert calls[-1][1:] == (nothing_to_receive, nowhere)


def test_without_an_asyncio_loop_it_passes_requests_on() -> None:
    """Under a framework that runs no asyncio loop the app is served all the same."""
    served = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        served.append(scope["path"])

    call = RequestMiddleware(app)(http_scope("/trio"), nothing_to_receive, nowhere)
    with pytest.raises(StopIteration):
        contextvars.Context().run(call.send, None)
    assert served == ["/trio"]


def test_a_loop_without_weak_references_is_served_uncounted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What cannot be kept per loop is not known, and nothing breaks."""

    class Slotted:
        __slots__ = ()

    loop: Any = Slotted()
    assert probe.tally_of(loop).loop() is None
    assert in_flight(loop) is None


def test_the_lifespan_puts_back_what_it_wrapped() -> None:
    """Also when the app's own start-up builds its middlewares anew; theirs is left alone."""
    order: list[str] = []

    @contextlib.asynccontextmanager
    async def rebuilds(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = app.build_middleware_stack()
        order.append(type(app.middleware_stack).__name__)
        yield
        order.append(type(app.middleware_stack).__name__)

    async def main() -> None:
        app = Starlette()
        app.middleware_stack = app.build_middleware_stack()
        async with loopwatch.lifespan(rebuilds)(app):
            order.append(type(app.middleware_stack).__name__)
            assert app.middleware_stack.app is not None
        async with loopwatch.lifespan()(app):
            theirs = app.middleware_stack = Wrapped(app.middleware_stack)
        assert app.middleware_stack is theirs

    asyncio.run(main())
    assert order == ["ServerErrorMiddleware", "RequestMiddleware", "ServerErrorMiddleware"]


def test_apps_of_another_make_are_left_as_they_are() -> None:
    """No attribute, none built yet, one that takes no change: the lifespan works all the same."""

    class Slots:
        __slots__ = ("middleware_stack",)

    class Refuses:
        def __init__(self) -> None:
            self.__dict__["middleware_stack"] = print

        def __setattr__(self, name: str, value: object) -> None:
            raise TypeError("frozen")

    slots, unbuilt, refuses = Slots(), Starlette(), Refuses()
    slots.middleware_stack = print  # type: ignore[attr-defined]

    async def main() -> None:
        for app in (None, object(), slots, unbuilt, refuses):
            async with loopwatch.lifespan()(app):
                assert loopwatch.current() is not None

    asyncio.run(main())
    assert slots.middleware_stack is print  # type: ignore[attr-defined]
    assert unbuilt.middleware_stack is None
    assert refuses.middleware_stack is print  # type: ignore[attr-defined]


def test_opentelemetry_is_never_imported() -> None:
    """Without it in the process, requests have no ids and nothing loads it."""
    code = (
        "import asyncio, sys\n"
        "from loopwatch import RequestMiddleware\n"
        "from loopwatch.probes.requests import context_of, read_request\n"
        "async def app(scope, receive, send):\n"
        "    print(read_request(context_of(asyncio.get_running_loop())))\n"
        "scope = {'type': 'http', 'method': 'GET', 'path': '/', 'headers': []}\n"
        "asyncio.run(RequestMiddleware(app)(scope, None, None))\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out == "Request(method='GET', route=None, trace_id=None, span_id=None)\n"


def make_tracer() -> Any:
    sdk = pytest.importorskip(
        "opentelemetry.sdk.trace", reason="the otel extra is not installed here"
    )
    return sdk.TracerProvider(shutdown_on_exit=False).get_tracer("test")


def test_the_span_is_the_requests_own(run_exact: Run) -> None:
    """Of many concurrent requests with spans, each has the ids of its own current span."""
    tracer = make_tracer()
    app = FastAPI(lifespan=loopwatch.lifespan())
    seen: list[tuple[Any, Request | None]] = []
    together = asyncio.Event()

    @app.get("/traced/{number}")
    async def traced(number: int) -> None:
        with tracer.start_as_current_span("outer"), tracer.start_as_current_span("inner") as span:
            if number == 5:
                together.set()
            await together.wait()
            seen.append((span.get_span_context(), look().request))

    def visit(base: str) -> None:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda n: get(f"{base}/traced/{n}"), range(6)))

    run_exact(serve(app, visit))
    assert len({span.trace_id for span, _ in seen}) == 6
    for span, seen_request in seen:
        assert seen_request == Request(
            "GET", "/traced/{number}", f"{span.trace_id:032x}", f"{span.span_id:016x}"
        )


def test_without_a_valid_span_or_without_a_request_there_are_no_ids() -> None:
    """No span, a span that fails, a span outside of any request."""
    tracer = make_tracer()
    from opentelemetry import trace  # noqa: PLC0415 - make_tracer skips where there is none

    seen: list[Seen] = []

    class Broken(trace.NonRecordingSpan):
        def get_span_context(self) -> Any:
            raise RuntimeError("no span context")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(look())
        with trace.use_span(Broken(trace.INVALID_SPAN_CONTEXT)):
            seen.append(look())

    async def main() -> None:
        await request(RequestMiddleware(app), http_scope())
        with tracer.start_as_current_span("outside"):
            assert look().request is None

    asyncio.run(main())
    assert [s.request for s in seen] == [Request("GET", None)] * 2
