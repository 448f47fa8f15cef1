"""A list in another format: the crawl ends with a reason, and its entries stay; some such entries are dead letters."""

from __future__ import annotations

import pickle

import pytest
import redis
from project import Project


@pytest.mark.parametrize(
    ("number", "places", "buried"),
    [(100, 32, 0), (10, 32, 0), (9, 32, 0), (1, 32, 0), (100, 10, 0), (100, 3, 9), (2, 1, 2)],
)
def test_a_list_of_which_nothing_can_be_read_ends_the_crawl_and_stays(
    project: Project, client: redis.Redis, number: int, places: int, buried: int
) -> None:
    client.rpush("files:items", *(pickle.dumps({"number": number}) for number in range(number)))
    project.settings |= {"CHUNKDL_THREADS": 1, "CHUNKDL_BATCH_SIZE": places}

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "chunkdl_unreadable_items"
    assert crawl.log.count("are no JSON objects") == 1
    assert "REDIS_ITEMS_SERIALIZER" in crawl.log
    assert client.llen("{files:items}:dead") == buried, "where there are few places, some make way"
    waiting = client.llen("files:items") + client.zcard("{files:items}:delayed")
    assert waiting == number - buried


@pytest.mark.parametrize("readable_at", [0, 4, 9])
def test_some_entries_in_another_format_are_buried(project: Project, client: redis.Redis, readable_at: int) -> None:
    entries = [b"\x80 no JSON"] * 9
    entries[readable_at:readable_at] = [b"{}"]
    entries += [b"\x80 no JSON"] * 9
    client.rpush("files:items", *entries)

    crawl = project.crawl()

    assert crawl.stats["finish_reason"] == "finished"
    assert client.llen("{files:items}:dead") == len([entry for entry in entries if entry != b"{}"])
