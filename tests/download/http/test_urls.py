"""The URL that goes over the wire: what browsers make of a text, plus %XX for what no URI may have."""

from __future__ import annotations

import ada_url
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.download.http.urls import PLAIN_URL, NoUrl, host_name, userinfo_of, wire_url, without_userinfo


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("/f\\a.bin", "/f/a.bin"),
        ("/f/a\n.b\ti\rn", "/f/a.bin"),
        ("/f/a b.bin", "/f/a%20b.bin"),
        ("/f/a%20{1}.bin", "/f/a%20%7B1%7D.bin"),
        ('/f/a%20b.bin?q=<x>|^`"\\', "/f/a%20b.bin?q=%3Cx%3E%7C%5E%60%22%5C"),
        ("/f.bin?", "/f.bin?"),
        ("/f.bin?#x", "/f.bin?"),
        ("/a%20x/../f.bin", "/f.bin"),
        ("/a/%2e%2E/./f.bin", "/f.bin"),
        ("/x?f=with space.pdf", "/x?f=with%20space.pdf"),
        ("/x?f=a+b&u=http%3A%2F%2Fe.org%2Fa b", "/x?f=a+b&u=http%3A%2F%2Fe.org%2Fa%20b"),
        ("/年报.pdf?q=é", "/%E5%B9%B4%E6%8A%A5.pdf?q=%C3%A9"),
        ("/%e5%b9%b4.pdf", "/%e5%b9%b4.pdf"),
        ("/100%.pdf", "/100%.pdf"),
        ("/%zz%2", "/%zz%2"),
        ("//double//slash.bin", "//double//slash.bin"),
        ("/a+b,c;d=1'(x)!*@:~.bin?s=A/b+c==&t=1;2:3,4@5!$()*~", "/a+b,c;d=1'(x)!*@:~.bin?s=A/b+c==&t=1;2:3,4@5!$()*~"),
        ("/[x].bin?a[]=1", "/[x].bin?a[]=1"),
        ("/a|b.bin", "/a%7Cb.bin"),
        ("/\udcc4\udcea.pdf", "/%C4%EA.pdf"),
        ("/\ud800.pdf", "/%EF%BF%BD.pdf"),
        ("?x=1", "/?x=1"),
        ("", "/"),
        ("#top", "/"),
    ],
)
def test_what_is_sent(text: str, sent: str) -> None:
    assert wire_url("http://h:81" + text) == "http://h:81" + sent


@pytest.mark.parametrize(
    ("location", "sent"),
    [
        ("/年.pdf", "http://h/%E5%B9%B4.pdf"),
        ("/a%20b\udce9.pdf", "http://h/a%20b%E9.pdf"),
        ("http:///h2:8/f", "http://h2:8/f"),
        ("http:\\\\h2\\f", "http://h2/f"),
        ("\\f\\a.bin", "http://h/f/a.bin"),
        ("//h2/f", "http://h2/f"),
        ("HTTPS://H2:443/F", "https://h2/F"),
        ("?x=1", "http://h/d/s?x=1"),
        ("f/../f/./a.bin", "http://h/d/f/a.bin"),
        ("http%3A//h2/f", "http://h/d/http%3A//h2/f"),
        ("http://h2?file=a", "http://h2/?file=a"),
        (" http://h2/f\t\t", "http://h2/f"),
        ("", "http://h/d/s?q"),
    ],
)
def test_what_a_location_leads_to(location: str, sent: str) -> None:
    assert wire_url(location, "http://h/d/s?q") == sent


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("http://①②⑦.⓪.⓪.①/", "127.0.0.1"),
        ("http://１２７.０.０.１/", "127.0.0.1"),
        ("http://127。0。0。1/", "127.0.0.1"),
        ("http://0x7f.1/", "127.0.0.1"),
        ("http://2130706433/", "127.0.0.1"),
        ("http://017700000001/", "127.0.0.1"),
        ("http://%31%32%37.0.0.1/", "127.0.0.1"),
        ("http://u:p@ｌocalhost:8/", "localhost"),
        ("http://MÜNCHEN.de/", "xn--mnchen-3ya.de"),
        ("http://[::FFFF:127.0.0.1]:8/x", "::ffff:7f00:1"),
        ("http://h?a@b", "h"),
    ],
)
def test_which_host_that_is(text: str, host: str) -> None:
    assert host_name(wire_url(text)) == host


