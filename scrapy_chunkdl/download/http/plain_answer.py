"""One connection that asks by one head and reads one plain answer, all of its body in memory: strict, and quick.

Read by a protocol of ours (RFC 9112 §2.2, §5, §6.3). What is not plain is no error: :class:`Odd` says why, and has the
answer as far as it came for the ordinary client, which knows the rest of HTTP. Knows a transport and heads; nothing of
hosts, pools or files.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass

from multidict import CIMultiDict

from scrapy_chunkdl.download.http.handed_on import HandedOn
from scrapy_chunkdl.download.http.headers import parse_content_range

_USUAL_HEAD = 1 << 10
_MOST_HEAD = 1 << 14
_STATUS = re.compile(r"HTTP/1\.1 (200|206)(?: [ -~]*)?\r\n")
_FIELD = re.compile(r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([ -~\t]*)\r\n", re.MULTILINE)
"""A line of printable ASCII (RFC 9112 §4, §5): no folded line, no space before a colon."""

_OTHER_STATUS = re.compile(r"HTTP/1\.1 (?!200|206)[2-5][0-9]{2} ")
_LENGTH = re.compile(r"[0-9]{1,10}")
_ODD_FIELDS = frozenset({"transfer-encoding", "content-encoding", "set-cookie", "location", "refresh", "trailer"})
_ONCE = ("Content-Length", "Content-Range", "Content-Type", "ETag", "Last-Modified", "Content-Disposition")


_NO_BUFFER = memoryview(b"")
_SCRATCH = memoryview(bytearray(1))
"""For what comes when nothing is to come: it ends the connection."""


class Odd(Exception):
    """An answer, or a connection, that is not for this way. ``why`` is one short word.

    ``given`` is the answer as it came, for whoever reads it to its end; the receiver of the error has to close it.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.given: HandedOn | None = None


@dataclass(slots=True)
class Answer:
    """A plain answer with all of its body, which lies in its connection's buffer: good until that is given back.

    ``late_bytes`` came after the head, within ``took_s`` seconds.
    """

    status: int
    headers: CIMultiDict[str]
    body: memoryview
    late_bytes: int = 0
    took_s: float = 0.0


