"""The few calls of Azure's Blob REST API that a download makes, as a mock of a cloud that cannot be had here.

HEAD and GET of a blob, with ranges, If-Match and errors in Azure's form; the same for S3 where it is asked in its form.
Each request is noted with its fields. Knows nothing of scrapy_chunkdl.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from email.utils import formatdate
from types import TracebackType

from aiohttp import web

CODES = {
    404: "BlobNotFound",
    403: "AuthorizationFailure",
    412: "ConditionNotMet",
    416: "InvalidRange",
    503: "ServerBusy",
}


class Blobs:
    """A server of blobs by their path, ``container/name``.

    ``replies`` has statuses by path, in the order they are given,
    ``cut_after`` ends the next answer to GET after so many bytes.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.replies: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent: Counter[str] = Counter()
        self.cut_after = 0
        self.changed_at = 1_600_000_000

    async def __aenter__(self) -> Blobs:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        self.asked.append((request.method, path, {name.lower(): value for name, value in request.headers.items()}))
        if self.replies.get(path):
            return self._error(self.replies[path].pop(0))
        if path not in self.blobs:
            return self._error(404)
        data = self.blobs[path]
        etag = '"' + hashlib.sha1(data).hexdigest()[:16] + '"'
        if request.headers.get("If-Match", etag) != etag:
            return self._error(412)
        headers = {
            "ETag": etag,
            "Last-Modified": formatdate(self.changed_at, usegmt=True),
            "x-ms-blob-type": "BlockBlob",
            "x-ms-version": "2023-11-03",
            "Accept-Ranges": "bytes",
        }
        wanted = request.headers.get("x-ms-range") or request.headers.get("Range")
        start, stop, status = 0, len(data), 200
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            if int(first) >= len(data):
                return self._error(416)
            start, stop, status = int(first), min(len(data), int(last) + 1 if last else len(data)), 206
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        headers["Content-Length"] = str(stop - start)
        answer = web.StreamResponse(status=status, headers=headers)
        await answer.prepare(request)
        if request.method == "GET":
            await self._send(answer, request, path, data[start:stop])
        return answer

    async def _send(self, answer: web.StreamResponse, request: web.Request, path: str, body: bytes) -> None:
        if self.cut_after:
            body, self.cut_after = body[: self.cut_after], 0
            await answer.write(body)
            self.sent[path] += len(body)
            assert request.transport is not None
            request.transport.close()
            return
        self.sent[path] += len(body)
        await answer.write(body)
        await answer.write_eof()

    def _error(self, status: int) -> web.Response:
        code = CODES.get(status, "InternalError")
        text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>told by the mock</Message></Error>'
        return web.Response(status=status, text=text, content_type="application/xml", headers={"x-ms-error-code": code})
