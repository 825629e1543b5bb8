"""Which calls are known to block, and what to do instead.

One row a call, or a prefix of calls. A name is looked up as it is known in its own module, by its
public or its C name (`posix.read` is `os.read`), builtins with or without `builtins.`. The longest
row that equals the name or is a dotted prefix of it wins: `requests` is also `requests.api.get`,
never `requests_cache.get`.

A row belongs to a name, not to a measurement: it says what to do once a stall was seen there.
"""

from __future__ import annotations

import builtins
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from loopwatch.model import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "CAUSE_ADVICE",
    "NOT_BLOCKING",
    "PUBLIC_HOMES",
    "SIGNATURES",
    "WAITS",
    "Signature",
    "Wait",
    "find",
    "first_match",
]

# What a call waits for, in the words of `evidence.wait`; `cpu` does not wait, it computes.
Wait = Literal["cpu", "dns", "file", "import", "lock", "process", "sleep", "socket"]
WAITS: Final[tuple[str, ...]] = get_args(Wait)


class Signature(NamedTuple):
    """One row: the name of a call or a prefix of names, what it waits for, what to do instead."""

    target: str
    wait: Wait
    text: str


_ANTHROPIC: Final = "use anthropic.AsyncAnthropic and await it"
_API_CLIENT: Final = "use asyncio.to_thread, or call the API with httpx.AsyncClient"
_ARROW: Final = "use asyncio.to_thread: polars and pyarrow release the GIL"
_AT_START: Final = "do it once at start-up, before the loop serves"
_AWAY: Final = "use asyncio.to_thread, away from the loop"
_AWS: Final = "use aioboto3 and await it, or asyncio.to_thread"
_BIG_DOCUMENT: Final = (
    "bound the size of documents, or do big ones in a ProcessPoolExecutor: it holds the GIL"
)
_BIG_NUMBER: Final = (
    "bound the number of digits, or use a ProcessPoolExecutor: big numbers hold the GIL"
)
_BREAKPOINT: Final = "remove the breakpoint"
_CLIENT_ONCE: Final = (
    "make the client once at start-up and share it; making one reads and parses files"
)
_CRYPTOGRAPHY: Final = "use asyncio.to_thread for key generation, signing and much data"
_DNS: Final = "use dns.asyncresolver and await it"
_DOCUMENTS: Final = "use a ProcessPoolExecutor: drawing and documents are mostly Python code"
_DRIVER: Final = "use asyncio.to_thread, or the driver's asyncio client"
_ELASTICSEARCH: Final = "use AsyncElasticsearch and await it"
_FILE: Final = "use aiofiles, or asyncio.to_thread around the whole file operation"
_FILE_LOCK: Final = "use asyncio.to_thread, or try with LOCK_NB and asyncio.sleep between"
_FORK: Final = "use asyncio.create_subprocess_exec: a fork copies the page tables of a big process"
_FREES_GIL: Final = "use asyncio.to_thread: it releases the GIL while it works"
_FUTURE: Final = "await asyncio.wrap_future(future), or start the work with loop.run_in_executor"
_GC: Final = "call it less often and not while serving; gc.freeze() after start-up makes it cheaper"
_HOLDS_GIL: Final = (
    "do less at once, or use a ProcessPoolExecutor: it holds the GIL, threads do not help"
)
_HTTP: Final = "use httpx.AsyncClient and await it, or asyncio.to_thread"
_HTTPCORE: Final = "use httpcore.AsyncConnectionPool"
_HTTPX2: Final = "use httpx2.AsyncClient and await it"
_HTTP_TRANSPORT: Final = "use httpx.AsyncHTTPTransport"
_IMPORT: Final = "import it at the top of a module, so that it is loaded before the loop serves"
_INFERENCE: Final = "run inference in an executor of its own with few threads, or in a model server"
_INPUT: Final = "ask in a thread: asyncio.to_thread(input)"
_JOIN_PROCESS: Final = "await asyncio.to_thread(process.join)"
_JSON: Final = "use orjson, bound the size of documents, or parse big ones in a ProcessPoolExecutor"
_LDAP: Final = "use bonsai, or asyncio.to_thread"
_LESS: Final = "work on less at once, or use a ProcessPoolExecutor: it holds the GIL"
_LISTDIR: Final = "use asyncio.to_thread around the whole walk of the folder"
_LOCK: Final = "use asyncio.Lock, or hold the lock for less"
_LOG_QUEUE: Final = "put a QueueHandler before it and let a QueueListener send"
_MEMCACHE: Final = "use aiomcache, or asyncio.to_thread"
_MONGO: Final = "use pymongo.AsyncMongoClient and await it"
_MUCH_DATA: Final = "use asyncio.to_thread for much data: it releases the GIL"
_MYSQL: Final = "use asyncmy or aiomysql and await it"
_NAME_SERVICE: Final = "use asyncio.to_thread: the name service may ask a server"
_NUMERIC: Final = "use asyncio.to_thread for big arrays, a ProcessPoolExecutor for many small steps"
_ODBC: Final = "use aioodbc, or asyncio.to_thread"
_OPENAI: Final = "use openai.AsyncOpenAI and await it"
_ORACLE: Final = "use oracledb.connect_async and await it"
_PATH: Final = "use aiofiles.os, or asyncio.to_thread"
_PEEWEE: Final = "use playhouse.pwasyncio and await it, or asyncio.to_thread"
_PIPE: Final = "use aiofiles for files, loop.connect_read_pipe or connect_write_pipe for pipes"
_POSTGRES: Final = "use asyncpg or psycopg.AsyncConnection and await it"
_PROCESS: Final = "use asyncio.create_subprocess_exec and await it"
_PROCESSES_ONCE: Final = "start processes once, at start-up"
_PSYCOPG: Final = "use psycopg.AsyncConnection and await it"
_PSYCOPG_POOL: Final = "use psycopg_pool.AsyncConnectionPool and await it"
_PUBLISH: Final = "publish with asyncio.to_thread: it talks to the broker"
_RANDOM: Final = "draw random bytes in smaller pieces, or with asyncio.to_thread"
_REGEX: Final = "rewrite the pattern so that it cannot backtrack, and bound the length of the text"
_RENDER: Final = "use render_async in an environment with enable_async, or render less"
_RESOLVE: Final = "use loop.getaddrinfo or loop.getnameinfo and await it"
_RETRY: Final = "use tenacity.AsyncRetrying, or put @retry on an async function: it then awaits"
_RUNS_PROGRAMS: Final = (
    "use asyncio.to_thread, or find it out once at start-up: it may run programs"
)
_SELECT: Final = "use loop.add_reader and loop.add_writer, or asyncio streams"
_SEMAPHORE: Final = "use asyncio.Semaphore"
_SENDFILE: Final = "use loop.sendfile and await it"
_SERVER: Final = "use asyncio.start_server"
_SHORTER: Final = "work on shorter text, or use a ProcessPoolExecutor: it holds the GIL"
_SHUTDOWN: Final = "use shutdown(wait=False), or await asyncio.to_thread(executor.shutdown)"
_SIGNAL: Final = "use loop.add_signal_handler"
_SLOW_BY_DESIGN: Final = "use asyncio.to_thread: it is slow by design"
_SLOW_FREES_GIL: Final = "use asyncio.to_thread: it is slow by design and releases the GIL"
_SOCKET: Final = "use asyncio.open_connection, or loop.sock_connect, sock_recv and sock_sendall"
_SQLALCHEMY: Final = "use create_async_engine and AsyncSession; if you do, load fewer rows at once"
_SSH: Final = "use asyncssh and await it"
_SUBPROCESS_OR_THREAD: Final = "use asyncio.create_subprocess_exec, or asyncio.to_thread"
_THREAD: Final = "use asyncio.to_thread"
_TLS: Final = "use asyncio.open_connection(ssl=...), or loop.start_tls"
_TLS_CONTEXT: Final = (
    "make the SSL context once at start-up and share it; loading certificates is slow"
)
_TRACEBACK: Final = "do it off the loop: formatting a traceback reads source files"
_VALIDATE: Final = "validate fewer items at once, or in a ProcessPoolExecutor: it holds the GIL"
_WAIT_CHILD: Final = "use asyncio.create_subprocess_exec and await process.wait()"
_WEBSOCKET: Final = "use websockets.asyncio.client.connect"
_WORKERS_ONCE: Final = "start the workers once, at start-up: the first submit starts processes"
_YAML: Final = "use yaml.CSafeLoader, and a ProcessPoolExecutor for big documents"

