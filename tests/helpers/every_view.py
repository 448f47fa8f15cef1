"""Records for every view of the page, whose words are a test's: what strangers may have written anywhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import redis
from served import DEAD, FAILED, WAITING, report

from scrapy_chunkdl.queue.host_health import HostHealth
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.status import Report

FINISHED, DETAILS = "{s:items}:finished", "{s:items}:details"
NAMES = ("attention", "workers", "files", "hosts", "given-up", "waiting", "finished")
"""The views, by the names of their parts of the page; given-up has failed and dead items."""


def fill(client: redis.Redis, queue: ItemQueue, texts: Sequence[str]) -> None:
    """Have each view tell of each text, in every field that a person sees."""
    now = client.time()[0] * 1000
    files, hosts = [], []
    for n, text in enumerate(texts):
        told = replace(Report.decode(report()), host=text, state=text or "claiming", version=text, pid=n, waits=(text,))
        process = ItemQueue(queue.client, queue.key, token=f"{n}:{n}:x")
        process.report(told.encode())
        process.close()
        words = {"url": text, "name": text, "title": text, "page": text}
        files.append({**words, "id": f"{n}", "size": 4000, "done": 2000, "map": "1d1r1h1t1m", "doing": "receiving"})
        hosts.append({"host": f"{text}{n}", "connections": 1, "limit": 2, "errors": {text: 1}, "cooling_for": 60})
        client.rpush(WAITING, json.dumps({"title": text, "url": f"https://{text}", "file_urls": [f"https://h/{text}"]}))
        client.rpush(WAITING, text.encode(errors="surrogatepass"))
        client.lpush(FINISHED, json.dumps({**words, "time": text, "size": 1000, "elapsed": 1.0}))
        record = {"url": text, "filename": text, "reason": text, "message": text, "time": text, "delivery": f"d{n}"}
        client.rpush(FAILED, f'{json.dumps(record)[:-1]}, "item": {{"n": {n}}}}}')
        client.rpush(DEAD, text.encode(errors="surrogatepass"))
        host, reason = (one.encode(errors="replace").decode() for one in (f"{n}{text}"[:200], text or "empty"))
        HostHealth(queue.client, "x").fell(host, reason)
        client.zadd("{s:items}:parked_hosts", {host: n})
    told_of = json.dumps({"running": len(files), "files": files, "hosts": hosts})
    client.hset(DETAILS, "0:0:x", f"{now + 3_600_000} {told_of}")
