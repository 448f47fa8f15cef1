"""A real server that limits what it serves, in several ways: it is asked more slowly, and nothing is lost."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

import pytest
from origin_content import content
from web_servers import Kind, nginx, running

from scrapy_chunkdl.download import Downloader, FileRequest, Limits, Options
from scrapy_chunkdl.download.model import Progress

FILES = 120
FEWER = 30
"""Where each refusal costs seconds."""

SIZE = 5_000

REQUESTS = "limit_req_zone $binary_remote_addr zone=requests:1m rate=40r/s;"
FEW = "limit_req_zone $binary_remote_addr zone=few:1m rate=10r/s;"
CONNECTIONS = "limit_conn_zone $binary_remote_addr zone=connections:1m;"
LIMITED = [
    Kind("limit_req", ("nginx",), nginx(http=REQUESTS, server="limit_req zone=requests burst=5;")),
    Kind(
        "limit_req nodelay",
        ("nginx",),
        nginx(http=REQUESTS, server="limit_req zone=requests burst=5 nodelay;"),
    ),
    Kind(
        "limit_req 429",
        ("nginx",),
        nginx(http=REQUESTS, server="limit_req zone=requests burst=5 nodelay; limit_req_status 429;"),
    ),
    Kind("limit_req, slow nodelay", ("nginx",), nginx(http=FEW, server="limit_req zone=few burst=5 nodelay;")),
    Kind("limit_req, slow", ("nginx",), nginx(http=FEW, server="limit_req zone=few burst=5;")),
    Kind("limit_conn", ("nginx",), nginx(http=CONNECTIONS, server="limit_conn connections 2;")),
]


@pytest.mark.parametrize("kind", LIMITED, ids=lambda kind: kind.name)
async def test_none_of_many_small_files_is_lost(kind: Kind, tmp_path: Path) -> None:
    with running(kind) as server:
        names = [f"{number}.bin" for number in range(FEWER if "429" in kind.name else FILES)]
        for name in names:
            server.write(name, content(name, SIZE))
        options = Options(files=FILES)
        async with Downloader(options, Limits(options)) as downloader:
            urls = [f"http://127.0.0.1:{server.port}/{name}" for name in names]
            wanted = [FileRequest(url, tmp_path, name) for url, name in zip(urls, names, strict=True)]

            began, answers = time.monotonic(), Counter[int | None]()
            progresses = [Progress(told=lambda status, _: answers.update([status])) for _ in wanted]

            results = await asyncio.gather(*map(downloader.fetch, wanted, progresses), return_exceptions=True)
    print(f"{kind.name}: {len(names)} files in {time.monotonic() - began:.1f} s, answers {dict(answers)}")

    assert [result for result in results if isinstance(result, BaseException)] == []
    assert [name for name in names if (tmp_path / name).read_bytes() != content(name, SIZE)] == []
