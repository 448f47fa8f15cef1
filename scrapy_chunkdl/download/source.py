"""Where the bytes of a file come from, as the transfer sees it: the protocol that every kind of source speaks.

A transfer asks a :class:`Source` for three things: :meth:`~Source.measure` says what the file is, :meth:`~Source.read`
and :meth:`~Source.read_whole` have its bytes come, :meth:`~Source.close` ends it. HTTP is one kind
(:mod:`scrapy_chunkdl.download.http.source`). All behind it is the same for each kind: names, part files, resume,
checks, checksums, stores, limits, progress. Knows words only; nothing of any one protocol, nothing of what a transfer
does with the bytes.

**Errors.** Whatever goes wrong is one of :mod:`scrapy_chunkdl.download.errors`, never a library's own: ``Transient`` is
tried again by the transfer, with backoff; ``Throttled`` and ``TooFast`` likewise, once the source has told the limits
(``limits.cool_down``, ``limits.refused``); ``Permanent`` ends this source, and the file, if there is no other one.
``SourceChanged``: it is another version than the one that was measured. ``RangeIgnored``, ``RangeMismatch``: parts
cannot be had, the whole can. ``Remeasured``: it has another size than :meth:`~Source.measure` said.

**Ownership.** The transfer holds a slot of :attr:`Source.host` while it asks and reads; a source takes none but within
``measure``, and hands the one whose answer it returns on with it (:class:`Opening`). An :class:`Answer` belongs to who
got it, and is ended by its ``close``. Connections and logins belong to the :class:`Opener`.

**Cancellation** comes as ``asyncio.CancelledError`` out of any await. It is passed on; what was opened by then is
closed by who opened it. What ``take`` raises is passed on, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Protocol

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.http.headers import NO_VALIDATOR, Validator
from scrapy_chunkdl.download.known import Known
from scrapy_chunkdl.download.limits.hosts import Limits
from scrapy_chunkdl.download.limits.slot import HostSlot
from scrapy_chunkdl.download.model import FileRequest, Options, Pieces, Progress
from scrapy_chunkdl.download.plan.plan import Span
from scrapy_chunkdl.download.plan.ranges import Range
from scrapy_chunkdl.download.remote import Remote

Take = Callable[["bytes | memoryview"], bool]
"""Takes a piece of a body, which is good until it returns; False when no more is wanted. It may raise DownloadError."""


class End(Enum):
    """How a body ended. A reset is no end: it is raised as an error (RFC 9112 §8)."""

    COUNTED = "all the bytes its length promised have come"
    CHUNKED = "its last chunk has come"
    CLOSED = "the connection was closed in order"
    STOPPED = "no more was wanted"


class Line(Protocol):
    """A connection that brings one answer after the other."""

    @property
    def was_lost(self) -> bool:
        """Whether the other side has ended it without having said so: who answers next may have another version."""
        ...


class Answer(Protocol):
    """Bytes of the file that are about to come. Whoever has it closes it; another task may, while ``read`` waits.

    ``url`` is where they come from, for messages; ``status`` the number the protocol gave, if it has any.
    """

    @property
    def url(self) -> str: ...

    @property
    def status(self) -> int | None: ...

    @property
    def told(self) -> Remote:
        """What it says the file is."""
        ...

    @property
    def length(self) -> int | None:
        """How many bytes are to come, as they are sent; None where nothing says."""
        ...

    @property
    def line(self) -> Line | None:
        """What it comes over; None where no other answer comes over that."""
        ...

    @property
    def is_part(self) -> bool:
        """Whether it was called a part of the file, even if it has all of it."""
        ...

    @property
    def is_plain(self) -> bool:
        """Whether the file was asked for as a whole."""
        ...

    @property
    def says_empty(self) -> bool:
        """Whether it is the kind of answer that an empty file has; what else is known of the file stands."""
        ...

    def bytes_for(self, wanted: Wanted) -> Range | None:
        """Return which bytes come, the one at ``wanted.span.position`` among them, once they are sure to be the file's.

        None for all of the file although a part was wanted. Raises as :meth:`Source.read` does. Asked of answers that
        ``measure`` brought; those of ``read`` have been looked at.
        """
        ...

    def check_whole(self) -> None:
        """Raise DownloadError unless it may be the whole file."""
        ...

    async def read(self, take: Take) -> End:
        """Pass the bytes to ``take`` as they come, until they end or no more is wanted; say how they ended.

        Fast enough not to need a thread; in the pace that the host's limits give. Raises Transient, reason ``stalled``,
        when no byte comes for ``Options.stall_timeout`` seconds, reason ``connection_lost`` for one that broke.
        """
        ...

    def close(self) -> None:
        """End it, without waiting. Once is enough; a connection that is good for more is kept."""
        ...


class Source(Protocol):
    """One place that has the file, or a mirror of it. Lives as long as its transfer, in one loop."""

    @property
    def url(self) -> str:
        """Where it was asked first, for messages and records."""
        ...

    @property
    def led_to(self) -> str:
        """Where it was led to: a name is made of it, where nothing else gives one."""
        ...

    @property
    def host(self) -> str:
        """Whose connections are counted: ``name:port`` in lower case."""
        ...

    async def measure(self, finished: Published | None, *, by_hint: bool, failures: int) -> Measured:
        """Learn size, version and whether parts can be had.

        ``finished`` is the file as an earlier run left it: where the source itself says that this is still the file,
        ``Measured.is_unchanged`` is set. Without ``by_hint`` only what brings bytes counts (HTTP: no HEAD).
        ``failures`` are those in a row of this question.
        """
        ...

    async def read(self, wanted: Wanted) -> Answer:
        """Ask for what is missing of a span, and ``wanted.look`` bytes before it; :meth:`~Answer.bytes_for` is known.

        Calls ``wanted.asked()`` whenever a request goes out. Who cannot stop at ``wanted.span.stop`` brings more: the
        answer is closed then.
        """
        ...

    async def read_whole(self) -> Answer:
        """Ask for the whole file, from its first byte."""
        ...

    def forget(self, *, where_it_led: bool = False) -> None:
        """Forget what was learnt of the version, as there is another; with ``where_it_led`` begin at the URL again."""
        ...

    async def close(self) -> None:
        """End what it has open for this file. Once is enough."""
        ...


@dataclass(slots=True)
class Evidence:
    """What all answers so far, and the record of an earlier run, say one file is. Its sources share it.

    ``hinted`` is the size that a hint (HEAD) told, which decides where nothing else does, ``hinted_type`` the type it
    told, ``hinted_validator`` the version. ``disposition`` is the last Content-Disposition of a GET. ``keeps_coded`` is
    whether a Content-Encoding is left as it is, since the checksum is of that form. ``expected`` is a checksum the item
    gives, as (algorithm, hex), ``size_bytes`` and ``pieces`` what it gives besides.
    ``main`` is the source the others have to agree with.
    """

    expected: tuple[str, str] | None = None
    known: Known | None = None
    hinted: int = 0
    hinted_type: str | None = None
    hinted_validator: Validator = NO_VALIDATOR
    disposition: str | None = None
    keeps_coded: bool = False
    main: Source | None = None
    size_bytes: int | None = None
    pieces: Pieces | None = None

    @property
    def is_checked(self) -> bool:
        """Whether the item gives that by which all bytes are checked, wherever they come from."""
        return self.expected is not None or self.pieces is not None


@dataclass(slots=True, eq=False)
class Seen:
    """What the connections of one go at a file by ranges have seen together.

    ``size`` is what it was planned for in bytes, ``remote`` what it was measured to be. ``is_confirmed`` says that a
    part agreed with that size, ``is_served`` that parts of this version were ever had, ``is_checked`` that all bytes
    are checked in the end, wherever they come from. ``asking`` counts the requests that wait for their answer, or whose
    body is read; ``moved_at`` is when a body ended last, monotonic.
    """

    size: int
    remote: Remote
    is_served: bool
    is_confirmed: bool = False
    is_checked: bool = False
    asking: int = 0
    moved_at: float = float("-inf")

    @property
    def others_are_asking(self) -> bool:
        """Whether another connection of the file than the one that asks this is at work."""
        return self.asking > 1


@dataclass(slots=True)
class Wanted:
    """Bytes that one connection wants: those of ``span`` from its position on.

    ``look`` are bytes before them that are in place, and are to come once more, to be compared. ``failures`` are those
    in a row of this connection. ``asked`` notes that a request goes out.
    """

    span: Span
    seen: Seen
    look: int
    failures: int
    asked: Callable[[], None]


class Opening:
    """An answer whose body is still to be read, with the slot it holds.

    It is used, or closed, by whoever has it, before he asks for another slot: a host may have no more than this one.
    ``asked_at`` is monotonic.
    """

    __slots__ = ("_slot", "answer", "asked_at", "source")

    def __init__(self, answer: Answer, source: Source, slot: HostSlot, asked_at: float) -> None:
        self.answer = answer
        self.source = source
        self.asked_at = asked_at
        self._slot: HostSlot | None = slot

    @property
    def is_open(self) -> bool:
        """Whether it is still to be used."""
        return self._slot is not None

    async def __aenter__(self) -> Opening:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the answer and give the slot back. Once is enough."""
        if self._slot is not None:
            slot, self._slot = self._slot, None
            self.answer.close()
            await slot.release()


@dataclass(slots=True)
class Measured:
    """What a file is, and the answer that said so, if its body can be used: ``opening`` is the caller's to close.

    ``is_unchanged`` says that the source itself called it unchanged (HTTP's 304).
    """

    remote: Remote
    opening: Opening | None = None
    is_unchanged: bool = False

    async def close(self) -> None:
        """Close the opening, if it is there and was not used."""
        if self.opening is not None:
            opening, self.opening = self.opening, None
            await opening.close()


@dataclass(frozen=True, slots=True)
class FileContext:
    """What the sources of one file are told of it, and share."""

    request: FileRequest
    options: Options
    limits: Limits
    progress: Progress
    evidence: Evidence = field(default_factory=Evidence)


class Opener(Protocol):
    """Makes the sources of some URL schemes, and has what they share: connections, sessions, logins. One per loop."""

    def sources(self, context: FileContext, urls: Sequence[str]) -> list[Source]:
        """Return a source for each of the file's URLs that are of these schemes. Asks nothing yet."""
        ...

    async def close(self) -> None:
        """Close all connections; no source of it is in use any more."""
        ...