class Connection(asyncio.BufferedProtocol):
    """One connection: asks, then reads an answer into memory.

    ``buffer`` is where answers are read to, head and body, as long as they fit; lent with each question.
    """

    __slots__ = (
        *(
            "_answer",
            "_answers",
            "_began_at",
            "_filled",
            "_given",
            "_head",
            "_late",
            "_loop",
            "_most",
            "_rest",
            "_target",
        ),
        *("_transport", "buffer", "is_open", "moved_at", "was_answered"),
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Answer] | None = None
        self._answers = 0
        self._most = 0
        self.buffer = _NO_BUFFER
        self._filled = 0  # bytes of the buffer that have come, of this answer
        self._head: tuple[int, CIMultiDict[str], int] | None = None
        self._given: HandedOn | None = None
        self._late, self._began_at = 0, 0.0  # bytes of the body that come after the head, and since when
        self._target = _NO_BUFFER  # where the body is whole in the end
        self._rest = _NO_BUFFER  # what of it is still to come
        self.is_open = False
        self.was_answered = False
        self.moved_at = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self.is_open = True

    def ask(self, request: bytes, most_bytes: int, buffer: memoryview) -> asyncio.Future[Answer]:
        """Send a request; the future has its answer, or an Odd."""
        assert self._transport is not None
        self._answer = answer = self._loop.create_future()
        self._most = most_bytes
        self.buffer = self._rest = buffer
        self._filled = 0
        self._head = None
        self.was_answered = False
        self.moved_at = time.monotonic()
        self._transport.write(request)
        return answer

    def let_go_of_buffer(self) -> None:
        """Read nothing into the buffer any more: somebody else gets it."""
        self.buffer = self._rest = self._target = _NO_BUFFER

    def abort(self) -> None:
        """Close it at once."""
        self.is_open = False
        if self._transport is not None:
            self._transport.abort()

    def give_up_waiting(self) -> None:
        """End a silent answer. A first one that has not begun goes on to whoever knows how long a server may take.

        A connection that had an answer before may have been lost meanwhile: there it is asked anew.
        """
        odd = Odd("stalled" if self.was_answered or self._answers else "slow")
        if odd.why == "slow":
            assert self._transport is not None
            self._given = odd.given = HandedOn(self._transport, b"")
        self.fail(odd)

    def fail(self, odd: Odd) -> None:
        """End the answer that is waited for, and the connection."""
        self.is_open = False
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(odd)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the socket is read into: what is left of the buffer, or the body's own place."""
        return self._rest or _SCRATCH

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self.moved_at = time.monotonic()
        if self._answer is None:  # nobody asked: what comes now would pass as the next answer
            self.abort()
            return
        self._rest = self._rest[nbytes:]
        if self._head is not None:
            if not self._rest:
                self._end()
            return
        self.was_answered = True
        self._filled += nbytes
        try:
            self._begin()
        except Odd as odd:
            assert self._transport is not None
            self._given = odd.given = HandedOn(self._transport, bytes(self.buffer[: self._filled]))
            if self._answer.done():  # whoever asked has gone
                odd.given.close()
            self.fail(odd)

    def _begin(self) -> None:
        """Read the head, if all of it is there, and find a place for the body."""
        filled, buffer = self._filled, self.buffer
        raw = bytes(buffer[: min(filled, _USUAL_HEAD)])
        end = raw.find(b"\r\n\r\n") + 4
        if end < 4 and filled > _USUAL_HEAD:
            raw = bytes(buffer[: min(filled, _MOST_HEAD)])
            end = raw.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(raw) >= _MOST_HEAD:
                raise Odd("long_head")
            return
        status, headers, length = read_head(raw[:end])
        if length > self._most or (length == self._most and status == 200):  # which may be just the part asked for
            raise Odd("large")
        if length == 0:
            raise Odd("empty")
        got = filled - end
        if got > length:
            raise Odd("too_long")
        self._head = status, headers, length
        if end + length <= len(buffer):
            self._target = buffer[end : end + length]
        else:
            self._target = memoryview(bytearray(length))
            self._target[:got] = buffer[end:filled]
        self._rest = self._target[got:]
        self._late, self._began_at = length - got, self.moved_at
        if got == length:
            self._end()

    def _end(self) -> None:
        assert self._head is not None
        status, headers, _ = self._head
        answer, self._answer = self._answer, None
        self._answers += 1
        body, self._target = self._target, _NO_BUFFER
        if answer is not None and not answer.done():
            self.is_open = self.is_open and headers.get("Connection", "keep-alive").lower() == "keep-alive"
            answer.set_result(Answer(status, headers, body, self._late, self.moved_at - self._began_at))

    def eof_received(self) -> None:
        """The peer has closed its side; the transport closes, too."""
        self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits."""
        self._lost()

    def _lost(self) -> None:
        if self._given is not None:
            self._given.is_lost = True
        self.fail(Odd("closed"))


def read_head(raw: bytes) -> tuple[int, CIMultiDict[str], int]:
    """Return status, fields and the length of the body, which is that of the file. Raises Odd for what is not plain."""
    text = raw.decode("latin-1")
    status = _STATUS.match(text)
    if status is None:
        raise Odd("status" if _OTHER_STATUS.match(text) else "head")
    fields = _FIELD.findall(text, status.end())
    if not fields or len(fields) + 2 != text.count("\n"):  # what is no field is in none
        raise Odd("head")
    names = {name.lower() for name, _ in fields}
    if not _ODD_FIELDS.isdisjoint(names):
        raise Odd(min(_ODD_FIELDS & names))
    if " \r" in text or "\t\r" in text:
        fields = [(name, value.rstrip(" \t")) for name, value in fields]
    headers = CIMultiDict(fields)
    if len(names) != len(fields) and any(len(headers.getall(name, ())) > 1 for name in _ONCE):
        raise Odd("twice")
    told = headers.get("Content-Length", "")
    if not _LENGTH.fullmatch(told):
        raise Odd("no_length")
    length = int(told)
    if status[1] == "200":
        if "Content-Range" in headers:
            raise Odd("part")
        return 200, headers, length
    span = parse_content_range(headers.get("Content-Range"))
    if span is None or span.start != 0 or span.stop != length:
        raise Odd("part")
    if span.total != length:
        raise Odd("large")
    return 206, headers, length
