"""``scrapy chunkdl dashboard``: it serves the project's spiders until it is stopped, and says why if it cannot."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request

import pytest
import redis
from project import Project


@pytest.mark.parametrize("stopped_by", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_stopped(project: Project, client: redis.Redis, stopped_by: signal.Signals) -> None:
    client.rpush("files:items", "{}", "{}")
    process = project.begin("chunkdl", "dashboard", "--port", "0")
    assert process.stdout is not None
    url = process.stdout.readline().split("Dashboard at ")[1].strip()

    with urllib.request.urlopen(f"{url}api/status") as answer:
        told = json.load(answer)
    process.send_signal(stopped_by)
    done = project.finish(process)

    assert (done.returncode, done.log) == (0, "")
    assert [(spider["spider"], spider["waiting"]) for spider in told["spiders"]] == [("files", 2)]


def test_what_it_cannot_serve_is_a_sentence(project: Project) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        in_use = project.command("chunkdl", "dashboard", "--port", port)
    others = project.command("chunkdl", "dashboard", "--host", "0.0.0.0")
    project.settings["CHUNKDL_DASHBOARD_TOKEN"] = "short"
    short = project.command("chunkdl", "dashboard")

    assert [done.returncode for done in (in_use, others, short)] == [1, 1, 1]
    assert f"127.0.0.1 port {port} cannot be served" in in_use.stderr
    assert "0.0.0.0 can be reached from other machines: set CHUNKDL_DASHBOARD_TOKEN" in others.stderr
    assert "CHUNKDL_DASHBOARD_TOKEN = 'short': should be a secret of 8 characters at least" in short.stderr
