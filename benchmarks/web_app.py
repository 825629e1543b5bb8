"""The FastAPI app under uvicorn that some benchmarks measure."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI


def make_app() -> FastAPI:
    """Return a small app with one typed route."""
    from fastapi import FastAPI  # noqa: PLC0415 - optional

    app = FastAPI()

    @app.get("/items/{item_id}")
    async def item(item_id: int, q: str = "") -> dict[str, Any]:
        return {"item": item_id, "q": q, "tags": ["a", "b", "c"]}

    return app


async def start_server(app: FastAPI) -> tuple[uvicorn.Server, asyncio.Task[None], int]:
    """Serve an app on the running loop; return the server, its task and the port."""
    import uvicorn  # noqa: PLC0415 - optional

    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    )
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    return server, task, server.servers[0].sockets[0].getsockname()[1]
