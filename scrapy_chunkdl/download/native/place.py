"""Where a URL of another scheme than http leads, and as whom. Pure text; connects to nothing.

Names on servers are bytes: what a URL has as ``%FF`` is sent as that byte, so that names in any charset can be had.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.http.identity import PORTS
from scrapy_chunkdl.download.http.urls import NoUrl, wire_url
from scrapy_chunkdl.text.masking import shown_url

SCHEMES = frozenset({"ftp", "ftps", "sftp"})

_URL = re.compile(r"([a-z0-9+.-]+)://([^/?]*)/?(.*)", re.DOTALL)
_TYPE = re.compile(r";type=[aid]\Z", re.IGNORECASE)
_BREAKS_A_COMMAND = re.compile(rb"[\r\n\0]")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and his password, either of which may be empty."""

    user: str
    password: str = field(repr=False)

    @classmethod
    def of(cls, url: str, logins: Mapping[str, str]) -> Login | None:
        """Return what was taken out of a URL: it is kept as the Authorization it stands for in HTTP (RFC 7617)."""
        try:
            text = base64.b64decode(logins.get(url, "").removeprefix("Basic ")).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        user, _, password = text.partition(":")
        return cls(user, password) if user else None


@dataclass(frozen=True, slots=True)
class Place:
    """A file at a server. ``path`` is what is sent for it: relative to where a login leads, unless it begins with /.

    An FTP URL is relative unless it has ``//`` or ``/%2F`` in front, and ``;type=i`` at its end is no part of the name
    (RFC 1738 §3.2.2); one of SFTP is relative if it has ``/~/``, as curl and the draft of its URL have it
    (draft-ietf-secsh-scp-sftp-ssh-uri-04 §2).
    ``is_default_port`` says that the URL names none.
    """

    scheme: str
    host: str
    port: int
    path: bytes
    is_default_port: bool = True

    @classmethod
    def of(cls, url: str) -> Place:
        """Read a URL. Raises Permanent, reason ``bad_url``."""
        try:
            matched = _URL.fullmatch(wire_url(url, schemes=SCHEMES))
            assert matched is not None
            scheme, authority, path = matched.groups()
            raw = unquote_to_bytes(path if scheme == "sftp" else _TYPE.sub("", path))
            if not raw or raw.endswith(b"/"):
                raise NoUrl("names a folder, not a file")
            if _BREAKS_A_COMMAND.search(raw):
                raise NoUrl("has a line break or a NUL in its path, which no command can have")
        except NoUrl as error:
            raise Permanent(f"'{shown_url(url)}' cannot be fetched: it {error}", reason="bad_url") from None
        if scheme == "sftp":
            raw = raw[2:] if raw.startswith(b"~/") else b"/" + raw
        host, port = _host_and_port(authority)
        return cls(scheme, host, port or PORTS[scheme], raw, port is None)


def _host_and_port(authority: str) -> tuple[str, int | None]:
    authority = authority.rpartition("@")[2]
    name, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        name, port = authority.removesuffix(":"), ""
    return name.strip("[]").lower(), int(port) if port else None
