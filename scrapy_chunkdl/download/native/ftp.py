"""Files of FTP servers (RFC 959, 3659, 4217), by aioftp: SIZE, MDTM, REST and RETR, one control connection a reading.

Each reading asks for size and date again on its own connection, so that parts of two versions are told apart. A server
without REST is read from the first byte. What replies mean is told in the errors of the downloader, with what the
server said. Knows FTP; nothing of plans, files on disk or limits.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import TypeVar

import aioftp

from scrapy_chunkdl.download.errors import DownloadError, Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http import addresses, tls
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.http.client import explain
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.native.ftp_data import DataConnection
from scrapy_chunkdl.download.native.kept import Kept
from scrapy_chunkdl.download.native.place import Login, Place
from scrapy_chunkdl.download.native.told import Told
from scrapy_chunkdl.download.source import FileContext
from scrapy_chunkdl.text.masking import cut, printable

T = TypeVar("T")

_RAW = "latin-1"
"""One character for each byte, both ways."""

_AT_ONCE = 1 << 18
_END_S = 2.0
"""Seconds that the reply to a reading which ended early may take; else the connection is not used again."""

_EXPLICIT_PORT = 21
_SIX_NUMBERS = re.compile(r"\d{1,3},\d{1,3},\d{1,3},\d{1,3},(\d{1,3}),(\d{1,3})")
_TIME = re.compile(r"(\d{14})(\.\d{1,6})?")
_LONGEST_SAID = 120
_CROWDED = re.compile(
    r"too many|maximum|limit|already|connections|sessions|try (it )?again|later|busy|full", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"permission|denied|access|not allowed|forbidden|privilege|unauthori", re.IGNORECASE)
_SIZE_IN_REPLY = re.compile(r"\((\d{1,18}) bytes")
_PLAIN_GREETING = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}
)


@dataclass(slots=True)
class FtpKept:
    """What FTP sources of one loop share: idle connections, and what is trusted."""

    connections: Kept[_Connection]
    context: ssl.SSLContext

    @classmethod
    def of(cls, options: Options) -> FtpKept:
        return cls(Kept(), tls.plain_context(options))

    def native(self, context: FileContext, url: str) -> tuple[FtpSource, str]:
        """Return what reads the file at a URL, and its host. Raises Permanent."""
        place, options = Place.of(url), context.options
        refuse_host(place.host, options)
        login = Login.of(url, context.request.logins) or Login(*options.ftp_login)
        return FtpSource(place, login, options, self, url), f"{place.host}:{place.port}"

    def close(self) -> None:
        """End all that is idle."""
        self.connections.close()


class FtpSource:
    """One file of an FTP server: a :class:`~scrapy_chunkdl.download.native.told.NativeSource`."""

    def __init__(self, place: Place, login: Login, options: Options, kept: FtpKept, url: str) -> None:
        self._place = place
        self._login = login
        self._options = options
        self._kept = kept
        self._url = url
        self._path = place.path.decode(_RAW)
        self._key = (place.scheme, place.host, place.port, self._login)

    async def look(self) -> Told:
        """Ask for size, date, and whether a reading may begin anywhere."""
        with _told_plainly(self._url):
            connection = await self._connected()
            with connection.closed_on_error():
                told = await self._told(connection)
                if told.size:
                    told = replace(told, offsets=await connection.takes_offsets())
        self._kept.connections.give(self._key, connection)
        return told

    async def read(self, start: int, stop: int | None) -> FtpReading:
        """Begin to read, from 0 where the server has no REST."""
        with _told_plainly(self._url):
            connection = await self._connected()
            with connection.closed_on_error():
                told = await self._told(connection)
                data, reply, begins = await connection.retrieve(self._path, start)
                if start:
                    told = replace(told, offsets=begins == start)
                if told.size is None and not begins and (found := _SIZE_IN_REPLY.search(reply)):
                    told = replace(told, size=int(found[1]))
        left = None if stop is None or begins != start else stop - begins
        return FtpReading(told, self._kept.connections, self._key, connection, self._path, data, left)

    async def _connected(self) -> _Connection:
        kept = self._kept.connections
        if (idle := kept.take(self._key)) is not None:
            if await idle.answers():
                return idle
            idle.close()
        trusted = kept.has_worked(self._key)
        return await _Connection.open(self._place, self._login, self._options, self._kept.context, self._url, trusted)

    async def _told(self, connection: _Connection) -> Told:
        """Ask for size and date, at the root if there is no such file where the login leads: Scrapy reads URLs so."""
        told = await connection.told(self._path)
        if told.size is None and not self._path.startswith("/") and await connection.is_away_from_root():
            from_root = await connection.told("/" + self._path)
            if from_root.size is not None:
                self._path = "/" + self._path
                return from_root
        return told


class FtpReading:
    """A RETR on its way. Its connection is given back at the end, or closed."""

    def __init__(
        self,
        told: Told,
        kept: Kept[_Connection],
        key: object,
        connection: _Connection,
        path: str,
        data: DataConnection,
        left: int | None,
    ) -> None:
        self.told = told
        self._kept = kept
        self._key = key
        self._connection: _Connection | None = connection
        self._path = path
        self._data = data
        self._left = left

    async def next(self) -> bytes:
        """Return the next bytes; none at the end of the range, once the server said that all was sent."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = await self._data.read(_AT_ONCE if self._left is None else min(_AT_ONCE, self._left))
        except (OSError, asyncio.TimeoutError) as error:
            self.close()
            raise _lost(error, connection.url) from error
        if self._connection is None:
            raise Transient(f"{connection.url} was closed meanwhile", reason="connection_lost")
        if self._left is not None:
            self._left -= len(data)
        if not data:
            await self._ended(connection)
        elif self._left == 0:
            await self._ended(connection, is_early=True)
        return data

    def close(self) -> None:
        """Drop the data connection, and the control connection with it, which waits for a reply."""
        self._data.close()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    async def _ended(self, connection: _Connection, *, is_early: bool = False) -> None:
        """Read the reply to RETR; an early end is ours, and the reply may say so.

        What was asked before RETR may have been replaced when it was opened, so it is asked for once more.
        """
        self._connection = None
        self._data.close()
        with _told_plainly(connection.url), connection.closed_on_error():
            try:
                code, said = await connection.reply(_END_S if is_early else connection.stall_s)
            except DownloadError:
                if not is_early:
                    raise
                connection.close()
                return
            if not is_early and not code.startswith("2"):
                raise _Refused(code, said)
            if self.told.changed is not None:
                now = await connection.told(self._path)
                if (now.size, now.changed) != (self.told.size, self.told.changed):
                    raise SourceChanged(f"{connection.url} was replaced while it was read")
        self._kept.give(self._key, connection)


