"""The rules of download/http/identity.py that take no server to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from scrapy_chunkdl.download import FileRequest, Options
from scrapy_chunkdl.download.http.identity import Identity, without_userinfo


@pytest.mark.parametrize(
    ("home", "url", "sent"),
    [
        ("http://example.org/a", "http://example.org/b", True),
        ("http://example.org/a", "http://EXAMPLE.org:80/b", True),
        ("http://example.org/a", "https://example.org/b", True),
        ("https://example.org/a", "http://example.org/b", False),
        ("http://example.org:8000/a", "https://example.org/b", False),
        ("http://example.org/a", "http://example.org:8000/b", False),
        ("http://example.org/a", "http://files.example.org/b", False),
    ],
)
def test_credentials_stay_with_their_origin_or_move_from_http_to_https(home: str, url: str, sent: bool) -> None:
    request = FileRequest(home, Path(), headers={"Authorization": "secret"})
    assert ("Authorization" in Identity(request, Options()).headers_for(url)) is sent


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://example.org/a", True),
        ("https://files.example.org/a", True),
        ("https://notexample.org/a", False),
        ("http://example.org/a", False),
    ],
)
def test_http_auth_goes_to_its_domain_and_those_below_and_never_from_https_to_http(url: str, sent: bool) -> None:
    options = Options(authorization="secret", authorization_domain="example.org")
    request = FileRequest("https://example.net/", Path())
    assert ("Authorization" in Identity(request, options).headers_for(url)) is sent


@pytest.mark.parametrize(
    ("url", "without"),
    [
        ("https://user:pa@ss@host/a@b", "https://host/a@b"),
        ("//user@host/", "//host/"),
        ("http://host/?q=a@b", "http://host/?q=a@b"),
        ("http://host#a@b", "http://host#a@b"),
        ("mailto:a@b", "mailto:a@b"),
        ("http://u:p@[broken", "http://[broken"),
        ("", ""),
    ],
)
def test_userinfo_is_cut_out_of_any_text(url: str, without: str) -> None:
    assert without_userinfo(url) == without
