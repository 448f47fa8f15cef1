"""``s3://``, ``gs://`` and ``az://`` through obstore. Knows objects and Scrapy's AWS_* settings.

A file larger than a part goes up as a multipart upload, read from disk part by part. Memory is bounded for the whole
process, however many files are under way: see :class:`_Budget`.
"""

from __future__ import annotations

import logging
import mimetypes
import os
import re
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.download.errors import Permanent
from scrapy_chunkdl.storage.errors import StoreUnusable
from scrapy_chunkdl.storage.record import from_metadata, to_metadata
from scrapy_chunkdl.storage.s3_uploads import Keys, PendingUploads

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

logger = logging.getLogger(__name__)

PART = 5 << 20
"""Bytes of a part, the least S3 allows. It takes 10,000 of them, so files above 52 GB go up in larger ones."""

_MOST_PARTS = 10_000
_BUDGET = 8
"""Parts in memory at once, over all uploads of the process: 42 MB. Larger ones count for several."""

_AT_ONCE = 3
"""Parts of one file under way at once, unless they are larger."""

_RETRIES: RetryConfig = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
"""For each request; the file as a whole is retried besides."""

_ASK_TIMEOUT = timedelta(seconds=20)
_SEND_TIMEOUT = timedelta(minutes=5)
"""For one part: 18 KB/s."""

_MERELY_DENIED = ("AccessDenied", "AuthorizationPermissionMismatch", "AuthorizationFailure")
"""Codes of S3 and Google, and of Azure, for keys that are good but may not do this."""

_KEYS_KEPT = timedelta(minutes=10)
"""botocore renews temporary keys 15 minutes before they end."""


def open_store(uri: str, settings: Mapping[Any, Any]) -> CloudStore:
    """Return the store at ``scheme://bucket/prefix``. Raises :class:`StoreUnusable`."""
    parts = urlsplit(uri)
    bucket, prefix = parts.netloc, parts.path.strip("/")
    if not bucket or "@" in bucket:
        raise StoreUnusable(f"{uri!r} should be {parts.scheme}://bucket or {parts.scheme}://bucket/folder")
    return {"s3": _open_s3, "gs": _open_gcs, "az": _open_azure}[parts.scheme.lower()](uri, bucket, prefix, settings)


def _open_s3(uri: str, bucket: str, prefix: str, settings: Mapping[Any, Any]) -> CloudStore:
    acl = settings.get("FILES_STORE_S3_ACL") or "private"
    if acl != "private":
        raise StoreUnusable(
            f"FILES_STORE_S3_ACL = {acl!r} cannot be set by obstore: give the bucket a policy that says so, and set "
            'FILES_STORE_S3_ACL = "private"'
        )
    config, client = s3_place(settings)
    keys = aws_keys(settings)
    pending = None
    if keys is not None:
        region, verify = str(config["region"]), _verify(settings)
        amazon = f"https://s3.{region}.amazonaws.com"
        pending = PendingUploads(config.get("endpoint", amazon), bucket, region, keys, verify=verify)

    def connect(timeout: timedelta) -> S3Store:
        return S3Store(
            bucket,
            prefix=prefix or None,
            config=config,
            client_options={**client, "timeout": timeout},
            retry_config=_RETRIES,
            credential_provider=partial(credential, keys) if keys is not None else None,
        )

    return CloudStore(uri, connect, prefix, pending)


def s3_place(settings: Mapping[Any, Any]) -> tuple[S3Config, ClientConfig]:
    """Return where S3 is by Scrapy's settings, and how it is connected to. Raises :class:`StoreUnusable`."""
    endpoint = settings.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL")
    tls = settings.get("AWS_USE_SSL")
    if endpoint and "://" not in endpoint:
        endpoint = f"{'http' if _is_off(tls) else 'https'}://{endpoint}"
    elif not endpoint and _is_off(tls):
        raise StoreUnusable("AWS_USE_SSL is off, which needs an AWS_ENDPOINT_URL: Amazon's own is reached by TLS only")
    region = (
        settings.get("AWS_REGION_NAME")
        or os.environ.get("AWS_REGION")
        or os.environ.get("AWS_DEFAULT_REGION")
        or "us-east-1"
    )
    client = client_options(_verify(settings), allow_http=bool(endpoint and endpoint.startswith("http://")))
    config: S3Config = {"region": region, **({"endpoint": endpoint.rstrip("/")} if endpoint else {})}
    return config, client


def _verify(settings: Mapping[Any, Any]) -> Any:
    verify = settings.get("AWS_VERIFY")
    return os.environ.get("AWS_CA_BUNDLE") if verify is None else verify  # as botocore does


