"""Media types and file extensions: which belong together, and what kind of bytes they promise. Pure; no I/O.

The standard library's table, without those of the system, so that one name means the same on every machine.
"""

from __future__ import annotations

import mimetypes
import re
from enum import Enum
from functools import lru_cache


class Kind(Enum):
    """What a name or type promises of the bytes."""

    PAGE = "a page"
    """HTML, or what a program makes of the request: anything may come."""

    TEXT = "text"
    """Text of some format: CSV, JSON, XML, plain."""

    BINARY = "binary"
    """A format that begins with bytes of its own, and never as a page or plain text does."""

    UNKNOWN = "unknown"


_MORE_TYPES = {
    ".7z": "application/x-7z-compressed",
    ".aab": "application/zip",
    ".apk": "application/vnd.android.package-archive",
    ".azw": "application/vnd.amazon.ebook",
    ".azw3": "application/vnd.amazon.mobi8-ebook",
    ".cab": "application/vnd.ms-cab-compressed",
    ".caj": "application/x-caj",
    ".cbr": "application/vnd.comicbook-rar",
    ".cbz": "application/vnd.comicbook+zip",
    ".cr2": "image/x-canon-cr2",
    ".crx": "application/x-chrome-extension",
    ".deb": "application/vnd.debian.binary-package",
    ".djvu": "image/vnd.djvu",
    ".dmg": "application/x-apple-diskimage",
    ".dng": "image/x-adobe-dng",
    ".docm": "application/vnd.ms-word.document.macroenabled.12",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".dps": "application/vnd.ms-powerpoint",
    ".dwg": "image/vnd.dwg",
    ".epub": "application/epub+zip",
    ".et": "application/vnd.ms-excel",
    ".exe": "application/vnd.microsoft.portable-executable",
    ".fits": "image/fits",
    ".flac": "audio/flac",
    ".geojson": "application/geo+json",
    ".gpkg": "application/geopackage+sqlite3",
    ".gpx": "application/gpx+xml",
    ".heic": "image/heic",
    ".hwp": "application/x-hwp",
    ".hwpx": "application/hwp+zip",
    ".iso": "application/x-iso9660-image",
    ".jar": "application/java-archive",
    ".jfif": "image/jpeg",
    ".jp2": "image/jp2",
    ".jsonl": "application/jsonl",
    ".jxl": "image/jxl",
    ".kml": "application/vnd.google-earth.kml+xml",
    ".kmz": "application/vnd.google-earth.kmz",
    ".log": "text/plain",
    ".lz4": "application/x-lz4",
    ".lzma": "application/x-lzma",
    ".m4a": "audio/mp4",
    ".m4v": "video/mp4",
    ".md": "text/markdown",
    ".mkv": "video/x-matroska",
    ".mobi": "application/x-mobipocket-ebook",
    ".msi": "application/x-msi",
    ".ndjson": "application/jsonl",
    ".nef": "image/x-nikon-nef",
    ".npy": "application/x-npy",
    ".npz": "application/zip",
    ".numbers": "application/vnd.apple.numbers",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".ofd": "application/ofd",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".otf": "font/otf",
    ".ova": "application/x-tar",
    ".pages": "application/vnd.apple.pages",
    ".parquet": "application/vnd.apache.parquet",
    ".pcap": "application/vnd.tcpdump.pcap",
    ".pptm": "application/vnd.ms-powerpoint.presentation.macroenabled.12",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".psd": "image/vnd.adobe.photoshop",
    ".qcow2": "application/x-qcow2",
    ".rar": "application/vnd.rar",
    ".rpm": "application/x-rpm",
    ".safetensors": "application/x-safetensors",
    ".sqlite": "application/vnd.sqlite3",
    ".tgz": "application/gzip",
    ".torrent": "application/x-bittorrent",
    ".ttf": "font/ttf",
    ".vmdk": "application/x-vmdk",
    ".vsix": "application/zip",
    ".webp": "image/webp",
    ".whl": "application/zip",
    ".wmv": "video/x-ms-wmv",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".wps": "application/msword",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zst": "application/zstd",
}
"""What the table of Python 3.10 lacks, as IANA and their makers register it."""

