"""The words the downloader and its callers share: what to fetch, how, and what came of it.

Plain data; no I/O, no asyncio. Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scrapy_chunkdl.download.disk.room import NO_RESERVE, Reserve
from scrapy_chunkdl.download.disk.store import Store
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.download.host_rules import HostRules
from scrapy_chunkdl.download.http.proxies import Proxy
from scrapy_chunkdl.download.http.robots import Robots
from scrapy_chunkdl.download.progress import Progress

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from scrapy_chunkdl.download.limits.hosts import Limits
    from scrapy_chunkdl.download.source import FileContext, Opener, Source

__all__ = ["DEFAULT_RETRY_CODES", "FileRequest", "FileResult", "Options", "Progress"]

METALINK = "application/metalink4+xml"
"""The type of a document of RFC 5854."""

DEFAULT_RETRY_CODES = frozenset({408, 429, 500, 502, 503, 504, 522, 524})


@dataclass(frozen=True, slots=True)
class Options:
    """How to download. One object per process; every downloader of the process shares it.

    ``headers`` go with every request; credentials among them only to the origin an item names. ``authorization`` is
    sent to ``authorization_domain`` and its subdomains, without one to the origin an item names. ``ca_file`` and
    ``client_cert`` (certificate and key, or one file with both) are PEM files; the system's authorities are trusted
    besides. ``proxies`` are by scheme. A file that came to a local folder less than ``expires`` seconds ago is up to
    date without a question. ``first_byte_timeout`` is for an answer to begin,
    ``stall_timeout`` between its bytes, ``dns_timeout`` is for a name to be resolved, ``delay`` between the starts
    of two requests to one host. With ``check_type`` a page in place of a file is refused
    (:mod:`scrapy_chunkdl.download.http.plausible`). With a ``store``, finished files are moved there: a file's path
    relative to ``store_root`` is its key. ``keep_free`` is left free of the disk,
    ``host_rules`` are limits of single hosts. Without ``fail_on_dataloss`` a
    body that ends early is the file if it ends there twice. ``ftp_login`` and ``sftp_login`` are user and password
    where a URL has none; ``sftp_key`` is a private key's file, ``sftp_known_hosts`` that of the keys of hosts, None for
    what ssh takes (``~/.ssh``). ``openers`` are kinds of sources besides those named in
    :mod:`scrapy_chunkdl.download.schemes`, by URL scheme.
    """

    chunk_size: int = 1 << 20
    files: int = 32
    chunks_per_file: int = 8
    chunks_per_host: int = 16
    delay: float = 0.0
    retry_times: int = 5
    retry_codes: frozenset[int] = DEFAULT_RETRY_CODES
    connect_timeout: float = 15.0
    stall_timeout: float = 30.0
    first_byte_timeout: float = 180.0
    backoff_base: float = 0.5
    backoff_max: float = 30.0
    retry_after_max: float = 120.0
    max_file_size: int = 0
    max_rate: int = 0
    max_rate_per_host: int = 0
    host_rules: HostRules = field(default_factory=HostRules)
    max_redirects: int = 20
    checksum: str | None = None
    probe: str = "auto"
    verify_tls: bool = True
    ca_file: str | None = None
    client_cert: tuple[str, ...] = ()
    bind_address: str | None = None
    dns_cache: bool = True
    dns_timeout: float = 60.0
    proxies: Mapping[str, Proxy] = field(default_factory=dict)
    robots: Robots | None = None
    user_agent: str = "scrapy-chunkdl"
    headers: Mapping[str, str] = field(default_factory=dict)
    authorization: str | None = None
    authorization_domain: str | None = None
    allowed_hosts: frozenset[str] = frozenset()
    block_private_addresses: bool = False
    expires: float = 0.0
    store: Store | None = None
    store_root: Path = Path()
    keep_free: Reserve = NO_RESERVE
    check_type: bool = True
    fail_on_dataloss: bool = True
    ftp_login: tuple[str, str] = field(default=("anonymous", "guest"), repr=False)
    sftp_login: tuple[str, str] | None = field(default=None, repr=False)
    sftp_key: str | None = None
    sftp_known_hosts: str | None = None
    openers: Mapping[str, Callable[[Options, Limits], Opener]] = field(default_factory=dict, repr=False)

    def refuse_too_large(self, size: int | None) -> None:
        """Raise Permanent, reason ``too_large``, for more bytes than ``max_file_size``; a size of None passes."""
        if self.max_file_size and size is not None and size > self.max_file_size:
            raise Permanent(
                f"{size} bytes are more than CHUNKDL_MAX_FILE_SIZE = {self.max_file_size}", reason="too_large"
            )


@dataclass(frozen=True, slots=True)
class Renewed:
    """A fresh link of a file, and headers that go with its requests from now on, in place of those of these names."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Hashes of a file's pieces, in hex: each has ``length`` bytes, the last one what is left."""

    length: int
    algorithm: str
    digests: tuple[str, ...] = field(repr=False)

    def fit(self, size: int) -> bool:
        """Whether they are of a file of so many bytes."""
        return len(self.digests) == -(-size // self.length)

    def range_of(self, number: int, size: int) -> tuple[int, int]:
        """Return where a piece lies in a file of ``size`` bytes."""
        return number * self.length, min(size, (number + 1) * self.length)


@dataclass(frozen=True, slots=True)
class FileRequest:
    """One file to fetch.

    ``folder`` is where it goes; ``name`` is the file name wanted there, or ``None`` to take the server's
    (Content-Disposition, else the URL). ``checksum`` is "algorithm:hex"; ``checksum_url`` leads to a
    list that has it (SHA256SUMS, ``.md5``), where it is not given; ``metalink`` to a document of RFC 5854 that has it,
    and mirrors. ``mirrors`` are more URLs of the
    same bytes. ``may_publish`` is asked right before the finished file gets its name: when it answers
    False (a lost lease) the bytes stay in the part file and :class:`Permanent` with reason ``lease_lost`` is raised.
    ``cookies`` are sent where their domains match, ``logins`` (Authorization by URL) to the origins of those URLs;
    a ``user:password@`` in a URL becomes one. ``proxy`` is a proxy's URL, or "direct" for none; None leaves it to
    :attr:`Options.proxies`. ``session`` names the jar that ``cookies`` come from, None for the usual one: with headers
    and proxy it says which of the files is meant that one URL may give. ``renew`` is awaited in the downloader's loop
    when ``url`` has expired, and brings a fresh one, or None; the file's name and record keep to ``url``. ``accept``
    has the types (``application/pdf``, ``image/*``) or extensions (``.pdf``) that the file may be of; without any,
    whatever its name and its server do not speak against. ``source`` makes the source that has the file, in the
    downloader's loop, in place of the one that its URL's scheme has (:mod:`scrapy_chunkdl.download.source`);
    ``source_of`` returns the like of it for another URL of the file, a mirror or what lies beside, or None.
    ``size_bytes`` and the hashes of ``pieces`` are what the file has to have, as a metalink tells; ``found_at`` are
    the URLs that one gave in place of ``url``, which led to it.
    ``asked`` stands for what else is asked of the URL that makes another file of it, such as a method and a body.
    """

    url: str
    folder: Path
    name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    checksum: str | None = None
    mirrors: tuple[str, ...] = ()
    may_publish: Callable[[], bool] | None = None
    cookies: CookieJar | None = None
    logins: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)
    session: str | None = None
    renew: Callable[[], Awaitable[str | Renewed | None]] | None = None
    accept: tuple[str, ...] = ()
    source: Callable[[FileContext], Source] | None = field(default=None, repr=False)
    source_of: Callable[[str], Callable[[FileContext], Source] | None] | None = field(default=None, repr=False)
    asked: str = ""
    checksum_url: str | None = None
    metalink: str | None = None
    size_bytes: int | None = None
    pieces: Pieces | None = None
    found_at: tuple[str, ...] = ()

    def follows(self, content_type: str | None) -> bool:
        """Whether an answer of this type is a metalink, which says where the file is, and not the file asked for."""
        if content_type is None or content_type.partition(";")[0].strip().lower() != METALINK:
            return False
        is_wanted = self.name is not None and self.name.lower().endswith((".meta4", ".metalink"))
        return not (is_wanted or self.metalink or self.found_at or METALINK in self.accept or ".meta4" in self.accept)


@dataclass(frozen=True, slots=True)
class FileResult:
    """A file that stands whole under its final name: at ``uri`` in the store, or without one at ``path``.

    ``status`` is ``"downloaded"``, or ``"uptodate"`` when the file was there already, unchanged.
    ``checksum`` is "algorithm:hex" when one was asked for or verified. ``content_type`` is as the server sent it.
    ``fetched`` and ``resumed`` are the body bytes received now and those kept from an earlier run. ``date_is_strong``
    says that ``last_modified`` is old enough to tell this version from the next (RFC 9110 §8.8.2.2). ``one_stream`` is
    why it came by one request, a word of :data:`.remote.ONE_STREAM`, empty where it came in parts, or not now.
    """

    url: str
    final_url: str
    path: Path
    size: int
    status: str = "downloaded"
    checksum: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    elapsed: float = 0.0
    requests: int = 0
    retries: Mapping[str, int] = field(default_factory=dict)
    fetched: int = 0
    resumed: int = 0
    uri: str | None = None
    content_type: str | None = None
    date_is_strong: bool = False
    one_stream: str = ""