SIGNATURES: Final[tuple[Signature, ...]] = (
    Signature("Crypto", "cpu", _CRYPTOGRAPHY),
    Signature("MySQLdb", "socket", _MYSQL),
    Signature("OpenSSL", "cpu", _CRYPTOGRAPHY),
    Signature("PIL", "cpu", _FREES_GIL),
    Signature("_argon2_cffi_bindings", "cpu", _SLOW_FREES_GIL),
    Signature("_thread", "lock", _LOCK),
    Signature("amqp", "socket", _PUBLISH),
    Signature("anthropic.Anthropic", "socket", _ANTHROPIC),
    Signature("anthropic.Stream", "socket", _ANTHROPIC),
    Signature("anthropic._base_client.SyncAPIClient", "socket", _ANTHROPIC),
    Signature("anthropic._client.Anthropic", "socket", _ANTHROPIC),
    Signature("anthropic._streaming.Stream", "socket", _ANTHROPIC),
    Signature("argon2", "cpu", _SLOW_FREES_GIL),
    Signature("ast", "cpu", _HOLDS_GIL),
    Signature("bcrypt", "cpu", _SLOW_FREES_GIL),
    Signature("bdb", "lock", _BREAKPOINT),
    Signature("boto3", "socket", _AWS),
    Signature("boto3.client", "file", _CLIENT_ONCE),
    Signature("boto3.resource", "file", _CLIENT_ONCE),
    Signature("boto3.session.Session.client", "file", _CLIENT_ONCE),
    Signature("boto3.session.Session.resource", "file", _CLIENT_ONCE),
    Signature("botocore", "socket", _AWS),
    Signature("botocore.loaders", "file", _CLIENT_ONCE),
    Signature("botocore.session.Session.create_client", "file", _CLIENT_ONCE),
    Signature("botocore.session.get_session", "file", _CLIENT_ONCE),
    Signature("brotli", "cpu", _MUCH_DATA),
    Signature("bs4", "cpu", _HOLDS_GIL),
    Signature("builtins.__import__", "import", _IMPORT),
    Signature("builtins.all", "cpu", _LESS),
    Signature("builtins.any", "cpu", _LESS),
    Signature("builtins.breakpoint", "lock", _BREAKPOINT),
    Signature("builtins.bytearray", "cpu", _SHORTER),
    Signature("builtins.bytes", "cpu", _LESS),
    Signature("builtins.compile", "cpu", _HOLDS_GIL),
    Signature("builtins.dict", "cpu", _LESS),
    Signature("builtins.divmod", "cpu", _BIG_NUMBER),
    Signature("builtins.eval", "cpu", _HOLDS_GIL),
    Signature("builtins.exec", "cpu", _HOLDS_GIL),
    Signature("builtins.frozenset", "cpu", _LESS),
    Signature("builtins.input", "file", _INPUT),
    Signature("builtins.int", "cpu", _BIG_NUMBER),
    Signature("builtins.list", "cpu", _LESS),
    Signature("builtins.max", "cpu", _LESS),
    Signature("builtins.min", "cpu", _LESS),
    Signature("builtins.open", "file", _FILE),
    Signature("builtins.pow", "cpu", _BIG_NUMBER),
    Signature(
        "builtins.print",
        "file",
        "log through a QueueHandler: a full pipe or a slow terminal stops print",
    ),
    Signature("builtins.repr", "cpu", _SHORTER),
    Signature("builtins.set", "cpu", _LESS),
    Signature("builtins.sorted", "cpu", _LESS),
    Signature("builtins.str", "cpu", _SHORTER),
    Signature("builtins.sum", "cpu", _LESS),
    Signature("builtins.tuple", "cpu", _LESS),
    Signature("bz2", "cpu", _MUCH_DATA),
    Signature("cProfile", "cpu", _AWAY),
    Signature("cassandra", "socket", _DRIVER),
    Signature("celery", "socket", _PUBLISH),
    Signature(
        "celery.result",
        "socket",
        "poll for the result with asyncio.sleep, or have the worker notify you",
    ),
    Signature("clickhouse_driver", "socket", _DRIVER),
    Signature("codecs.open", "file", _FILE),
    Signature("compression", "cpu", _MUCH_DATA),
    Signature("concurrent.futures.Executor.__exit__", "lock", _SHUTDOWN),
    Signature("concurrent.futures.Executor.map", "lock", _FUTURE),
    Signature("concurrent.futures.Executor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures.Future", "lock", _FUTURE),
    Signature("concurrent.futures.ProcessPoolExecutor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures.ProcessPoolExecutor.submit", "process", _WORKERS_ONCE),
    Signature("concurrent.futures.ThreadPoolExecutor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures._base.Executor.__exit__", "lock", _SHUTDOWN),
    Signature("concurrent.futures._base.Executor.map", "lock", _FUTURE),
    Signature("concurrent.futures._base.Executor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures._base.Future", "lock", _FUTURE),
    Signature("concurrent.futures._base.as_completed", "lock", _FUTURE),
    Signature("concurrent.futures._base.wait", "lock", _FUTURE),
    Signature("concurrent.futures.as_completed", "lock", _FUTURE),
    Signature("concurrent.futures.process.ProcessPoolExecutor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures.process.ProcessPoolExecutor.submit", "process", _WORKERS_ONCE),
    Signature("concurrent.futures.thread.ThreadPoolExecutor.shutdown", "lock", _SHUTDOWN),
    Signature("concurrent.futures.wait", "lock", _FUTURE),
    Signature("configparser", "file", _THREAD),
    Signature(
        "confluent_kafka", "socket", "use confluent_kafka.aio, or poll in a thread of its own"
    ),
    Signature("copy.deepcopy", "cpu", "copy less: share frozen data, or copy only what changes"),
    Signature("crypt", "cpu", _SLOW_BY_DESIGN),
    Signature("cryptography", "cpu", _CRYPTOGRAPHY),
    Signature("csv", "cpu", _HOLDS_GIL),
    Signature(
        "ctypes",
        "cpu",
        "use asyncio.to_thread; ctypes.PyDLL holds the GIL, ctypes.CDLL releases it",
    ),
    Signature("ctypes.util.find_library", "process", _RUNS_PROGRAMS),
    Signature("cv2", "cpu", _FREES_GIL),
    Signature("cx_Oracle", "socket", _ORACLE),
    Signature("dataclasses.asdict", "cpu", _HOLDS_GIL),
    Signature("dataclasses.astuple", "cpu", _HOLDS_GIL),
    Signature("dbm", "file", _THREAD),
    Signature("decimal", "cpu", _HOLDS_GIL),
    Signature("difflib", "cpu", _HOLDS_GIL),
    Signature("django.contrib.auth.hashers", "cpu", _SLOW_BY_DESIGN),
    Signature(
        "django.core.cache",
        "socket",
        "use the a-methods of the cache (aget, aset), or asgiref's sync_to_async",
    ),
    Signature("django.core.mail", "socket", "use asyncio.to_thread, or asgiref's sync_to_async"),
    Signature(
        "django.db",
        "socket",
        "use the a-methods of the ORM (aget, acreate, async for), or asgiref's sync_to_async",
    ),
    Signature("dns.query", "dns", _DNS),
    Signature("dns.resolver", "dns", _DNS),
    Signature("dns.zone", "dns", _DNS),
    Signature("docker", "socket", "use aiodocker, or asyncio.to_thread"),
    Signature("docx", "cpu", _DOCUMENTS),
    Signature(
        "duckdb", "file", "use asyncio.to_thread with a cursor of its own: it releases the GIL"
    ),
    Signature("elasticsearch.Elasticsearch", "socket", _ELASTICSEARCH),
    Signature("elasticsearch._sync", "socket", _ELASTICSEARCH),
    Signature("email", "cpu", _HOLDS_GIL),
    Signature("fabric", "socket", _SSH),
    Signature("faiss", "cpu", _INFERENCE),
    Signature(
        "fastapi.encoders.jsonable_encoder",
        "cpu",
        "return a Response that is encoded already, or fewer items a page",
    ),
    Signature("fcntl.flock", "lock", _FILE_LOCK),
    Signature("fcntl.lockf", "lock", _FILE_LOCK),
    Signature("filecmp", "file", _LISTDIR),
    Signature("fileinput", "file", _FILE),
    Signature("filelock", "lock", _FILE_LOCK),
    Signature("fnmatch", "cpu", _REGEX),
    Signature("fractions", "cpu", _HOLDS_GIL),
    Signature("ftplib", "socket", "use aioftp, or asyncio.to_thread"),
    Signature("gc.collect", "cpu", _GC),
    Signature("gc.get_objects", "cpu", _GC),
    Signature("gc.get_referrers", "cpu", _GC),
    Signature("getpass.getpass", "file", _INPUT),
    Signature("getpass.getuser", "socket", _NAME_SERVICE),
    Signature("getpass.unix_getpass", "file", _INPUT),
    Signature("glob", "file", _LISTDIR),
    Signature("google.auth.transport.requests", "socket", _API_CLIENT),
    Signature("google.auth.transport.urllib3", "socket", _API_CLIENT),
    Signature(
        "google.cloud",
        "socket",
        "use the AsyncClient of the same library where it has one, or asyncio.to_thread",
    ),
    Signature("google.protobuf", "cpu", _BIG_DOCUMENT),
    Signature("googleapiclient", "socket", _API_CLIENT),
    Signature("gridfs.GridFS", "socket", _MONGO),
    Signature("gridfs.GridFSBucket", "socket", _MONGO),
    Signature("gridfs.GridIn", "socket", _MONGO),
    Signature("gridfs.GridOut", "socket", _MONGO),
    Signature("gridfs.synchronous", "socket", _MONGO),
    Signature("grp", "socket", _NAME_SERVICE),
    Signature("grpc", "socket", "use grpc.aio and await it"),
    Signature("gzip", "cpu", _MUCH_DATA),
    Signature("hashlib", "cpu", _MUCH_DATA),
    Signature("hashlib.pbkdf2_hmac", "cpu", _SLOW_FREES_GIL),
    Signature("hashlib.scrypt", "cpu", _SLOW_FREES_GIL),
    Signature("heapq", "cpu", _HOLDS_GIL),
    Signature("hmac", "cpu", "use asyncio.to_thread for much data"),
    Signature("html.parser", "cpu", _HOLDS_GIL),
    Signature("http.client", "socket", _HTTP),
    Signature("http.server", "socket", _SERVER),
    Signature("httpcore.ConnectionPool", "socket", _HTTPCORE),
    Signature("httpcore._api", "socket", _HTTPCORE),
    Signature("httpcore._backends.sync", "socket", _HTTPCORE),
    Signature("httpcore._sync", "socket", _HTTPCORE),
    Signature("httpcore.request", "socket", _HTTPCORE),
    Signature("httpcore.stream", "socket", _HTTPCORE),
    Signature("httplib2", "socket", _HTTP),
    Signature("httpx.Client", "socket", _HTTP),
    Signature("httpx.HTTPTransport", "socket", _HTTP_TRANSPORT),
    Signature("httpx._api", "socket", _HTTP),
    Signature("httpx._client.Client", "socket", _HTTP),
    Signature("httpx._transports.default.HTTPTransport", "socket", _HTTP_TRANSPORT),
    Signature("httpx.delete", "socket", _HTTP),
    Signature("httpx.get", "socket", _HTTP),
    Signature("httpx.head", "socket", _HTTP),
    Signature("httpx.options", "socket", _HTTP),
    Signature("httpx.patch", "socket", _HTTP),
    Signature("httpx.post", "socket", _HTTP),
    Signature("httpx.put", "socket", _HTTP),
    Signature("httpx.request", "socket", _HTTP),
    Signature("httpx.stream", "socket", _HTTP),
    Signature("httpx2.Client", "socket", _HTTPX2),
    Signature("httpx2._api", "socket", _HTTPX2),
    Signature("httpx2._client.Client", "socket", _HTTPX2),
    Signature("httpx2.delete", "socket", _HTTPX2),
    Signature("httpx2.get", "socket", _HTTPX2),
    Signature("httpx2.head", "socket", _HTTPX2),
    Signature("httpx2.options", "socket", _HTTPX2),
    Signature("httpx2.patch", "socket", _HTTPX2),
    Signature("httpx2.post", "socket", _HTTPX2),
    Signature("httpx2.put", "socket", _HTTPX2),
    Signature("httpx2.request", "socket", _HTTPX2),
    Signature("httpx2.stream", "socket", _HTTPX2),
    Signature("imageio", "cpu", _FREES_GIL),
    Signature("imaplib", "socket", "use aioimaplib, or asyncio.to_thread"),
    Signature("import", "import", _IMPORT),
    Signature("importlib", "import", _IMPORT),
    Signature("importlib.metadata", "file", _THREAD),
    Signature("importlib.resources", "file", _THREAD),
    Signature("inspect.getsource", "file", _TRACEBACK),
    Signature("inspect.stack", "file", _TRACEBACK),
    Signature("invoke", "process", _SUBPROCESS_OR_THREAD),
    Signature("io", "file", _FILE),
    Signature("itertools", "cpu", _HOLDS_GIL),
    Signature("jax", "cpu", _INFERENCE),
    Signature("jinja2.Template.render", "cpu", _RENDER),
    Signature("jinja2.environment.Template.render", "cpu", _RENDER),
    Signature("json", "cpu", _JSON),
    Signature("jwt", "cpu", _CRYPTOGRAPHY),
    Signature("kafka", "socket", "use aiokafka and await it"),
    Signature("keras", "cpu", _INFERENCE),
    Signature("kombu", "socket", _PUBLISH),
    Signature("kubernetes", "socket", "use kubernetes_asyncio, or asyncio.to_thread"),
    Signature("ldap", "socket", _LDAP),
    Signature("ldap3", "socket", _LDAP),
    Signature("lightgbm", "cpu", _INFERENCE),
    Signature("linecache", "file", _FILE),
    Signature(
        "logging",
        "file",
        "put a QueueHandler before the slow handler and let a QueueListener write",
    ),
    Signature("logging.config", "file", _AT_START),
    Signature("logging.handlers.HTTPHandler", "socket", _LOG_QUEUE),
    Signature("logging.handlers.SMTPHandler", "socket", _LOG_QUEUE),
    Signature("logging.handlers.SocketHandler", "socket", _LOG_QUEUE),
    Signature("logging.handlers.SysLogHandler", "socket", _LOG_QUEUE),
    Signature(
        "lxml",
        "cpu",
        "use asyncio.to_thread for big documents: lxml releases the GIL while it parses",
    ),
    Signature("lzma", "cpu", _MUCH_DATA),
    Signature("marshal", "cpu", _HOLDS_GIL),
    Signature("math.comb", "cpu", _BIG_NUMBER),
    Signature("math.factorial", "cpu", _BIG_NUMBER),
    Signature("math.integer", "cpu", _BIG_NUMBER),  # their home since 3.15
    Signature("math.perm", "cpu", _BIG_NUMBER),
    Signature("math.prod", "cpu", _BIG_NUMBER),
    Signature("matplotlib", "cpu", _DOCUMENTS),
    Signature("memcache", "socket", _MEMCACHE),
    Signature("mimetypes.init", "file", _THREAD),
    Signature("mmap", "file", _FILE),
    Signature(
        "mongoengine", "socket", "use an asynchronous mapper such as beanie, or asyncio.to_thread"
    ),
    Signature("msgpack", "cpu", _BIG_DOCUMENT),
    Signature(
        "multiprocessing",
        "process",
        "use loop.run_in_executor with a ProcessPoolExecutor, or asyncio.to_thread",
    ),
    Signature("multiprocessing.Process.join", "process", _JOIN_PROCESS),
    Signature("multiprocessing.Process.start", "process", _PROCESSES_ONCE),
    Signature("multiprocessing.process.BaseProcess.join", "process", _JOIN_PROCESS),
    Signature("multiprocessing.process.BaseProcess.start", "process", _PROCESSES_ONCE),
    Signature(
        "multiprocessing.synchronize",
        "lock",
        "use asyncio.to_thread: another process may hold it for long",
    ),
    Signature("mysql.connector", "socket", "use mysql.connector.aio and await it"),
    Signature("nacl", "cpu", _CRYPTOGRAPHY),
    Signature("neo4j._sync", "socket", _DRIVER),
    Signature("numpy", "cpu", _NUMERIC),
    Signature("onnxruntime", "cpu", _INFERENCE),
    Signature("openai.AzureOpenAI", "socket", _OPENAI),
    Signature("openai.OpenAI", "socket", _OPENAI),
    Signature("openai.Stream", "socket", _OPENAI),
    Signature("openai._base_client.SyncAPIClient", "socket", _OPENAI),
    Signature("openai._client.OpenAI", "socket", _OPENAI),
    Signature("openai._streaming.Stream", "socket", _OPENAI),
    Signature("openai.lib.azure.AzureOpenAI", "socket", _OPENAI),
    Signature("openpyxl", "cpu", _DOCUMENTS),
    Signature("oracledb.Connection", "socket", _ORACLE),
    Signature("oracledb.Cursor", "socket", _ORACLE),
    Signature("oracledb.connect", "socket", _ORACLE),
    Signature("oracledb.connection.Connection", "socket", _ORACLE),
    Signature("oracledb.connection.connect", "socket", _ORACLE),
    Signature("oracledb.cursor.Cursor", "socket", _ORACLE),
    Signature("orjson", "cpu", _BIG_DOCUMENT),
    Signature("os.access", "file", _PATH),
    Signature("os.chmod", "file", _PATH),
    Signature("os.chown", "file", _PATH),
    Signature("os.close", "file", _THREAD),
    Signature("os.copy_file_range", "file", _THREAD),
    Signature("os.fdatasync", "file", _THREAD),
    Signature("os.fork", "process", _FORK),
    Signature("os.forkpty", "process", _FORK),
    Signature("os.fsync", "file", _THREAD),
    Signature("os.ftruncate", "file", _THREAD),
    Signature("os.fwalk", "file", _LISTDIR),
    Signature("os.getrandom", "cpu", _RANDOM),
    Signature("os.link", "file", _PATH),
    Signature("os.listdir", "file", _LISTDIR),
    Signature("os.lockf", "lock", _FILE_LOCK),
    Signature("os.lstat", "file", _PATH),
    Signature("os.makedirs", "file", _PATH),
    Signature("os.mkdir", "file", _PATH),
    Signature("os.open", "file", _PATH),
    Signature("os.path", "file", _PATH),
    Signature("os.popen", "process", _PROCESS),
    Signature("os.posix_fallocate", "file", _THREAD),
    Signature("os.posix_spawn", "process", _PROCESS),
    Signature("os.posix_spawnp", "process", _PROCESS),
    Signature("os.pread", "file", _THREAD),
    Signature("os.preadv", "file", _THREAD),
    Signature("os.pwrite", "file", _THREAD),
    Signature("os.pwritev", "file", _THREAD),
    Signature("os.read", "file", _PIPE),
    Signature("os.readlink", "file", _PATH),
    Signature("os.readv", "file", _PIPE),
    Signature("os.remove", "file", _PATH),
    Signature("os.removedirs", "file", _PATH),
    Signature("os.rename", "file", _PATH),
    Signature("os.renames", "file", _PATH),
    Signature("os.replace", "file", _PATH),
    Signature("os.rmdir", "file", _PATH),
    Signature("os.scandir", "file", _LISTDIR),
    Signature("os.sendfile", "file", _SENDFILE),
    Signature("os.spawnl", "process", _PROCESS),
    Signature("os.spawnle", "process", _PROCESS),
    Signature("os.spawnlp", "process", _PROCESS),
    Signature("os.spawnlpe", "process", _PROCESS),
    Signature("os.spawnv", "process", _PROCESS),
    Signature("os.spawnve", "process", _PROCESS),
    Signature("os.spawnvp", "process", _PROCESS),
    Signature("os.spawnvpe", "process", _PROCESS),
    Signature("os.splice", "file", _PIPE),
    Signature("os.stat", "file", _PATH),
    Signature("os.statvfs", "file", _PATH),
    Signature("os.symlink", "file", _PATH),
    Signature("os.sync", "file", _THREAD),
    Signature("os.system", "process", _PROCESS),
    Signature("os.truncate", "file", _PATH),
    Signature("os.unlink", "file", _PATH),
    Signature("os.urandom", "cpu", _RANDOM),
    Signature("os.utime", "file", _PATH),
    Signature("os.wait", "process", _WAIT_CHILD),
    Signature("os.wait3", "process", _WAIT_CHILD),
    Signature("os.wait4", "process", _WAIT_CHILD),
    Signature("os.waitid", "process", _WAIT_CHILD),
    Signature("os.waitpid", "process", _WAIT_CHILD),
    Signature("os.walk", "file", _LISTDIR),
    Signature("os.write", "file", _PIPE),
    Signature("os.writev", "file", _PIPE),
    Signature(
        "paho.mqtt", "socket", "use aiomqtt, or the client's loop_start in a thread of its own"
    ),
    Signature(
        "pandas",
        "cpu",
        "use a ProcessPoolExecutor, or polars in asyncio.to_thread: pandas often holds the GIL",
    ),
    Signature("paramiko", "socket", _SSH),
    Signature("passlib", "cpu", _SLOW_BY_DESIGN),
    Signature("pathlib", "file", "use asyncio.to_thread around the whole use of the path"),
    Signature("pdb", "lock", _BREAKPOINT),
    Signature("peewee", "socket", _PEEWEE),
    Signature("pexpect", "process", _SUBPROCESS_OR_THREAD),
    Signature("pg8000", "socket", _POSTGRES),
    Signature("pgdb", "socket", _POSTGRES),
    Signature("pickle", "cpu", _HOLDS_GIL),
    Signature("pika", "socket", "use aio-pika and await it"),
    Signature("pkgutil", "import", _IMPORT),
    Signature("platform", "process", _RUNS_PROGRAMS),
    Signature("playhouse", "socket", _PEEWEE),
    Signature("playwright.sync_api", "socket", "use playwright.async_api and await it"),
    Signature("plistlib", "file", _THREAD),
    Signature("polars", "cpu", _ARROW),
    Signature("poplib", "socket", _THREAD),
    Signature("portalocker", "lock", _FILE_LOCK),
    Signature("psycopg.ClientCursor", "socket", _PSYCOPG),
    Signature("psycopg.Connection", "socket", _PSYCOPG),
    Signature("psycopg.Copy", "socket", _PSYCOPG),
    Signature("psycopg.Cursor", "socket", _PSYCOPG),
    Signature("psycopg.Pipeline", "socket", _PSYCOPG),
    Signature("psycopg.RawCursor", "socket", _PSYCOPG),
    Signature("psycopg.ServerCursor", "socket", _PSYCOPG),
    Signature("psycopg.Transaction", "socket", _PSYCOPG),
    Signature("psycopg._copy.Copy", "socket", _PSYCOPG),
    Signature("psycopg._pipeline.Pipeline", "socket", _PSYCOPG),
    Signature("psycopg._server_cursor", "socket", _PSYCOPG),
    Signature("psycopg.client_cursor", "socket", _PSYCOPG),
    Signature("psycopg.connect", "socket", _PSYCOPG),
    Signature("psycopg.connection", "socket", _PSYCOPG),
    Signature("psycopg.copy", "socket", _PSYCOPG),
    Signature("psycopg.cursor", "socket", _PSYCOPG),
    Signature("psycopg.server_cursor", "socket", _PSYCOPG),
    Signature("psycopg.transaction.Transaction", "socket", _PSYCOPG),
    Signature("psycopg.waiting", "socket", _PSYCOPG),
    Signature("psycopg2", "socket", _POSTGRES),
    Signature("psycopg_binary._psycopg.wait_c", "socket", _PSYCOPG),
    Signature("psycopg_c._psycopg.wait_c", "socket", _PSYCOPG),
    Signature("psycopg_pool.ConnectionPool", "socket", _PSYCOPG_POOL),
    Signature("psycopg_pool.NullConnectionPool", "socket", _PSYCOPG_POOL),
    Signature("psycopg_pool.null_pool", "socket", _PSYCOPG_POOL),
    Signature("psycopg_pool.pool", "socket", _PSYCOPG_POOL),
    Signature("pty.fork", "process", _FORK),
    Signature("pty.spawn", "process", _PROCESS),
    Signature("pwd", "socket", _NAME_SERVICE),
    Signature("pwdlib", "cpu", _SLOW_BY_DESIGN),
    Signature("pyarrow", "cpu", _ARROW),
    Signature("pycurl", "socket", _HTTP),
    Signature("pydantic", "cpu", _VALIDATE),
    Signature("pydantic_core", "cpu", _VALIDATE),
    Signature("pylibmc", "socket", _MEMCACHE),
    Signature("pymemcache", "socket", _MEMCACHE),
    Signature("pymongo.MongoClient", "socket", _MONGO),
    Signature("pymongo.change_stream", "socket", _MONGO),
    Signature("pymongo.client_session", "socket", _MONGO),
    Signature("pymongo.collection", "socket", _MONGO),
    Signature("pymongo.command_cursor", "socket", _MONGO),
    Signature("pymongo.cursor", "socket", _MONGO),
    Signature("pymongo.database", "socket", _MONGO),
    Signature("pymongo.mongo_client", "socket", _MONGO),
    Signature("pymongo.synchronous", "socket", _MONGO),
    Signature("pymssql", "socket", _ODBC),
    Signature("pymysql", "socket", _MYSQL),
    Signature("pyodbc", "socket", _ODBC),
    Signature("pypdf", "cpu", _DOCUMENTS),
    Signature(
        "queue",
        "lock",
        "use asyncio.Queue; between threads, loop.call_soon_threadsafe(queue.put_nowait, item)",
    ),
    Signature("re", "cpu", _REGEX),
    Signature("redis", "socket", "use redis.asyncio and await it"),
    Signature("regex", "cpu", _REGEX),
    Signature("reportlab", "cpu", _DOCUMENTS),
    Signature("requests", "socket", _HTTP),
    Signature("rsa", "cpu", _CRYPTOGRAPHY),
    Signature("ruamel.yaml", "cpu", _YAML),
    Signature("runpy", "import", _IMPORT),
    Signature("s3transfer", "socket", _AWS),
    Signature("sched.scheduler.run", "sleep", "use loop.call_later or loop.call_at"),
    Signature("scipy", "cpu", _NUMERIC),
    Signature("secrets", "cpu", _RANDOM),
    Signature("select", "socket", _SELECT),
    Signature("selectors", "socket", _SELECT),
    Signature("selenium", "socket", "use asyncio.to_thread, or playwright.async_api"),
    Signature("sentence_transformers", "cpu", _INFERENCE),
    Signature("shelve", "file", _THREAD),
    Signature("shutil", "file", _THREAD),
    Signature("signal.pause", "lock", _SIGNAL),
    Signature("signal.sigtimedwait", "lock", _SIGNAL),
    Signature("signal.sigwait", "lock", _SIGNAL),
    Signature("signal.sigwaitinfo", "lock", _SIGNAL),
    Signature("simplejson", "cpu", _JSON),
    Signature("skimage", "cpu", _NUMERIC),
    Signature("sklearn", "cpu", _INFERENCE),
    Signature("smtplib", "socket", "use aiosmtplib and await it"),
    Signature("snappy", "cpu", _MUCH_DATA),
    Signature("socket.SocketIO", "socket", _SOCKET),
    Signature("socket.create_connection", "socket", _SOCKET),
    Signature("socket.create_server", "socket", _SERVER),
    Signature("socket.getaddrinfo", "dns", _RESOLVE),
    Signature("socket.getfqdn", "dns", _RESOLVE),
    Signature("socket.gethostbyaddr", "dns", _RESOLVE),
    Signature("socket.gethostbyname", "dns", _RESOLVE),
    Signature("socket.gethostbyname_ex", "dns", _RESOLVE),
    Signature("socket.getnameinfo", "dns", _RESOLVE),
    Signature("socket.socket", "socket", _SOCKET),
    Signature("socket.socket.sendfile", "file", _SENDFILE),
    Signature("socketserver", "socket", _SERVER),
    Signature("spacy", "cpu", _INFERENCE),
    Signature("sqlalchemy.Connection", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.CursorResult", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.Engine", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.Result", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.ScalarResult", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.create_engine", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.engine", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.orm", "socket", _SQLALCHEMY),
    Signature("sqlalchemy.pool", "socket", _SQLALCHEMY),
    Signature(
        "sqlite3",
        "file",
        "use aiosqlite and await it, or asyncio.to_thread with one connection a thread",
    ),
    Signature("ssl.SSLContext.load_cert_chain", "file", _TLS_CONTEXT),
    Signature("ssl.SSLContext.load_default_certs", "file", _TLS_CONTEXT),
    Signature("ssl.SSLContext.load_verify_locations", "file", _TLS_CONTEXT),
    Signature("ssl.SSLContext.set_default_verify_paths", "file", _TLS_CONTEXT),
    Signature("ssl.SSLSocket", "socket", _TLS),
    Signature("ssl._SSLContext.load_cert_chain", "file", _TLS_CONTEXT),
    Signature("ssl._SSLContext.load_verify_locations", "file", _TLS_CONTEXT),
    Signature("ssl._SSLContext.set_default_verify_paths", "file", _TLS_CONTEXT),
    Signature("ssl.create_default_context", "file", _TLS_CONTEXT),
    Signature("ssl.get_server_certificate", "socket", _TLS),
    Signature("statistics", "cpu", _HOLDS_GIL),
    Signature("subprocess", "process", _PROCESS),
    Signature(
        "subprocess.Popen.communicate",
        "process",
        "use asyncio.create_subprocess_exec and await process.communicate()",
    ),
    Signature("subprocess.Popen.wait", "process", _WAIT_CHILD),
    Signature("syslog", "socket", "log through a QueueHandler and let a QueueListener send"),
    Signature("tarfile", "file", _THREAD),
    Signature("telnetlib", "socket", "use telnetlib3, or asyncio.open_connection"),
    Signature("tempfile", "file", "use aiofiles.tempfile, or asyncio.to_thread"),
    Signature("tenacity.nap", "sleep", _RETRY),
    Signature("tenacity.sleep", "sleep", _RETRY),
    Signature("tenacity.sleep_using_event", "sleep", _RETRY),
    Signature("tensorflow", "cpu", _INFERENCE),
    Signature("threading.Barrier", "lock", "use asyncio.Barrier"),
    Signature("threading.BoundedSemaphore", "lock", _SEMAPHORE),
    Signature(
        "threading.Condition",
        "lock",
        "use asyncio.Condition, or hand the news over with loop.call_soon_threadsafe",
    ),
    Signature(
        "threading.Event", "lock", "use asyncio.Event and loop.call_soon_threadsafe(event.set)"
    ),
    Signature("threading.Lock", "lock", _LOCK),
    Signature("threading.RLock", "lock", _LOCK),
    Signature("threading.Semaphore", "lock", _SEMAPHORE),
    Signature(
        "threading.Thread.join",
        "lock",
        "await asyncio.to_thread(thread.join), or start the work with asyncio.to_thread",
    ),
    Signature(
        "threading.Thread.start",
        "lock",
        "start threads once, at start-up: start waits until the thread runs",
    ),
    Signature("tiktoken", "cpu", _INFERENCE),
    Signature("time.sleep", "sleep", "use asyncio.sleep and await it"),
    Signature("tokenizers", "cpu", _INFERENCE),
    Signature("tomli", "cpu", _HOLDS_GIL),
    Signature("tomllib", "cpu", _HOLDS_GIL),
    Signature("torch", "cpu", _INFERENCE),
    Signature("traceback", "file", _TRACEBACK),
    Signature("tracemalloc.take_snapshot", "cpu", _AWAY),
    Signature("transformers", "cpu", _INFERENCE),
    Signature("ujson", "cpu", _BIG_DOCUMENT),
    Signature("urllib.request", "socket", _HTTP),
    Signature("urllib3", "socket", _HTTP),
    Signature("uuid.getnode", "process", _RUNS_PROGRAMS),
    Signature("uuid.uuid1", "process", _RUNS_PROGRAMS),
    Signature("webbrowser", "process", _RUNS_PROGRAMS),
    Signature("websocket", "socket", _WEBSOCKET),
    Signature("websockets.sync", "socket", _WEBSOCKET),
    Signature("werkzeug.security", "cpu", _SLOW_BY_DESIGN),
    Signature("wsgiref.simple_server", "socket", _SERVER),
    Signature("xgboost", "cpu", _INFERENCE),
    Signature("xml", "cpu", _HOLDS_GIL),
    Signature("xmlrpc.client", "socket", _API_CLIENT),
    Signature("yaml", "cpu", _YAML),
    Signature("zipfile", "file", _THREAD),
    Signature("zlib", "cpu", _MUCH_DATA),
    Signature("zmq", "socket", "use zmq.asyncio and await it"),
    Signature("zstandard", "cpu", _MUCH_DATA),
)

# Asynchronous parts of what is named above: never advised against. `*.` is a part at any depth.
NOT_BLOCKING: Final[tuple[str, ...]] = (
    "*.aio",
    "*.async_client",
    "*.asynchronous",
    "*.asyncio",
    "google.cloud.firestore_v1.async_batch",
    "google.cloud.firestore_v1.async_collection",
    "google.cloud.firestore_v1.async_document",
    "google.cloud.firestore_v1.async_query",
    "google.cloud.firestore_v1.async_stream_generator",
    "google.cloud.firestore_v1.async_transaction",
    "grpc._cython",
    "io.BytesIO",
    "io.StringIO",
    "logging.handlers.QueueHandler",
    "pika.adapters.asyncio_connection",
    "playhouse.pwasyncio",
    "psycopg.waiting.wait_async",
    "psycopg.waiting.wait_conn_async",
    "redis._parsers",
)

# Where a name that an implementation knows as its own is imported from.
PUBLIC_HOMES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "_ast": "ast",
        "_blake2": "hashlib",
        "_bz2": "bz2",
        "_csv": "csv",
        "_ctypes": "ctypes",
        "_dbm": "dbm",
        "_decimal": "decimal",
        "_elementtree": "xml.etree.ElementTree",
        "_frozen_importlib": "importlib",
        "_frozen_importlib_external": "importlib",
        "_gdbm": "dbm",
        "_hashlib": "hashlib",
        "_heapq": "heapq",
        "_hmac": "hmac",
        "_imp": "importlib",
        "_io": "io",
        "_json": "json",
        "_lsprof": "cProfile",
        "_lzma": "lzma",
        "_md5": "hashlib",
        "_multiprocessing": "multiprocessing",
        "_pickle": "pickle",
        "_posixsubprocess": "subprocess",
        "_pydecimal": "decimal",
        "_queue": "queue",
        "_sha1": "hashlib",
        "_sha2": "hashlib",
        "_sha256": "hashlib",
        "_sha3": "hashlib",
        "_sha512": "hashlib",
        "_signal": "signal",
        "_socket": "socket",
        "_sqlite3": "sqlite3",
        "_sre": "re",
        "_ssl": "ssl",
        "_tracemalloc": "tracemalloc",
        "_zstd": "compression.zstd",
        "genericpath": "os.path",
        "nt": "os",
        "ntpath": "os.path",
        "posix": "os",
        "posixpath": "os.path",
        "pyexpat": "xml.parsers.expat",
    }
)

