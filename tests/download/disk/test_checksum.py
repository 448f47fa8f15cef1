"""Expected checksums are read in one form, and real ones computed from the file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from scrapy_chunkdl.download.disk.checksum import ALGORITHMS, hash_file, parse_expected
from scrapy_chunkdl.download.errors import Permanent


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_of_fixed_length_is_read_and_computed(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"a" * 3_000_000)  # more than one block
    digest = hashlib.new(algorithm, b"a" * 3_000_000, usedforsecurity=False).hexdigest()

    assert hash_file(file, [algorithm]) == {algorithm: digest}
    assert parse_expected(f"{algorithm}:{digest}") == (algorithm, digest)


@pytest.mark.parametrize(
    ("text", "algorithm"),
    [
        ("SHA-256:" + "AB" * 32, "sha256"),
        ("  sha256:" + "ab" * 32 + "\n", "sha256"),
        ("SHA3-256:" + "ab" * 32, "sha3_256"),
        ("md5:" + "ab" * 16, "md5"),
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
        "crc32:abcdabcd",
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
