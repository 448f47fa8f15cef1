"""``scrapy chunkdl failed``: what was given up is seen, tried again or dropped, and no secret is shown on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from origin import Origin
from origin_content import content
from project import Project, attachment, item, paths

pytestmark = pytest.mark.usefixtures("client")

WAITING, FAILED, DEAD = "files:items", "{files:items}:failed", "{files:items}:dead"


def record(n: int, **fields: Any) -> bytes:
    """Return a record as fail.lua writes it, whose item is ``{"n": n}``."""
    told = {
        "url": f"http://h/{n}",
        "reason": "http_404",
        "message": "404 Not Found",
        "time": "2026-01-01T00:00:00+00:00",
    }
    head = json.dumps({**told, "delivery": f"d:{n}", **fields})
    return f'{head[:-1]}, "item": {{"n": {n}}}}}'.encode()


def failed(project: Project, *words: str) -> str:
    done = project.command("chunkdl", "failed", "files", *words)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_file_that_was_given_up_is_listed_put_back_and_fetched(
    project: Project, origin: Origin, client: redis.Redis
) -> None:
    project.settings |= {"CHUNKDL_ON_FAILURE": "hold", "CHUNKDL_RETRY_TIMES": 0}
    missing = origin.url("b.bin", 2000, "status:404")
    project.items = [item(attachment(origin.url("a.bin", 1000)), attachment(missing))]
    project.crawl()
    assert project.scraped() == []

    [told] = map(json.loads, failed(project, "--json").splitlines())
    assert [(file["url"], file["reason"], file["status"]) for file in told["files"]] == [(missing, "http_404", 404)]
    assert failed(project, "retry", "--match", "http_503") == "0 items put back into files:items.\n"
    origin.set_faults("b.bin", "")
    assert failed(project, "retry", "--match", "http_404") == "1 item put back into files:items.\n"
    project.finish(project.begin("chunkdl", "worker", "files", "--until-empty"))

    [finished] = project.scraped()
    assert [Path(path).read_bytes() for path in paths(finished)] == [content("a.bin", 1000), content("b.bin", 2000)]
    assert client.keys("*") == []


def test_the_files_of_an_item_are_listed_together(project: Project, client: redis.Redis) -> None:
    client.rpush(FAILED, record(1, url="http://h/a"), record(1, url="http://h/b", message=""), record(2))
    client.rpush(FAILED, json.dumps({"reason": "bad_item", "message": "not JSON", "delivery": "d:3"}))

    text = failed(project).splitlines()

    assert text == [
        "- 2026-01-01T00:00:00+00:00  http_404  http://h/a",
        "      404 Not Found",
        "  2026-01-01T00:00:00+00:00  http_404  http://h/b",
        "- 2026-01-01T00:00:00+00:00  http_404  http://h/2",
        "      404 Not Found",
        "- bad_item",
        "      not JSON",
        "      The item is in :dead, see --dead.",
        "     3 http_404 h",
        "     1 bad_item",
        "3 items, 4 files.",
    ]


def test_what_matches_is_dropped_and_the_rest_stays(project: Project, client: redis.Redis) -> None:
    client.rpush(FAILED, *(record(n, reason=["stalled", "tls"][n % 2]) for n in range(250)))

    assert failed(project, "drop", "--match", '"stalled"') == "125 items dropped.\n"
    assert json.loads(failed(project, "retry", "--match", "http://h/7", "--json")) == {"items": 6}  # 7, 71, 73, ..., 79
    assert failed(project, "drop", "--all") == "119 items dropped.\n"

    assert client.lrange(WAITING, 0, -1) == [b'{"n": %d}' % n for n in (7, 71, 73, 75, 77, 79)]
    assert client.keys("*") == [WAITING.encode()]


def test_the_dead_are_seen_put_back_and_dropped(project: Project, client: redis.Redis) -> None:
    readable = json.dumps(item(attachment("http://u:pw@h/1?token=t", headers={"Authorization": "Bearer t"}))).encode()
    client.rpush(DEAD, readable, b"\xff no JSON, http://u:pw@h/", b"drop me")

    text = failed(project, "--dead")
    failed(project, "drop", "--dead", "--match", "drop me")
    failed(project, "retry", "--dead", "--all")

    assert text.splitlines() == [
        "- http://u:***@h/1?token=***",
        "- \ufffd no JSON, http://u:***@h/",
        "- drop me",
        "3 items, 1 file.",
    ]
    assert client.lrange(WAITING, 0, -1) == [readable, b"\xff no JSON, http://u:pw@h/"]
    assert client.exists(DEAD) == 0


def test_what_is_nested_too_deeply_to_be_read_is_seen_and_dropped(project: Project, client: redis.Redis) -> None:
    deep = b'{"data":' * 100_000
    client.rpush(DEAD, deep)
    client.rpush(FAILED, deep)

    texts = [failed(project), failed(project, "--dead")]
    failed(project, "drop", "--all")
    failed(project, "drop", "--dead", "--all")

    assert all('{"data":{"data":' in text for text in texts)
    assert client.exists(DEAD, FAILED) == 0


def test_secrets_and_terminal_codes_are_not_shown_and_the_record_stays_exact(
    project: Project, client: redis.Redis
) -> None:
    url = "https://user:pa55word@h/a?X-Amz-Signature=51gn&page=2"
    exact = record(1, url=url, message=f"404 of {url}\x1b[2J")
    client.rpush(FAILED, exact)

    text, told = failed(project), failed(project, "--json")

    for shown in (text, told):
        assert not any(secret in shown for secret in ("pa55word", "51gn", "\x1b"))
        assert "https://user:***@h/a?X-Amz-Signature=***&page=2" in shown
    assert client.lrange(FAILED, 0, -1) == [exact]


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (["--reason", "http_404"], [0, 2]),
        (["--reason", "http_4"], []),
        (["--host", "a.example"], [0, 1]),
        (["--host", "A.EXAMPLE", "--reason", "dns"], [1]),
        (["--host", "example"], [0, 1, 2]),
        (["--host", "xa.example"], []),
    ],
)
def test_items_are_chosen_by_reason_and_host(
    project: Project, client: redis.Redis, words: list[str], numbers: list[int]
) -> None:
    client.rpush(FAILED, record(0, url="http://cdn.a.example/x"))
    client.rpush(FAILED, record(1, url="http://a.example/x", reason="dns"), record(2, url="http://b.example"))

    listed = failed(project, *words)
    failed(project, "retry", *words)

    assert [json.loads(raw)["n"] for raw in client.lrange(WAITING, 0, -1)] == numbers
    assert f"{len(numbers)} item" in listed.splitlines()[-1]
    if words == ["--host", "example"]:
        groups = [line.split() for line in listed.splitlines()[-4:-1]]
        assert groups == [
            ["1", "http_404", "cdn.a.example"],
            ["1", "dns", "a.example"],
            ["1", "http_404", "b.example"],
        ]
