"""Safe file names and paths from what items, servers and URLs say. Pure text; touches no disk.

Whatever the input, the name is one path segment, at most :data:`MOST_BYTES` long, and means the same on every system.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from scrapy_chunkdl.text.charsets import text_of

MOST_BYTES = 240
"""Bytes of UTF-8 a name may have: 255 is the limit of file systems, ``.part.journal~`` needs 14."""

FALLBACK = "file"

_LONGEST_SHOWN = 80
_LONGEST_FOLDER_BYTES = 255
_LONGEST_PATH_BYTES = 4095 - 40
"""Linux' PATH_MAX, less what the name of a part file adds."""

_LONGEST_EXTENSION = 20
_MAY_BE_SECRET = frozenset("?@#")
_OURS = (".part", ".part.journal", ".part.journal~")
_FORBIDDEN = re.compile(r'[<>:"|?*]')
_EXTENDED = re.compile(r"filename\*\s*=\s*([\w-]*)'[^']*'([^;\"]+)", re.IGNORECASE)
_STARLESS = re.compile(r"(utf-8|iso-8859-1|gbk|gb2312|gb18030|big5|shift_jis|euc-kr)'[\w-]*'(.+)", re.IGNORECASE)
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\.|$)", re.IGNORECASE)
_ENCODED_BYTE = re.compile(r"%[89A-Fa-f][0-9A-Fa-f]")
_STRAY_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")


def safe_name(raw: str) -> str | None:
    """Make one safe path segment of ``raw``, keeping its extension; None if nothing is left of it.

    Only the last segment counts, whichever separator is used. Control, bidirectional and invisible characters go
    (a name must read as it is), so do characters and names that Windows reserves, and dots and spaces at the ends.
    """
    name = raw.replace("\\", "/").rstrip("/").rpartition("/")[2]
    if not (name.isascii() and name.isprintable()):
        name = "".join(
            char for char in name if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
        )
        name = unicodedata.normalize("NFC", name)  # after what is invisible between a letter and its accent has gone
    name = _FORBIDDEN.sub("_", name).strip(" .")
    if not name:
        return None
    if _RESERVED.match(name):
        name = "_" + name
    name = _cut(name)
    if name.lower().endswith(_OURS):  # two files must not share a part file
        name = _cut(name + "_")
    return name


def _cut(name: str) -> str:
    stem, extension = _split(name)
    room = MOST_BYTES - len(extension.encode())
    if len(stem.encode()) > room:
        stem = stem.encode()[:room].decode(errors="ignore").rstrip(" .")
    return stem + extension


def _split(name: str) -> tuple[str, str]:
    stem, dot, extension = name.rpartition(".")
    if not stem or len(extension) > _LONGEST_EXTENSION:
        return name, ""
    return stem, dot + extension


def name_from_content_disposition(header: str | None, hints: Iterable[str] = ()) -> str | None:
    """Return the safe file name a Content-Disposition header offers, the extended form first (RFC 6266 §4.3).

    ``hints`` are encodings that raw bytes in it are likely in.
    """
    if not header:
        return None
    extended = _EXTENDED.search(header)
    if extended:  # RFC 8187: charset'language'percent-encoded
        try:
            return safe_name(unquote(extended[2].strip(), encoding=extended[1] or "utf-8", errors="strict"))
        except (LookupError, UnicodeError):
            header = _EXTENDED.sub("", header)  # RFC 6266 §4.3: one that cannot be understood is ignored
    message = Message()
    try:
        message["Content-Disposition"] = text_of(header.encode("utf-8", "surrogateescape"), hints)
        name = message.get_filename()
    except (LookupError, ValueError, TypeError):  # what email does with a charset that is none, or odd numbering
        return None
    return safe_name(_decoded(name, hints)) if name else None


def _decoded(name: str, hints: Iterable[str]) -> str:
    """Undo the encodings that do not belong into the plain form, are common in it, and browsers read."""
    if starless := _STARLESS.fullmatch(name):  # the extended form, whose star was forgotten
        try:
            return unquote(starless[2], encoding=starless[1], errors="strict")
        except (LookupError, UnicodeError):
            return name
    if _ENCODED_BYTE.search(name) and not _STRAY_PERCENT.search(name):
        return _unquoted(name, hints)
    if name.startswith("=?") and name.endswith("?="):  # RFC 2047
        try:
            return str(make_header(decode_header(name)))
        except (HeaderParseError, LookupError, ValueError):
            return name
    return name


def _unquoted(text: str, hints: Iterable[str]) -> str:
    return text_of(unquote_to_bytes(text.encode("utf-8", "surrogatepass")), hints)


def name_from_url(url: str, hints: Iterable[str] = ()) -> str | None:
    """Return the safe last segment of a URL's path, percent-decoded.

    ``hints`` are encodings that bytes in it are likely in which are no UTF-8.
    """
    if url[:5].lower() == "data:":  # which has no name, only the file itself
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    segment = path.rpartition("/")[2]
    return safe_name(_unquoted(segment, hints)) if segment else None


def url_digest(url: str) -> str:
    """Return what stands for a URL that had better not be kept: ``sha256:`` and 64 hex digits."""
    return "sha256:" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def kept_url(url: str) -> str:
    """Return what is written down of a URL: its digest where it may hold a password or a signature."""
    return url if _MAY_BE_SECRET.isdisjoint(url) else url_digest(url)


def folder_for(url: str) -> str:
    """Return the folder, relative to the store, of the file at ``url``.

    It depends on the URL alone: the same file is found again, by any process, and two files of one name do not meet.
    The first two digits spread millions of folders over 256.
    """
    digest = hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:2]}/{digest[2:12]}"


def file_path(url: str, filename: str | None = None) -> str:
    """Return the path of a file relative to the store, in POSIX form."""
    name = (safe_name(filename) if filename else None) or name_from_url(url) or FALLBACK
    return f"{folder_for(url)}/{name}"


def distinct_name(name: str, url: str) -> str:
    """Return a name for a file whose own is taken by a file of another URL: ``stem-<8 hex digits>.ext``."""
    stem, extension = _split(name)
    mark = "-" + hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return _cut_stem(stem, MOST_BYTES - len((mark + extension).encode())) + mark + extension


def _cut_stem(stem: str, room: int) -> str:
    return stem.encode()[:room].decode(errors="ignore")


def inside(store: Path, relative: str) -> Path:
    """Join a relative path to the store. Raises ValueError for one that leaves it; symbolic links are not followed."""
    path = PurePosixPath(relative.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or "\0" in relative or not path.parts:
        raise ValueError(f"{relative[:_LONGEST_SHOWN]!r} is not a path inside the store")
    joined = store.joinpath(*path.parts)
    try:
        *folders, name_bytes = (len(part.encode()) for part in path.parts)
        length_bytes = len(str(joined).encode())
    except UnicodeEncodeError:
        raise ValueError(f"{relative[:_LONGEST_SHOWN]!r} has half an emoji, which no file name takes") from None
    if name_bytes > MOST_BYTES or max(folders, default=0) > _LONGEST_FOLDER_BYTES or length_bytes > _LONGEST_PATH_BYTES:
        raise ValueError(f"{relative[:_LONGEST_SHOWN]!r}… is longer than file systems take")
    return joined
