"""Multipart uploads to S3 that were begun and never ended: listed and aborted. obstore can do neither.

Their parts are kept, and paid for, until somebody aborts them. Knows two requests of the S3 API and their signature
(Signature Version 4); nothing of files.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree

logger = logging.getLogger(__name__)

_TIMEOUT = 30.0
_EMPTY = hashlib.sha256(b"").hexdigest()


class Keys(NamedTuple):
    """What requests are signed with. ``token`` comes with temporary keys."""

    access_key: str
    secret_key: str
    token: str | None = None


class PendingUploads:
    """The uploads under way in one bucket. ``verify`` is Scrapy's AWS_VERIFY: a bool, or the path of a CA bundle."""

    def __init__(
        self, endpoint: str, bucket: str, region: str, keys: Callable[[], Keys], *, verify: Any = None
    ) -> None:
        self._base = f"{endpoint}/{quote(bucket)}"
        self._region = region
        self._keys = keys
        self._tls = _tls_context(verify)
        self._said = threading.Event()

    def abort(self, key: str) -> None:
        """Abort all uploads of this very key. Who may not list them is told once; that does not keep files back."""
        try:
            for upload in self._list(key):
                self._ask("DELETE", key, {"uploadId": upload})
        except (OSError, ElementTree.ParseError) as error:
            if not self._said.is_set():
                self._said.set()
                logger.warning(
                    "Unfinished uploads cannot be listed and aborted (%s): have the bucket do that by a lifecycle "
                    "rule, AbortIncompleteMultipartUpload.",
                    error,
                )

    def _list(self, key: str) -> list[str]:
        answer = ElementTree.fromstring(self._ask("GET", "", {"prefix": key, "uploads": ""}))
        found = []
        for upload in answer.iterfind("{*}Upload"):
            if upload.findtext("{*}Key") == key and (upload_id := upload.findtext("{*}UploadId")):
                found.append(upload_id)
        return found

    def _ask(self, method: str, key: str, query: dict[str, str]) -> bytes:
        path = f"{self._base}/{quote(key, safe='/-_.~')}" if key else self._base
        words = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(query.items()))
        headers = self._signed(method, path, words, datetime.now(timezone.utc))
        request = urllib.request.Request(f"{path}?{words}", method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT, context=self._tls) as response:
                body: bytes = response.read()
                return body
        except urllib.error.HTTPError as error:
            error.close()
            if method == "DELETE" and error.code == 404:  # its process was quicker
                return b""
            raise

    def _signed(self, method: str, url: str, query: str, now: datetime) -> dict[str, str]:
        """Return the headers of a request without a body (AWS: "Create a signed AWS API request")."""
        parts, keys = urlsplit(url), self._keys()
        headers = {
            "host": parts.netloc,
            "x-amz-content-sha256": _EMPTY,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
            **({"x-amz-security-token": keys.token} if keys.token else {}),
        }
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join((method, parts.path, query, lines, names, _EMPTY))
        scope = f"{now:%Y%m%d}/{self._region}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{digest}"
        key = f"AWS4{keys.secret_key}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers


def _tls_context(verify: Any) -> ssl.SSLContext:
    text = "" if verify is None else str(verify).lower()
    if text in ("false", "0"):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    return ssl.create_default_context(cafile=str(verify) if text not in ("", "true", "1") else None)
