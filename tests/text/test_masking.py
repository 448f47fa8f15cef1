"""What is shown of a text: no secrets, and nothing a terminal obeys."""

from __future__ import annotations

import pytest

from scrapy_chunkdl.text.masking import LONGEST, masked, masked_quote, printable, sentence, shown_url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:pa%40ss@host/a.pdf", "https://user:***@host/a.pdf"),
        ("https://user:p@ss@host/a.pdf", "https://user:***@host/a.pdf"),
        ("https://ghp_0123@host:8443/a.pdf", "https://***@host:8443/a.pdf"),
        ("https://:secret@host/", "https://:***@host/"),
        ("https://host/a@b.pdf?mail=a@b", "https://host/a@b.pdf?mail=a@b"),
        ("https://h/a?token=abc&page=2", "https://h/a?token=***&page=2"),
        ("https://h/a?page=2&Access_Token=abc#x", "https://h/a?page=2&Access_Token=***#x"),
        ("https://h/#access_token=abc&x=1", "https://h/#access_token=***&x=1"),
        ("https://h/?a=1&amp;sig=abc", "https://h/?a=1&amp;sig=***"),
        (
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Date=1&X-Amz-Signature=0f&X-Amz-Expires=9",
            "https://b.s3.amazonaws.com/k?X-Amz-Credential=***&X-Amz-Date=1&X-Amz-Signature=***&X-Amz-Expires=9",
        ),
        (
            "https://h/?Expires=1&Key-Pair-Id=K&Policy=P__&Signature=S~",
            "https://h/?Expires=1&Key-Pair-Id=***&Policy=***&Signature=***",
        ),
        ("https://h/?auth_key=1-0-0-9af&sv=2&sig=x%3D", "https://h/?auth_key=***&sv=2&sig=***"),
        ("https://h/f?md5=abc-_&expires=9&st=XyZ&e=9", "https://h/f?md5=***&expires=9&st=***&e=***"),
        ("https://h/?monkey=1&tokens=2&code=600519&keyword=3", "https://h/?monkey=1&tokens=2&code=600519&keyword=3"),
        ("two: http://a:b@h, http://c:d@i.", "two: http://a:***@h, http://c:***@i."),
        ('{"url": "http://h/?token=a", "n": "b"}', '{"url": "http://h/?token=***", "n": "b"}'),
        ("no URL: a:b@c token=x", "no URL: a:b@c token=x"),
        ("", ""),
    ],
)
def test_secrets_of_urls_are_masked_and_nothing_else(text: str, shown: str) -> None:
    assert masked(text) == shown
    assert masked(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("年报 2022.pdf", "年报 2022.pdf"),
        ("\x1b[2Jgone\r\nforged line", r"\x1b[2Jgone\r\nforged line"),
        ("\x9b31m", r"\x9b31m"),
        ("invoice\u202efdp.exe", r"invoice\u202efdp.exe"),
        ("\ud800", r"\ud800"),
        ("http://a:b@h/\n", r"http://a:***@h/\n"),
    ],
)
def test_what_a_terminal_would_obey_is_written_out(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "data:application/pdf;base64," + "A" * 5_000_000,
        *("://" * 1_000_000, "http://" + "a" * 5_000_000, "?x-" * 1_000_000, "\x1b" * 5_000_000),
    ],
    ids=lambda text: text[:5],
)
def test_what_is_huge_is_shown_cut(text: str) -> None:
    assert len(masked(text)) <= LONGEST
    assert len(printable(text, 300)) <= 300
    assert len(shown_url(text)) <= 200


def test_a_long_url_is_named_without_its_middle() -> None:
    assert shown_url("http://h/" + "a" * 500 + "/b.pdf?token=s3cr3t").startswith("http://h/aaa")
    assert shown_url("http://h/" + "a" * 500 + "/b.pdf?token=s3cr3t").endswith("aaa/b.pdf?token=***")


@pytest.mark.parametrize("scheme", ["http", "https", "s3"])
def test_a_sentence_keeps_its_words_around_a_long_url(scheme: str) -> None:
    url = f"{scheme}://h/{'a' * 3000}.pdf?token=s3cr3t"
    told = sentence(f"{url} answered 404 Not Found, as {url} did\n", 400)

    assert "answered 404 Not Found" in told
    assert told.endswith(".pdf?token=*** did\\n")
    assert "s3cr3t" not in told
    assert sentence(told, 400) == told


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"access_token": "abcd1", "n": 1}', '{"access_token": "***", "n": 1}'),
        ("{'password':'abcd1'}", "{'password':'***'}"),
        ("Set-Cookie: sid=abcd1; Path=/", "Set-Cookie: ***; Path=/"),
        ("Authorization: Bearer abcd1", "Authorization: ***"),
        ("token=abcd1 HTTP", "token=*** HTTP"),
        ('{"code":403,"message":"too many requests"}', '{"code":403,"message":"too many requests"}'),
        ("<!DOCTYPE html><html lang=en>please log in", "<!DOCTYPE html><html lang=en>please log in"),
    ],
)
def test_what_a_server_sent_is_quoted_without_what_it_calls_a_secret(text: str, shown: str) -> None:
    assert masked_quote(text) == shown
