"""An HTTP/1.1 origin for tests and benchmarks: exact by RFC 9110 when asked for nothing else, hostile on request.

Runs in a thread of its own with its own loop, so that asyncio tests, subprocesses, whole crawls, curl and aria2 can all
use it; also a program: ``python tests/helpers/origin.py --port 0`` prints its base URL. Knows nothing of
scrapy_chunkdl.

Files
    ``/f/<name>?size=N&version=V&fault=…&seed=S&content=KEY``: N deterministic bytes (see origin_content), whose content
    key is the name unless ``content`` gives another. Use :meth:`Origin.url` to build one.

Faults: ``name:arg:arg@when@when;name…``
    ``when`` narrows a fault to some requests: ``head``, ``get``, ``range`` (GET with Range), ``plain`` (GET without),
    ``again`` (not the first one over its connection),
    ``over=N`` (GET that asks for the byte at offset N, among others), and, counted over the requests that pass those,
    ``3`` (the first three), ``2-4``, ``5-``, or ``10%`` (seeded share).
    A literal ``;``, ``:`` or ``@`` inside an argument is percent-encoded.

    instead of an answer
        ``status:CODE[:RETRY_AFTER]`` (``date+N`` makes an HTTP date N seconds ahead), ``hang``, ``reset``, ``close``,
        ``crowd:MOST:CODE[:RETRY_AFTER]`` (CODE while more than so many requests for this file run),
        ``delay:SECONDS`` (then the answer), ``drip:SECONDS`` (an endless head, a byte each), ``garbage`` (not HTTP),
        ``cookie:NAME=VALUE`` (403 unless sent), ``auth:VALUE`` (401 unless sent),
        ``page[:SIZE]`` (200 text/html without validators),
        ``void`` (200 of 0 bytes without validators), ``lead:URL`` (302), ``crowd:MOST:rst|close|hang``,
        ``flood:PER_SECOND:BURST:CODE`` (CODE above that rate, shared by all files of the origin)
    the file
        ``change`` (the next version), ``splice:N`` (next version's bytes from offset N on, nothing else changes),
        ``corrupt:N`` (one byte wrong at offset N), ``encode:gzip|deflate|br|mislabel`` (forced Content-Encoding;
        ``br`` names a coding few can undo, over bytes not the file's, ``mislabel`` says gzip over plain bytes);
        ``body:BASE64`` (these bytes in its place, under the same validators)
        ``by:HEADER`` (requests with other values of it get other files: their content key is ``<key>/<value>``)
    validators
        ``etag:none|weak|backend[:N]|per-request|bare|empty|fixed``, ``date:none|now|backend|epoch|fixed``,
        ``ifrange:date|never|ignored|CODE`` (that error to each request with If-Range), ``clock:none`` (no Date)
    ranges
        ``ranges:none|ignored|silent|multipart[:labelled]|unbounded|unlabelled|invalid|empty``,
        ``ranges:rewound[:all]`` (a 206 of the range asked for with the file's first bytes, or with all of it),
        ``ranges:shift:N|shorter:N|longer:N|earlier:N``, ``ranges:total:+N|-N|*``, ``ranges:416[:TOTAL|none]``,
        ``ranges:as200[:bare]`` (the part under 200, with Content-Range or bare), ``ranges:whole`` (206 with all of it,
        to plain requests, too), ``ranges:mislabelled:N`` (a Content-Range that ends N bytes early),
        ``ranges:leads:self|LOCATION`` (a redirect, to itself or elsewhere)
    headers
        ``code:CODE`` (instead of 200), ``length:none|+N|-N|N``,
        ``digest:repr|content|digest|md5|goog|goog-crc|aws-ALGORITHM[:wrong]``,
        ``header:NAME=VALUE``, ``bighead:N``,
        ``manyheads:N``, ``reason:N`` (so long a reason phrase), ``headline:TEXT`` (a line, ``{length}`` is the body's)
    framing
        ``framing:chunked|close|http10``, ``extra:N`` (bytes after the declared end)
    body; N is bytes of this response, or a fraction of it when it has a dot
        ``cut:N`` (FIN), ``rst:N``, ``stall:N``, ``hold:GATE[:N]`` (until :meth:`Origin.release`), ``pause:N:SECONDS``,
        ``rate:BYTES_PER_SECOND[:PIECE]``, ``line:BYTES_PER_SECOND`` (all answers of the origin share it)

Redirects
    ``/redirect/<label>?to=URL&code=302&hops=N&cookie=…&until=COOKIE`` (no ``to``, or without that cookie: itself) and
    ``/signed/<label>?to=URL&uses=N`` (each visit issues a URL good for N requests).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import concurrent.futures
import contextlib
import gzip
import hashlib
import json
import re
import signal
import socket
import ssl
import struct
import threading
import time
import weakref
import zlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass, field
from email.utils import formatdate, parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from origin_content import content, content_hash, content_slice

PIECE = 256 * 1024
LINE_PIECE = 16 * 1024
EPOCH_OF_FILES = 1_577_836_800  # 2020-01-01
MAX_RANGES = 16
LOG_LIMIT = 20_000


# --- faults -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Fault:
    """One fault of a URL, and how many requests it has looked at."""

    name: str
    args: tuple[str, ...]
    kinds: frozenset[str]
    over: int | None = None
    first: int = 1
    last: int | None = None
    share: float = 1.0
    seed: str = ""
    seen: int = 0

    def strikes(self, request: Request) -> bool:
        if self.kinds and not self.kinds <= request.kinds:
            return False
        if self.over is not None and not request.covers(self.over):
            return False
        self.seen += 1
        if self.seen < self.first or (self.last is not None and self.seen > self.last):
            return False
        return self.share >= 1.0 or _draw(f"{self.seed}/{self.seen}") < self.share

    def arg(self, index: int = 0, default: str = "") -> str:
        return self.args[index] if index < len(self.args) else default


def _draw(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big") / 2**64


KNOWN_FAULTS = frozenset(
    {"status", "crowd", "hang", "reset", "close", "delay", "drip", "garbage", "cookie", "auth"}
    | {"page", "void", "lead", "flood", "clock", "code"}
    | {
        "by",
        "change",
        "splice",
        "corrupt",
        "encode",
        "body",
        "etag",
        "date",
        "ifrange",
        "ranges",
        "length",
        "digest",
        "header",
        "bighead",
        "manyheads",
        "reason",
        "headline",
    }
    | {"framing", "extra", "cut", "rst", "stall", "hold", "pause", "rate", "line"}
)
KINDS = frozenset({"head", "get", "range", "plain", "again"})


def parse_faults(text: str, seed: str = "") -> list[Fault]:
    """Read the grammar of the module docstring; raises ValueError for a fault or condition that does not exist."""
    faults = []
    for index, part in enumerate(filter(None, (part.strip() for part in text.split(";")))):
        what, *whens = part.split("@")
        name, *args = (unquote(word) for word in what.split(":"))
        if name not in KNOWN_FAULTS:
            raise ValueError(f"no such fault: {name!r} in {text!r}")
        fault = Fault(name, tuple(args), frozenset(w for w in whens if w in KINDS), seed=f"{seed}/{index}")
        for when in whens:
            if when in KINDS:
                continue
            if share := re.fullmatch(r"([\d.]+)%", when):
                fault.share = float(share[1]) / 100
            elif bounds := re.fullmatch(r"(\d+)-(\d*)", when):
                fault.first, fault.last = int(bounds[1]), int(bounds[2]) if bounds[2] else None
            elif when.isdigit():
                fault.last = int(when)
            elif over := re.fullmatch(r"over=(\d+)", when):
                fault.over = int(over[1])
            else:
                raise ValueError(f"no such condition: {when!r} in {text!r}")
        faults.append(fault)
    return faults


class Strikes:
    """The faults that strike one request."""

    def __init__(self, faults: list[Fault]) -> None:
        self._by_name: dict[str, Fault] = {}
        self.all = faults
        for fault in faults:
            self._by_name.setdefault(fault.name, fault)

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    def get(self, name: str) -> Fault | None:
        return self._by_name.get(name)

    def arg(self, name: str, index: int = 0, default: str = "") -> str:
        fault = self._by_name.get(name)
        return fault.arg(index, default) if fault else default


# --- requests, counts -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    """A parsed request; header names are in lower case."""

    method: str
    target: str
    http10: bool
    headers: dict[str, str]
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    is_first: bool = True

    @property
    def kinds(self) -> frozenset[str]:
        again = frozenset[str]() if self.is_first else frozenset({"again"})
        if self.method != "GET":
            return again | {self.method.lower()}
        return again | {"get", "range" if "range" in self.headers else "plain"}

    def covers(self, offset: int) -> bool:
        if self.method != "GET":
            return False
        ranges = parse_ranges(self.headers.get("range"), int(self.query.get("size", "0")))
        return ranges is None or any(start <= offset < stop for start, stop in ranges)


@dataclass(slots=True)
class Seen:
    """One request as the origin saw it and answered it; ``at`` is monotonic seconds, ``peer`` an address.

    ``resumed``: over a connection whose TLS session had been another's.
    """

    method: str
    headers: dict[str, str]
    connection: int
    at: float
    peer: str = ""
    resumed: bool = False
    status: int = 0
    sent: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


@dataclass(slots=True)
class Stats:
    """What was asked of one path. ``sent`` is body bytes handed to the kernel, ``peak`` the most requests at once."""

    methods: Counter[str] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)
    sent: int = 0
    running: int = 0
    peak: int = 0
    connections: set[int] = field(default_factory=set)
    seen: list[Seen] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return sum(self.methods.values())

    def headers(self, name: str) -> list[str]:
        """Return the values of one request header, of the requests that had it."""
        return [seen.headers[name.lower()] for seen in self.seen if name.lower() in seen.headers]

    def as_json(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "methods": dict(self.methods),
            "statuses": {str(status): n for status, n in self.statuses.items()},
            "sent": self.sent,
            "peak": self.peak,
            "connections": len(self.connections),
        }


@dataclass(slots=True)
class _Path:
    """All that is remembered about one path."""

    stats: Stats = field(default_factory=Stats)
    plans: dict[str, list[Fault]] = field(default_factory=dict)
    waits: list[tuple[Callable[[Stats], bool], concurrent.futures.Future[None]]] = field(default_factory=list)
    version: int | None = None
    faults: str | None = None

    def moved(self) -> None:
        if not self.waits:
            return
        waiting = []
        for reached, future in self.waits:
            if not reached(self.stats):
                waiting.append((reached, future))
            elif future.set_running_or_notify_cancel():
                future.set_result(None)
        self.waits = waiting


# --- representations and responses ------------------------------------------------------------------------------------


@dataclass(slots=True)
class Representation:
    """The file as it would be sent: its bytes are a generated content, or ``raw`` (an encoded form)."""

    key: str
    size: int
    version: int
    raw: bytes | None = None
    splice_at: int | None = None
    corrupt_at: int | None = None

    @property
    def length(self) -> int:
        return self.size if self.raw is None else len(self.raw)

    def slice(self, offset: int, length: int) -> memoryview:
        if self.raw is not None:
            return memoryview(self.raw)[offset : offset + length]
        version = self.version
        if self.splice_at is not None:
            if offset >= self.splice_at:
                version += 1
            else:
                length = min(length, self.splice_at - offset)
        piece = content_slice(self.key, version, offset, length)
        if self.corrupt_at is not None and offset <= self.corrupt_at < offset + len(piece):
            spoiled = bytearray(piece)
            spoiled[self.corrupt_at - offset] ^= 0xFF
            return memoryview(spoiled)
        return piece


@lru_cache(maxsize=32)
def _encoded(key: str, size: int, version: int, coding: str) -> bytes:
    plain = content(key, size, version)
    return gzip.compress(plain, 1, mtime=0) if coding == "gzip" else zlib.compress(plain, 1)


Segment = bytes | tuple[int, int]


@dataclass(slots=True)
class Response:
    """A status, headers in order, and a body of literal bytes and (start, stop) ranges of ``source``."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: list[Segment] = field(default_factory=list)
    source: Representation | None = None

    @property
    def length(self) -> int:
        return sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in self.body)