def aws_keys(settings: Mapping[Any, Any]) -> Callable[[], Keys] | None:
    """Return what gives the keys: the settings, else botocore where it is installed and finds some (profiles, SSO).

    None leaves it to obstore, which knows the environment and the roles of machines, containers and pods.
    """
    access, secret = settings.get("AWS_ACCESS_KEY_ID"), settings.get("AWS_SECRET_ACCESS_KEY")
    if bool(access) != bool(secret):
        raise StoreUnusable("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY go together: one of them is not set")
    if access and secret:
        keys = Keys(access, secret, settings.get("AWS_SESSION_TOKEN") or None)
        return lambda: keys
    try:
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session
    except ImportError:
        return None
    try:
        credentials = Session().get_credentials()
    except BotoCoreError as error:
        raise StoreUnusable(f"no keys for s3://: {error}") from error
    return (lambda: Keys(*credentials.get_frozen_credentials()[:3])) if credentials is not None else None


def credential(keys: Callable[[], Keys]) -> Any:
    """Return the keys as obstore takes them; temporary ones are asked for again before they can have run out."""
    now = keys()
    expires = datetime.now(timezone.utc) + _KEYS_KEPT if now.token else None
    return {
        "access_key_id": now.access_key,
        "secret_access_key": now.secret_key,
        "token": now.token,
        "expires_at": expires,
    }


def _open_gcs(uri: str, bucket: str, prefix: str, settings: Mapping[Any, Any]) -> CloudStore:
    if acl := settings.get("FILES_STORE_GCS_ACL"):
        raise StoreUnusable(
            f"FILES_STORE_GCS_ACL = {acl!r} cannot be set by obstore: give the bucket a default object ACL or uniform "
            "access instead, and leave FILES_STORE_GCS_ACL empty"
        )
    client = client_options(None, allow_http=os.environ.get("GOOGLE_BASE_URL", "").startswith("http://"))

    def connect(timeout: timedelta) -> GCSStore:
        options: ClientConfig = {**client, "timeout": timeout}
        return GCSStore(bucket, prefix=prefix or None, client_options=options, retry_config=_RETRIES)

    return CloudStore(uri, connect, prefix)


def _open_azure(uri: str, bucket: str, prefix: str, settings: Mapping[Any, Any]) -> CloudStore:
    client = client_options(None, allow_http=os.environ.get("AZURE_ALLOW_HTTP") == "true")

    def connect(timeout: timedelta) -> AzureStore:
        options: ClientConfig = {**client, "timeout": timeout}
        return AzureStore(bucket, prefix=prefix or None, client_options=options, retry_config=_RETRIES)

    return CloudStore(uri, connect, prefix)


def client_options(verify: Any, *, allow_http: bool) -> ClientConfig:
    options: ClientConfig = {"allow_http": allow_http}
    if isinstance(verify, str) and verify.lower() not in ("true", "false", "0", "1"):
        try:
            options["root_certificate"] = Path(verify).read_text()
        except OSError as error:
            raise StoreUnusable(f"AWS_VERIFY = {verify!r} cannot be read: {error.strerror}") from error
    elif _is_off(verify):
        options["allow_invalid_certificates"] = True
    return options


def _is_off(value: Any) -> bool:
    return value is not None and str(value).lower() in ("false", "0")


