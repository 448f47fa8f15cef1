"""The origin is exact where it is asked for nothing else, and wrong in just the way it is asked to be."""

from __future__ import annotations

import hashlib
import http.client
import shutil
import socket
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import pytest
from origin import Origin, parse_faults
from origin_content import PERIOD, content, content_slice, expected_sha256
from patience import HANG

SIZE = 100_000


@contextmanager
def _connected(origin: Origin) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", origin.port, timeout=HANG)
    try:
        yield connection
    finally:
        connection.close()


def _ask(origin: Origin, url: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    with _connected(origin) as connection:
        connection.request(
            method, url.removeprefix(origin.base), headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        return response, response.read()


class TestContent:
    def test_is_the_same_at_any_offset(self) -> None:
        whole = content("a", 3 * PERIOD + 5)
        for offset in (0, 1, PERIOD - 1, PERIOD, 2 * PERIOD + 7):
            assert content_slice("a", 1, offset, 1000) == whole[offset : offset + 1000]

    def test_differs_by_name_and_version_and_after_a_shift_by_whole_chunks(self) -> None:
        chunk = 1 << 20
        assert content("a", 100) != content("b", 100)
        assert content("a", 100, 1) != content("a", 100, 2)
        assert content_slice("a", 1, 0, 100) != content_slice("a", 1, chunk, 100)
        assert content_slice("a", 1, chunk, 100) != content_slice("a", 1, 2 * chunk, 100)

    def test_hash_is_that_of_the_bytes(self) -> None:
        assert expected_sha256("a", PERIOD + 9) == hashlib.sha256(content("a", PERIOD + 9)).hexdigest()


class TestExact:
    def test_get_sends_the_file_with_validators_and_length(self, origin: Origin) -> None:
        response, body = _ask(origin, origin.url("a", SIZE))
        assert response.status == 200
        assert body == content("a", SIZE)
        assert response.headers["Content-Length"] == str(SIZE)
        assert response.headers["Accept-Ranges"] == "bytes"
        assert response.headers["ETag"].startswith('"')
        age = parsedate_to_datetime(response.headers["Date"]) - parsedate_to_datetime(response.headers["Last-Modified"])
        assert age.days > 365

    def test_head_has_the_headers_of_get_and_no_body(self, origin: Origin) -> None:
        url = origin.url("a", SIZE)
        got, _ = _ask(origin, url)
        head, body = _ask(origin, url, "HEAD")
        assert body == b""
        without_date = [{k: v for k, v in response.headers.items() if k != "Date"} for response in (got, head)]
        assert without_date[0] == without_date[1]

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=10-19", 10, 20),
            ("bytes=99990-", 99_990, SIZE),
            ("bytes=99990-200000", 99_990, SIZE),
            ("bytes=-10", 99_990, SIZE),
            ("bytes=-200000", 0, SIZE),
            ("BYTES=0-9", 0, 10),
            ("bytes=200000-, 5-9", 5, 10),
        ],
    )
    def test_single_range(self, origin: Origin, asked: str, start: int, stop: int) -> None:
        response, body = _ask(origin, origin.url("a", SIZE), Range=asked)
        assert response.status == 206
        assert response.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
        assert response.headers["Content-Length"] == str(stop - start)
        assert body == content("a", SIZE)[start:stop]

    @pytest.mark.parametrize("asked", ["bytes=5-4", "bytes=-", "bytes", "bytes=a-b", "lines=0-9", "bytes=0-1,x"])
    def test_invalid_or_foreign_range_is_ignored(self, origin: Origin, asked: str) -> None:
        response, body = _ask(origin, origin.url("a", SIZE), Range=asked)
        assert (response.status, len(body)) == (200, SIZE)

    @pytest.mark.parametrize("asked", ["bytes=100000-", "bytes=100000-100009", "bytes=-0"])
    def test_unsatisfiable_range_is_416_with_the_total(self, origin: Origin, asked: str) -> None:
        response, _ = _ask(origin, origin.url("a", SIZE), Range=asked)
        assert response.status == 416
        assert response.headers["Content-Range"] == f"bytes */{SIZE}"

    def test_any_range_of_an_empty_file_is_416(self, origin: Origin) -> None:
        assert _ask(origin, origin.url("a", 0), Range="bytes=0-0")[0].status == 416
        assert _ask(origin, origin.url("a", 0))[0].headers["Content-Length"] == "0"

    def test_several_ranges_are_multipart(self, origin: Origin) -> None:
        response, body = _ask(origin, origin.url("a", SIZE), Range="bytes=0-9,50-59")
        assert response.status == 206
        assert response.headers["Content-Type"].startswith("multipart/byteranges; boundary=")
        assert "Content-Range" not in response.headers
        assert body.count(b"Content-Range: bytes ") == 2
        assert content("a", SIZE)[50:60] in body

    def test_head_ignores_range(self, origin: Origin) -> None:
        response, _ = _ask(origin, origin.url("a", SIZE), "HEAD", Range="bytes=0-9")
        assert (response.status, response.headers["Content-Length"]) == (200, str(SIZE))

    def test_if_range_with_the_etag_or_the_date_gives_the_range(self, origin: Origin) -> None:
        url = origin.url("a", SIZE)
        whole, _ = _ask(origin, url)
        for validator in (whole.headers["ETag"], whole.headers["Last-Modified"]):
            assert _ask(origin, url, Range="bytes=0-9", If_Range=validator)[0].status == 206

    @pytest.mark.parametrize("validator", ['"other"', "Wed, 01 Jan 2020 00:00:00 GMT", "nonsense"])
    def test_if_range_that_does_not_match_gives_the_whole_file(self, origin: Origin, validator: str) -> None:
        assert _ask(origin, origin.url("a", SIZE), Range="bytes=0-9", If_Range=validator)[0].status == 200

    def test_if_range_is_compared_strongly(self, origin: Origin) -> None:
        url = origin.url("a", SIZE, "etag:weak")
        weak = _ask(origin, url)[0].headers["ETag"]
        assert weak.startswith("W/")
        assert _ask(origin, url, Range="bytes=0-9", If_Range=weak)[0].status == 200

    def test_not_modified(self, origin: Origin) -> None:
        url = origin.url("a", SIZE)
        whole, _ = _ask(origin, url)
        response, body = _ask(origin, url, If_None_Match=f'"x", W/{whole.headers["ETag"]}')
        assert (response.status, body) == (304, b"")
        assert response.headers["ETag"] == whole.headers["ETag"]
        assert _ask(origin, url, If_Modified_Since=whole.headers["Last-Modified"])[0].status == 304
        assert _ask(origin, url, If_None_Match='"x"', If_Modified_Since=whole.headers["Last-Modified"])[0].status == 200

    def test_failed_precondition(self, origin: Origin) -> None:
        url = origin.url("a", SIZE)
        assert _ask(origin, url, If_Match='"x"')[0].status == 412
        assert _ask(origin, url, If_Unmodified_Since="Wed, 01 Jan 2020 00:00:00 GMT")[0].status == 412

    def test_other_methods_are_refused_with_allow(self, origin: Origin) -> None:
        response, _ = _ask(origin, origin.url("a", SIZE), "POST")
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")

    def test_connection_is_kept_unless_asked_to_close(self, origin: Origin) -> None:
        path = origin.url("a", SIZE).removeprefix(origin.base)
        with _connected(origin) as connection:
            for _ in range(3):
                connection.request("GET", path)
                assert len(connection.getresponse().read()) == SIZE
        assert len(origin.stats("a").connections) == 1
        assert _ask(origin, origin.url("a", SIZE), Connection="close")[0].headers["Connection"] == "close"

    def test_what_is_no_http_is_answered_400_and_closed(self, origin: Origin) -> None:
        with socket.create_connection(("127.0.0.1", origin.port)) as client:
            client.sendall(b"\x16\x03\x01\x02\x00")
            assert client.makefile("rb").read().startswith(b"HTTP/1.1 400 ")

    def test_unknown_path_is_404(self, origin: Origin) -> None:
        assert _ask(origin, origin.base + "/nothing")[0].status == 404

    @pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
    def test_curl_resumes_from_it(self, origin: Origin, tmp_path) -> None:  # type: ignore[no-untyped-def]
        target = tmp_path / "a"
        target.write_bytes(content("a", SIZE)[:1234])
        subprocess.run(["curl", "-sSf", "-C", "-", "-o", target, origin.url("a", SIZE)], check=True, timeout=HANG)
        assert target.read_bytes() == content("a", SIZE)
        assert origin.stats("a").headers("range") == ["bytes=1234-"]