class _Gone(Exception):
    """The connection is to end without a further word."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


def parse_ranges(value: str | None, length: int) -> list[tuple[int, int]] | None:
    """Return half-open satisfiable ranges (RFC 9110 §14.1.2, §14.2); an empty list when there are none: 416.

    None when the field is absent, invalid or of another unit: it is then ignored.
    """
    if value is None:
        return None
    unit, equals, specs = value.partition("=")
    if unit.strip().lower() != "bytes" or not equals:
        return None
    ranges = []
    for spec in specs.split(","):
        match = re.fullmatch(r"\s*(\d*)-(\d*)\s*", spec)
        if match is None or (not match[1] and not match[2]):
            return None
        if not match[1]:
            if int(match[2]) and length:
                ranges.append((max(0, length - int(match[2])), length))
            continue
        first, last = int(match[1]), int(match[2]) if match[2] else length - 1
        if match[2] and last < first:
            return None
        if first < length:
            ranges.append((first, min(last, length - 1) + 1))
    return ranges


def etag_of(key: str, size: int, version: int) -> str:
    return '"' + hashlib.blake2b(f"{key}/{size}/{version}".encode(), digest_size=8).hexdigest() + '"'


def last_modified_of(version: int) -> str:
    return formatdate(EPOCH_OF_FILES + version * 86_400, usegmt=True)


def _http_date(value: str) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return parsedate_to_datetime(value).timestamp()
    return None


def _strong_match(a: str, b: str) -> bool:
    return a == b and not a.startswith("W/")


def _weak_match(a: str, b: str) -> bool:
    return a.removeprefix("W/") == b.removeprefix("W/")


def _etag_list(value: str) -> list[str]:
    return re.findall(r'(?:W/)?"[^"]*"|\*', value)


# --- the server -------------------------------------------------------------------------------------------------------


class _Connection:
    """One accepted connection: reads requests one after the other, and ends as told."""

    def __init__(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.number = number
        self.reader = reader
        self.writer = writer
        self._requests = 0
        self.peer: str = writer.get_extra_info("peername")[0]
        tls = writer.get_extra_info("ssl_object")
        self.resumed = bool(tls and tls.session_reused)
        writer.transport.set_write_buffer_limits(high=PIECE)

    async def read_request(self) -> Request | None:
        try:
            head = await self.reader.readexactly(1)
            if not head.isupper():  # a TLS greeting, say, which would never come to its end
                self.writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
                return None
            head += await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return None
        line, *fields = head.decode("latin-1").split("\r\n")
        method, target, protocol = line.split(" ", 2)
        headers: dict[str, str] = {}
        for text in filter(None, fields):
            name, _, value = text.partition(":")
            name = name.strip().lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        self._requests += 1
        path, is_first = unquote(parts.path), self._requests == 1
        return Request(method, target, protocol == "HTTP/1.0", headers, path, query, is_first)

    async def gone(self) -> None:
        """Wait until the client leaves."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    async def drip(self, pause_s: float) -> None:
        """Send a head without end, slowly, until the client leaves."""
        left = asyncio.ensure_future(self.gone())
        self.writer.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
        while not left.done():
            self.writer.write(b"x")
            await asyncio.wait({left}, timeout=pause_s)

    def end(self, *, reset: bool) -> None:
        if reset:
            sock = self.writer.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        else:
            self.writer.close()


