"""robots.txt: obeyed where it is wanted, asked once per host, and no obstacle where it cannot be had."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from pathlib import Path

import pytest
from fetching import Client
from origin import Origin
from protego import Protego

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Permanent, Robots
from scrapy_chunkdl.download.http import robots as robots_module


class Rules:
    """A parser as Scrapy's: the body, parsed."""

    def __init__(self, body: bytes) -> None:
        self._rules = Protego.parse(body.decode())

    def allowed(self, url: str, user_agent: str) -> bool:
        return self._rules.can_fetch(url, user_agent)


@pytest.fixture
def obedient(client: Client) -> Client:
    return client.with_options(robots=Robots(Rules), user_agent="ourbot/1.0")


async def test_a_refused_file_is_given_up_without_a_request_for_it(obedient: Client, origin: Origin) -> None:
    origin.robots = "User-agent: *\nDisallow: /f/secret"
    error = await obedient.fails(obedient.url(name="secret"), "robots")

    assert isinstance(error, Permanent)
    assert "robots.txt refuses" in str(error)
    assert origin.stats("secret").requests == 0


async def test_an_allowed_file_is_fetched(obedient: Client, origin: Origin) -> None:
    origin.robots = "User-agent: *\nDisallow: /f/secret"
    await obedient.right(obedient.url())


async def test_rules_for_our_user_agent_count(obedient: Client, origin: Origin) -> None:
    origin.robots = "User-agent: ourbot\nDisallow: /f/\n\nUser-agent: other\nAllow: /"
    await obedient.fails(obedient.url(), "robots")
    await obedient.with_options(robots=Robots(Rules, "other")).right(obedient.url())


async def test_each_hop_of_a_redirect_is_asked_about(obedient: Client, origin: Origin) -> None:
    origin.robots = "User-agent: *\nDisallow: /f/"
    await obedient.fails(origin.redirect("r", obedient.url()), "robots")
    # What a HEAD meets ends no file: the GET may lead elsewhere, and is asked about anew.
    assert origin.stats("/redirect/r").methods == {"HEAD": 1, "GET": 1}
    assert origin.stats("file.bin").requests == 0


class RulesWithDelay(Rules):
    """A parser as Scrapy's since 2.18."""

    def crawl_delay(self, user_agent: str) -> float | None:
        return self._rules.crawl_delay(user_agent)


class RulesOfOldScrapy(Rules):
    """A parser as Scrapy's before."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self.rp = self._rules


@pytest.mark.parametrize("parser", [RulesWithDelay, RulesOfOldScrapy])
async def test_requests_are_as_far_apart_as_robots_txt_asks_from_the_first_one_on(
    client: Client, origin: Origin, parser: type[Rules]
) -> None:
    origin.robots = "User-agent: *\nCrawl-delay: 0.2"
    obedient = client.with_options(robots=Robots(parser), probe="range")
    limits = Limits(obedient.options)
    async with Downloader(obedient.options, limits) as downloader:
        urls = [obedient.url(name=f"{n}.bin") for n in range(4)]
        await asyncio.gather(*(downloader.fetch(FileRequest(url, obedient.folder, url[-5:])) for url in urls))

    at = sorted(seen.at for n in range(4) for seen in origin.stats(f"{n}.bin").seen)
    assert at[-1] - at[0] >= 0.2 * (len(at) - 1) - 0.15, "whatever the machine does"


@pytest.mark.parametrize(
    ("asked", "delay_s"), [("3", 3.0), ("86400", 60.0), ("-1", 0.0), ("nan", 0.0), ("inf", 0.0), ("soon", 0.0)]
)
async def test_a_delay_is_one_that_makes_sense(client: Client, asked: str, delay_s: float) -> None:
    robots = Robots(RulesWithDelay)

    async def fetch(url: str) -> bytes:
        return f"User-agent: *\nCrawl-delay: {asked}".encode()

    assert await robots.check("https://files.example/a", "bot", fetch) == (delay_s > 0)
    assert robots.delay_of("files.example:443") == delay_s
    assert not await robots.check("https://files.example/b", "bot", fetch), "it is known by now"


@pytest.mark.parametrize("robots", [None, "", "\x00\xff not a robots.txt", "x" * robots_module.BYTES_READ * 2])
async def test_no_robots_txt_or_a_senseless_one_refuses_nothing(
    obedient: Client, origin: Origin, robots: str | None
) -> None:
    origin.robots = robots
    await obedient.right(obedient.url())


async def test_a_host_without_an_answer_refuses_nothing_by_robots_txt(obedient: Client, origin: Origin) -> None:
    url = obedient.url()
    origin.close_listener()
    await obedient.fails(url, "connect_failed", "connection_lost")


async def test_a_host_is_asked_once_by_all_threads(origin: Origin, client: Client, tmp_path: Path) -> None:
    origin.robots = "User-agent: *\nDisallow: /f/secret"
    robots = Robots(Rules)
    options = client.with_options(robots=robots).options
    limits = Limits(options)
    together = threading.Barrier(4)

    async def fetch_some(number: int) -> int:
        async with Downloader(options, limits) as downloader:
            requests = [FileRequest(client.url(name=f"{number}-{n}", size=10), tmp_path) for n in range(3)]
            together.wait(20)
            return len(await asyncio.gather(*map(downloader.fetch, requests)))

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        done = [pool.submit(asyncio.run, fetch_some(number)) for number in range(4)]
        loop = asyncio.get_running_loop()
        fetched = await asyncio.gather(*(asyncio.wrap_future(one, loop=loop) for one in done))

    assert fetched == [3] * 4
    assert origin.stats("/robots.txt").requests == 1


async def test_no_more_hosts_are_remembered_than_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(robots_module, "HOSTS_REMEMBERED", 2)
    robots, asked = Robots(Rules), []

    async def fetch(url: str) -> bytes:
        asked.append(url)
        return b""

    for host in ("a", "b", "a", "c", "a", "b"):
        await robots.check(f"http://{host}/x", "ourbot", fetch)

    assert asked == [f"http://{host}/robots.txt" for host in ("a", "b", "c", "b")]


async def test_one_who_stops_waiting_leaves_the_others_their_answer() -> None:
    robots, answer = Robots(Rules), asyncio.Event()

    async def fetch(url: str) -> bytes:
        await answer.wait()
        return b"User-agent: *\nDisallow: /x"

    first = asyncio.ensure_future(robots.check("http://a/x", "ourbot", fetch))
    second = asyncio.ensure_future(robots.check("http://a/x", "ourbot", fetch))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    answer.set()

    with pytest.raises(Permanent, match=r"robots\.txt refuses"):
        await second


async def test_the_request_for_it_carries_nothing_of_the_items_own(obedient: Client, origin: Origin) -> None:
    origin.robots = ""
    await obedient.right(obedient.url(), headers={"Authorization": "secret", "X-Own": "1"})

    [seen] = origin.stats("/robots.txt").seen
    assert seen.headers["user-agent"] == "ourbot/1.0"
    assert "authorization" not in seen.headers
    assert "x-own" not in seen.headers