class TestFaults:
    @pytest.mark.parametrize("text", ["nothing", "cut:1@sometimes", "cut:1@-3"])
    def test_unknown_words_are_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match="no such"):
            parse_faults(text)

    def test_conditions_choose_the_requests(self, origin: Origin) -> None:
        url = origin.url("a", SIZE, "status:500@head@2;status:503@range@2-3;status:429@range@5-")
        assert [_ask(origin, url, "HEAD")[0].status for _ in range(3)] == [500, 500, 200]
        assert [_ask(origin, url, Range="bytes=0-9")[0].status for _ in range(6)] == [206, 503, 503, 206, 429, 429]
        assert _ask(origin, url)[0].status == 200

    def test_an_offset_chooses_the_requests_that_cover_it(self, origin: Origin) -> None:
        url = origin.url("a", SIZE, "status:500@over=5000")
        asked = ("bytes=0-4999", "bytes=5000-5000", "bytes=4000-", "bytes=5001-")
        assert [_ask(origin, url, Range=asked_)[0].status for asked_ in asked] == [206, 500, 500, 206]
        assert _ask(origin, url)[0].status == 500
        assert _ask(origin, url, "HEAD")[0].status == 200

    def test_a_seeded_share_strikes_the_same_requests_each_time(self, origin: Origin) -> None:
        def statuses(seed: int) -> list[int]:
            origin.reset()
            url = origin.url("a", 10, "status:500@30%", seed=seed)
            return [_ask(origin, url)[0].status for _ in range(40)]

        assert statuses(1) == statuses(1) != statuses(2)
        assert 3 < statuses(1).count(500) < 25

    @pytest.mark.parametrize(
        ("fault", "error"), [("cut:1000", http.client.IncompleteRead), ("rst:0.5", ConnectionResetError)]
    )
    def test_body_ends_early(self, origin: Origin, fault: str, error: type[Exception]) -> None:
        with pytest.raises(error):
            _ask(origin, origin.url("a", SIZE, fault))

    def test_cut_sends_just_the_bytes_before_it(self, origin: Origin) -> None:
        with pytest.raises(http.client.IncompleteRead) as caught:
            _ask(origin, origin.url("a", SIZE, "cut:1000"))
        assert caught.value.partial == content("a", 1000)
        assert origin.stats("a").sent == 1000

    def test_framings_without_a_length(self, origin: Origin) -> None:
        chunked, body = _ask(origin, origin.url("a", SIZE, "framing:chunked"))
        assert (chunked.headers["Transfer-Encoding"], body) == ("chunked", content("a", SIZE))
        closed, body = _ask(origin, origin.url("a", SIZE, "framing:close"))
        assert (closed.headers["Connection"], body) == ("close", content("a", SIZE))
        assert "Content-Length" not in closed.headers
        with pytest.raises(http.client.IncompleteRead):
            _ask(origin, origin.url("a", SIZE, "framing:chunked;cut:0.5"))

    @pytest.mark.parametrize(
        ("fault", "header", "start", "stop"),
        [
            ("ranges:shift:5", "bytes 15-24/100000", 15, 25),
            ("ranges:shorter:5", "bytes 10-14/100000", 10, 15),
            ("ranges:longer:5", "bytes 10-24/100000", 10, 25),
            ("ranges:earlier:5", "bytes 5-19/100000", 5, 20),
            ("ranges:unbounded", "bytes 10-99999/100000", 10, SIZE),
            ("ranges:total:+7", "bytes 10-19/100007", 10, 20),
            ("ranges:total:*", "bytes 10-19/*", 10, 20),
            ("ranges:unlabelled", None, 10, 20),
        ],
    )
    def test_ranges_not_asked_for(self, origin: Origin, fault: str, header: str | None, start: int, stop: int) -> None:
        response, body = _ask(origin, origin.url("a", SIZE, fault), Range="bytes=10-19")
        assert (response.status, response.headers["Content-Range"]) == (206, header)
        assert body == content("a", SIZE)[start:stop]

    def test_file_changes_at_a_request_or_on_command(self, origin: Origin) -> None:
        url = origin.url("a", SIZE, "change@2-")
        first, second = _ask(origin, url), _ask(origin, url)
        assert (first[1], second[1]) == (content("a", SIZE, 1), content("a", SIZE, 2))
        assert first[0].headers["ETag"] != second[0].headers["ETag"]
        origin.set_version("b", 5)
        assert _ask(origin, origin.url("b", SIZE))[1] == content("b", SIZE, 5)

    def test_forced_gzip_ranges_are_slices_of_the_encoded_form(self, origin: Origin) -> None:
        url = origin.url("a", SIZE, "encode:gzip")
        whole, body = _ask(origin, url)
        part, slice_ = _ask(origin, url, Range="bytes=10-19")
        assert whole.headers["Content-Encoding"] == part.headers["Content-Encoding"] == "gzip"
        assert slice_ == body[10:20]
        assert part.headers["Content-Range"] == f"bytes 10-19/{len(body)}"

    def test_redirects_lead_to_the_file_in_the_hops_asked_for(self, origin: Origin) -> None:
        url = origin.redirect("r", origin.url("a", SIZE), hops=3, code=307, cookie="k=v")
        with urllib.request.urlopen(url, timeout=HANG) as response:
            assert len(response.read()) == SIZE
        assert origin.stats("/redirect/r").statuses == {307: 3}

    def test_signed_url_expires(self, origin: Origin) -> None:
        location = _ask(origin, origin.signed("s", origin.url("a", SIZE), uses=2))[0].headers["Location"]
        assert [_ask(origin, location)[0].status for _ in range(3)] == [200, 200, 403]

    def test_held_body_goes_on_when_released(self, origin: Origin) -> None:
        bodies: list[bytes] = []
        url = origin.url("a", SIZE, "hold:gate:0.5")
        client = threading.Thread(target=lambda: bodies.append(_ask(origin, url)[1]))
        client.start()
        origin.when("a", lambda stats: stats.sent >= SIZE // 2).result(10)
        assert origin.stats("a").running == 1
        origin.release("gate")
        client.join()
        assert bodies == [content("a", SIZE)]

    def test_stall_ends_with_the_client(self, origin: Origin) -> None:
        with socket.create_connection(("127.0.0.1", origin.port)) as client:
            target = origin.url("a", SIZE, "stall:10").removeprefix(origin.base)
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            origin.when("a", lambda stats: stats.sent == 10).result(10)
        origin.when("a", lambda stats: stats.running == 0).result(10)
        assert origin.stats("a").sent == 10

    def test_listener_refuses_and_comes_back_on_its_port(self, origin: Origin) -> None:
        origin.close_listener()
        with pytest.raises(ConnectionRefusedError):
            _ask(origin, origin.url("a", SIZE))
        origin.open_listener()
        assert _ask(origin, origin.url("a", SIZE))[0].status == 200

    def test_rate_holds_the_body_back(self, origin: Origin) -> None:
        with _connected(origin) as connection:
            connection.request("GET", origin.url("a", SIZE, "rate:10000").removeprefix(origin.base))
            assert connection.getresponse().read(100) == content("a", 100)
            assert origin.stats("a").sent < SIZE // 2

    def test_a_line_is_shared_by_all_answers(self, origin: Origin) -> None:
        with _connected(origin) as first, _connected(origin) as second:
            for name, connection in (("a", first), ("b", second)):
                connection.request("GET", origin.url(name, 10**6, "line:1000").removeprefix(origin.base))
                assert connection.getresponse().read(100) == content(name, 100)
            assert origin.stats("a").sent + origin.stats("b").sent < 50_000

    def test_digests_right_and_wrong(self, origin: Origin) -> None:
        right = _ask(origin, origin.url("a", SIZE, "digest:repr;digest:md5"))[0].headers
        wrong = _ask(origin, origin.url("a", SIZE, "digest:repr:wrong;digest:md5:wrong"))[0].headers
        assert right["Repr-Digest"] != wrong["Repr-Digest"]
        assert right["Content-MD5"] != wrong["Content-MD5"]
        assert right["Repr-Digest"].startswith("sha-256=:")
