"""What Scrapy's AWS_* settings do to the requests that are sent: to Amazon's look-alike, over plain HTTP and TLS."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")

from scrapy_chunkdl.download.disk.record import Published
from scrapy_chunkdl.storage import open_store

KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret"}
SIZE = 11_000_000
"""Three parts of an upload."""

UPLOADS = """<ListMultipartUploadsResult>
<Upload><Key>folder/a.bin</Key><UploadId>left</UploadId></Upload>
</ListMultipartUploadsResult>"""
ANSWERS = {
    "POST uploads": "<InitiateMultipartUploadResult><UploadId>mine</UploadId></InitiateMultipartUploadResult>",
    "POST uploadId": "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>",
    "GET uploads": UPLOADS,
}


class Endpoint:
    """Says yes to all that an upload asks, and keeps the headers of each request under its method and first word."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        asked = self.asked = []  # type: list[tuple[str, str, Any]]

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                words = self.path.partition("?")[2].split("&")
                verb = next((word for word in ("uploads", "partNumber", "uploadId") if f"{word}=" in self.path), "")
                asked.append((f"{self.command} {verb}".strip(), "&".join(words), self.headers))
                body = ANSWERS.get(f"{self.command} {verb}", "").encode()
                self.send_response(204 if self.command == "DELETE" else 404 if self.command == "HEAD" else 200)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", '"e"')
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def endpoint() -> Iterator[Callable[..., Endpoint]]:
    """Starts endpoints."""
    started: list[tuple[Endpoint, threading.Thread]] = []

    def start(tls: ssl.SSLContext | None = None) -> Endpoint:
        endpoint = Endpoint(tls)
        thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        started.append((endpoint, thread))
        return endpoint

    yield start
    for endpoint, thread in started:
        endpoint.server.shutdown()
        endpoint.server.server_close()
        thread.join()


def upload(settings: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(SIZE))
    store = open_store("s3://bucket/folder", KEYS | settings)

    store.put(tmp_path / "file", "a.bin", Published("https://example.org/a.bin", SIZE), lambda count: None)


@pytest.mark.parametrize("region", ["eu-central-1", None])
def test_every_request_has_the_region_and_the_session_token(
    endpoint: Callable[..., Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, region: str | None
) -> None:
    monkeypatch.delenv("AWS_REGION", raising=False)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    here = endpoint()

    upload({"AWS_ENDPOINT_URL": here.url, "AWS_REGION_NAME": region, "AWS_SESSION_TOKEN": "session"}, tmp_path)

    assert {what for what, _, _ in here.asked} == {
        "POST uploads",
        "PUT partNumber",
        "POST uploadId",
        "GET uploads",
        "DELETE uploadId",
    }
    for _, _, headers in here.asked:
        assert headers["X-Amz-Security-Token"] == "session"
        assert f"Credential=AKID/{headers['X-Amz-Date'][:8]}/{region or 'us-east-1'}/s3/" in headers["Authorization"]


@pytest.mark.parametrize("how", ["AWS_VERIFY", "AWS_CA_BUNDLE", "off", "off as text"])
def test_who_is_trusted_is_the_same_for_uploads_and_for_what_cleans_up_after_them(
    endpoint: Callable[..., Endpoint], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    authority, tls = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    here = endpoint(tls)
    settings: dict[str, Any] = {"AWS_ENDPOINT_URL": here.url}
    if how == "AWS_CA_BUNDLE":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    else:
        settings["AWS_VERIFY"] = {"AWS_VERIFY": str(tmp_path / "ca.pem"), "off": False, "off as text": "False"}[how]

    upload(settings, tmp_path)

    assert [query for what, query, _ in here.asked if what == "DELETE uploadId"] == ["uploadId=left"]


def test_nobody_else_is_trusted(endpoint: Callable[..., Endpoint], tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    here = endpoint(tls)

    with pytest.raises(OSError, match=r"(?i)error sending request"):
        upload({"AWS_ENDPOINT_URL": here.url}, tmp_path)

    assert here.asked == []
