"""Objects of ``s3://``, ``gs://`` and ``az://`` as files to fetch, by obstore: ranges of one version each.

Signed where keys are found (Scrapy's AWS_* settings, botocore, the environment), else anonymous, as public data sets
want it. Knows objects; nothing of plans, files on disk or limits.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from scrapy_chunkdl.download import DownloadError, Permanent, SourceChanged, Transient
from scrapy_chunkdl.download.http.allowed import refuse_host
from scrapy_chunkdl.download.native.source import NativeOpener
from scrapy_chunkdl.download.native.told import Told
from scrapy_chunkdl.download.source import FileContext
from scrapy_chunkdl.services.patience import within
from scrapy_chunkdl.storage.cloud import aws_keys, credential, s3_place, sentence
from scrapy_chunkdl.storage.errors import StoreUnusable
from scrapy_chunkdl.text.masking import shown_url

T = TypeVar("T")
Store = S3Store | GCSStore | AzureStore

_URL = re.compile(r"(s3|gs|az)://([^/?#@]+)/(.+)", re.DOTALL | re.IGNORECASE)
_OTHERWISE = frozenset({"", ".", ".."})
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_AT_LEAST = 1 << 18
_LONGEST = timedelta(hours=12)
"""For one answer: obstore counts its body, too. Stalls are looked for here."""

_NO_RETRY: Any = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
"""The downloader retries, from the byte it has come to."""

_NOT_CONNECTED = re.compile(r"kind: Connect\b.*", re.DOTALL)
_CAUSE = re.compile(r'(?:message|error): "([^"]+)"')
"""As Rust's libraries write an error down, which has no other form here."""

_STATUS = re.compile(r"status code: ([345]\d\d)")
_ELSEWHERE = re.compile(r"redirect without LOCATION")
_SLOW_DOWN = re.compile(r"SlowDown|TooManyRequests|ServerBusy|rateLimitExceeded|\b(?:429|503)\b")


class ObjectsKept:
    """The stores of one loop: one for each bucket, and for each way to ask it."""

    def __init__(self, settings: Mapping[Any, Any]) -> None:
        self._settings = settings
        self._stores: dict[object, Store] = {}

    def native(self, context: FileContext, url: str) -> tuple[ObjectSource, str]:
        """Return what reads the object at a URL, and what stands for its host. Raises Permanent."""
        matched = _URL.fullmatch(url)
        if matched is None:
            raise Permanent("a URL of an object is s3://bucket/key, gs://… or az://…", reason="bad_url")
        scheme, bucket = matched[1].lower(), matched[2]
        refuse_host(bucket.lower(), context.options)
        headers = {name.lower(): value for name, value in context.request.headers.items()}
        pays = headers.get("x-amz-request-payer", "").lower() == "requester"
        billed = headers.get("x-goog-user-project")
        wanted = (scheme, bucket, pays, billed)
        if wanted not in self._stores:
            try:
                self._stores[wanted] = _opened(scheme, bucket, self._settings, pays=pays, billed=billed)
            except (BaseError, ValueError, StoreUnusable) as error:
                raise Permanent(f"{scheme}://{bucket} cannot be asked: {sentence(error)}", reason="bad_url") from error
        stall_s = context.options.stall_timeout
        key = _key(scheme, matched[3], url)
        source = ObjectSource(self._stores[wanted], key, url, context.options.first_byte_timeout, stall_s)
        return source, f"{bucket}:{scheme}"

    def close(self) -> None:
        """Let the stores go; their connections go with them."""
        self._stores.clear()


class ObjectSource:
    """One object: a :class:`~scrapy_chunkdl.download.native.told.NativeSource`."""

    def __init__(self, store: Store, key: str, url: str, answer_s: float, stall_s: float) -> None:
        self._store = store
        self._key = key
        self._url = url
        self._answer_s = answer_s
        self._stall_s = stall_s

    async def look(self) -> Told:
        """Ask what the object is."""
        return _told(await self._asked(obstore.head_async(self._store, self._key)))

    async def read(self, start: int, stop: int | None) -> ObjectReading:
        """Begin to read."""
        options: Any = {}
        if stop is not None:
            options["range"] = (start, stop)
        elif start:
            options["range"] = {"offset": start}
        answer = await self._asked(obstore.get_async(self._store, self._key, options=options))
        return ObjectReading(_told(answer.meta), answer.stream(min_chunk_size=_AT_LEAST), self._url, self._stall_s)

    async def _asked(self, asking: Awaitable[T]) -> T:
        with_patience = within(self._answer_s, asking)
        try:
            return await with_patience
        except (BaseError, OSError, ValueError, asyncio.TimeoutError) as error:
            raise _meaning(error, self._url) from error


class ObjectReading:
    """A range on its way."""

    def __init__(self, told: Told, stream: AsyncIterator[Any], url: str, stall_s: float) -> None:
        self.told = told
        self._stream: AsyncIterator[Any] | None = stream
        self._url = url
        self._stall_s = stall_s

    async def next(self) -> bytes:
        """Return the next bytes; none at the end of the range."""
        if self._stream is None:
            return b""
        stream = self._stream
        try:
            piece = await within(self._stall_s, stream.__anext__())
        except StopAsyncIteration:
            self._stream = None
            return b""
        except (BaseError, OSError, ValueError, asyncio.TimeoutError) as error:
            self._stream = None
            raise _meaning(error, self._url) from error
        if self._stream is None:
            raise Transient(f"{self._url} was closed meanwhile", reason="connection_lost")
        return bytes(piece)

    async def stop(self) -> None:
        """Drop what has not come: an answer is of one version, whatever happens to the object."""
        self._stream = None

    def close(self) -> None:
        """Drop what has not come."""
        self._stream = None


