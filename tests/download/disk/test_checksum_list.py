"""Lists of checksums in the forms that people publish them."""

from __future__ import annotations

import hashlib

import pytest

from scrapy_chunkdl.download.disk.checksum_list import ChecksumList

MD5, SHA256, SHA512 = (hashlib.new(name, b"file").hexdigest() for name in ("md5", "sha256", "sha512"))
OTHER = hashlib.sha256(b"other").hexdigest()
RIGHT = f"sha256:{SHA256}"
B2, SHA3 = (hashlib.new(name, b"file").hexdigest() for name in ("blake2b", "sha3_256"))


def find(text: bytes, names: list[str], called: str = "SHA256SUMS") -> str | None:
    return ChecksumList(text, called).find(names)


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
        pytest.param(f"MD5: {MD5}\nSHA-256: {SHA256}\n", RIGHT, id="several of one file, by their names"),
        pytest.param(f"sha256:{SHA256}\n", RIGHT, id="with its algorithm in front"),
        pytest.param(f"SHA256 of a.iso:\n{SHA256}\nCertUtil: -hashfile command completed.", RIGHT, id="certutil"),
        pytest.param(
            f"Algorithm  Hash  Path\n---  ---  ---\nSHA256  {SHA256}  C:\\x\\a.iso\nMD5  {MD5}  C:\\x\\b.iso",
            RIGHT,
            id="Get-FileHash",
        ),
        pytest.param(f"Algorithm : SHA256\nHash : {SHA256.upper()}\nPath : C:\\x\\a.iso\n", RIGHT, id="as a list"),
        pytest.param(f"BLAKE2b (a.iso) = {B2}\n", f"blake2b:{B2}", id="b2sum --tag"),
        pytest.param(f"SHA3-256(a.iso)= {SHA3}\n", f"sha3_256:{SHA3}", id="SHA-3 of OpenSSL"),
        pytest.param(f"{SHA256}  x/a.iso\n{OTHER}  a.iso\n", f"sha256:{OTHER}", id="its folder is not the other's"),
        pytest.param(f"{SHA256}  a.iso\r{OTHER}  b.iso\r", RIGHT, id="lines that end as on old Macs"),
        pytest.param(f"SHA256 (a.iso) = {MD5}\n{SHA256}  a.iso\n", RIGHT, id="a sum of the wrong length"),
        pytest.param(f"{OTHER}  b.iso\n{OTHER}  c.iso\n", None, id="not in it"),
        pytest.param(f"{SHA256}  x/a.iso\n{OTHER}  y/a.iso\n", None, id="two of that name"),
        pytest.param("<html>404</html>", None, id="a page"),
        pytest.param("", None, id="nothing"),
        pytest.param("deadbeef  a.iso\n", None, id="too short"),
    ],
)
def test_a_list_gives_the_checksum_of_the_file(text: str, found: str | None) -> None:
    assert find(text.encode(), ["a.iso"]) == found


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_a_list_is_read_in_each_encoding(encoding: str) -> None:
    assert find(f"{SHA256}  a.iso\r\n{OTHER}  b.iso".encode(encoding), ["a.iso"]) == RIGHT


@pytest.mark.parametrize("place", ["/pub/x/a.iso", "x/a.iso", "https/pub/x/a.iso"])
def test_of_several_files_of_a_name_that_of_the_folder_is_meant(place: str) -> None:
    text = f"{SHA256}  ./x/a.iso\n{OTHER}  ./y/a.iso\n".encode()

    assert find(text, [place]) == RIGHT
    assert find(text, ["/pub/z/a.iso"]) is None


@pytest.mark.parametrize(
    ("called", "text", "found"),
    [
        ("B2SUMS", f"{B2}  a.iso", f"blake2b:{B2}"),
        ("a.iso.blake2b", B2, f"blake2b:{B2}"),
        ("a.iso.sha3-256", SHA3, f"sha3_256:{SHA3}"),
        ("SHA3-256SUMS", f"{SHA3}  a.iso", f"sha3_256:{SHA3}"),
        ("a.iso.b3", SHA3, None),
        ("B3SUMS", f"{SHA3}  a.iso", None),
        ("a.iso.sm3", SHA3, None),
        ("files.sfv", "; made today\na.iso 8C736521\nb.iso 00000000\n", "crc32:8c736521"),
        ("abc.sha256", SHA256, RIGHT),
        ("web3.sums", SHA256, RIGHT),
    ],
)
def test_the_name_of_a_list_tells_what_its_sums_are(called: str, text: str, found: str | None) -> None:
    assert find(text.encode(), ["a.iso"], called) == found


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(" " * (1 << 20) + "x", id="spaces"),
        pytest.param(f"{SHA256} " + " " * (1 << 20) + "x\t", id="spaces behind a sum"),
        pytest.param("a" * (1 << 20), id="hex"),
        pytest.param("SHA256 (" + ") = " * (1 << 18), id="parentheses"),
        pytest.param("a:" * (1 << 19), id="colons"),
        pytest.param(f"{SHA256}:" * (1 << 14), id="sums"),
        pytest.param("md5 " + "\t" * (1 << 20) + "x", id="columns"),
    ],
)
def test_a_line_that_was_made_to_take_long_is_passed_over(line: str) -> None:
    assert find(f"{line}\n{SHA256}  a.iso\n{OTHER}  b.iso\n".encode(), ["a.iso"]) == RIGHT


def test_a_name_with_a_line_break_is_written_with_a_backslash() -> None:
    assert find(f"\\{SHA256}  a\\nb\n{OTHER}  c\n".encode(), ["a\nb"]) == RIGHT
