"""Files of SSH servers by SFTP, with asyncssh: stat, open, and reads that are several requests ahead.

A host's key has to be known (``CHUNKDL_SFTP_KNOWN_HOSTS``, else ``~/.ssh/known_hosts``): a password or a file is no
good from somebody who only says he is the host. Knows SFTP; nothing of plans, files on disk or limits.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import asyncssh

from scrapy_chunkdl.download.errors import DownloadError, Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http import addresses
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.http.client import explain
from scrapy_chunkdl.download.model import Options
from scrapy_chunkdl.download.native.kept import Kept
from scrapy_chunkdl.download.native.place import Login, Place
from scrapy_chunkdl.download.native.told import Told
from scrapy_chunkdl.download.source import FileContext
from scrapy_chunkdl.services.patience import within
from scrapy_chunkdl.text.masking import cut, printable

_LARGEST = 255 << 10
_SMALLEST = 32 << 10
"""Bytes of one request: what the server says it takes (limits@openssh.com; OpenSSH 255 KiB), else what all have to take
(draft-ietf-secsh-filexfer-02 §3: packets of 34,000 bytes)."""

_AHEAD_BYTES = 1 << 20
"""Bytes that are asked for at once, as a line of 100 ms at 80 Mbit/s needs."""

_WINDOW = 16 << 20
"""Bytes that may be under way before the window is opened further: with asyncssh's 2 MiB each MiB costs a packet, which
wakes the server up (a quarter of the time of 256 MiB on two busy cores)."""

_CIPHERS = "^aes128-gcm@openssh.com,aes256-gcm@openssh.com"
"""Taken first, where the server has them: in Python ChaCha20-Poly1305 takes three times the CPU for a packet."""

_LONGEST_SAID = 120


@dataclass(slots=True)
class SftpKept:
    """What SFTP sources of one loop share."""

    connections: Kept[_Connection]

    @classmethod
    def of(cls, options: Options) -> SftpKept:
        log = logging.getLogger("asyncssh")
        if log.level == logging.NOTSET:  # else it tells of each connection, channel and request at INFO
            asyncssh.set_log_level(logging.WARNING)
        return cls(Kept())

    def native(self, context: FileContext, url: str) -> tuple[SftpSource, str]:
        """Return what reads the file at a URL, and its host. Raises Permanent."""
        place, options = Place.of(url), context.options
        refuse_host(place.host, options)
        login = Login.of(url, context.request.logins)
        if login is None and options.sftp_login is not None:
            login = Login(*options.sftp_login)
        return SftpSource(place, login, options, self, url), f"{place.host}:{place.port}"

    def close(self) -> None:
        """End all that is idle."""
        self.connections.close()


class SftpSource:
    """One file of an SSH server: a :class:`~scrapy_chunkdl.download.native.told.NativeSource`."""

    def __init__(self, place: Place, login: Login | None, options: Options, kept: SftpKept, url: str) -> None:
        self._place = place
        self._login = login
        self._options = options
        self._kept = kept.connections
        self._url = url
        self._key = (place.host, place.port, login)

    async def look(self) -> Told:
        """Ask for size and date."""
        connection = await self._connected()
        try:
            told = await connection.told(self._place.path)
        except Permanent:
            self._kept.give(self._key, connection)
            raise
        except BaseException:
            connection.close()
            raise
        self._kept.give(self._key, connection)
        return told

    async def read(self, start: int, stop: int | None) -> SftpReading:
        """Begin to read."""
        connection = await self._connected()
        try:
            file = await connection.open_file(self._place.path)
            told = await connection.told_of(file)
        except BaseException:
            connection.close()
            raise
        end = stop if stop is not None else told.size
        return SftpReading(told, self._kept, self._key, connection, file, start, end)

    async def _connected(self) -> _Connection:
        if (idle := self._kept.take(self._key)) is not None:
            return idle
        try:
            made = await _Connection.open(self._place, self._login, self._options, self._url)
        except Permanent as error:
            raise self._kept.meaning(self._key, error) from error
        self._kept.made(self._key, made)
        return made


class SftpReading:
    """A range on its way. Its connection is given back at the end, or closed."""

    def __init__(
        self,
        told: Told,
        kept: Kept[_Connection],
        key: object,
        connection: _Connection,
        file: asyncssh.SFTPClientFile,
        start: int,
        stop: int | None,
    ) -> None:
        self.told = told
        self._kept = kept
        self._key = key
        self._connection: _Connection | None = connection
        self._file = file
        self._position = start
        self._stop = stop
        self._piece = connection.most_at_once
        self._asked: deque[tuple[int, int, asyncio.Task[bytes]]] = deque()
        self._ask_on()

    async def next(self) -> bytes:
        """Return the next bytes; none at the end of the range."""
        connection = self._connection
        if connection is None:
            return b""
        if not self._asked:
            await self._ended(connection)
            return b""
        at, size, asked = self._asked[0]
        done, _ = await asyncio.wait({asked}, timeout=connection.stall_s)
        if self._connection is None:
            raise Transient(f"{connection.url} was closed meanwhile", reason="connection_lost")
        if not done:
            self.close()
            raise Transient(f"{connection.url} sent no byte in time", reason="stalled")
        self._asked.popleft()
        try:
            data = asked.result()
        except (asyncssh.Error, OSError) as error:
            self.close()
            raise _explained(error, connection.url) from error
        if not data:  # its end: those ahead have nothing
            is_cut = self._stop is not None
            self._drop_asked()
            self._stop = self._position = 0
            if is_cut:
                self.close()
                raise Transient(f"{connection.url} ended early: it was cut meanwhile", reason="short_body")
        elif len(data) < size:  # a server may bring less than asked (draft-ietf-secsh-filexfer-02 §6.4)
            self._asked.appendleft(self._ask(at + len(data), size - len(data)))
        self._ask_on()
        if not self._asked:
            await self._ended(connection)
        return data

    def close(self) -> None:
        """Drop what has not come, and the connection with it."""
        self._drop_asked()
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _drop_asked(self) -> None:
        while self._asked:
            self._asked.popleft()[2].cancel()

    def _ask_on(self) -> None:
        most = -(-_AHEAD_BYTES // self._piece)
        while len(self._asked) < most and (self._stop is None or self._position < self._stop):
            size = self._piece if self._stop is None else min(self._piece, self._stop - self._position)
            self._asked.append(self._ask(self._position, size))
            self._position += size

    def _ask(self, position: int, size: int) -> tuple[int, int, asyncio.Task[bytes]]:
        return position, size, asyncio.ensure_future(self._file.read(size, position))

    async def stop(self) -> None:
        """End it before its end, and look whether it is still the file that was read."""
        self._drop_asked()
        if self._connection is not None:
            await self._ended(self._connection)

    async def _ended(self, connection: _Connection) -> None:
        """Close the file; what was opened may have been written to since then, so it is looked at once more."""
        self._connection = None
        try:
            now = await connection.told_of(self._file)
        except BaseException:
            connection.close()
            raise
        try:
            await within(connection.stall_s, self._file.close())
        except (asyncssh.Error, OSError, asyncio.TimeoutError):
            connection.close()
            return
        except BaseException:
            connection.close()
            raise
        self._kept.give(self._key, connection)
        if now != self.told:
            raise SourceChanged(f"{connection.url} was written to while it was read")


class _Connection:
    """An SSH connection with one SFTP session in it."""

    def __init__(self, connection: asyncssh.SSHClientConnection, sftp: asyncssh.SFTPClient, url: str, stall_s: float):
        self._connection = connection
        self._sftp = sftp
        self.url = url
        self.stall_s = stall_s
        told = getattr(getattr(sftp, "limits", None), "max_read_len", 0)
        self.most_at_once = min(_LARGEST, max(_SMALLEST, told))

    @classmethod
    async def open(cls, place: Place, login: Login | None, options: Options, url: str) -> _Connection:
        """Connect and log in. Raises Permanent, reason ``login_refused``, and what else there is."""
        patience = options.dns_timeout + options.connect_timeout
        connecting = asyncssh.connect(
            place.host,
            place.port,
            config=None,
            known_hosts=options.sftp_known_hosts or (),
            local_addr=(options.bind_address, 0) if options.bind_address else (),
            connect_timeout=patience,
            login_timeout=options.first_byte_timeout,
            compression_algs=None,
            encryption_algs=_CIPHERS,
            **_credentials(login, options),
        )
        try:
            connection = await connecting
        except (asyncssh.Error, OSError, asyncio.TimeoutError, ValueError) as error:
            raise _not_connected(error, place, url) from error
        try:
            if options.block_private_addresses:
                addresses.refuse_private(str(connection.get_extra_info("peername")[0]), place.host)
            # start_sftp_client has no argument for it.
            vars(connection)["open_session"] = partial(connection.open_session, window=_WINDOW)
            sftp = await within(options.first_byte_timeout, connection.start_sftp_client(path_encoding=None))
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            connection.abort()
            raise _explained(error, url) from error
        except BaseException:
            connection.abort()
            raise
        return cls(connection, sftp, url, options.stall_timeout)

    @property
    def is_open(self) -> bool:
        """Whether the other side has not closed it, as far as is known."""
        return not self._connection.is_closed()

    def close(self) -> None:
        """End it at once."""
        self._connection.abort()

    async def told(self, path: bytes) -> Told:
        """Ask what the file is."""
        return _told(await self._answered(self._sftp.stat(path)), self.url)

    async def told_of(self, file: asyncssh.SFTPClientFile) -> Told:
        """Ask what the file is that was opened: another may have its name by now."""
        return _told(await self._answered(file.stat()), self.url)

    async def open_file(self, path: bytes) -> asyncssh.SFTPClientFile:
        """Open a file for reading."""
        # Without a block size each reading is one request: asyncssh does not split it into tasks of its own.
        opened: asyncssh.SFTPClientFile = await self._answered(self._sftp.open(path, "rb", block_size=0))
        return opened

    async def _answered(self, asking: Any) -> Any:
        try:
            return await within(self.stall_s, asking)
        except (asyncssh.Error, OSError, asyncio.TimeoutError) as error:
            raise _explained(error, self.url) from error


def _credentials(login: Login | None, options: Options) -> dict[str, Any]:
    """Return what to log in with: the URL's, else the settings', else what ssh would take (agent, ~/.ssh/id_*)."""
    found: dict[str, Any] = {"client_keys": [os.fspath(options.sftp_key)] if options.sftp_key else ()}
    if login is not None:
        found["username"] = login.user
        if login.password:
            found["password"] = login.password
    return found


def _told(attributes: asyncssh.SFTPAttrs, url: str) -> Told:
    if attributes.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
        raise Permanent(f"{url} is a folder, not a file", reason="not_found")
    changed = None
    if attributes.mtime is not None:
        nanoseconds = attributes.mtime_ns or 0
        changed = datetime.fromtimestamp(attributes.mtime + nanoseconds / 1e9, timezone.utc)
    return Told(attributes.size, changed, offsets=True)


def _not_connected(error: BaseException, place: Place, url: str) -> DownloadError:
    if isinstance(error, asyncssh.HostKeyNotVerifiable):
        text = f"{url}: the key of {place.host} is not among the known ones (CHUNKDL_SFTP_KNOWN_HOSTS): {_said(error)}"
        return Permanent(text, reason="host_key")
    if isinstance(error, asyncssh.PermissionDenied):
        return Permanent(f"{url}: the login was refused: {_said(error)}", reason="login_refused")
    if isinstance(error, (asyncssh.KeyImportError, asyncssh.KeyEncryptionError)):
        return Permanent(f"{url}: CHUNKDL_SFTP_KEY cannot be read: {_said(error)}", reason="login_refused")
    if isinstance(error, (asyncssh.KeyExchangeFailed, asyncssh.ProtocolNotSupported)):
        return Permanent(f"{url}: nothing in common with the server: {_said(error)}", reason="no_ssh")
    if isinstance(error, asyncssh.DisconnectError):
        # A server with too many that have not logged in drops some of them before a word (sshd_config, MaxStartups).
        return Transient(f"{url}: no more connections: {_said(error)}", reason="too_many_connections")
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url}: no connection in time", reason="connect_timeout")
    if isinstance(error, socket.gaierror):
        return Transient(f"no address for {place.host}: {error.strerror}", reason="dns")
    if isinstance(error, FileNotFoundError):
        return Permanent(f"{url}: {error.filename} is not there (CHUNKDL_SFTP_KEY)", reason="login_refused")
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return Transient(f"{url}: no connection to {place.host}:{place.port}: {why}", reason="connect_failed")
    return explain(error, url)


def _explained(error: BaseException, url: str) -> DownloadError:
    text = f"{url}: {_said(error)}"
    if isinstance(error, (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath, asyncssh.SFTPNotADirectory)):
        return Permanent(text, reason="not_found")
    if isinstance(error, asyncssh.SFTPPermissionDenied):
        return Permanent(text, reason="no_permission")
    if isinstance(error, (asyncssh.SFTPFileIsADirectory, asyncssh.SFTPInvalidFilename, asyncssh.SFTPLinkLoop)):
        return Permanent(text, reason="not_found")
    if isinstance(error, asyncssh.SFTPBadMessage):  # OpenSSH says so of a name that is too long
        return Permanent(text, reason="not_found")
    if isinstance(error, (asyncssh.ChannelOpenError,)):
        return Transient(text, reason="too_many_connections")
    if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, asyncssh.DisconnectError)):
        return Transient(text, reason="connection_lost")
    if isinstance(error, asyncssh.Error):
        return Transient(text, reason="sftp_error")
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url} sent no byte in time", reason="stalled")
    return explain(error, url)


def _said(error: BaseException) -> str:
    text = getattr(error, "reason", "") or str(error) or type(error).__name__
    return printable(cut(" ".join(str(text).split()), _LONGEST_SAID))
