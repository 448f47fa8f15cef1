"""What FTP servers reply, told in the errors of the downloader with what the server said. Pure.

550 is said of files that are not there and of those that may not be read, 530 of wrong passwords and of one login too
many: where the number leaves it open, the words decide.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

from scrapy_chunkdl.download.errors import DownloadError, Permanent, Transient
from scrapy_chunkdl.download.http import tls
from scrapy_chunkdl.download.http.client import explain
from scrapy_chunkdl.text.masking import cut, printable

RAW = "latin-1"
"""One character for each byte, both ways."""

CROWDED = re.compile(
    r"too many|maximum|limit|already|connections|sessions|try (it )?again|later|busy|full", re.IGNORECASE
)
"""What is said where one more connection is one too many (vsftpd, ProFTPD, Pure-FTPd, pyftpdlib, FileZilla, IIS)."""

WRONG = re.compile(r"incorrect|invalid|wrong|password|credential", re.IGNORECASE)
"""What is said of a login that is wrong, whatever else is said ("Login incorrect, try again later")."""

_TIME = re.compile(r"(\d{14})(\.\d{1,6})?")
_LONGEST_SAID = 120
_FORBIDDEN = re.compile(r"permission|denied|access|not allowed|forbidden|privilege|unauthori", re.IGNORECASE)


class Refused(Exception):
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
def told_plainly(url: str) -> Iterator[None]:
    """Tell a refusal in the errors of the downloader."""
    try:
        yield
    except Refused as refused:
        raise meaning(refused, url) from refused


def text_of(lines: list[str]) -> str:
    """Return a reply as text: most servers speak UTF-8 (RFC 2640)."""
    joined = " ".join(line.lstrip("-").strip() for line in lines)
    return joined.encode(RAW, "replace").decode("utf-8", "replace")


def date_of(text: str | None) -> datetime | None:
    """Read ``YYYYMMDDHHMMSS.sss``, in UTC (RFC 3659 §2.3)."""
    found = _TIME.match(text or "")
    if found is None:
        return None
    try:
        date = datetime.strptime(found[1], "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return date + timedelta(seconds=float(found[2] or 0))


def meaning(refused: Refused, url: str) -> DownloadError:
    """Return what a refusal means. 550 is said of files that are not there and of those that may not be read."""
    code, said, text = refused.code, refused.said, f"{url}: {refused.shown}"
    if code == "421" or (code.startswith("4") and CROWDED.search(said)):
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


def lost(error: BaseException, url: str) -> DownloadError:
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url} sent nothing in time", reason="stalled")
    return explain(error, url)


def no_connection(error: BaseException, url: str, host: str, port: int) -> DownloadError:
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url}: no connection in time", reason="connect_timeout")
    if isinstance(error, socket.gaierror):
        return Transient(f"no address for {host}: {error.strerror}", reason="dns")
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and tls.explain(error) is None:
        why = error.strerror or type(error).__name__
        return Transient(f"{url}: no connection to {host}:{port}: {why}", reason="connect_failed")
    return explain(error, url)