class Origin:
    """The server. A context manager; every public method may be called from any thread.

    ``base`` is ``http://127.0.0.1:PORT``. With ``tls`` the certificate is issued by an authority of its own (trustme),
    which nobody trusts; ``ca_pem`` is that authority's certificate. With ``asks_clients`` only clients that show a
    certificate of that authority, such as ``client_pem``, get in. ``robots`` is its robots.txt, None for 404.
    ``requests`` counts those for all paths, ever.
    """

    def __init__(
        self, *, port: int = 0, bind: str = "127.0.0.1", tls: bool = False, asks_clients: bool = False
    ) -> None:
        self._bind = bind
        self._lock = threading.Lock()
        self._paths: dict[str, _Path] = {}
        self._tickets: dict[str, int] = {}
        self._gates: dict[str, asyncio.Event] = {}
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._writers: weakref.WeakSet[asyncio.StreamWriter] = weakref.WeakSet()
        self._accepted = 0
        self.requests = 0
        self._line_free = 0.0
        self._tokens, self._tokens_at = float("inf"), 0.0
        self._ban, self._ban_after, self._banning = "", 0, ""
        self.running = 0
        self.peak = 0
        self._server: asyncio.Server | None = None
        self._tls: ssl.SSLContext | None = None
        self.ca_pem = self.client_pem = b""
        self.robots: str | None = None
        if tls:
            self._make_certificate(asks_clients)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="origin", daemon=True)
        self.port = port

    def _make_certificate(self, asks_clients: bool) -> None:
        import trustme

        authority = trustme.CA()
        self.ca_pem = authority.cert_pem.bytes()
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", "127.0.0.1").configure_cert(self._tls)
        if asks_clients:
            self.client_pem = authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.bytes()
            authority.configure_trust(self._tls)
            self._tls.verify_mode = ssl.CERT_REQUIRED

    # life

    def start(self) -> Origin:
        self._thread.start()
        self.open_listener()
        return self

    def stop(self) -> None:
        self._call(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Origin:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def open_listener(self) -> None:
        """Accept connections, on the same port as before."""
        self._call(self._listen())

    def close_listener(self, *, drop: bool = True) -> None:
        """Refuse new connections; ``drop`` resets the open ones too."""
        self._call(self._unlisten(drop))

    def drop_connections(self) -> None:
        """Reset every open connection."""
        self._call(self._drop())

    def reopen_after(self, seconds: float) -> None:
        """Be refused now and back after ``seconds``."""
        self.close_listener()
        self._loop.call_soon_threadsafe(
            self._loop.call_later, seconds, lambda: asyncio.ensure_future(self._listen(), loop=self._loop)
        )

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, self._bind, self.port, ssl=self._tls, backlog=1024, limit=PIECE, reuse_address=True
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _unlisten(self, drop: bool) -> None:
        if self._server is not None:
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            for _ in range(3):
                await asyncio.sleep(0)  # what was just accepted is served: CPython 3.11's close would leave it open
            self._server.close()
            self._server = None
        if drop:
            await self._drop()

    async def _drop(self) -> None:
        tasks = dict(self._connections)
        for connection, task in tasks.items():
            connection.end(reset=True)
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _shut(self) -> None:
        await self._unlisten(drop=True)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for writer in list(self._writers):
            # A TLS close waits for the other side's.
            writer.transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    # asking for files

    @property
    def base(self) -> str:
        return self.at("127.0.0.1")

    def at(self, host: str) -> str:
        """Return the base URL under another name of this machine, such as ``localhost``."""
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def url(
        self,
        name: str,
        size: int,
        faults: str = "",
        *,
        version: int = 1,
        seed: int | str | None = None,
        key: str | None = None,
        host: str = "127.0.0.1",
        **more: str,
    ) -> str:
        """Return the URL of a file. ``key`` makes its content that of another name (a mirror)."""
        parse_faults(faults)
        query = {"size": str(size), **more}
        if version != 1:
            query["version"] = str(version)
        if faults:
            query["fault"] = faults
        if seed is not None:
            query["seed"] = str(seed)
        if key is not None:
            query["content"] = key
        return f"{self.at(host)}/f/{quote(name)}?{urlencode(query)}"

    def redirect(
        self, label: str, to: str | None, *, code: int = 302, hops: int = 1, cookie: str = "", host: str = ""
    ) -> str:
        """Return a URL that leads to ``to`` in ``hops`` steps; for ever to itself when ``to`` is None."""
        query = {"code": str(code), "hops": str(hops)}
        if to is not None:
            query["to"] = to
        if cookie:
            query["cookie"] = cookie
        return f"{self.at(host or '127.0.0.1')}/redirect/{quote(label)}?{urlencode(query)}"

    def signed(self, label: str, to: str, *, uses: int, code: int = 403) -> str:
        """Return a URL that redirects to a new signed form of ``to`` each time, good for ``uses`` requests."""
        return f"{self.base}/signed/{quote(label)}?{urlencode({'to': to, 'uses': str(uses), 'code': str(code)})}"

    # steering and watching

    def set_version(self, name: str, version: int) -> None:
        """Replace a file on the server, whatever version its URL says."""
        with self._lock:
            self._path(f"/f/{name}").version = version

    def set_faults(self, name: str, faults: str) -> None:
        """Replace the faults of a file's URL from the next request on."""
        parse_faults(faults)
        with self._lock:
            self._path(f"/f/{name}").faults = faults

    def ban(self, faults: str, *, after: int = 0, host: str = "") -> None:
        """Have every file meet ``faults`` alone, once so many more requests have come; none of them ends it.

        Where ``host`` is given, only what is asked of a Host that begins like that.
        """
        parse_faults(faults)
        with self._lock:
            self._ban, self._ban_after, self._banning = faults, self.requests + after, host

    def release(self, gate: str) -> None:
        """Let the responses held at a gate go on, for good."""
        self._loop.call_soon_threadsafe(lambda: self._gate(gate).set())

    def stats(self, name: str) -> Stats:
        """Return the live counts of a file, or of another path when ``name`` begins with a slash."""
        with self._lock:
            return self._path(name if name.startswith("/") else f"/f/{name}").stats

    def when(self, name: str, reached: Callable[[Stats], bool]) -> concurrent.futures.Future[None]:
        """Return a future that is done once ``reached`` holds for the counts of a file.

        ``.result(timeout)`` waits in a thread, ``await asyncio.wrap_future(…)`` in a loop.
        """
        future: concurrent.futures.Future[None] = concurrent.futures.Future()
        with self._lock:
            path = self._path(name if name.startswith("/") else f"/f/{name}")
            path.waits.append((reached, future))
            path.moved()
        return future

    async def sent(self, name: str, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` body bytes of a file have been sent."""
        await asyncio.wait_for(asyncio.wrap_future(self.when(name, lambda stats: stats.sent >= count)), timeout)

    async def begun(self, name: str, count: int, timeout: float = 30.0) -> None:
        """Wait until ``count`` requests for a file have begun."""
        await asyncio.wait_for(asyncio.wrap_future(self.when(name, lambda stats: stats.requests >= count)), timeout)

    def reset(self) -> None:
        """Forget all counts, versions, tickets and gates; open the listener if it is closed."""
        with self._lock:
            self._paths.clear()
            self._tickets.clear()
            self._tokens = float("inf")
            self._ban = ""
            self.peak = self.running
        self.robots = None
        self._call(self._forget_gates())
        if self._server is None:
            self.open_listener()

    async def _forget_gates(self) -> None:
        for gate in self._gates.values():
            gate.set()
        self._gates.clear()

    def _gate(self, name: str) -> asyncio.Event:
        return self._gates.setdefault(name, asyncio.Event())

    def _path(self, path: str) -> _Path:
        return self._paths.setdefault(path, _Path())

    # connections

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._accepted += 1
        self._writers.add(writer)
        connection = _Connection(self._accepted, reader, writer)
        self._connections[connection] = task
        reset = False
        try:
            while (request := await connection.read_request()) is not None:
                if not await self._answer(connection, request):
                    break
        except _Gone as gone:
            reset = gone.reset
        except ConnectionError:
            reset = True
        except asyncio.CancelledError:
            # Only _drop cancels; asyncio.streams of 3.11 would log a cancelled connection handler as an error.
            reset = True
        finally:
            del self._connections[connection]
            connection.end(reset=reset)

    async def _answer(self, connection: _Connection, request: Request) -> bool:
        """Answer one request; return whether the connection stays open."""
        with self._counted(connection, request) as (path, seen):
            if request.method not in ("GET", "HEAD"):
                await self._send(
                    connection, request, _error(405, Allow="GET, HEAD"), Strikes([]), path, seen, close=True
                )
                return False
            if request.path.startswith("/f/"):
                return await self._file(connection, request, path, seen)
            response = await self._special(request)
            return await self._send(connection, request, response, Strikes([]), path, seen)

    @contextlib.contextmanager
    def _counted(self, connection: _Connection, request: Request) -> Iterator[tuple[_Path, Seen]]:
        at = time.monotonic()
        seen = Seen(request.method, request.headers, connection.number, at, connection.peer, connection.resumed)
        with self._lock:
            self.requests += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
            path = self._path(request.path)
            stats = path.stats
            stats.methods[request.method] += 1
            stats.connections.add(connection.number)
            stats.running += 1
            stats.peak = max(stats.peak, stats.running)
            if len(stats.seen) < LOG_LIMIT:
                stats.seen.append(seen)
            path.moved()
        try:
            yield path, seen
        finally:
            with self._lock:
                self.running -= 1
                stats.running -= 1
                path.moved()

    async def _special(self, request: Request) -> Response:
        query = request.query
        if request.path == "/robots.txt" and self.robots is not None:
            return _text(200, self.robots)
        if request.path == "/_stats":
            with self._lock:
                figures = {path: state.stats.as_json() for path, state in self._paths.items()}
            return _text(200, json.dumps(figures), "application/json")
        if request.path == "/_reset":
            with self._lock:
                self._paths.clear()
            return _text(200, "ok")
        if request.path == "/_version":
            self.set_version(query["name"], int(query["version"]))
            return _text(200, "ok")
        if request.path == "/_release":
            self._gate(query["gate"]).set()
            return _text(200, "ok")
        if request.path.startswith("/redirect/"):
            return self._redirect(request)
        if request.path.startswith("/signed/"):
            return self._sign(request)
        return _error(404)

    def _redirect(self, request: Request) -> Response:
        query = request.query
        hops = int(query.get("hops", "1"))
        if "to" not in query or ("until" in query and query["until"] not in request.headers.get("cookie", "")):
            target = request.target
        elif hops > 1:
            target = f"{request.path}?{urlencode({**query, 'hops': str(hops - 1)})}"
        else:
            target = query["to"]
        response = _text(int(query.get("code", "302")), "<html>moved</html>", "text/html")
        if target:
            response.headers["Location"] = target
        if query.get("cookie"):
            response.headers["Set-Cookie"] = f"{query['cookie']}; Path=/"
        return response

    def _sign(self, request: Request) -> Response:
        query = request.query
        with self._lock:
            ticket = f"{request.path}#{len(self._tickets)}"
            self._tickets[ticket] = int(query["uses"])
        join = "&" if "?" in query["to"] else "?"
        location = f"{query['to']}{join}{urlencode({'ticket': ticket, 'expired': query.get('code', '403')})}"
        return Response(302, {"Location": location})

    def _ticket_holds(self, ticket: str) -> bool:
        with self._lock:
            left = self._tickets.get(ticket, 0)
            self._tickets[ticket] = left - 1
        return left > 0

    def _flows(self, rate: float, burst: float) -> bool:
        """Take a token out of the bucket of the whole origin; False if it is empty."""
        now = self._loop.time()
        self._tokens = min(burst, self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    # files

    async def _file(self, connection: _Connection, request: Request, path: _Path, seen: Seen) -> bool:
        query = request.query
        with self._lock:
            text = path.faults if path.faults is not None else query.get("fault", "")
            is_banned = request.headers.get("host", "").startswith(self._banning)
            if self._ban and is_banned and self.requests > self._ban_after:
                text = self._ban
            plan = path.plans.setdefault(text, parse_faults(text, query.get("seed", "")))
            strikes = Strikes([fault for fault in plan if fault.strikes(request)])
            version = path.version if path.version is not None else int(query.get("version", "1"))
        if "ticket" in query and not self._ticket_holds(query["ticket"]):
            return await self._send(connection, request, _error(int(query["expired"])), Strikes([]), path, seen)
        refused = await self._instead(connection, request, strikes, path.stats)
        if refused is not None:
            return await self._send(connection, request, refused, Strikes([]), path, seen)
        key = query.get("content", request.path.removeprefix("/f/"))
        if (by := strikes.arg("by")) and (asked := request.headers.get(by.lower())):
            key = f"{key}/{asked}"
        size = int(query.get("size", "0"))
        response = self._respond(request, strikes, key, size, version + ("change" in strikes), connection.number)
        return await self._send(connection, request, response, strikes, path, seen)

    async def _instead(
        self, connection: _Connection, request: Request, strikes: Strikes, stats: Stats
    ) -> Response | None:
        """Return an answer that has nothing to do with the file, or None; does not return when there is to be none."""
        if delay := strikes.arg("delay"):
            await asyncio.sleep(float(delay))
        if "hang" in strikes:
            await connection.gone()
            raise _Gone
        if pause := strikes.arg("drip"):
            await connection.drip(float(pause))
            raise _Gone
        if "reset" in strikes or "close" in strikes:
            raise _Gone(reset="reset" in strikes)
        if "garbage" in strikes:
            connection.writer.write(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
            await connection.writer.drain()
            raise _Gone
        if (cookie := strikes.arg("cookie")) and cookie not in request.headers.get("cookie", "").split("; "):
            return _error(403)
        if (auth := strikes.arg("auth")) and request.headers.get("authorization") != auth:
            return _error(401)
        if "page" in strikes:
            return _text(200, "<!DOCTYPE html>" + "x" * (int(strikes.arg("page", default="500")) - 15), "text/html")
        if "void" in strikes:
            return _text(200, "")
        if where := strikes.arg("lead"):
            return Response(302, {"Location": where})
        crowd, status = strikes.get("crowd"), strikes.get("status")
        if crowd is not None and stats.running > int(crowd.arg()):
            if crowd.arg(1) == "hang":
                await connection.gone()
                raise _Gone
            if crowd.arg(1) in ("rst", "close"):
                raise _Gone(reset=crowd.arg(1) == "rst")
            status = Fault("status", crowd.args[1:], frozenset())
        flood = strikes.get("flood")
        if flood is not None and not self._flows(float(flood.arg()), float(flood.arg(1))):
            status = Fault("status", flood.args[2:], frozenset())
        if (code := strikes.arg("ifrange")).isdigit() and "if-range" in request.headers:
            status = Fault("status", (code,), frozenset())
        if status:
            response = _error(int(status.arg()))
            if after := status.arg(1):
                ahead = re.fullmatch(r"date\+([\d.]+)", after)
                response.headers["Retry-After"] = _date_ahead(float(ahead[1])) if ahead else after
            return response
        return None

    def _respond(
        self, request: Request, strikes: Strikes, key: str, size: int, version: int, connection: int
    ) -> Response:
        """Answer by RFC 9110 §13.2.2 and §14, but for what strikes."""
        source, coding = _represent(strikes, key, size, version)
        headers = {"Content-Type": "application/octet-stream"}
        if coding:
            headers["Content-Encoding"] = coding
            headers["Vary"] = "Accept-Encoding"
        ranges_fault = strikes.arg("ranges")
        if ranges_fault not in ("none", "silent"):
            headers["Accept-Ranges"] = "bytes"
        etag = _etag(strikes, key, size, version, connection, coding)
        modified = _last_modified(strikes, version, connection)
        if etag:
            headers["ETag"] = etag
        if modified:
            headers["Last-Modified"] = modified
        headers.update(_digests(strikes, key, size, version))
        for fault in strikes.all:
            if fault.name == "header":
                name, _, value = fault.arg().partition("=")
                headers[name] = value
            elif fault.name == "bighead":
                headers["X-Big"] = "x" * int(fault.arg())

        early = _preconditions(request, etag, modified)
        if early:
            kept = {name: value for name, value in headers.items() if name in ("ETag", "Last-Modified", "Vary")}
            return Response(304, kept) if early == 304 else _error(early)
        whole = Response(int(strikes.arg("code", default="200")), headers, [(0, source.length)], source)
        if ranges_fault == "whole" and request.method == "GET" and source.length:
            headers["Content-Range"] = f"bytes 0-{source.length - 1}/{source.length}"
            return Response(206, headers, [(0, source.length)], source)
        if request.method != "GET" or not _if_range_holds(request, strikes, etag, modified):
            return whole
        ranges = parse_ranges(request.headers.get("range"), source.length)
        if ranges is None or ranges_fault in ("none", "ignored") or len(ranges) > MAX_RANGES:
            return whole
        if ranges_fault == "leads":
            location = strikes.arg("ranges", 1)
            return Response(302, {"Location": request.target if location == "self" else location})
        if ranges_fault == "416" or not ranges:
            response = _error(416)
            total = strikes.arg("ranges", 1, str(source.length)) if ranges_fault == "416" else str(source.length)
            if total != "none":
                response.headers["Content-Range"] = f"bytes */{total}"
            return response
        if len(ranges) > 1 or ranges_fault == "multipart":
            response = _multipart(ranges, headers, source)
            if strikes.arg("ranges", 1) == "labelled":
                start, stop = ranges[0]
                response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{source.length}"
            return response
        return _partial(ranges[0], strikes, headers, source)

    # sending

    async def _send(
        self,
        connection: _Connection,
        request: Request,
        response: Response,
        strikes: Strikes,
        path: _Path,
        seen: Seen,
        *,
        close: bool = False,
    ) -> bool:
        length = response.length
        framing = strikes.arg("framing") if 200 <= response.status < 300 else ""
        if framing == "chunked" and request.http10:
            framing = "close"
        declared = _declared(strikes, length) if response.status != 304 else None
        close = close or request.http10 or framing in ("close", "http10")
        close = close or "close" in request.headers.get("connection", "").lower()
        if request.method == "GET" and declared not in (None, length) and not framing:
            close = True
        fields = {"Date": formatdate(usegmt=True), "Server": "origin", **response.headers}
        if "clock" in strikes:
            del fields["Date"]
        if framing == "chunked":
            fields["Transfer-Encoding"] = "chunked"
        elif not framing and declared is not None:
            fields["Content-Length"] = str(declared)
        elif not framing and request.method == "GET" and response.status != 304:
            close = True
        if close:
            fields["Connection"] = "close"
        version = "HTTP/1.0" if framing == "http10" else "HTTP/1.1"
        reason = "O" * int(strikes.arg("reason") or 0) or _phrase(response.status)
        head = f"{version} {response.status} {reason}\r\n"
        for fault in strikes.all:
            if fault.name == "headline":
                head += fault.arg().replace("{length}", str(declared)) + "\r\n"
        head += "".join(f"X-H{number}: {number}\r\n" for number in range(int(strikes.arg("manyheads") or 0)))
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        seen.status = response.status
        with self._lock:
            path.stats.statuses[response.status] += 1
        writer = connection.writer
        writer.write(head.encode("latin-1"))
        if request.method != "HEAD" and response.status != 304:
            chunked = framing == "chunked"
            async with contextlib.aclosing(self._shaped(connection, response, strikes, length)) as pieces:
                async for piece in pieces:
                    writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
                    # Counted before the wait: a client that has these bytes may act on them already.
                    with self._lock:
                        path.stats.sent += len(piece)
                        seen.sent += len(piece)
                        path.moved()
                    await writer.drain()
            if chunked:
                writer.write(b"0\r\n\r\n")
            if extra := strikes.arg("extra"):
                writer.write(b"\xee" * int(extra))
        await writer.drain()
        return not close

    async def _shaped(
        self, connection: _Connection, response: Response, strikes: Strikes, length: int
    ) -> AsyncGenerator[memoryview, None]:
        """Yield the body in pieces, at the pace and up to the point that the faults allow."""
        marks = _marks(strikes, length)
        rate = float(strikes.arg("rate", default="0"))
        piece_size = PIECE
        if rate:
            piece_size = int(strikes.arg("rate", 1) or max(1, min(PIECE, rate / 50)))
        line = float(strikes.arg("line", default="0"))
        if line:
            piece_size = min(piece_size, LINE_PIECE)
        began = self._loop.time()
        sent = 0
        for segment in response.body:
            at, stop = (0, len(segment)) if isinstance(segment, bytes) else segment
            while at < stop:
                while marks and marks[0][0] <= sent:
                    await self._strike(connection, marks.pop(0)[1])
                room = min(piece_size, stop - at, marks[0][0] - sent if marks else piece_size)
                if isinstance(segment, bytes):
                    piece = memoryview(segment)[at : at + room]
                else:
                    assert response.source is not None
                    piece = response.source.slice(at, room)
                yield piece
                at += len(piece)
                sent += len(piece)
                if line:
                    self._line_free = max(self._line_free, self._loop.time()) + len(piece) / line
                    await asyncio.sleep(max(0.0, self._line_free - self._loop.time()))
                if rate:
                    await asyncio.sleep(max(0.0, began + sent / rate - self._loop.time()))
        for _, fault in marks:
            await self._strike(connection, fault)

    async def _strike(self, connection: _Connection, fault: Fault) -> None:
        if fault.name in ("cut", "rst"):
            connection.writer.transport.set_write_buffer_limits(high=0)
            await connection.writer.drain()
            raise _Gone(reset=fault.name == "rst")
        if fault.name == "stall":
            await connection.gone()
            raise _Gone
        if fault.name == "pause":
            await asyncio.sleep(float(fault.arg(1)))
            return
        opened = asyncio.ensure_future(self._gate(fault.arg()).wait())
        left = asyncio.ensure_future(connection.gone())
        try:
            await asyncio.wait({opened, left}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            opened.cancel()
            left.cancel()
            await asyncio.gather(opened, left, return_exceptions=True)
        if not self._gate(fault.arg()).is_set():
            raise _Gone


def _marks(strikes: Strikes, length: int) -> list[tuple[int, Fault]]:
    marks = []
    for fault in strikes.all:
        if fault.name in ("cut", "rst", "stall", "pause", "hold"):
            where = fault.arg(1, "0") if fault.name == "hold" else fault.arg()
            marks.append((int(float(where) * length) if "." in where else int(where), fault))
    # A mark at or behind the end would strike after a whole body, which is then no fault.
    return sorted((mark for mark in marks if mark[0] < length or mark[0] == 0), key=lambda mark: mark[0])


def _represent(strikes: Strikes, key: str, size: int, version: int) -> tuple[Representation, str]:
    source = Representation(key, size, version)
    if splice := strikes.arg("splice"):
        source.splice_at = int(splice)
    if corrupt := strikes.arg("corrupt"):
        source.corrupt_at = int(corrupt)
    if "body" in strikes:
        source.raw = base64.b64decode(strikes.arg("body"))
    coding = strikes.arg("encode")
    if coding in ("gzip", "deflate", "br"):
        source.raw = _encoded(key, size, version, coding)
    return source, {"mislabel": "gzip"}.get(coding, coding)


def _etag(strikes: Strikes, key: str, size: int, version: int, connection: int, coding: str) -> str | None:
    etag = etag_of(key, size, version)
    if coding:
        etag = f'{etag[:-1]}-{coding}"'
    kind = strikes.arg("etag")
    if kind == "none":
        return None
    if kind == "weak":
        return f"W/{etag}"
    if kind == "bare":
        return etag.strip('"')
    if kind == "empty":
        return '""'
    if kind == "fixed":  # for the life of the process, whatever becomes of the file
        return etag_of(key, size, 0)
    if kind == "backend":
        return f'{etag[:-1]}-{connection % int(strikes.arg("etag", 1, "2"))}"'
    if kind == "per-request":
        fault = strikes.get("etag")
        assert fault is not None
        return f'{etag[:-1]}-{fault.seen}"'
    return etag


def _last_modified(strikes: Strikes, version: int, connection: int) -> str | None:
    kind = strikes.arg("date")
    if kind == "none":
        return None
    if kind == "now":
        return formatdate(usegmt=True)
    if kind == "epoch":
        return formatdate(1, usegmt=True)
    if kind == "fixed":
        return last_modified_of(0)
    if kind == "backend":
        return formatdate(EPOCH_OF_FILES + version * 86_400 + connection % 2, usegmt=True)
    return last_modified_of(version)


def _digests(strikes: Strikes, key: str, size: int, version: int) -> dict[str, str]:
    headers: dict[str, str] = {}
    for fault in strikes.all:
        if fault.name != "digest":
            continue
        subject = (key + "?" if fault.arg(1) == "wrong" else key, size, version)

        def encoded(algorithm: str, subject: tuple[str, int, int] = subject) -> str:
            return base64.b64encode(bytes.fromhex(content_hash(*subject, algorithm))).decode()

        kind = fault.arg()
        if kind == "repr":
            headers["Repr-Digest"] = f"sha-256=:{encoded('sha256')}:"
        elif kind == "content":
            headers["Content-Digest"] = f"sha-256=:{encoded('sha256')}:"
        elif kind == "digest":
            headers["Digest"] = f"sha-256={encoded('sha256')}"
        elif kind == "md5":
            headers["Content-MD5"] = encoded("md5")
        elif kind == "goog":
            headers["x-goog-hash"] = f"crc32c={encoded('crc32c')},md5={encoded('md5')}"
        elif kind == "goog-crc":
            headers["x-goog-hash"] = f"crc32c={encoded('crc32c')}"
        elif kind.startswith("aws-"):
            headers[f"x-amz-checksum-{kind[4:]}"] = encoded(kind[4:])
        else:
            raise ValueError(f"no such digest: {kind!r}")
    return headers


def _preconditions(request: Request, etag: str | None, modified: str | None) -> int | None:
    """Return 304 or 412 where a conditional header says so (RFC 9110 §13.2.2)."""
    headers = request.headers
    at = _http_date(modified) if modified else None
    if "if-match" in headers:
        tags = _etag_list(headers["if-match"])
        if "*" not in tags and not any(_strong_match(tag, etag or "") for tag in tags):
            return 412
    elif (since := _http_date(headers.get("if-unmodified-since", ""))) is not None and at is not None and at > since:
        return 412
    if "if-none-match" in headers:
        tags = _etag_list(headers["if-none-match"])
        if "*" in tags or (etag and any(_weak_match(tag, etag) for tag in tags)):
            return 304
    elif (since := _http_date(headers.get("if-modified-since", ""))) is not None and at is not None and at <= since:
        return 304
    return None


def _if_range_holds(request: Request, strikes: Strikes, etag: str | None, modified: str | None) -> bool:
    """Say whether Range is to be looked at (RFC 9110 §13.1.5: strong comparison, or the exact date)."""
    condition = request.headers.get("if-range")
    kind = strikes.arg("ifrange")
    if condition is None or kind == "ignored":
        return True
    if kind == "never":
        return False
    if condition.startswith(('"', "W/")):
        return kind != "date" and etag is not None and _strong_match(condition, etag)
    # A date is strong only if it is at least a second older than the time of the answer (§8.8.2.2).
    at = _http_date(modified) if modified else None
    return at is not None and condition == modified and _http_date(formatdate(usegmt=True)) != at


def _partial(asked: tuple[int, int], strikes: Strikes, headers: dict[str, str], source: Representation) -> Response:
    start, stop = asked
    kind, amount = strikes.arg("ranges"), strikes.arg("ranges", 1, "1")
    if kind == "shift":
        start, stop = start + int(amount), min(stop + int(amount), source.length)
    elif kind == "shorter":
        stop = max(start + 1, stop - int(amount))
    elif kind == "longer":
        stop = min(source.length, stop + int(amount))
    elif kind == "earlier":
        start = max(0, start - int(amount))
    elif kind == "unbounded":
        stop = source.length
    if start >= stop:
        start, stop = asked
    total = str(source.length)
    if kind == "total":
        total = "*" if amount == "*" else str(source.length + int(amount))
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
    if kind == "mislabelled":
        headers["Content-Range"] = f"bytes {start}-{max(start, stop - 1 - int(amount))}/{total}"
    elif kind == "unlabelled":
        del headers["Content-Range"]
    elif kind == "invalid":
        headers["Content-Range"] = f"bytes {stop}-{start}/{total}"
    body: list[Segment] = [] if kind == "empty" else [(start, stop)]
    if kind == "rewound":
        body = [(0, source.length if strikes.arg("ranges", 1) == "all" else stop - start)]
    if kind == "as200" and strikes.arg("ranges", 1) == "bare":
        del headers["Content-Range"]
    return Response(200 if kind == "as200" else 206, headers, body, source)


def _multipart(ranges: list[tuple[int, int]], headers: dict[str, str], source: Representation) -> Response:
    boundary = "THIS_STRING_SEPARATES"
    body: list[Segment] = []
    for start, stop in ranges:
        part = f"\r\n--{boundary}\r\nContent-Type: {headers['Content-Type']}\r\n"
        part += f"Content-Range: bytes {start}-{stop - 1}/{source.length}\r\n\r\n"
        body += [part.encode(), (start, stop)]
    body.append(f"\r\n--{boundary}--\r\n".encode())
    return Response(206, {**headers, "Content-Type": f"multipart/byteranges; boundary={boundary}"}, body, source)


def _declared(strikes: Strikes, length: int) -> int | None:
    text = strikes.arg("length")
    if not text:
        return length
    if text == "none":
        return None
    return max(0, length + int(text)) if text[0] in "+-" else int(text)


def _date_ahead(seconds: float) -> str:
    return formatdate(time.time() + seconds, usegmt=True)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _text(status: int, text: str, kind: str = "text/plain") -> Response:
    return Response(status, {"Content-Type": kind}, [text.encode()] if text else [])


def _error(status: int, **headers: str) -> Response:
    response = _text(status, f"<html>{status} {_phrase(status)}</html>", "text/html")
    response.headers.update(headers)
    return response


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the test origin until SIGTERM or SIGINT; print its base URL.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bind", default="127.0.0.1")
    parser.add_argument("--tls", action="store_true")
    arguments = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with Origin(port=arguments.port, bind=arguments.bind, tls=arguments.tls) as origin:
        print(origin.base, flush=True)
        ended.wait()


if __name__ == "__main__":
    main()
