"""Files of FTP servers (RFC 959, 3659): SIZE, MDTM, REST and RETR, one control connection for each reading.

Each reading asks for size and date again on its own connection, so that parts of two versions are told apart. A server
without REST is read from the first byte. Knows FTP; nothing of plans, files on disk or limits.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import dataclass, field, replace

from scrapy_chunkdl.download.errors import DownloadError, Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http import tls
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.native.ftp_control import FtpConnection
from scrapy_chunkdl.download.native.ftp_data import DataConnection
from scrapy_chunkdl.download.native.ftp_replies import RAW, Refused, lost, told_plainly
from scrapy_chunkdl.download.native.kept import Kept
from scrapy_chunkdl.download.native.place import Login, Place
from scrapy_chunkdl.download.native.told import Told
from scrapy_chunkdl.download.source import FileContext

_AT_ONCE = 1 << 18
_END_S = 2.0
"""Seconds that the reply to a reading which ended early may take; else the connection is not used again."""

_SIZE_IN_REPLY = re.compile(r"\((\d{1,18}) bytes")


@dataclass(slots=True)
class FtpKept:
    """What FTP sources of one loop share: idle connections, and what is trusted."""

    connections: Kept[FtpConnection]
    made: list[ssl.SSLContext] = field(default_factory=list)

    @classmethod
    def of(cls, options: Options) -> FtpKept:
        return cls(Kept())

    def context(self, options: Options) -> ssl.SSLContext:
        """Return what is trusted: made when the first connection wants TLS, as it takes 30 to 170 ms."""
        if not self.made:
            self.made.append(tls.plain_context(options))
        return self.made[0]

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
        self._path = place.path.decode(RAW)
        self._key = (place.scheme, place.host, place.port, self._login)

    async def look(self) -> Told:
        """Ask for size, date, and whether a reading may begin anywhere."""
        with told_plainly(self._url):
            connection = await self._connected()
            with connection.closed_on_error():
                told = await self._told(connection)
                if told.size:
                    told = replace(told, offsets=await connection.takes_offsets())
        self.keep(connection)
        return told

    async def read(self, start: int, stop: int | None) -> FtpReading:
        """Begin to read, from 0 where the server has no REST."""
        with told_plainly(self._url):
            connection = await self._connected()
            with connection.closed_on_error():
                told = await self._told(connection)
                data, reply, begins = await connection.retrieve(self._path, start)
                if start:
                    told = replace(told, offsets=begins == start)
                if told.size is None and not begins and (found := _SIZE_IN_REPLY.search(reply)):
                    told = replace(told, size=int(found[1]))
        left = None if stop is None or begins != start else stop - begins
        return FtpReading(told, self, connection, data, left)

    def keep(self, connection: FtpConnection) -> None:
        """Keep a connection that is of no more use here."""
        self._kept.connections.give(self._key, connection)

    async def now(self, connection: FtpConnection | None) -> Told:
        """Ask for size and date once more; by a new connection where that of a reading is lost."""
        return await connection.told(self._path) if connection is not None else await self.look()

    async def _connected(self) -> FtpConnection:
        kept = self._kept.connections
        if (idle := kept.take(self._key)) is not None:
            if await idle.answers():
                return idle
            idle.close()
        context = self._kept.context(self._options) if self._place.scheme == "ftps" else None
        try:
            made = await FtpConnection.open(self._place, self._login, self._options, context, self._url)
        except Permanent as error:
            raise kept.meaning(self._key, error) from error
        kept.made(self._key, made)
        return made

    async def _told(self, connection: FtpConnection) -> Told:
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
        source: FtpSource,
        connection: FtpConnection,
        data: DataConnection,
        left: int | None,
    ) -> None:
        self.told = told
        self._source = source
        self._connection: FtpConnection | None = connection
        self._data = data
        self._left = left

    async def next(self) -> bytes | memoryview:
        """Return the next bytes; none at the end of the range, once the server said that all was sent."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = await self._data.read(_AT_ONCE if self._left is None else min(_AT_ONCE, self._left))
        except (OSError, asyncio.TimeoutError) as error:
            self.close()
            raise lost(error, connection.url) from error
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

    async def stop(self) -> None:
        """End it before its end, and look whether it is still the file that was read."""
        if self._connection is not None:
            await self._ended(self._connection, is_early=True)

    async def _ended(self, connection: FtpConnection, *, is_early: bool = False) -> None:
        """Read the reply to RETR; an early end is ours, and the reply may say so.

        What was asked before RETR may have been replaced when it was opened, or since, so it is asked for once more.
        """
        self._connection = None
        self._data.close()
        asked: FtpConnection | None = connection
        with told_plainly(connection.url), connection.closed_on_error():
            try:
                code, said = await connection.reply(_END_S if is_early else connection.stall_s)
            except DownloadError:
                if not is_early:
                    raise
                connection.close()
                asked = None
            else:
                if not is_early and not code.startswith("2"):
                    raise Refused(code, said)
            if self.told.changed is not None:
                now = await self._source.now(asked)
                if (now.size, now.changed) != (self.told.size, self.told.changed):
                    raise SourceChanged(f"{connection.url} was replaced while it was read")
        if asked is not None:
            self._source.keep(asked)
