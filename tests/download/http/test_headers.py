"""Header fields are read strictly: what is not valid does not exist."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from scrapy_chunkdl.download.http.headers import (
    ContentRange,
    Validator,
    parse_content_length,
    parse_content_range,
    parse_date,
    parse_digests,
    parse_retry_after,
)

OLD, NEW, DATE = (f"Mon, 01 Jan 2024 00:00:0{n} GMT" for n in (0, 1, 5))


@pytest.mark.parametrize(
    ("value", "range_"),
    [
        ("bytes 0-99/1000", ContentRange(0, 100, 1000)),
        ("bytes 5-5/*", ContentRange(5, 6, None)),
        ("Bytes 0-0/1", ContentRange(0, 1, 1)),
        ("bytes */1000", ContentRange(None, None, 1000)),
        ("bytes */*", None),
        ("bytes 9-5/1000", None),
        ("bytes 0-1000/1000", None),
        ("bytes=0-99/1000", None),
        ("bytes 0-99", None),
        ("items 0-99/1000", None),
        ("bytes -1-99/1000", None),
        ("bytes 0-99/1000, bytes 5-6/1000", None),
        ("bytes 0-" + "9" * 5000 + "/*", None),  # int() refuses that many digits
        ("bytes \u0660-\u0669/\u0662\u0660", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(value: str | None, range_: ContentRange | None) -> None:
    assert parse_content_range(value) == range_


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Mon, 01 Jan 2024 00:00:05 GMT", 5.0),
        ("Monday, 01-Jan-24 00:00:05 GMT", 5.0),
        ("Mon Jan  1 00:00:05 2024", 5.0),
        ("Sun, 31 Dec 2023 00:00:00 GMT", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("\u0663", None),
        ("Mon, 01 Jan " + "9" * 20 + " 00:00:00 GMT", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", 0.0),
        (None, None),
    ],
)
def test_retry_after_is_a_delay_or_a_date(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value, datetime(2024, 1, 1, tzinfo=timezone.utc)) == seconds


def test_content_length() -> None:
    assert parse_content_length("12") == 12
    assert [parse_content_length(value) for value in ("-1", "1x", "", None, "9" * 30)] == [None] * 5


MD5 = "XUFAKrxLKna5cZ2REBfFkg=="  # of "hello"
MD5_HEX = "5d41402abc4b2a76b9719d911017c592"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({"Content-MD5": MD5}, {"md5": MD5_HEX}),
        ({"Digest": f"MD5={MD5},unixsum=30637"}, {"md5": MD5_HEX}),
        ({"Repr-Digest": f"md5=:{MD5}:, sha-256=:AAAA:"}, {"md5": MD5_HEX}),
        ({"x-goog-hash": f"crc32c=mnG7TA==,md5={MD5}"}, {"md5": MD5_HEX, "crc32c": "9a71bb4c"}),
        ({"X-Goog-Hash": f"md5={MD5}"}, {"md5": MD5_HEX}),
        (
            CIMultiDict([("x-goog-hash", "crc32c=mnG7TA=="), ("x-goog-hash", f"md5={MD5}")]),
            {"md5": MD5_HEX, "crc32c": "9a71bb4c"},
        ),
        ({"Content-Digest": f"md5=:{MD5}:"}, {"md5": MD5_HEX}),
        ({"x-amz-checksum-crc32c": "mnG7TA=="}, {"crc32c": "9a71bb4c"}),
        ({"x-amz-checksum-crc32": "NhCmhg=="}, {"crc32": "3610a686"}),
        ({"x-amz-checksum-crc64nvme": "AAAAAAAAAAE="}, {"crc64nvme": "0000000000000001"}),
        ({"x-amz-checksum-sha1": "qvTGHdzF6KLavt4PO0gs2a6pQ00="}, {"sha1": "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"}),
        ({"x-amz-checksum-crc32c": "mnG7TA==", "x-amz-checksum-type": "FULL_OBJECT"}, {"crc32c": "9a71bb4c"}),
        ({"x-amz-checksum-crc32c": "mnG7TA==", "x-amz-checksum-type": "COMPOSITE"}, {}),
        ({"x-amz-checksum-crc32c": "mnG7TA==-3"}, {}),
        ({"x-amz-checksum-sha256": "mnG7TA=="}, {}),
        ({"x-amz-checksum-crc32c": ""}, {}),
        ({"x-ms-blob-content-md5": MD5}, {"md5": MD5_HEX}),
        ({"x-oss-hash-crc64ecma": "11051210869376104954"}, {"crc64ecma": "995dc9bbdf1939fa"}),
        ({"x-cos-hash-crc64ecma": "1"}, {"crc64ecma": "0000000000000001"}),
        ({"x-oss-hash-crc64ecma": "99999999999999999999"}, {}),
        ({"x-oss-hash-crc64ecma": "995dc9bbdf1939fa"}, {}),
        ({"Repr-Digest": f"md5={MD5}"}, {}),
        ({"Digest": f"xmd5={MD5}"}, {}),
        ({"Content-MD5": "not base64"}, {}),
        ({}, {}),
    ],
)
def test_digests_of_known_algorithms_are_read(headers: Mapping[str, str], found: dict[str, str]) -> None:
    assert parse_digests(CIMultiDict(headers)) == found


@pytest.mark.parametrize(
    "fields", [{"Content-MD5": MD5}, {"Content-Digest": f"md5=:{MD5}:"}, {"x-amz-checksum-crc32c": "mnG7TA=="}]
)
def test_the_digest_of_a_part_says_nothing_of_the_whole(fields: dict[str, str]) -> None:
    assert parse_digests(CIMultiDict(fields), whole=False) == {}


def validator(etag: str | None = None, modified: str | None = None, date: str | None = DATE) -> Validator:
    fields = {"ETag": etag, "Last-Modified": modified, "Date": date}
    return Validator.of({name: value for name, value in fields.items() if value})


@pytest.mark.parametrize(
    ("first", "later", "same"),
    [
        (validator('"a"'), validator('"a"'), True),
        (validator('"a"'), validator('"b"'), False),
        (validator('"a"', OLD), validator('"b"', OLD), True),  # each backend its own ETag
        (validator('"a"', OLD, date=OLD), validator('"b"', OLD), False),  # a date too fresh to tell
        (validator('"a"', OLD), validator('"b"', NEW), False),
        (validator(None, OLD), validator(None, OLD), True),
        (validator(None, OLD, date=OLD), validator(None, OLD), None),
        (validator('W/"a"'), validator('W/"a"'), None),
        (validator('W/"a"'), validator('W/"b"'), False),
        (validator('"a"'), validator(), None),
        (validator(), validator(), None),
    ],
)
def test_two_answers_are_of_one_version_or_not_or_nobody_knows(
    first: Validator, later: Validator, same: bool | None
) -> None:
    assert first.same_version(later) is same


def test_if_range_takes_a_strong_validator_only() -> None:
    assert validator('"a"', OLD).if_range() == '"a"'
    assert validator('W/"a"', OLD).if_range() == OLD
    assert validator(None, OLD, date=OLD).if_range() is None
    assert validator('W/"a"').if_range() is None
    assert validator("unquoted", "no date").if_range() is None


def test_validators_survive_the_journal() -> None:
    for kept in (validator('"a"', OLD), validator('W/"a"'), validator('"\udce9"'), validator()):
        assert Validator(**json.loads(json.dumps(kept._asdict()))) == kept


FIELD_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F) | st.sampled_from('0123456789-/,;:="*'))


@given(FIELD_TEXT, FIELD_TEXT)
def test_no_field_makes_a_reader_fail(first: str, second: str) -> None:
    parse_date(first)
    parse_retry_after(first, datetime(2024, 1, 1, tzinfo=timezone.utc))
    parse_content_length(first)
    fields = {"Repr-Digest": first, "Digest": second, "x-goog-hash": first, "Content-MD5": second}
    parse_digests(CIMultiDict(fields))
    Validator.of({"ETag": first, "Last-Modified": second, "Date": first})
    for value in (first, f"bytes {first}", f"bytes 0-{second}"):
        found = parse_content_range(value)
        assert found is None or found.start is None or found.stop is None or 0 <= found.start < found.stop