def _key(scheme: str, path: str, url: str) -> str:
    """Return the key a URL names. Raises Permanent, reason ``bad_url``, for one that obstore cannot ask for.

    It refuses some and asks for others without their slashes, which would bring another object
    (object_store::path::Path).
    """
    try:
        key = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise Permanent(f"'{shown_url(url)}' cannot be fetched: a key is UTF-8", reason="bad_url") from None
    parts = key.split("/")
    if _OTHERWISE.isdisjoint(parts) and not _CONTROLS.search(key):
        return key
    instead = ": CHUNKDL_VIA_SCRAPY = ['s3:'] has Scrapy do it" if scheme == "s3" else ""
    text = f"'{shown_url(url)}' cannot be fetched by obstore, as its key has an empty part, '.', '..' or a control"
    raise Permanent(f"{text} character{instead}", reason="bad_url")


def _opened(scheme: str, bucket: str, settings: Mapping[Any, Any], *, pays: bool, billed: str | None) -> Store:
    client: Any = {"timeout": _LONGEST}
    if scheme == "s3":
        config, connecting = s3_place(settings)
        keys = aws_keys(settings)
        more: Any = {"request_payer": True} if pays else {}
        if keys is None and not _any_of_environment("AWS_ACCESS_KEY", "AWS_CONTAINER", "AWS_WEB_IDENTITY"):
            more["skip_signature"] = True
        return S3Store(
            bucket,
            config={**config, **more},
            client_options={**connecting, **client},
            retry_config=_NO_RETRY,
            credential_provider=partial(credential, keys) if keys is not None else None,
        )
    if scheme == "gs":
        client["allow_http"] = os.environ.get("GOOGLE_BASE_URL", "").startswith("http://")
        if billed:
            client["default_headers"] = {"x-goog-user-project": billed}
        config_of_google: Any = {} if _has_google_login() else {"skip_signature": True}
        return GCSStore(bucket, config=config_of_google, client_options=client, retry_config=_NO_RETRY)
    client["allow_http"] = os.environ.get("AZURE_ALLOW_HTTP") == "true"
    has_login = _any_of_environment("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS", "AZURE_CLIENT", "AZURE_MSI")
    config_of_azure: Any = {} if has_login else {"skip_signature": True}
    return AzureStore(bucket, config=config_of_azure, client_options=client, retry_config=_NO_RETRY)


def _any_of_environment(*names: str) -> bool:
    return any(name.upper().startswith(names) for name, value in os.environ.items() if value)


def _has_google_login() -> bool:
    made = Path.home() / ".config" / "gcloud" / "application_default_credentials.json"
    return made.exists() or _any_of_environment("GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT")


def _told(meta: Mapping[str, Any]) -> Told:
    etag = meta.get("e_tag")
    version = etag.strip('"') if etag and not etag.startswith("W/") else None
    return Told(meta["size"], meta.get("last_modified"), version, offsets=True)


def _meaning(error: BaseException, url: str) -> DownloadError:
    said = sentence(error) if isinstance(error, Exception) else ""
    text = f"{url}: {said}"
    if isinstance(error, PreconditionError):
        return SourceChanged(f"{url} is another version now")
    if isinstance(error, FileNotFoundError):
        return Permanent(text, reason="not_found")
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
        return Permanent(text, reason="no_permission")
    if isinstance(error, asyncio.TimeoutError):
        return Transient(f"{url} sent nothing in time", reason="stalled")
    if _SLOW_DOWN.search(said):
        return Transient(text, reason="too_many_connections")
    if _ELSEWHERE.search(said) and url.lower().startswith("s3:"):
        text = f"{url}: the bucket is in another region than AWS_REGION_NAME says"
        return Permanent(text, reason="wrong_region")
    if (found := _STATUS.search(said)) is not None:
        return _by_status(found[1], text, url)
    if isinstance(error, ValueError):
        return Permanent(text, reason="bad_url")
    if (cause := _NOT_CONNECTED.search(str(error))) is not None:
        why = _CAUSE.search(cause[0])
        text = f"{url}: no connection: {why[1] if why is not None else 'the host cannot be reached'}"
        if "certificate" in cause[0].lower():
            return Permanent(text, reason="tls")
        return Transient(text, reason="dns" if "dns error" in cause[0] else "connect_failed")
    return Transient(text, reason="connection_lost")


def _by_status(status: str, text: str, url: str) -> DownloadError:
    if status == "416":  # what was to be read from there is not there any more
        return SourceChanged(f"{url} is shorter now")
    is_passing = status >= "500" and status != "501"
    return (Transient if is_passing or status == "408" else Permanent)(text, reason=f"http_{status}")


def opener_of(settings: Mapping[Any, Any]) -> Callable[..., Any]:
    """Return what opens the sources of these schemes in a loop, with the settings of a crawl."""
    return lambda options, limits: NativeOpener(ObjectsKept(settings))