class CloudStore:
    """One bucket, or a folder in it. ``connect`` opens it with a time-out for each request.

    ``pending`` cleans up after uploads that were cut off, where that can be done.
    """

    def __init__(
        self,
        uri: str,
        connect: Callable[[timedelta], S3Store | GCSStore | AzureStore],
        prefix: str,
        pending: PendingUploads | None = None,
    ) -> None:
        self._uri = uri.rstrip("/")
        try:
            self._asking, self._sending = connect(_ASK_TIMEOUT), connect(_SEND_TIMEOUT)
        except (BaseError, ValueError) as error:
            raise StoreUnusable(f"{uri}: {sentence(error)}") from error
        self._prefix = prefix
        self._pending = pending
        self._budget = _Budget(_BUDGET)
        self._looked_closer = False

    def uri(self, key: str) -> str:
        """Return the object's URI, its key not encoded: as the tools of the clouds take it."""
        return f"{self._uri}/{key}"

    def find(self, key: str) -> Published | None:
        """Return the record an object was put with. Raises OSError, PermissionError or Permanent for a bad bucket."""
        with _plain_errors():
            try:
                answer = obstore.get(self._asking, key, options={"head": True})
            except FileNotFoundError:
                self._look_closer(None)
                return None
            except (PermissionDeniedError, UnauthenticatedError) as error:
                self._look_closer(error)
                return None
        return from_metadata(answer.meta["size"], answer.attributes)

    def put(self, path: Path, key: str, record: Published, moved: Callable[[int], None]) -> None:
        """Upload a file, then abort what others left, or have under way, of uploads to the same key.

        Not before: two machines that have the same file at the same time would abort each other's for ever. obstore
        aborts an upload that fails, or whose parts can be read no more because ``moved`` raised.
        """
        kind = _content_type(key)
        attributes = {"Content-Type": kind, **to_metadata(record)}
        if record.size <= PART:
            with self._budget.hold(1, moved), _plain_errors():
                obstore.put(self._sending, key, path.read_bytes(), attributes=attributes, use_multipart=False)
            moved(record.size)
            return
        size, at_once = _plan(record.size)
        with (
            self._budget.hold(min(_BUDGET, -(-size // PART) * (at_once + 1)), moved),
            path.open("rb", buffering=0) as file,
            _plain_errors(),
        ):
            obstore.put(
                self._sending,
                key,
                _parts(file, size, moved),
                attributes=attributes,
                use_multipart=True,
                chunk_size=size,
                max_concurrency=at_once,
            )
        if self._pending is not None:
            self._pending.abort(f"{self._prefix}/{key}" if self._prefix else key)

    def _look_closer(self, denied: Exception | None) -> None:
        """Tell, once, no such object from no such bucket, and keys that may not ask from bad ones: a HEAD does not say.

        S3 answers 403 for an object that does not exist to those who may not list. They may still put.
        """
        if self._looked_closer:
            return
        try:
            next(iter(obstore.list(self._asking, chunk_size=1)), None)
        except BaseError as error:  # a list's errors are of one class; their codes tell
            said = sentence(error)
            if "NoSuchBucket" in said:
                raise Permanent(f"there is no bucket for {self._uri}", reason="store_denied") from None
            if not any(code in said for code in _MERELY_DENIED):
                raise (PermissionError(said) if denied is not None else OSError(said)) from None
        self._looked_closer = True
        if denied is not None:
            logger.warning(
                "%s may not be asked what it has (%s): every file counts as new. On S3 that takes s3:GetObject and "
                "s3:ListBucket.",
                self._uri,
                sentence(denied),
            )


_COMPRESSED = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}


def _content_type(key: str) -> str:
    """Return the type of a file by its name. A compressed one is what its bytes are: ``a.csv.gz`` is no text."""
    kind, coding = mimetypes.guess_type(key)
    if coding is not None:
        return _COMPRESSED.get(coding, "application/octet-stream")
    return kind or "application/octet-stream"


def _plan(size: int) -> tuple[int, int]:
    """Return the bytes of a part for a file of ``size`` bytes, and how many go up at once, while one more is read."""
    part = max(PART, -(-size // _MOST_PARTS))
    return part, max(1, min(_AT_ONCE, _BUDGET * PART // part - 1))


def _parts(file: Any, size: int, moved: Callable[[int], None]) -> Iterator[bytes]:
    """Read a file part by part. It is asked for the next when one before has gone up."""
    total = 0
    while part := file.read(size):
        total += len(part)
        yield part
        moved(len(part))
    if total != os.fstat(file.fileno()).st_size:
        raise OSError(f"only {total} bytes of {file.name} could be read")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Shorten obstore's errors, which carry a page of Rust, to the sentence that says what happened."""
    try:
        yield
    except (PermissionDeniedError, UnauthenticatedError) as error:
        raise PermissionError(sentence(error)) from None
    except (BaseError, FileNotFoundError) as error:
        raise OSError(sentence(error)) from None


def sentence(error: Exception) -> str:
    """Return what an error of obstore's says, without the page of Rust behind it."""
    text = str(error).partition("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>", text)
    return text.partition(": <")[0].strip() + (f" ({code[1]})" if code else "")


class _Budget:
    """Parts that may be in memory at once. First come, first served, so that small files do not keep large ones out."""

    def __init__(self, parts: int) -> None:
        self._free = parts
        self._waiting: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def hold(self, parts: int, moved: Callable[[int], None]) -> Iterator[None]:
        """Wait until that many are free; ``moved(0)`` is called now and then meanwhile, and may raise."""
        ticket = object()
        with self._changed:
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or self._free < parts:
                    self._changed.wait(0.5)
                    moved(0)
                self._free -= parts
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._free += parts
                self._changed.notify_all()