class _Connection:
    """A control connection that is logged in, in binary mode."""

    def __init__(self, client: aioftp.Client, url: str, options: Options) -> None:
        self._client = client
        self._local_address = (options.bind_address, 0) if options.bind_address else None
        self.url = url
        self.stall_s = options.stall_timeout
        self._no_epsv = False
        self._is_at_root: bool | None = None
        self._offsets: bool | None = None

    @classmethod
    async def open(
        cls, place: Place, login: Login, options: Options, context: ssl.SSLContext, url: str, trusted: bool
    ) -> _Connection:
        """Connect and log in. ``trusted``: this login was taken before, so that a refusal is about one more of it."""
        connection = await cls._greeted(place, options, context, url)
        with connection.closed_on_error():
            await connection._log_in(login, trusted=trusted)
        return connection

    @classmethod
    async def _greeted(cls, place: Place, options: Options, context: ssl.SSLContext, url: str) -> _Connection:
        """Return a connection that the server has greeted, in TLS where the URL says so.

        TLS from the first byte has a port of its own; more servers have AUTH TLS at theirs (RFC 4217 §4). What greets
        in plain text at the port asked for, or instead of one that is closed, is asked for that.
        """
        if place.scheme != "ftps":
            return await cls._connect(place.host, place.port, None, options, url)
        explicit_port = _EXPLICIT_PORT if place.is_default_port else place.port
        try:
            return await cls._connect(place.host, place.port, context, options, url)
        except DownloadError as error:
            speaks_plainly = getattr(error.__cause__, "reason", None) in _PLAIN_GREETING
            is_closed = place.is_default_port and error.reason in ("connect_failed", "connect_timeout")
            if not (speaks_plainly or is_closed):
                raise
        connection = await cls._connect(place.host, explicit_port, None, options, url)
        with connection.closed_on_error():
            await connection._ask(connection._client.upgrade_to_tls(context))
        return connection

    @classmethod
    async def _connect(
        cls, host: str, port: int, context: ssl.SSLContext | None, options: Options, url: str
    ) -> _Connection:
        client = aioftp.Client(
            encoding=_RAW,
            ssl=context,
            socket_timeout=options.first_byte_timeout,
            local_addr=(options.bind_address, 0) if options.bind_address else None,
        )
        connection = cls(client, url, options)
        patience = options.dns_timeout + options.connect_timeout
        with connection.closed_on_error():
            try:
                if options.block_private_addresses:
                    await asyncio.wait_for(addresses.GuardedResolver().resolve(host, port), options.dns_timeout)
                await asyncio.wait_for(aioftp.BaseClient.connect(client, host, port), patience)
            except (OSError, asyncio.TimeoutError) as error:
                raise _no_connection(error, url, host, port) from error
            if options.block_private_addresses:
                addresses.refuse_private(str(client.stream.writer.get_extra_info("peername")[0]), host)
            await connection._ask(client.command(None, "220", "120"))
        return connection

    async def _log_in(self, login: Login, *, trusted: bool) -> None:
        try:
            await self._ask(self._client.login(login.user.encode().decode(_RAW), login.password.encode().decode(_RAW)))
            await self._ask(self._client.command("TYPE I", "2xx"))
        except _Refused as refused:
            is_crowd = refused.code.startswith("4") or _CROWDED.search(refused.said) or trusted
            if is_crowd:
                raise Transient(f"{self.url}: {refused.shown}", reason="too_many_connections") from refused
            if refused.code.startswith("5"):
                text = f"{self.url}: the login of {printable(login.user, 40)} was refused: {refused.shown}"
                raise Permanent(text, reason="login_refused") from refused
            raise
        except aioftp.errors.InvalidCommand as error:
            raise Permanent(f"{self.url}: user or password has a line break", reason="login_refused") from error

    @property
    def is_open(self) -> bool:
        """Whether the other side has not closed it, as far as is known."""
        stream = self._client._stream
        return stream is not None and not stream.writer.transport.is_closing() and not stream.reader.at_eof()

    def close(self) -> None:
        """End it at once."""
        if self._client._stream is not None:
            self._client._stream.writer.transport.abort()

    @contextmanager
    def closed_on_error(self) -> Iterator[None]:
        """Close it if what is done meanwhile fails."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    async def answers(self) -> bool:
        """Whether an idle connection is still good."""
        with suppress(DownloadError, _Refused, asyncio.TimeoutError):
            await asyncio.wait_for(self._ask(self._client.command("NOOP", "2xx")), self.stall_s)
            return True
        return False

    async def told(self, path: str) -> Told:
        """Ask for size and date. What is refused, or cannot be read, is not known."""
        size, when = await self._fact(f"SIZE {path}"), await self._fact(f"MDTM {path}")
        return Told(int(size) if size and size.isdigit() else None, _date(when))

    async def is_away_from_root(self) -> bool:
        """Whether a login leads elsewhere than to the root."""
        if self._is_at_root is None:
            try:
                _, said = await self._command("PWD", "257")
            except _Refused:
                said = '"/"'
            found = re.search(r'"(.*)"', said)
            self._is_at_root = found is None or found[1] == "/"
        return not self._is_at_root

    async def takes_offsets(self) -> bool:
        """Whether a reading may begin anywhere. What REST said holds until the next transfer, so it is taken back."""
        if self._offsets is None:
            self._offsets = await self.restarts_at(1) and await self.restarts_at(0)
        return self._offsets

    async def restarts_at(self, start: int) -> bool:
        """Have the next transfer begin at a byte; False where the server does not know how."""
        try:
            await self._command(f"REST {start}", "350")
        except _Refused:
            return False
        return True

    async def retrieve(self, path: str, start: int) -> tuple[DataConnection, str, int]:
        """Have the file sent from a byte on; return its connection, what the server said to it, and where it begins."""
        data = await self._data_connection()
        try:
            if start and not await self.restarts_at(start):  # right before RETR: it holds for the next transfer only
                start = 0
            _, said = await self._command(f"RETR {path}", "1xx")
            control = self._client.stream.writer.get_extra_info("ssl_object")
            if control is not None:
                await self._ask(data.start_tls(control, self._client.server_host), self.stall_s)
        except BaseException:
            data.close()
            raise
        return data, said, start

    async def reply(self, timeout: float) -> tuple[str, str]:
        """Wait for a reply, whatever it is. Raises Transient without one."""
        code, lines = await self._ask(self._client.command(None, ("2xx", "3xx", "4xx", "5xx"), "1xx"), timeout)
        return str(code), _text(lines)

    async def _data_connection(self) -> DataConnection:
        """Connect for one transfer, to the server itself, whatever address PASV names: that may be one inside."""
        port = await self._passive_port()
        opening = DataConnection.open(self._client.server_host, port, self.stall_s, self._local_address)
        return await self._ask(opening, self.stall_s)

    async def _passive_port(self) -> int:
        if not self._no_epsv:
            try:
                _, lines = await self._ask(self._client.command("EPSV", "229"))
                return self._client.parse_epsv_response(lines[-1])[1]
            except _Refused:
                self._no_epsv = True
            except (ValueError, IndexError) as error:
                raise Transient(f"a reply of {self.url} cannot be read", reason="bad_response") from error
        _, said = await self._command("PASV", "227")
        numbers = _SIX_NUMBERS.search(said)  # in parentheses or not (RFC 1123 §4.1.2.6)
        if numbers is None:
            raise Transient(f"a reply of {self.url} cannot be read", reason="bad_response")
        return int(numbers[1]) << 8 | int(numbers[2])

    async def _fact(self, command: str) -> str | None:
        try:
            _, said = await self._command(command, "213")
        except _Refused as refused:
            if refused.code.startswith("4"):
                raise
            return None
        return said.strip()

    async def _command(self, command: str, expected: str) -> tuple[str, str]:
        code, lines = await self._ask(self._client.command(command, expected))
        return str(code), _text(lines)

    async def _ask(self, asking: Awaitable[T], timeout: float | None = None) -> T:
        """Await something of aioftp's. Raises :class:`_Refused` for a reply that is not the expected one."""
        try:
            return await (asking if timeout is None else asyncio.wait_for(asking, timeout))
        except aioftp.StatusCodeError as error:
            raise _Refused(str(error.received_codes[-1]), _text(list(error.info))) from error
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise _lost(error, self.url) from error
        except (ValueError, IndexError, TypeError) as error:
            raise Transient(f"a reply of {self.url} cannot be read", reason="bad_response") from error