_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_COMPRESSED |= {"compress": "application/x-compress", "br": "application/x-brotli"}

_ALIASES = {
    "application/x-gtar-compressed": "application/gzip",
    "application/x-compressed-tar": "application/gzip",
    "application/x-pdf": "application/pdf",
    "application/csv": "text/csv",
    "application/txt": "text/plain",
    "application/excel": "application/vnd.ms-excel",
    "application/x-excel": "application/vnd.ms-excel",
    "application/x-msexcel": "application/vnd.ms-excel",
    "application/x-javascript": "text/javascript",
    "application/javascript": "text/javascript",
    "audio/mp3": "audio/mpeg",
    "audio/wave": "audio/x-wav",
    "audio/wav": "audio/x-wav",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/x-png": "image/png",
    "text/json": "application/json",
    "text/xml": "application/xml",
}

_PACKED = {
    **dict.fromkeys(("gzip", "gunzip", "gz", "tgz", "tar+gzip", "tar-gz", "gzip-document"), "application/gzip"),
    **dict.fromkeys(("bzip2", "bzip", "bz2", "tbz", "tbz2"), "application/x-bzip2"),
    **dict.fromkeys(("xz", "txz"), "application/x-xz"),
    **dict.fromkeys(("zstd", "zst", "tzst"), "application/zstd"),
    **dict.fromkeys(("br", "brotli"), "application/x-brotli"),
    "zip": "application/zip",
    "rar": "application/vnd.rar",
}
_PACKED_TYPE = re.compile(r"(?:application|multipart)/(?:x-)?(.*?)(?:ped|-?compressed|-?compressed-tar)?")
"""What packs a file, under all the names that servers and desktops (shared-mime-info) have for it."""

_EXTENSIONS = {
    "application/gzip": ".gz",
    "application/x-bzip2": ".bz2",
    "application/x-xz": ".xz",
    "application/xml": ".xml",
    "application/postscript": ".ps",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
    "text/html": ".html",
    "text/plain": ".txt",
    "video/mpeg": ".mpg",
    "video/quicktime": ".mov",
}
"""What people write, where the table's first extension is another."""

_ANYTHING = frozenset(
    {"application/octet-stream", "binary/octet-stream", "application/binary", "application/unknown", "unknown/unknown"}
    | {f"application/{word}" for word in ("download", "x-download", "force-download", "x-force-download", "x-unknown")}
    | {
        "application/save",
        "application/x-octet-stream",
        "application/file",
        "application/download-file",
        "content/unknown",
    }
)
"""Types that say "some file", as download scripts do."""

_PROGRAMS: tuple[str, ...] = (
    *(".php", ".php3", ".php5", ".phtml", ".asp", ".aspx", ".ashx", ".jsp", ".jspx", ".do", ".action", ".cgi", ".cfm"),
    *(".dll", ".pl", ".py", ".rb", ".fcgi", ".axd", ".nsf", ".mhtml", ".mht", ".com", ".bat"),
)
"""Extensions of what may be run on a server, so that an answer of any type may come."""