# What to do where no signature is known. Nothing is advised where nothing was found out.
CAUSE_ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        Cause.BLOCKING_CALL: "await an asynchronous version of the call, or use asyncio.to_thread",
        Cause.CPU: "move the work to a ProcessPoolExecutor, or split it by asyncio.sleep(0)",
        Cause.NATIVE_CALL: "use asyncio.to_thread, or a ProcessPoolExecutor if it holds the GIL",
        Cause.GC: "call gc.freeze() after start-up, raise gc.set_threshold, make fewer cycles",
        Cause.GIL_CONTENTION: "move the work of the other thread to a ProcessPoolExecutor",
        Cause.CONGESTION: "bound the work with a Semaphore or a Queue, spread it, or add a worker",
        Cause.CPU_STARVED: "raise the CPU request and limit, or run fewer threads and neighbours",
        Cause.PROCESS_PAUSED: "look outside: SIGSTOP, a suspend, a debugger, a VM that stood still",
    }
)

_ANYWHERE: Final = frozenset(row[2:] for row in NOT_BLOCKING if row.startswith("*."))
_BY_TARGET: Final[Mapping[str, Signature | None]] = {
    **dict.fromkeys(NOT_BLOCKING),
    **{row.target: row for row in SIGNATURES},
}


def find(name: str) -> Signature | None:
    """Return the longest row that is `name` or a dotted prefix of it.

    `name` is a dotted name, or the text `import NAME` of an import statement. `None` for what is
    not known to block, asynchronous parts of a known package among it.
    """
    if name.startswith("import "):
        name = "import"
    name = name.partition("()")[0]  # of `open().read` the part that is known by name
    top, dot, rest = name.partition(".")
    builtin = vars(builtins).get(top)
    # Of the functions only the whole name: `input.load` is a module of the host.
    if isinstance(builtin, type) or (builtin is not None and not dot):
        top, rest, dot = "builtins", name, "."
    name = PUBLIC_HOMES.get(top, top) + dot + rest
    if not _ANYWHERE.isdisjoint(rest.split(".")):
        return None
    while name:
        if name in _BY_TARGET:
            return _BY_TARGET[name]
        name = name.rpartition(".")[0]
    return None


def first_match(names: Sequence[str]) -> Signature | None:
    """Return the row of the first of `names` that has one."""
    return next((row for row in map(find, names) if row is not None), None)
