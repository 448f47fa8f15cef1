"""Expected checksums are read in one form, and real ones computed from the file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS, digests_of, hash_file, parse_expected
from scrapy_chunkdl.download.errors import Permanent


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_of_fixed_length_is_read_and_computed(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"a" * 3_000_000)  # more than one block
    digest = digests_of(b"a" * 3_000_000, [algorithm])[algorithm]

    assert hash_file(file, [algorithm]) == {algorithm: digest}
    assert parse_expected(f"{algorithm}:{digest}") == (algorithm, digest)


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [  # of "123456789": the check values of the catalogue of CRC algorithms, and of the RFCs
        ("crc32", "cbf43926"),
        ("crc32c", "e3069283"),
        ("crc64nvme", "ae8b14860a799888"),
        ("crc64ecma", "995dc9bbdf1939fa"),
        ("md5", "25f9e794323b453885f5181f1b624d0b"),
        ("sha256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
    ],
)
def test_algorithms_are_those_of_their_names(algorithm: str, digest: str) -> None:
    raw = bytes.fromhex(digest)

    assert digests_of(b"123456789", [algorithm]) == {algorithm: digest}
    assert parse_expected(f"{algorithm}:{base64.b64encode(raw).decode()}") == (algorithm, digest)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("SHA-256:" + "AB" * 32, "sha256"),
        ("  sha256:" + "ab" * 32 + "\n", "sha256"),
        ("SHA3-256:" + "ab" * 32, "sha3_256"),
        ("md5:" + "ab" * 16, "md5"),
        ("CRC32C:" + "AB" * 4, "crc32c"),
        ("CRC-64/NVME:" + "ab" * 8, "crc64nvme"),
    ],
)
def test_common_spellings_are_understood(text: str, algorithm: str) -> None:
    assert parse_expected(text) == (algorithm, text.strip().lower().partition(":")[2])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab" * 32,
        "sha256:",
        "sha256:" + "ab" * 31,
        "sha256:" + "xy" * 32,
        "sha256=" + "ab" * 32,
        "sha256:" + "ab" * 32 + " a.bin",
        "crc32:abcdabc",
        "crc32c:abcdabcdab",
        "crc64nvme:abcdabcd",
        "crc16:abcd",
        "sha256:" + "A" * 43 + "!",
        "md5:" + "A" * 22,
        "shake_128:" + "ab" * 16,
        "new:00",
    ],
)
def test_any_other_form_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(Permanent) as refusal:
        parse_expected(text)

    assert refusal.value.reason == "bad_checksum"
    assert repr(text) in str(refusal.value)


def test_several_digests_take_one_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"")

    assert hash_file(file, ["md5", "sha1"]) == {
        "md5": "d41d8cd98f00b204e9800998ecf8427e",
        "sha1": "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    }
