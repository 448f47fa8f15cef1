"""Each row of the table in docs/sources.md has an example there, and each example brings its file in one crawl."""

from __future__ import annotations

import asyncio
import hashlib
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from blob_server import Blobs
from ftp_server import USER, Ftp, age
from origin_content import content
from project import Project, item, paths
from socks_server import SocksServer
from ssh_server import sshd

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text("utf-8")
BYTES = content("example", 3_000_000)
SUM = "123456789"
BY_A_HOOK = {"other methods and bodies (`FormRequest`, …)"}
"""Rows whose example is a pipeline, run by tests/crawl/test_via_scrapy.py."""


def examples() -> dict[str, dict[str, Any]]:
    [code] = [one for one in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL) if "EXAMPLES" in one]
    found: dict[str, Any] = {}
    exec(code, found)
    return dict(found["EXAMPLES"])


def rows() -> list[str]:
    table = PAGE.partition("| URL | needs |")[2].partition("\n\n")[0]
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def test_each_row_of_the_table_has_an_example() -> None:
    assert {*examples(), *BY_A_HOOK} == set(rows())


@contextmanager
def web() -> Iterator[str]:
    """A server of the files at ``example.org``."""
    document = (
        '<metalink xmlns="urn:ietf:params:xml:ns:metalink"><file name="image.iso">'
        f"<size>{len(BYTES)}</size><hash type='sha-256'>{hashlib.sha256(BYTES).hexdigest()}</hash>"
        "<url>image.iso</url></file></metalink>"
    )

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_metalink = self.path.endswith(".meta4")
            body = document.encode() if is_metalink else SUM.encode() if self.path == "/pub/big.iso" else BYTES
            self.send_response(200)
            self.send_header("Content-Type", "application/metalink4+xml" if is_metalink else "application/octet-stream")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Signed", self.headers.get("X-Signed", ""))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *arguments: object) -> None:
            """Nothing is printed."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def clouds() -> Iterator[Blobs]:
    """A mock of all three clouds, in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    blobs = Blobs()
    asyncio.run_coroutine_threadsafe(blobs.__aenter__(), loop).result(60)
    try:
        yield blobs
    finally:
        asyncio.run_coroutine_threadsafe(blobs.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="obstore and AUTH TLS need Python 3.11")
def test_the_examples_bring_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, served = trustme.CA(), tmp_path / "served"
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    for name in ("pub/big.iso", "srv/data/big.bin"):
        (served / name).parent.mkdir(parents=True, exist_ok=True)
        (served / name).write_bytes(BYTES)
        age(served / name)
    (tmp_path / "keys").mkdir()
    with ExitStack() as stack:
        site, blobs = stack.enter_context(web()), stack.enter_context(clouds())
        socks, ssh = stack.enter_context(SocksServer()), stack.enter_context(sshd(tmp_path / "keys"))
        ftp = stack.enter_context(Ftp(served))
        ftps = stack.enter_context(Ftp(served, certificate=tmp_path / "server.pem"))
        places = {
            "https://example.org": f"http://{site}",
            "https://signed.example.org": f"http://localhost:{site.partition(':')[2]}",
            "socks5h://127.0.0.1:1080": socks.url(),
            "ftp://user:password@ftp.example.org": ftp.url("", login=f"{USER}:se%3Acr%40t").rstrip("/"),
            "ftps://user:password@ftp.example.org": ftps.url("", login=f"{USER}:se%3Acr%40t", scheme="ftps").rstrip(
                "/"
            ),
            "sftp://user@host.example": ssh.url(served),
        }
        for name in ("noaa-goes16/ABI-L1b-RadC/2024/001/00/file.nc", "gcp-public-data/index.csv.gz"):
            blobs.blobs[name] = BYTES
        blobs.blobs["container/folder/file.bin"] = BYTES
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", blobs.url)
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
        monkeypatch.setenv("GOOGLE_BASE_URL", blobs.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        settings = {
            **{
                "CHUNKDL_MODE": "inline",
                "REDIS_URL": "redis://127.0.0.1:1",
                "CHUNKDL_CA_FILE": str(tmp_path / "ca.pem"),
            },
            **{"CHUNKDL_SFTP_KEY": str(ssh.key), "CHUNKDL_SFTP_KNOWN_HOSTS": str(ssh.known_hosts)},
            **{"AWS_ENDPOINT_URL": blobs.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"},
            **{"CHUNKDL_VIA_SCRAPY": "localhost", "CHUNKDL_RETRY_TIMES": 2, "CHUNKDL_CHECK_TYPE": False},
            "DOWNLOADER_MIDDLEWARES": {"probe.support.Signing": 900},
        }
        project = Project(tmp_path / "project", settings)
        project.support = """
        class Signing:
            def process_request(self, request):
                request.headers["X-Signed"] = "yes"
        """
        project.items = [item(moved(example, places), row=row) for row, example in examples().items()]

        crawl = project.crawl()

    got = {one["row"]: Path(paths(one)[0]).read_bytes() if paths(one)[0] else None for one in project.scraped()}
    small = {"`http://`, `https://`": SUM.encode(), "any that Scrapy has a handler for (`data:`, …)": b"a,b"}
    wrong = [row for row in examples() if got[row] != small.get(row, BYTES)]
    assert wrong == [], crawl.log


def moved(example: dict[str, Any], places: dict[str, str]) -> dict[str, Any]:
    """Return an example whose servers are those of the test."""
    changed = dict(example)
    for name in ("ori_url", "proxy"):
        for there, here in places.items():
            if str(changed.get(name, "")).startswith(there):
                changed[name] = here + changed[name].removeprefix(there)
                break
    return changed
