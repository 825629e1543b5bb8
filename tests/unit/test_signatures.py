"""Which row is found for a name."""

from __future__ import annotations

import pytest

from loopwatch.diagnosis.signatures import find, first_match

FOUND = {
    # equal, and the dotted prefix
    "time.sleep": "time.sleep",
    "requests": "requests",
    "requests.get": "requests",
    "requests.sessions.Session.request": "requests",
    "sqlite3.Cursor.execute": "sqlite3",
    "socket.socket.recv": "socket.socket",
    "threading.Thread.join": "threading.Thread.join",
    "copy.deepcopy": "copy.deepcopy",
    "concurrent.futures._base.Future.result": "concurrent.futures._base.Future",
    "concurrent.futures._base.Executor.map.<locals>.result_iterator": (
        "concurrent.futures._base.Executor.map"
    ),
    # the longest of several
    "subprocess.run": "subprocess",
    "subprocess.Popen.communicate": "subprocess.Popen.communicate",
    "hashlib.sha256": "hashlib",
    "hashlib.pbkdf2_hmac": "hashlib.pbkdf2_hmac",
    "logging.Logger.info": "logging",
    "logging.handlers.SMTPHandler.emit": "logging.handlers.SMTPHandler",
    "boto3.session.Session.client": "boto3.session.Session.client",
    # the C half of a module
    "_io.open": "io",
    "_io.TextIOWrapper.read": "io",
    "builtins.open": "builtins.open",
    # builtins by themselves
    "open": "builtins.open",
    "input": "builtins.input",
    "sorted": "builtins.sorted",
    "list.sort": "builtins.list",
    "int": "builtins.int",
    "str.join": "builtins.str",
    "posix.system": "os.system",
    "os.system": "os.system",
    "posix.fsync": "os.fsync",
    "genericpath.exists": "os.path",
    "_socket.gethostbyname": "socket.gethostbyname",
    "_sqlite3.connect": "sqlite3",
    "_pickle.loads": "pickle",
    "_hashlib.scrypt": "hashlib.scrypt",
    "_thread.lock.acquire": "_thread",
    "_signal.pause": "signal.pause",
    "_queue.SimpleQueue.get": "queue",
    "pathlib._local.Path.read_text": "pathlib",
    # the synchronous half of a package
    "httpx.get": "httpx.get",
    "httpx._api.get": "httpx._api",
    "httpx.Client": "httpx.Client",
    "httpx._client.Client.send": "httpx._client.Client",
    "redis.client.Redis.execute_command": "redis",
    "redis.commands.core.BasicKeyCommands.get": "redis",
    "psycopg.Connection": "psycopg.Connection",
    "psycopg.connection.Connection.execute": "psycopg.connection",
    "psycopg.waiting.wait": "psycopg.waiting",
    "pymongo.synchronous.collection.Collection.find_one": "pymongo.synchronous",
    "grpc._channel._UnaryUnaryMultiCallable.__call__": "grpc",
    "mysql.connector.connect": "mysql.connector",
    # the text of an import statement
    "import": "import",
    "import pandas": "import",
    "import numpy.linalg": "import",
    "importlib.import_module": "importlib",
    "_frozen_importlib._find_and_load": "importlib",
}

NOT_FOUND = [
    "",
    ".",
    "app",
    "app.views.export",
    # a prefix of letters is no prefix of names
    "requests_cache.get",
    "time.sleeper",
    "times.sleep",
    "importer.run",
    "requestsx",
    # modules of the host that are called like a builtin
    "input.load",
    "open.door",
    "len",
    # what lies above a row
    "time",
    "os",
    "os.getpid",
    "posix",
    "httpx",
    "psycopg",
    "concurrent.futures",
    # the asynchronous half of a package
    "asyncio.sleep",
    "httpx.AsyncClient",
    "httpx.AsyncClient.get",
    "httpx._client.AsyncClient",
    "httpx._client.AsyncClient.send",
    "httpx._models.Response.json",
    "redis.asyncio",
    "redis.asyncio.client.Redis.execute_command",
    "redis._parsers.base._AsyncRESPBase.read_response",
    "psycopg.AsyncConnection.connect",
    "psycopg.connection_async.AsyncConnection.execute",
    "psycopg.waiting.wait_async",
    "psycopg_pool.AsyncConnectionPool.connection",
    "psycopg_pool.pool_async.AsyncConnectionPool.getconn",
    "pymongo.AsyncMongoClient",
    "pymongo.asynchronous.collection.AsyncCollection.find_one",
    "sqlalchemy.ext.asyncio.AsyncSession.execute",
    "grpc.aio._channel.Channel.unary_unary",
    "mysql.connector.aio.connect",
    "zmq.asyncio.Socket.recv",
    "google.cloud.pubsub_v1.services.publisher.async_client.PublisherAsyncClient.publish",
    "openai.AsyncOpenAI",
    "elasticsearch.AsyncElasticsearch",
    "playhouse.pwasyncio.AsyncDatabaseMixin",
    # memory that looks like a file
    "_io.BytesIO.write",
    "io.StringIO.read",
    "logging.handlers.QueueHandler.emit",
]


@pytest.mark.parametrize(("name", "target"), FOUND.items(), ids=FOUND)
def test_the_longest_row_is_found(name: str, target: str) -> None:
    """The row equals the name or is a dotted prefix of it, also by the name of the C half."""
    row = find(name)
    assert row is not None
    assert row.target == target


@pytest.mark.parametrize("name", NOT_FOUND)
def test_what_does_not_block_is_not_found(name: str) -> None:
    """Unknown names, like-sounding ones and asynchronous clients have no signature."""
    assert find(name) is None


def test_a_row_says_what_to_do() -> None:
    """The advice for `requests` is the one of the contract."""
    row = find("requests.get")
    assert row is not None
    assert row == ("requests", "socket", "use httpx.AsyncClient and await it, or asyncio.to_thread")


@pytest.mark.parametrize(
    ("names", "target"),
    [
        ([], None),
        (["app.views.export"], None),
        (["httpx.AsyncClient.get", "redis.asyncio.Redis.get"], None),
        (["requests.get", "socket.socket.recv"], "requests"),
        (["socket.socket.recv", "requests.get"], "socket.socket"),
        (["app.helpers.load", "import pandas", "time.sleep"], "import"),
        (["httpx.AsyncClient.get", "json.loads"], "json"),
    ],
)
def test_the_first_name_with_a_row_decides(names: list[str], target: str | None) -> None:
    """Names that have none are passed over; the order is the caller's."""
    row = first_match(names)
    assert (row.target if row else None) == target
