"""s3:// and gs:// over real HTTP: what is stored, what is cleaned up, and what is refused before anything is sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from origin_content import content
from s3_server import BUCKET, KEYS, S3

from scrapy_chunkdl.download import Permanent, Published, Store
from scrapy_chunkdl.storage import StoreUnusable, open_store
from scrapy_chunkdl.storage.record import from_metadata, to_metadata
from scrapy_chunkdl.text import naming

pytest.importorskip("obstore", reason="obstore needs Python 3.11 or later")

from scrapy_chunkdl.storage.cloud import PART, _Budget, _plan
from scrapy_chunkdl.storage.s3_uploads import Keys, PendingUploads

SIZE = 4 * PART + 12_345
RECORD = Published(
    "https://example.org/report%201", SIZE, '"an-etag"', "Mon, 17 Oct 2022 12:00:00 GMT", "sha256:" + "0" * 64
)


def ignore(count: int) -> None:
    pass


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file of five parts."""
    path = tmp_path / "big.bin"
    path.write_bytes(content("big.bin", SIZE))
    return path


@pytest.fixture
def open_s3(s3: S3) -> Callable[..., Store]:
    return lambda folder="", **settings: open_store(f"s3://{BUCKET}{folder}", s3.settings() | settings)


@pytest.fixture
def open_gs(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Store]:
    monkeypatch.setenv("GOOGLE_BASE_URL", s3.url)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "test")
    return lambda folder="", **settings: open_store(f"gs://{BUCKET}{folder}", settings)


