"""One login at an FTP server, in binary mode, by aioftp: what is asked, and which connections it takes.

TLS from the first byte has a port of its own; more servers have AUTH TLS at theirs (RFC 4217 §4). Knows commands and
replies; nothing of what is done with a file.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Awaitable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import aioftp

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.http import addresses
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.native.ftp_data import DataConnection
from scrapy_chunkdl.download.native.ftp_replies import (
    CROWDED,
    RAW,
    WRONG,
    Refused,
    date_of,
    lost,
    no_connection,
    text_of,
)
from scrapy_chunkdl.download.native.place import Login, Place
from scrapy_chunkdl.download.native.told import Told
from scrapy_chunkdl.services.patience import within
from scrapy_chunkdl.text.masking import printable

T = TypeVar("T")

_EXPLICIT_PORT = 21
_PLAIN_GREETING = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG"}
)
_SIX_NUMBERS = re.compile(r"\d{1,3},\d{1,3},\d{1,3},\d{1,3},(\d{1,3}),(\d{1,3})")


class FtpConnection:
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
        cls, place: Place, login: Login, options: Options, context: ssl.SSLContext | None, url: str
    ) -> FtpConnection:
        """Connect and log in. Raises Permanent, reason ``login_refused``, unless the server says that it is crowded."""
        connection = await cls._greeted(place, options, context, url)
        with connection.closed_on_error():
            await connection._log_in(login)
        return connection

    @classmethod
    async def _greeted(cls, place: Place, options: Options, context: ssl.SSLContext | None, url: str) -> FtpConnection:
        """Return a connection that the server has greeted, in TLS where the URL says so.

        TLS from the first byte has a port of its own; more servers have AUTH TLS at theirs (RFC 4217 §4). What greets
        in plain text at the port asked for, or instead of one that is closed, is asked for that.
        """
        if context is None:
            return await cls._connect(place.host, place.port, None, options, url)
        explicit_port = _EXPLICIT_PORT if place.is_default_port else place.port
        try:
            return await cls._connect(place.host, place.port, context, options, url)
        except DownloadError as error:
            speaks_plainly = getattr(error.__cause__, "reason", None) in _PLAIN_GREETING
            is_closed = place.is_default_port and error.reason in ("connect_failed", "connect_timeout")
            if not (speaks_plainly or is_closed):
                raise
        if not hasattr(asyncio.StreamWriter, "start_tls"):  # Python 3.10
            text = f"{printable(place.host)} begins in plain text: AUTH TLS needs Python 3.11 or later"
            raise Permanent(text, reason="tls")
        connection = await cls._connect(place.host, explicit_port, None, options, url)
        with connection.closed_on_error():
            await connection._ask(connection._client.upgrade_to_tls(context))
        return connection

    @classmethod
    async def _connect(
        cls, host: str, port: int, context: ssl.SSLContext | None, options: Options, url: str
    ) -> FtpConnection:
        client = aioftp.Client(
            encoding=RAW,
            ssl=context,
            socket_timeout=options.first_byte_timeout,
            local_addr=(options.bind_address, 0) if options.bind_address else None,
        )
        connection = cls(client, url, options)
        patience = options.dns_timeout + options.connect_timeout
        with connection.closed_on_error():
            try:
                if options.block_private_addresses:
                    await within(options.dns_timeout, addresses.GuardedResolver().resolve(host, port))
                await within(patience, aioftp.BaseClient.connect(client, host, port))
            except (OSError, asyncio.TimeoutError) as error:
                raise no_connection(error, url, host, port) from error
            if options.block_private_addresses:
                addresses.refuse_private(str(client.stream.writer.get_extra_info("peername")[0]), host)
            await connection._ask(client.command(None, "220", "120"))
        return connection

    async def _log_in(self, login: Login) -> None:
        try:
            await self._ask(self._client.login(login.user.encode().decode(RAW), login.password.encode().decode(RAW)))
            await self._ask(self._client.command("TYPE I", "2xx"))
        except Refused as refused:
            is_crowd = CROWDED.search(refused.said) and not WRONG.search(refused.said)
            if refused.code.startswith("4") or is_crowd:
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
        """Whether an idle connection is still good, and nothing more is said of an earlier transfer (226, 426)."""
        with suppress(DownloadError, Refused, asyncio.TimeoutError):
            await within(self.stall_s, self._ask(self._client.command("NOOP", ("200", "250"))))
            return True
        return False

    async def told(self, path: str) -> Told:
        """Ask for size and date. What is refused, or cannot be read, is not known."""
        size, when = await self._fact(f"SIZE {path}"), await self._fact(f"MDTM {path}")
        return Told(int(size) if size and size.isdigit() else None, date_of(when))

    async def is_away_from_root(self) -> bool:
        """Whether a login leads elsewhere than to the root."""
        if self._is_at_root is None:
            try:
                _, said = await self._command("PWD", "257")
            except Refused:
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
        except Refused:
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
        return str(code), text_of(lines)

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
            except Refused:
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
        except Refused as refused:
            if refused.code.startswith("4"):
                raise
            return None
        return said.strip()

    async def _command(self, command: str, expected: str) -> tuple[str, str]:
        code, lines = await self._ask(self._client.command(command, expected))
        return str(code), text_of(lines)

    async def _ask(self, asking: Awaitable[T], timeout: float | None = None) -> T:
        """Await something of aioftp's. Raises :class:`Refused` for a reply that is not the expected one."""
        try:
            return await (asking if timeout is None else within(timeout, asking))
        except aioftp.StatusCodeError as error:
            raise Refused(str(error.received_codes[-1]), text_of(list(error.info))) from error
        except (asyncio.TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            raise lost(error, self.url) from error
        except (ValueError, IndexError, TypeError) as error:
            raise Transient(f"a reply of {self.url} cannot be read", reason="bad_response") from error
