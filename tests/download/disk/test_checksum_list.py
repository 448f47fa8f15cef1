"""Lists of checksums in the forms that people publish them."""

from __future__ import annotations

import hashlib

import pytest

from scrapy_chunkdl.download.disk.checksum_list import find_checksum

MD5, SHA256, SHA512 = (hashlib.new(name, b"file").hexdigest() for name in ("md5", "sha256", "sha512"))
OTHER = hashlib.sha256(b"other").hexdigest()
RIGHT = f"sha256:{SHA256}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(f"{SHA256}  a.iso\n{OTHER}  b.iso\n", RIGHT, id="sha256sum"),
        pytest.param(f"{SHA256} *a.iso\n{OTHER} *b.iso\n", RIGHT, id="binary mode"),
        pytest.param(f"{SHA256}  ./pool/a.iso\r\n{OTHER}  ./pool/b.iso\r\n", RIGHT, id="in folders, from Windows"),
        pytest.param(f"{SHA256.upper()}  a.iso\n{OTHER}  b.iso\n", RIGHT, id="capitals"),
        pytest.param(f"SHA256 (a.iso) = {SHA256}\nSHA256 (b.iso) = {OTHER}\n", RIGHT, id="BSD"),
        pytest.param(f"SHA2-256(a.iso)= {SHA256}\n", RIGHT, id="OpenSSL"),
        pytest.param(f"MD5 (a.iso) = {MD5}\nSHA256 (a.iso) = {SHA256}\n", RIGHT, id="the strongest of several"),
        pytest.param(f"{MD5}  a.iso\n{SHA512}  a.iso\n", f"sha512:{SHA512}", id="two by length"),
        pytest.param(SHA256, RIGHT, id="nothing but the sum"),
        pytest.param(f"  {SHA256}\n", RIGHT, id="with space"),
        pytest.param(f"{SHA256}  another-name.iso\n", RIGHT, id="one file, by another name"),
        pytest.param(f"a.iso: {SHA256}\nb.iso: {OTHER}\n", RIGHT, id="turned round"),
        pytest.param(f"a.iso {SHA256}\n", RIGHT, id="turned round, with a space"),
        pytest.param(
            f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{SHA256}  a.iso\n{OTHER}  b.iso\n"
            "-----BEGIN PGP SIGNATURE-----\n\niQIzBAEBCAAdFiEE\n-----END PGP SIGNATURE-----\n",
            RIGHT,
            id="signed",
        ),
        pytest.param(f"# made today\n\n{SHA256}  a.iso\n{OTHER}  b.iso\n", RIGHT, id="with comments"),
        pytest.param(f"\ufeff{SHA256}  a.iso\n{OTHER}  b.iso\n", RIGHT, id="with a mark in front"),
        pytest.param(f"{OTHER}  b.iso\n{OTHER}  c.iso\n", None, id="not in it"),
        pytest.param(f"{SHA256}  x/a.iso\n{OTHER}  y/a.iso\n", None, id="two of that name"),
        pytest.param("<html>404</html>", None, id="a page"),
        pytest.param("", None, id="nothing"),
        pytest.param("deadbeef  a.iso\n", None, id="too short"),
    ],
)
def test_a_list_gives_the_checksum_of_the_file(text: str, found: str | None) -> None:
    assert find_checksum(text.encode(), ["a.iso"]) == found


def test_a_list_in_utf16_is_read() -> None:
    assert find_checksum(f"{SHA256}  a.iso\r\n{OTHER}  b.iso".encode("utf-16"), ["a.iso"]) == RIGHT


def test_a_name_with_a_line_break_is_written_with_a_backslash() -> None:
    assert find_checksum(f"\\{SHA256}  a\\nb\n{OTHER}  c\n".encode(), ["a\nb"]) == RIGHT
