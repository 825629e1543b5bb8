"""No values, ever: secrets planted where a stall could pick them up come out nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.conftest import needs_uvloop

# One of each: local, argument, keyword, attribute, closure, global, key, value, file and folder
# name, payload, method, URL path and query, header, exception, repr, bytes, context variable,
# environment.
SCRIPT = """
import contextvars, fcntl, hashlib, logging, pathlib, re, socket, tempfile
from urllib.request import urlopen, Request as Ask

class Catch(logging.Handler):
    def __init__(self):
        super().__init__()
        self.seen = []
    def emit(self, record):
        self.seen.append(repr(record.__dict__) + self.format(record))

caught = Catch()
logging.getLogger().addHandler(caught)

S = "s3cr" + "et-"          # joined at run time: the source never spells the whole
FAR_AWAY = S + "global"
current = contextvars.ContextVar("user")

class Client:
    def __init__(self):
        self.token = S + "attribute"
        self.cache = {S + "key": S + "value"}
    def __repr__(self):
        raise RuntimeError(S + "repr")
    def block(self, argument, *, keyword=None):
        local = S + "local"
        payload = (S + "bytes").encode()
        closed = S + "closure"
        def inner():
            closed and time.sleep(0.16)
        inner()
        return local, payload, argument, keyword

async def asgi(scope, receive, send):
    Client().block(S + "argument", keyword=S + "keyword")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})

class Route:
    path_format = "/orders/{number}"

async def request():
    scope = {"type": "http", "method": (S + "method").upper(), "path": "/orders/" + S + "path",
             "query_string": (S + "query").encode(), "route": Route(), "app": None,
             "headers": [(b"authorization", (S + "header").encode())]}
    async def nothing(*args):
        return {}
    await loopwatch.RequestMiddleware(asgi)(scope, nothing, nothing)

def file_name():
    folder = tempfile.mkdtemp(prefix=S + "folder")
    path = pathlib.Path(folder, S + "file")
    os.mkfifo(path)
    threading.Timer(0.16, lambda: open(path, "w").close()).start()
    path.read_bytes()

def regex():
    text = S + " " * 9000 + S
    re.sub(r"\\s+$", "", text)

def raising():
    try:
        raise ValueError(S + "exception")
    except ValueError:
        time.sleep(0.16)
        raise

def wire():
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    client.sendall((S + "payload").encode())
    client.settimeout(0.16)
    try:
        client.recv(10)
    except TimeoutError:
        pass

def failing(stall):
    raise RuntimeError(S + "callback")

async def main():
    out = []
    class Keep(loopwatch.Exporter):
        name = "keep"
        def export(self, stall):
            out.append(repr(stall))
            out.append(json.dumps(stall.to_dict()))
            raise KeyError(S + "exporter")
    agent = loopwatch.install(
        on_stall=failing, stall_log="stalls.jsonl", http_port=0,
        exporters=["prometheus", "log", Keep()],
    )
    current.set(S + "context")
    os.environ["TOKEN"] = S + "environment"
    await asyncio.sleep(0.05)
    await asyncio.create_task(request())
    for block in (file_name, regex, wire, lambda: Client().block(S + "argument")):
        await asyncio.sleep(0.1)
        block()
    await asyncio.sleep(0.1)
    try:
        raising()
    except ValueError:
        pass
    await asyncio.sleep(0.4)
    base = f"http://127.0.0.1:{agent.http_port}"
    def get(path):
        return urlopen(base + path, timeout=5).read().decode()
    for path in ("/metrics", "/api/snapshot", "/api/stalls", "/livez"):
        out.append(await asyncio.to_thread(get, path))
    out.append(repr(agent.snapshot()) + repr(agent.stalls) + json.dumps(agent.snapshot().to_dict()))
    out.append(open("stalls.jsonl").read())
    out += caught.seen
    told = [stall.cause.value for stall in agent.stalls]
    agent.stop()
    found = [(text, text.lower().find("s3cret")) for text in out]
    leaks = sorted({text[max(0, at - 60):at + 100] for text, at in found if at >= 0})
    print(json.dumps({"told": told, "leaks": leaks, "size": sum(map(len, out))}))

run(main(), sys.argv[1])
"""


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=needs_uvloop)])
def test_no_value_of_the_host_comes_out(child: Any, loop: str) -> None:
    """Records, stall log, metrics, HTTP answers, log lines and reprs hold no planted secret."""
    done = child(SCRIPT, loop)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert len(report["told"]) == 6, "each of the six blocks was a stall"
    assert report["size"] > 20_000, "there was something to search"
    assert report["leaks"] == []
    assert "s3cret" not in done.stderr
