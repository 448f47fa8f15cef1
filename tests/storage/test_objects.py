"""Objects of buckets as files to fetch, from moto's S3; Google's XML API is near enough to it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from blob_server import Blobs
from fetching import CHUNK, LOOK_BACK, QUICK, SIZE, payload
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
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
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
        (500, "InternalError", "http_500"),
        (400, "ExpiredToken", "http_400"),
        (301, "PermanentRedirect", "wrong_region"),
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

    assert caught.value.reason == "connect_failed"
    assert "Connection refused" in str(caught.value)


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


# --- Azure, whose few calls a mock answers


@pytest.fixture
async def blobs(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Blobs]:
    async with Blobs() as server:
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", server.url)
        monkeypatch.setenv("AZURE_ALLOW_HTTP", "true")
        server.blobs["container/file.bin"] = payload()
        yield server


AZ = "az://container/file.bin"


async def test_a_blob_comes_in_parts_of_one_version(blobs: Blobs, tmp_path: Path) -> None:
    result = await fetch(AZ, tmp_path, options_for({}))

    assert result.path.read_bytes() == payload()
    assert (result.size, result.path.name) == (SIZE, "file.bin")
    assert result.etag is not None
    assert blobs.sent["container/file.bin"] == SIZE
    assert sum(method == "GET" for method, _, _ in blobs.asked) >= 4
    assert all("authorization" not in fields for _, _, fields in blobs.asked)


async def test_a_blob_is_asked_for_with_the_key_of_its_account(
    blobs: Blobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")

    await fetch(AZ, tmp_path, options_for({}))

    assert all(fields["authorization"].startswith("SharedKey account:") for _, _, fields in blobs.asked)


async def test_an_unchanged_blob_costs_no_bytes_and_a_replaced_one_comes_anew(blobs: Blobs, tmp_path: Path) -> None:
    await fetch(AZ, tmp_path, options_for({}))

    same = await fetch(AZ, tmp_path, options_for({}))
    blobs.blobs["container/file.bin"] = payload(version=2)
    blobs.changed_at += 100
    other = await fetch(AZ, tmp_path, options_for({}))

    assert (same.status, other.status) == ("uptodate", "downloaded")
    assert other.path.read_bytes() == payload(version=2)
    assert blobs.sent["container/file.bin"] == 2 * SIZE


async def test_a_blob_that_breaks_off_is_resumed_from_its_last_byte(blobs: Blobs, tmp_path: Path) -> None:
    buffered = 4 * CHUNK  # as much obstore hands on at once
    blobs.cut_after = 2 * buffered

    result = await fetch(AZ, tmp_path, options_for({}, chunks_per_file=1))

    assert result.path.read_bytes() == payload()
    assert blobs.sent["container/file.bin"] <= SIZE + buffered + LOOK_BACK
    assert sum(result.retries.values()) == 1


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_later_run_resumes_a_blob_if_it_is_the_same(blobs: Blobs, tmp_path: Path, is_replaced: bool) -> None:
    blobs.cut_after = 4 * CHUNK
    with pytest.raises(DownloadError) as caught:
        await fetch(AZ, tmp_path, options_for({}, chunks_per_file=1, retry_times=0))
    assert caught.value.resumable
    if is_replaced:
        blobs.blobs["container/file.bin"] = payload(version=2)
        blobs.changed_at += 100

    result = await fetch(AZ, tmp_path, options_for({}, chunks_per_file=1))

    assert result.path.read_bytes() == payload(version=2 if is_replaced else 1)
    assert (result.resumed > 0) is not is_replaced


@pytest.mark.parametrize("key", ["a b.bin", "ä/文件.bin", "a+b.bin", "100%.bin"])
async def test_odd_names_of_blobs_are_asked_for_as_they_are(blobs: Blobs, tmp_path: Path, key: str) -> None:
    blobs.blobs[f"container/{key}"] = payload()

    result = await fetch(f"az://container/{key.replace('%', '%25')}", tmp_path, options_for({}))

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize(
    ("path", "replies", "reason"),
    [
        ("container/gone.bin", [], "not_found"),
        ("container/file.bin", [403] * 9, "no_permission"),
        ("container/file.bin", [401] * 9, "no_permission"),
        ("container/file.bin", [503] * 9, "too_many_connections"),
        ("container/file.bin", [500] * 9, "http_500"),
        ("container/file.bin", [408] * 9, "http_408"),
        ("container/file.bin", [400], "http_400"),
        ("container/file.bin", [409], "http_409"),
        ("container/file.bin", [429] * 9, "too_many_connections"),
        ("container/file.bin", [301] * 9, "connection_lost"),
    ],
)
async def test_what_azure_refuses_has_its_reason(
    blobs: Blobs, tmp_path: Path, path: str, replies: list[int], reason: str
) -> None:
    blobs.replies[path] = replies

    with pytest.raises(DownloadError) as caught:
        await fetch(f"az://{path}", tmp_path, options_for({}))

    assert caught.value.reason == reason
    assert len(str(caught.value)) <= 300


async def test_azure_that_refuses_for_a_while_is_asked_again(blobs: Blobs, tmp_path: Path) -> None:
    blobs.replies["container/file.bin"] = [503, 500]

    result = await fetch(AZ, tmp_path, options_for({}))

    assert result.path.read_bytes() == payload()


@pytest.mark.parametrize("pays", [True, False])
async def test_a_bucket_is_told_who_pays_in_each_request(blobs: Blobs, tmp_path: Path, pays: bool) -> None:
    blobs.blobs["bucket/file.bin"] = payload()
    headers = {"X-Amz-Request-Payer": "requester"} if pays else {}
    settings = {"AWS_ENDPOINT_URL": blobs.url, "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}

    await fetch("s3://bucket/file.bin", tmp_path, options_for(settings), headers=headers)

    assert {fields.get("x-amz-request-payer") for _, _, fields in blobs.asked} == {"requester" if pays else None}
    assert all("x-amz-request-payer" in fields["authorization"] for _, _, fields in blobs.asked if pays)


async def test_a_bucket_without_keys_is_asked_without_a_signature(blobs: Blobs, tmp_path: Path) -> None:
    blobs.blobs["bucket/file.bin"] = payload()

    await fetch("s3://bucket/file.bin", tmp_path, options_for({"AWS_ENDPOINT_URL": blobs.url}))

    assert all("authorization" not in fields for _, _, fields in blobs.asked)
