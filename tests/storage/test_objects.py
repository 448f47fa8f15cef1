"""Objects of buckets as files to fetch, from moto's S3; Google's XML API is near enough to it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fetching import QUICK, SIZE, payload
from patience import HANG
from s3_server import BUCKET, S3

from scrapy_chunkdl.download import Downloader, DownloadError, FileRequest, FileResult, Options

pytest.importorskip("obstore")

from scrapy_chunkdl.storage import object_openers

PATIENT = replace(QUICK, first_byte_timeout=20.0, stall_timeout=10.0, connect_timeout=10.0)


@pytest.fixture(autouse=True)
def no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine's own logins counts."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def options_for(settings: Mapping[str, Any], **more: Any) -> Options:
    return replace(PATIENT, openers=object_openers(settings), **more)


async def fetch(url: str, folder: Path, options: Options, **more: Any) -> FileResult:
    async with Downloader(options) as downloader:
        return await asyncio.wait_for(downloader.fetch(FileRequest(url, folder, **more)), HANG)


def put(s3: S3, key: str = "file.bin", version: int = 1, *, for_all: bool = False) -> None:
    more = {"ACL": "public-read"} if for_all else {}  # moto lets nobody have what is not
    s3.client().put_object(Bucket=BUCKET, Key=key, Body=payload(version=version), **more)


async def test_an_object_comes_in_parts(s3: S3, tmp_path: Path) -> None:
    put(s3)

    result = await fetch(f"s3://{BUCKET}/file.bin", tmp_path, options_for(s3.settings()))

    assert result.path.read_bytes() == payload()
    assert result.path.name == "file.bin"
    assert sum(request.startswith("GET") for request in s3.requests()) >= 4


async def test_an_unchanged_object_is_not_fetched_again_and_a_changed_one_is(s3: S3, tmp_path: Path) -> None:
    url, options = f"s3://{BUCKET}/file.bin", options_for(s3.settings())
    put(s3)
    await fetch(url, tmp_path, options)

    same = await fetch(url, tmp_path, options)
    put(s3, version=2)
    other = await fetch(url, tmp_path, options)

    assert (same.status, other.status) == ("uptodate", "downloaded")
    assert other.path.read_bytes() == payload(version=2)


async def test_without_keys_a_bucket_is_asked_as_anybody(s3: S3, tmp_path: Path) -> None:
    put(s3, for_all=True)

    result = await fetch(f"s3://{BUCKET}/file.bin", tmp_path, options_for({"AWS_ENDPOINT_URL": s3.url}))

    assert result.size == SIZE


async def test_who_asks_pays_where_the_attachment_says_so(s3: S3, tmp_path: Path) -> None:
    put(s3)

    result = await fetch(
        f"s3://{BUCKET}/file.bin", tmp_path, options_for(s3.settings()), headers={"x-amz-request-payer": "requester"}
    )

    assert result.size == SIZE


@pytest.mark.parametrize(
    ("key", "in_url"), [("a b.bin", "a%20b.bin"), ("ä/文件.bin", "ä/文件.bin"), ("a+b.bin", "a+b.bin")]
)
async def test_odd_keys_are_asked_for_as_they_are(s3: S3, tmp_path: Path, key: str, in_url: str) -> None:
    put(s3, key)

    result = await fetch(f"s3://{BUCKET}/{in_url}", tmp_path, options_for(s3.settings()))

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize(
    ("url", "more", "reason"),
    [
        (f"s3://{BUCKET}/gone.bin", {}, "not_found"),
        ("s3://no-such-bucket/file.bin", {}, "not_found"),
        (f"s3://{BUCKET}", {}, "bad_url"),
        (f"s3://{BUCKET}/file.bin", {"allowed_hosts": frozenset({"other"})}, "host_not_allowed"),
        (f"s3://{BUCKET}/file.bin", {"max_file_size": 10}, "too_large"),
    ],
)
async def test_what_cannot_be_had_is_told_by_its_reason(
    s3: S3, tmp_path: Path, url: str, more: dict[str, Any], reason: str
) -> None:
    put(s3)

    with pytest.raises(DownloadError) as caught:
        await fetch(url, tmp_path, options_for(s3.settings(), **more))

    assert caught.value.reason == reason, caught.value


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "AccessDenied", "no_permission"),
        (503, "SlowDown", "too_many_connections"),
        (500, "InternalError", "connection_lost"),
    ],
)
async def test_what_a_bucket_refuses_is_told_by_its_reason(
    s3: S3, tmp_path: Path, status: int, code: str, reason: str
) -> None:
    put(s3)
    s3.refuse("GET", status, code=code)

    with pytest.raises(DownloadError) as caught:
        await fetch(f"s3://{BUCKET}/file.bin", tmp_path, options_for(s3.settings()))

    assert caught.value.reason == reason, caught.value


async def test_a_server_that_is_not_there_is_no_connection(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        await fetch("s3://b/file.bin", tmp_path, options_for({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}))

    assert caught.value.reason == "connection_lost"


async def test_google_is_asked_as_anybody_where_nobody_is_logged_in(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(s3, for_all=True)
    monkeypatch.setenv("GOOGLE_BASE_URL", s3.url)
    monkeypatch.setenv("HOME", str(tmp_path))

    result = await fetch(f"gs://{BUCKET}/file.bin", tmp_path / "store", options_for({}))

    assert result.path.read_bytes() == payload()


async def test_azure_without_an_account_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(DownloadError) as caught:
        await fetch("az://container/file.bin", tmp_path, options_for({}))

    assert caught.value.reason == "bad_url"
    assert "account" in str(caught.value).lower()
