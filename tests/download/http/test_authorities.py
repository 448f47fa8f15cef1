"""The system's authorities, read when a handshake needs them: by contexts of aiohttp's own as well as by ours."""

from __future__ import annotations

import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from origin import Origin

from scrapy_chunkdl.download.http.authorities import LateContext

OTHERS_SESSION = """
async def get(url):
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status
"""

OUR_DOWNLOADER = """
async def get(url):
    from scrapy_chunkdl.download import Downloader, FileRequest
    async with Downloader() as downloader:
        return (await downloader.fetch(FileRequest(url, pathlib.Path("store")))).status
"""

BLOCKING = """
async def get(url):
    import urllib.request
    return await asyncio.to_thread(lambda: urllib.request.urlopen(url).status)
"""

IN_A_PROCESS = """
import asyncio, pathlib, sys
import scrapy_chunkdl.download
import aiohttp
{get}
pathlib.Path("authorities.pem").write_bytes(pathlib.Path("trusted.pem").read_bytes())
print(asyncio.run(get(sys.argv[1])))
"""
"""The file of authorities gets its content once everything has been imported."""


@pytest.mark.parametrize("get", [OTHERS_SESSION, OUR_DOWNLOADER, BLOCKING])
@pytest.mark.parametrize("is_trusted", [True, False])
def test_authorities_are_read_for_the_first_handshake(
    tls_origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, get: str, is_trusted: bool
) -> None:
    (tmp_path / "authorities.pem").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "trusted.pem").write_bytes(tls_origin.ca_pem if is_trusted else b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authorities.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "empty"))
    command = [sys.executable, "-c", IN_A_PROCESS.format(get=get), tls_origin.url("a.bin", 1000)]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.returncode == 0) is is_trusted, done.stderr
    assert is_trusted or "certificate" in done.stderr.lower()


INJECTED = """
class Own(ssl.SSLContext):
    options = verify_mode = verify_flags = minimum_version = 0  # Python's own find no end in another's class

ssl.SSLContext = Own
"""


@pytest.mark.parametrize("first", ["", "import aiohttp", INJECTED], ids=["alone", "aiohttp first", "another's class"])
def test_pythons_own_contexts_are_as_before_once_all_is_imported(first: str) -> None:
    code = f"""
import ssl, sys
pythons = ssl.SSLContext
before = dict(vars(pythons))
{first}
import scrapy_chunkdl.download
print(dict(vars(pythons)) == before, type(ssl.create_default_context()).__name__)
"""

    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert printed == ["True", "Own" if first == INJECTED else "SSLContext"]


def test_who_looks_at_the_authorities_finds_them() -> None:
    asked: list[str] = []
    context = LateContext(ssl.PROTOCOL_TLS_CLIENT)
    context.read_authorities = lambda: asked.append("read")

    context.cert_store_stats()
    context.get_ca_certs()

    assert asked == ["read"]