class _Refused(Exception):
    """A reply that was not the expected one."""

    def __init__(self, code: str, said: str) -> None:
        super().__init__(code, said)
        self.code = code
        self.said = said

    @property
    def shown(self) -> str:
        """The reply as it may be shown."""
        return printable(cut(f"{self.code} {self.said}", _LONGEST_SAID))


@contextmanager
def _told_plainly(url: str) -> Iterator[None]:
    """Tell a refusal in the errors of the downloader."""
    try:
        yield
    except _Refused as refused:
        raise _meaning(refused, url) from refused


def _text(lines: list[str]) -> str:
    """Return a reply as text: most servers speak UTF-8 (RFC 2640)."""
    joined = " ".join(line.lstrip("-").strip() for line in lines)
    return joined.encode(_RAW, "replace").decode("utf-8", "replace")


def _date(text: str | None) -> datetime | None:
    """Read ``YYYYMMDDHHMMSS.sss``, in UTC (RFC 3659 §2.3)."""
    found = _TIME.match(text or "")
    if found is None:
        return None
    try:
        date = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return date + timedelta(seconds=float(found[2] or 0))


def _meaning(refused: _Refused, url: str) -> DownloadError:
    """Return what a refusal means. 550 is said of files that are not there and of those that may not be read."""
    code, said, text = refused.code, refused.said, f"{url}: {refused.shown}"
    if code == "421" or (code.startswith("4") and _CROWDED.search(said)):
        return Transient(text, reason="too_many_connections")
    if code in ("425", "426"):
        return Transient(text, reason="connection_lost")
    if code == "554":  # servers refuse a restart behind the end by it: the file was cut meanwhile
        return Transient(text, reason="range_mismatch")
    if code.startswith("4"):
        return Transient(text, reason=f"ftp_{code}")
    if code in ("550", "551", "553"):
        return Permanent(text, reason="no_permission" if _FORBIDDEN.search(said) else "not_found")
    if code in ("530", "532"):
        return Permanent(text, reason="no_permission")
    return Permanent(text, reason=f"ftp_{code}")


def _lost(error: BaseException, url: str) -> DownloadError:
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url} sent nothing in time", reason="stalled")
    return explain(error, url)


def _no_connection(error: BaseException, url: str, host: str, port: int) -> DownloadError:
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url}: no connection in time", reason="connect_timeout")
    if isinstance(error, socket.gaierror):
        return Transient(f"no address for {host}: {error.strerror}", reason="dns")
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and tls.explain(error) is None:
        why = error.strerror or type(error).__name__
        return Transient(f"{url}: no connection to {host}:{port}: {why}", reason="connect_failed")
    return explain(error, url)