@pytest.fixture(params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Store:
    opener: Callable[..., Store] = request.getfixturevalue(f"open_{request.param}")
    return opener("/some/folder")


def test_a_file_of_many_parts_is_stored_whole_with_its_record(s3: S3, store: Store, big: Path) -> None:
    moved: list[int] = []

    store.put(big, "ab/cd/report 1.pdf", RECORD, moved.append)

    assert s3.keys() == ["some/folder/ab/cd/report 1.pdf"]
    assert s3.read("some/folder/ab/cd/report 1.pdf") == big.read_bytes()
    assert sum(moved) == SIZE
    assert store.find("ab/cd/report 1.pdf") == RECORD
    assert store.uri("ab/cd/report 1.pdf").endswith(f"://{BUCKET}/some/folder/ab/cd/report 1.pdf")
    assert s3.unfinished() == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pdf", "application/pdf"),
        ("a.csv", "text/csv"),
        ("a.csv.gz", "application/gzip"),
        ("a.tar.gz", "application/gzip"),
        ("a.xml.bz2", "application/x-bzip2"),
        ("a.txt.xz", "application/x-xz"),
        ("a.txt.Z", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_the_type_of_a_file_is_told_by_its_name(
    s3: S3, open_s3: Callable[..., Store], tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "file").write_bytes(b"hello")

    open_s3().put(tmp_path / "file", name, Published("https://example.org/", 5), ignore)

    assert s3.client().head_object(Bucket=BUCKET, Key=name)["ContentType"] == kind


_A = "https://example.org/a"


@pytest.mark.parametrize(
    ("record", "lost"),
    [
        (Published("https://example.org/" + "\u4e2d" * 230, 5, '"e"'), {"url"}),
        (Published(_A, 5, '"' + "\u4e2d" * 400 + '"', "a date", "md5:" + "0" * 32), {"url", "etag"}),
        (Published(_A, 5, '"e"', "\u4e2d" * 400, more_checksums="0" * 90), {"url", "last_modified"}),
        (Published(_A, 5, '"e"', "d", "x" * 500, more_checksums="0" * 1900), {"url", "more_checksums"}),
    ],
)
def test_a_record_of_any_length_fits_into_what_s3_takes_of_metadata(record: Published, lost: set[str]) -> None:
    metadata = to_metadata(record)

    assert sum(len(name) + len(value) for name, value in metadata.items()) <= 2048
    found = from_metadata(5, metadata)
    assert {name for name, value in asdict(record).items() if getattr(found, name) != value} == lost


def test_an_object_of_somebody_else_has_a_size_only(s3: S3, open_s3: Callable[..., Store]) -> None:
    s3.client().put_object(Bucket=BUCKET, Key="theirs.pdf", Body=b"hello")

    assert open_s3().find("theirs.pdf") == Published(None, 5)


@pytest.mark.parametrize(
    "url",
    ["https://example.org/?sig=s3cret", "https://me:s3cret@example.org/", "https://example.org/" + "s3cret" * 300],
)
def test_a_url_that_may_be_secret_or_is_long_is_kept_as_its_digest(
    s3: S3, open_s3: Callable[..., Store], tmp_path: Path, url: str
) -> None:
    (tmp_path / "file").write_bytes(b"hello")

    open_s3().put(tmp_path / "file", "a.pdf", Published(url, 5, '"etag"'), ignore)

    assert open_s3().find("a.pdf") == Published(naming.url_digest(url), 5, '"etag"')
    assert "s3cret" not in str(s3.client().head_object(Bucket=BUCKET, Key="a.pdf")["Metadata"])


@pytest.mark.parametrize("part", [1, 4, 5])
def test_an_upload_whose_part_fails_is_aborted(s3: S3, store: Store, big: Path, part: int) -> None:
    s3.refuse("PUT", 400, part)

    with pytest.raises(OSError, match="400"):
        store.put(big, "a.bin", RECORD, ignore)

    assert s3.keys() == []
    assert s3.unfinished() == []


def test_an_upload_that_is_stopped_is_aborted(s3: S3, store: Store, big: Path) -> None:
    class Stopped(Exception):
        pass

    sent = 0

    def moved(count: int) -> None:
        nonlocal sent
        sent += count
        if sent > PART:
            raise Stopped

    with pytest.raises(Stopped):
        store.put(big, "a.bin", RECORD, moved)

    assert s3.keys() == []
    assert s3.unfinished() == []


def test_what_a_killed_process_left_is_aborted_by_the_next_and_nothing_else(
    s3: S3, open_s3: Callable[..., Store], big: Path
) -> None:
    for key in ("folder/a b.bin", "folder/a b.bin2", "a b.bin"):
        s3.client().create_multipart_upload(Bucket=BUCKET, Key=key)

    open_s3("/folder").put(big, "a b.bin", RECORD, ignore)

    assert s3.keys() == ["folder/a b.bin"]
    assert sorted(s3.unfinished()) == ["a b.bin", "folder/a b.bin2"]


def test_of_two_uploads_of_one_file_the_first_to_end_stays_and_the_other_fails(
    s3: S3, open_s3: Callable[..., Store], big: Path
) -> None:
    errors: list[OSError] = []

    def slow() -> None:
        try:
            open_s3().put(big, "a.bin", RECORD, ignore)
        except OSError as error:
            errors.append(error)

    s3.hold(part=5)
    first = threading.Thread(target=slow)
    first.start()
    s3.wait_until_held()
    s3.let_others_pass()
    open_s3().put(big, "a.bin", RECORD, ignore)
    s3.release()
    first.join()

    assert len(errors) == 1
    assert s3.read("a.bin") == big.read_bytes()
    assert s3.unfinished() == []


def test_uploads_that_may_not_be_listed_are_warned_of_once(
    s3: S3, open_s3: Callable[..., Store], big: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.refuse("GET", 403)
    store = open_s3()

    store.put(big, "a.bin", RECORD, ignore)
    store.put(big, "b.bin", RECORD, ignore)

    assert caplog.text.count("AbortIncompleteMultipartUpload") == 1


@pytest.mark.parametrize("token", [None, "a/token+of=signs"])
def test_requests_are_signed_as_amazon_does(token: str | None) -> None:
    uploads = PendingUploads("http://s3.example:9000", "bucket", "eu-west-1", lambda: Keys("AKID", "secret/key", token))
    url, query = "http://s3.example:9000/bucket/a%20b/%E6%97%A5.pdf", "prefix=a%2Fb%20c&uploads="
    theirs = AWSRequest("GET", f"{url}?{query}")
    S3SigV4Auth(Credentials("AKID", "secret/key", token), "s3", "eu-west-1").add_auth(theirs)
    now = datetime.strptime(theirs.context["timestamp"], "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc)

    assert uploads._signed("GET", url, query, now)["Authorization"] == theirs.headers["Authorization"]


def test_a_bucket_that_does_not_exist_is_told_from_a_file_that_does_not(s3: S3) -> None:
    with pytest.raises(Permanent, match="no bucket for s3://nowhere"):
        open_store("s3://nowhere/folder", s3.settings()).find("a.pdf")


def test_a_refusal_is_short_and_says_what_was_refused(s3: S3, open_s3: Callable[..., Store], big: Path) -> None:
    s3.refuse("PUT", 403)

    with pytest.raises(PermissionError, match=r"403 Forbidden \(AccessDenied\)") as refusal:
        open_s3().put(big, "a.pdf", RECORD, ignore)

    assert len(str(refusal.value)) < 300


def test_who_may_only_put_is_warned_once_and_puts(
    s3: S3, open_s3: Callable[..., Store], big: Path, caplog: pytest.LogCaptureFixture
) -> None:
    s3.refuse("HEAD", 403)
    s3.refuse("GET", 403)
    store = open_s3()

    assert store.find("a.pdf") is None
    assert store.find("b.pdf") is None
    store.put(big, "a.pdf", RECORD, ignore)

    assert caplog.text.count("s3:ListBucket") == 1
    assert any(request.startswith("POST /files/a.pdf?uploadId") for request in s3.requests())


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_keys_that_are_wrong_are_found_out_by_the_first_question(
    s3: S3, open_s3: Callable[..., Store], code: str
) -> None:
    s3.refuse("HEAD", 403)
    s3.refuse("GET", 403, code=code)

    with pytest.raises(PermissionError, match=code):
        open_s3().find("a.pdf")


def test_keys_of_a_profile_are_found_as_by_all_tools_of_amazon(
    s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text(
        f"[other]\naws_access_key_id = {KEYS['aws_access_key_id']}\naws_secret_access_key = secret\n"
        "aws_session_token = token\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_PROFILE", "other")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    store = open_store(f"s3://{BUCKET}", {"AWS_ENDPOINT_URL": s3.url})
    (tmp_path / "file").write_bytes(b"hello")

    store.put(tmp_path / "file", "a.pdf", Published("https://example.org/", 5), ignore)

    assert store.find("a.pdf") == Published("https://example.org/", 5)


def test_a_profile_that_does_not_exist_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")

    with pytest.raises(StoreUnusable, match="nobody"):
        open_store(f"s3://{BUCKET}", {})


@pytest.mark.parametrize(
    ("uri", "settings", "named"),
    [
        ("s3://", {}, "s3://bucket"),
        ("s3://key:secret@bucket", {}, "s3://bucket"),
        ("s3://bucket", {"FILES_STORE_S3_ACL": "public-read"}, "FILES_STORE_S3_ACL = 'public-read'"),
        ("gs://bucket", {"FILES_STORE_GCS_ACL": "publicRead"}, "FILES_STORE_GCS_ACL = 'publicRead'"),
        ("s3://bucket", {"AWS_ACCESS_KEY_ID": "only this"}, "AWS_SECRET_ACCESS_KEY"),
        ("s3://bucket", {"AWS_USE_SSL": False}, "AWS_ENDPOINT_URL"),
        ("s3://bucket", {"AWS_VERIFY": "/no/such/file.pem"}, "AWS_VERIFY = '/no/such/file.pem'"),
        ("az://container", {}, "Account must be specified"),
        ("nosuchscheme://x", {}, "nosuchscheme"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_sent(uri: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(StoreUnusable) as refusal:
        open_store(uri, settings)

    assert named in str(refusal.value)


def test_an_endpoint_without_a_scheme_goes_by_aws_use_ssl(s3: S3) -> None:
    settings = s3.settings() | {"AWS_ENDPOINT_URL": s3.url.removeprefix("http://"), "AWS_USE_SSL": False}

    assert open_store(f"s3://{BUCKET}", settings).find("a.pdf") is None


@pytest.mark.parametrize("size", [PART + 1, 10_000 * PART, 10_000 * PART + 1, 10**12, 5 * 2**40])
def test_a_file_of_any_size_goes_up_in_no_more_parts_than_s3_takes(size: int) -> None:
    part, at_once = _plan(size)

    assert part * 10_000 >= size
    assert part == PART or part * 10_000 - size < 10_000
    assert (at_once + 1) * part <= max(8 * PART, 2 * part)


def test_parts_in_memory_are_given_out_in_turn() -> None:
    budget, order, waited = _Budget(4), list[str](), threading.Event()

    def hold(name: str, parts: int) -> None:
        with budget.hold(parts, lambda _: waited.set()):
            order.append(name)

    with budget.hold(1, ignore):
        large = threading.Thread(target=hold, args=("large", 4))
        large.start()
        waited.wait()
        small = threading.Thread(target=hold, args=("small", 1))
        small.start()
        waited.clear()
        waited.wait()
        assert order == []
    large.join()
    small.join()

    assert order == ["large", "small"]