@pytest.mark.parametrize(
    "text",
    [
        *("", "nonsense", "h/a", "//h/a", "ftp://h/", "data:,x", "http://", "http://a b/", "http://[::1"),
        *("http://a:99999/", "http://a\0b/", "http://h/" + "a" * 70_000, "javascript:alert(1)", "http:?x"),
    ],
)
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(NoUrl):
        wire_url(text)


@given(st.text(max_size=80), st.sampled_from(["http://h", "https://h:8/d/", "http://u:p@h/a?", "http://", ""]))
def test_the_same_again_gives_the_same(text: str, start: str) -> None:
    try:
        sent = wire_url(start + text)
    except NoUrl:
        return

    assert wire_url(sent) == sent
    assert sent.isascii()
    assert sent.isprintable()
    assert not set(sent) & set(' "<>\\^`{|}#')


@given(st.binary(max_size=40))
def test_raw_bytes_of_a_location_stay_themselves(raw: bytes) -> None:
    raw = bytes(byte for byte in raw if byte >= 0x80)

    sent = wire_url("/x/" + raw.decode("utf-8", "surrogateescape"), "http://h/")

    assert sent == "http://h/x/" + "".join(f"%{byte:02X}" for byte in raw)


@pytest.mark.parametrize(
    ("text", "bare", "login"),
    [
        ("http://u:p@h/a@b", "http://h/a@b", "u:p"),
        ("http:\\\\u:p@h\\a", "http:\\\\h\\a", "u:p"),
        ("http:///u:p@h/", "http:///h/", "u:p"),
        ("//u@h/", "//h/", "u"),
        ("http://h/?mail=a@b", "http://h/?mail=a@b", ""),
    ],
)
def test_a_login_is_taken_out_whichever_slashes_there_are(text: str, bare: str, login: str) -> None:
    assert (without_userinfo(text), userinfo_of(text)) == (bare, login)


PLAIN_URLS = {
    "http://example.org/a/b.bin": True,
    "https://example.org:8443/a%20b.bin?x=1&y=%2F": True,
    "http://127.0.0.1:8000/a": True,
    "http://example.org/": False,
    "http://example.org": False,
    "http://EXAMPLE.org/a": False,
    "http://user@example.org/a": False,
    "http://example.org/a/../b": False,
    "http://example.org/a/%2e%2e/b": False,
    "http://example.org/a/./b": False,
    "http://example.org/a#b": False,
    "http://example.org/a b": False,
    "http://example.org/é": False,
    "http://example.org/a?x='": False,
    "http://example.org/a%": False,
    "http://example.org\\a": False,
    "http://0x7f.1/a": False,
    "http://127.1/a": False,
    "http://127.0.0.01/a": False,
    "http://[::1]/a": False,
    "http://2130706433/a": False,
    "ftp://example.org/a": False,
    "http://example.org:80/a": False,
    "https://example.org:443/a": False,
    "http://example.org:65536/a": False,
    "http://xn--a.org/a": False,
    "http://example.org/a\n": False,
}


@pytest.mark.parametrize(("url", "is_plain"), PLAIN_URLS.items())
def test_a_plain_url_is_one_that_is_sent_as_it_is(url: str, is_plain: bool) -> None:
    assert (PLAIN_URL.fullmatch(url) is not None) is is_plain
    assert not is_plain or ada_url.URL(url).href == url


@given(st.from_regex(PLAIN_URL, fullmatch=True))
def test_no_url_is_called_plain_that_browsers_would_write_otherwise(url: str) -> None:
    """They are not shown to ada-url any more."""
    assert ada_url.URL(url).href == url
    assert wire_url(url) == url
