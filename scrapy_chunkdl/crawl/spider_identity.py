"""What the spider's own requests look like, so that downloads look the same.

Reads the settings, attributes and middlewares that Scrapy's downloader goes by: user agent, default headers, HTTP
authentication, proxies, robots.txt, cookies. Knows Scrapy; nothing of items, queues or threads. Called once for the
options of the downloader, and for each file that sends cookies.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import partial
from http.cookiejar import CookieJar
from typing import Any

from scrapy.crawler import Crawler
from scrapy.downloadermiddlewares.cookies import CookiesMiddleware
from scrapy.http import Headers
from scrapy.utils.misc import load_object
from scrapy.utils.python import without_none_values
from w3lib.http import basic_auth_header

from scrapy_chunkdl.download import Options, Robots, proxies_of_environment, tls_context
from scrapy_chunkdl.settings.config import Config, ConfigError

_LONGEST = 100
_FOR_EVER_S = 86_400.0
"""What DOWNLOAD_TIMEOUT = 0 means, which is no time-out in Scrapy."""


def as_the_spider(crawler: Crawler, config: Config, options: Options) -> Options:
    """Return ``options`` with all that Scrapy's settings say of requests. Raises ConfigError for unusable ones."""
    settings, spider = crawler.settings, crawler.spider
    authorization, domain = _http_auth(crawler)
    encoding = settings.get("HTTPPROXY_AUTH_ENCODING") or "latin-1"
    options = replace(
        options,
        user_agent=getattr(spider, "user_agent", None) or settings.get("USER_AGENT") or "",
        headers=_default_headers(crawler),
        authorization=authorization,
        authorization_domain=domain,
        ca_file=config.ca_file,
        client_cert=config.client_cert,
        bind_address=config.bind_address,
        dns_cache=settings.getbool("DNSCACHE_ENABLED"),
        dns_timeout=settings.getfloat("DNS_TIMEOUT"),
        fail_on_dataloss=settings.getbool("DOWNLOAD_FAIL_ON_DATALOSS", True),
        ftp_login=(settings.get("FTP_USER") or "anonymous", settings.get("FTP_PASSWORD") or ""),
        first_byte_timeout=float(getattr(spider, "download_timeout", None) or settings.getfloat("DOWNLOAD_TIMEOUT"))
        or _FOR_EVER_S,
        max_redirects=settings.getint("REDIRECT_MAX_TIMES"),
        proxies=proxies_of_environment(encoding) if settings.getbool("HTTPPROXY_ENABLED") else {},
        robots=_robots(crawler) if settings.getbool("ROBOTSTXT_OBEY") else None,
    )
    try:
        tls_context(options)
    except OSError as error:
        raise ConfigError(
            f"CHUNKDL_CA_FILE = {config.ca_file!r} or CHUNKDL_CLIENT_CERT = {config.client_cert!r} cannot be used "
            f"({error}): name PEM files, the certificate with its key in the same file or as a second one."
        ) from error
    return options


def sentence_on_middlewares(crawler: Crawler) -> str | None:
    """Return a line that names the project's downloader middlewares, which no request for a file meets; None for none.

    Cookies are taken from a CookiesMiddleware of the project's own, too.
    """
    named = crawler.settings.getdict("DOWNLOADER_MIDDLEWARES").items()
    loaded = [load_object(path) for path, order in named if order is not None]
    ours = [cls for cls in loaded if not str(cls.__module__).startswith(("scrapy.", "scrapy_redis."))]
    names = [cls.__qualname__ for cls in ours if not (isinstance(cls, type) and issubclass(cls, CookiesMiddleware))]
    if not names:
        return None
    return (
        f"Requests for files do not pass downloader middlewares of the project ({', '.join(names)[:_LONGEST]}): what "
        "these add goes into the headers of attachments or of the requests that get_media_requests returns, or "
        "CHUNKDL_VIA_SCRAPY sends those of some hosts, or all, through them."
    )


def has_cookies(crawler: Crawler) -> bool:
    """Tell whether the spider's session has cookies that can be copied: Scrapy's middleware, or one made from it."""
    return crawler.get_downloader_middleware(CookiesMiddleware) is not None


def jars_of(crawler: Crawler) -> Mapping[Any, Any]:
    """Return the spider's cookie jars by the names that ``meta["cookiejar"]`` has for them."""
    middleware = crawler.get_downloader_middleware(CookiesMiddleware)
    jars: Mapping[Any, Any] = middleware.jars if middleware is not None else {}
    return jars


def session_cookies(jars: Mapping[Any, Any], key: Hashable) -> CookieJar | None:
    """Return a copy of the spider's cookies, as they are now, from the jar of that name.

    A copy, because Scrapy's jar is for one thread alone.
    """
    jar = jars.get(key)
    if jar is None:
        return None
    copy = CookieJar()
    for cookie in jar:
        copy.set_cookie(cookie)
    return copy


def session_name(key: Hashable) -> str | None:
    """Return what names a cookie jar in a file's identity, None for the one that all requests have who name none."""
    return None if key is None else repr(key)


def _default_headers(crawler: Crawler) -> dict[str, str]:
    given = Headers(without_none_values(crawler.settings.getdict("DEFAULT_REQUEST_HEADERS")))
    return {str(name): str(value) for name, value in given.to_unicode_dict().items()}


def _http_auth(crawler: Crawler) -> tuple[str | None, str | None]:
    """Return what HttpAuthMiddleware sends, and the domain it is for."""
    settings, spider = crawler.settings, crawler.spider
    user, password = getattr(spider, "http_user", ""), getattr(spider, "http_pass", "")
    if user or password:
        domain = getattr(spider, "http_auth_domain", "")
        if domain == "":  # Scrapy refuses to send them everywhere unasked
            return None, None
    else:
        user, password = settings.get("HTTPAUTH_USER", ""), settings.get("HTTPAUTH_PASS", "")
        domain = settings.get("HTTPAUTH_DOMAIN")
    if not (user or password):
        return None, None
    return basic_auth_header(user, password).decode("ascii"), domain


def _robots(crawler: Crawler) -> Robots:
    parser = load_object(crawler.settings["ROBOTSTXT_PARSER"])
    return Robots(partial(parser.from_crawler, crawler), crawler.settings["ROBOTSTXT_USER_AGENT"])