_PAGE_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_TEXT_TYPES = frozenset(
    {f"application/{word}" for word in ("json", "jsonl", "xml", "yaml", "sql", "x-sh", "x-csh", "x-tex", "x-latex")}
    | {f"application/{word}" for word in ("x-texinfo", "x-troff", "x-ndjson", "toml", "ecmascript", "x-httpd-php")}
    | {"application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/x-mpegurl", "audio/mpegurl", "application/rtf"}
    | {"application/postscript", "application/x-subrip", "application/dash+xml", "application/pgp-signature"}
    | {"application/pgp-keys", "application/x-pem-file", "application/x-x509-ca-cert", "application/pkcs8"}
    | {"image/x-xpixmap", "image/x-xbitmap", "image/x-portable-bitmap", "image/x-portable-anymap"}
    | {"image/x-portable-pixmap", "image/x-portable-graymap", "image/svg+xml", "model/obj", "model/stl"}
    | {"application/x-bittorrent"}
)
_BINARY_TYPES = frozenset(
    {"application/pdf", "application/zip", "application/java-archive", "application/zstd", "application/epub+zip"}
    | {"application/msword", "application/gzip", "application/x-bzip2", "application/x-xz", "application/x-tar"}
    | {"application/x-7z-compressed", "application/wasm", "application/x-shockwave-flash", "application/ogg"}
    | {"application/x-iso9660-image", "application/x-apple-diskimage", "application/x-msi", "application/x-rpm"}
    | {"application/x-mobipocket-ebook", "application/x-compress", "application/mp4", "application/x-hwp"}
    | {"application/hwp+zip", "application/ofd", "application/x-caj", "application/x-chrome-extension"}
    | {"application/geopackage+sqlite3", "application/x-lz4", "application/x-lzma", "application/x-npy"}
    | {"application/x-qcow2", "application/x-safetensors", "application/x-vmdk", "application/x-hdf5"}
    | {"application/x-netcdf"}
)
_BINARY_VENDORS = (
    "openxmlformats-",
    "oasis.opendocument.",
    "ms-",
    "rar",
    "comicbook",
    "android.package",
    "debian.binary",
    "google-earth.kmz",
    "apache.parquet",
    "microsoft.portable-executable",
    "visio",
    "sqlite3",
    "amazon.",
    "apple.numbers",
    "apple.pages",
    "tcpdump.pcap",
)


@lru_cache(maxsize=1)
def _table() -> mimetypes.MimeTypes:
    """Return the table, made for the first name that needs it: 3 ms."""
    table = mimetypes.MimeTypes()
    for extension, kind in _MORE_TYPES.items():
        table.add_type(kind, extension)
    return table


@lru_cache(maxsize=256)
def essence(content_type: str | None) -> str:
    """Return ``type/subtype`` of a Content-Type, in lower case and under one name; empty for none or for nonsense."""
    kind = (content_type or "").partition(";")[0].partition(",")[0].strip().lower()
    if kind.count("/") != 1 or not kind.isascii():
        return ""
    packed = _PACKED_TYPE.fullmatch(kind)
    return _ALIASES.get(kind) or (_PACKED.get(packed[1], kind) if packed is not None else kind)


def says_nothing(content_type: str | None) -> bool:
    """Whether a Content-Type is absent, or says no more than "some bytes"."""
    kind = essence(content_type)
    return not kind or "*" in kind or kind in _ANYTHING or kind.startswith(("multipart/", "message/"))


def is_any_bytes(content_type: str | None) -> bool:
    """Whether a Content-Type is one of those that say "some file"."""
    return essence(content_type) in _ANYTHING


@lru_cache(maxsize=1024)
def type_of_name(name: str) -> str:
    """Return the type that a name's extension stands for; empty where it has none that is known."""
    dot = name.rfind(".")
    if dot < 0:
        return ""
    kind, coding = _table().guess_type("name" + name[dot:].lower(), strict=False)
    found = _COMPRESSED.get(coding, "") if coding is not None else kind or ""
    return essence(found)


def extension_of(content_type: str | None) -> str:
    """Return the extension, with its dot, of files of a type; empty where the type says nothing or is not known."""
    kind = essence(content_type)
    if says_nothing(kind):
        return ""
    return _EXTENSIONS.get(kind) or _table().guess_extension(kind, strict=False) or ""


@lru_cache(maxsize=1024)
def kind_of_name(name: str) -> Kind:
    """Return what a name promises."""
    if name.lower().endswith(_PROGRAMS):
        return Kind.PAGE
    return kind_of_type(type_of_name(name))


@lru_cache(maxsize=1024)
def kind_of_type(content_type: str | None) -> Kind:
    """Return what a Content-Type promises."""
    kind = essence(content_type)
    if kind in _PAGE_TYPES:
        return Kind.PAGE
    if kind in _TEXT_TYPES or kind.startswith("text/") or kind.endswith(("+xml", "+json", "+yaml")):
        return Kind.TEXT
    if kind in _BINARY_TYPES or kind.startswith(("image/", "audio/", "video/", "font/")):
        return Kind.BINARY
    vendor = kind.removeprefix("application/vnd.")
    return Kind.BINARY if vendor != kind and vendor.startswith(_BINARY_VENDORS) else Kind.UNKNOWN
