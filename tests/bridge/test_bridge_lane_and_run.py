"""The bridge: which file runs when and on which thread, and that each outcome arrives once, where it should."""

from __future__ import annotations

import gc
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from origin import Origin
from patience import HANG

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job, Permission
from scrapy_chunkdl.download import FileRequest, Limits, Options


class Inbox:
    """Stands for Scrapy's thread: what is delivered runs when, and only when, the test asks."""

    def __init__(self) -> None:
        self._calls: queue.Queue[Callable[[], object]] = queue.Queue()
        self.done: list[Job] = []
        self.threads: set[threading.Thread] = set()
        self.calls = 0

    def deliver(self, call: Callable[[], object]) -> None:
        self.calls += 1
        self._calls.put(call)

    def on_done(self, job: Job) -> None:
        self.done.append(job)
        self.threads.add(threading.current_thread())

    def wait_for(self, jobs: int) -> list[Job]:
        self.run_until(lambda: len(self.done) >= jobs)
        return self.done

    def run_until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._calls.get(timeout=HANG)()


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def new_bridge(inbox: Inbox) -> Iterator[Callable[..., Bridge]]:
    bridges: list[Bridge] = []
    before = set(threading.enumerate())

    def make(threads: int, **options: int) -> Bridge:
        given = Options(**options)
        bridge = Bridge(given, Limits(given), threads=threads, deliver=inbox.deliver)
        bridge.start()
        bridges.append(bridge)
        return bridge

    yield make
    for bridge in bridges:
        bridge.stop()
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name.startswith("chunkdl-")]


def test_outcomes_arrive_on_the_thread_that_takes_deliveries(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(2)
    urls = [origin.url("a", 10), origin.url("b", 10, "status:404"), "no url"]
    jobs = [Job(FileRequest(url, tmp_path), inbox.on_done) for url in urls]

    bridge.submit(jobs)
    inbox.wait_for(3)

    assert inbox.threads == {threading.current_thread()}
    assert jobs[0].result is not None
    assert [job.error.reason for job in jobs[1:] if job.error] == ["http_404", "bad_url"]
    assert bridge.running() == 0
    assert bridge.bytes_fetched() == 10


def test_connections_are_kept_from_batch_to_batch(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(2, files=8)

    for number in range(20):
        bridge.submit([Job(FileRequest(origin.url(f"{number}", 10), tmp_path), inbox.on_done)])
        inbox.wait_for(number + 1)

    connections = set().union(*(origin.stats(f"{number}").connections for number in range(20)))
    assert len(connections) <= 2  # the first file's, which may be any, and that of small ones


def test_no_more_files_run_than_may(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(2, files=4)
    begun = [origin.when(f"{n}", lambda stats: stats.methods["GET"] >= 1) for n in range(4)]

    bridge.submit(Job(FileRequest(origin.url(f"{n}", 10, "hold:gate@get"), tmp_path), inbox.on_done) for n in range(5))
    for future in begun:
        future.result(HANG)

    assert bridge.running() == 4
    assert origin.stats("4").requests == 0
    origin.release("gate")
    inbox.wait_for(5)


class Ticks:
    """Stands for the processor's clock: each thread that looks at it has used that many cores since it last did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: float) -> None:
        self._cores = cores
        self._looks: Counter[str] = Counter()
        self._looked = threading.Condition()
        monkeypatch.setattr("scrapy_chunkdl.bridge.lane._TICK", 0.01)
        monkeypatch.setattr("scrapy_chunkdl.bridge.lane.time.thread_time", self._thread_time)

    def _thread_time(self) -> float:
        with self._looked:
            self._looks[threading.current_thread().name] += 1
            self._looked.notify_all()
        return self._cores * time.monotonic()

    def wait_for_all(self, threads: int) -> None:
        """Wait until each thread has looked again, and after that drawn its conclusion."""
        with self._looked:
            assert self._looked.wait_for(
                lambda: len(self._looks) == threads and min(self._looks.values()) > 2, timeout=HANG
            )


@pytest.mark.parametrize(("cores", "threads_used"), [(0.0, 1), (10.0, 2)])
def test_a_second_thread_gets_files_only_when_the_first_is_held_up_by_its_core(
    cores: float,
    threads_used: int,
    monkeypatch: pytest.MonkeyPatch,
    origin: Origin,
    tmp_path: Path,
    inbox: Inbox,
    new_bridge: Callable[..., Bridge],
) -> None:
    ticks = Ticks(monkeypatch, cores)
    bridge = new_bridge(2, files=4)
    ticks.wait_for_all(2)
    used: set[threading.Thread] = set()

    def note_thread() -> bool:
        used.add(threading.current_thread())
        return True

    urls = [origin.url(f"{n}", 10, "hold:gate@get") for n in range(4)]
    begun = [origin.when(f"{n}", lambda stats: stats.methods["GET"] >= 1) for n in range(4)]
    bridge.submit(Job(FileRequest(url, tmp_path, may_publish=note_thread), inbox.on_done) for url in urls)
    for future in begun:
        future.result(HANG)
    origin.release("gate")
    inbox.wait_for(4)

    assert len(used) == threads_used


def test_a_slow_host_does_not_keep_others_waiting(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=2)
    slow = [Job(FileRequest(origin.url(f"s{n}", 10, "hold:gate@get"), tmp_path), inbox.on_done) for n in range(10)]
    quick = [Job(FileRequest(origin.url(f"q{n}", 10, host="localhost"), tmp_path), inbox.on_done) for n in range(5)]

    bridge.submit([*slow, *quick])
    inbox.wait_for(5)

    assert {id(job) for job in inbox.done} == {id(job) for job in quick}
    assert all(job.result for job in quick)
    origin.release("gate")
    inbox.wait_for(15)


def test_files_that_end_while_others_run_are_told_together_and_the_last_at_once(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scrapy_chunkdl.bridge.bridge.GATHER_S", 10 * HANG)
    bridge = new_bridge(1)
    names = [f"{n}.bin" for n in range(5)]
    held = Job(FileRequest(origin.url("held.bin", 10, "hold:gate@get"), tmp_path), inbox.on_done)
    begun = origin.when("held.bin", lambda stats: stats.methods["GET"] >= 1)
    bridge.submit([held])
    begun.result(HANG)
    bridge.submit(Job(FileRequest(origin.url(name, 10), tmp_path), inbox.on_done) for name in names)
    while bridge.running() > 1:
        time.sleep(0.01)

    origin.release("gate")
    done = inbox.wait_for(6)

    assert done[-1] is held
    assert inbox.calls == 1


def test_a_file_that_ended_is_told_though_another_runs_on(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1)
    held = Job(FileRequest(origin.url("held.bin", 10, "hold:gate@get"), tmp_path), inbox.on_done)
    begun = origin.when("held.bin", lambda stats: stats.methods["GET"] >= 1)
    bridge.submit([held])
    begun.result(HANG)

    bridge.submit([Job(FileRequest(origin.url("other.bin", 10), tmp_path), inbox.on_done)])
    done = inbox.wait_for(1)

    assert [job.request.url for job in done] == [origin.url("other.bin", 10)]
    origin.release("gate")
    inbox.wait_for(2)


def test_cancelled_files_are_reported_once_whether_they_run_or_wait(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=1)
    begun = origin.when("0", lambda stats: stats.methods["GET"] >= 1)
    jobs = [Job(FileRequest(origin.url(f"{n}", 10, "hold:gate@get"), tmp_path), inbox.on_done) for n in range(3)]
    bridge.submit(jobs)
    begun.result(HANG)
    assert [bridge.is_running(job) for job in jobs] == [True, False, False]

    bridge.cancel(jobs)
    bridge.cancel(jobs)
    inbox.wait_for(3)

    assert [job.cancelled for job in jobs] == [True] * 3
    assert len(inbox.done) == 3
    origin.release("gate")


@pytest.mark.parametrize("asked", [lambda may_publish: may_publish, Permission])
def test_jobs_for_the_same_file_share_one_download(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge], asked: Callable[..., Any]
) -> None:
    bridge = new_bridge(2, files=8)
    url = origin.url("same", 10, "hold:gate@get")
    begun = origin.when("same", lambda stats: stats.methods["GET"] >= 1)
    jobs = [Job(FileRequest(url, tmp_path, may_publish=asked(lambda n=n: n == 2)), inbox.on_done) for n in range(3)]

    bridge.submit(jobs[:2])
    begun.result(HANG)
    bridge.submit(jobs[2:])
    assert [bridge.is_running(job) for job in jobs] == [True] * 3
    assert bridge.running() == 1
    origin.release("gate")
    inbox.wait_for(3)

    assert origin.stats("same").methods["GET"] == 1
    assert [job.result.status for job in jobs if job.result] == ["downloaded", "uptodate", "uptodate"]
    assert len({job.result.path for job in jobs if job.result}) == 1
    assert [job.progress.fetched for job in jobs] == [10, 0, 0]
    assert bridge.bytes_fetched() == 10


def test_jobs_for_other_files_or_with_other_headers_do_not_share(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=8)
    url = origin.url("same", 10)
    requests = [FileRequest(url, tmp_path / "0"), FileRequest(url, tmp_path / "1"), FileRequest(url, tmp_path / "0")]
    requests += [FileRequest(url, tmp_path / "2", name="x"), FileRequest(url, tmp_path / "2", headers={"X-A": "1"})]

    bridge.submit(Job(request, inbox.on_done) for request in requests)
    inbox.wait_for(5)

    assert origin.stats("same").methods["GET"] == 4


def test_cancelling_one_of_those_who_share_a_download_leaves_it_to_the_others(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=1)
    url = origin.url("same", 10, "hold:gate@get")
    begun = origin.when("same", lambda stats: stats.methods["GET"] >= 1)
    jobs = [Job(FileRequest(url, tmp_path), inbox.on_done) for _ in range(3)]
    bridge.submit(jobs)
    begun.result(HANG)

    bridge.cancel(jobs[:1])
    inbox.wait_for(1)
    assert [job.cancelled for job in jobs] == [True, False, False]
    assert bridge.is_running(jobs[1])
    origin.release("gate")
    inbox.wait_for(3)

    assert jobs[0].result is None
    assert [job.result.status for job in jobs[1:] if job.result] == ["downloaded", "uptodate"]
    assert [job.progress.fetched for job in jobs] == [0, 10, 0]


def test_a_download_that_all_have_left_ends_and_the_next_who_wants_it_gets_another(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=4)
    url = origin.url("same", 10, "hold:gate@get@1")
    begun = origin.when("same", lambda stats: stats.methods["GET"] >= 1)
    jobs = [Job(FileRequest(url, tmp_path), inbox.on_done) for _ in range(3)]
    bridge.submit(jobs[:2])
    begun.result(HANG)

    bridge.cancel(jobs[:2])
    bridge.submit(jobs[2:])
    inbox.wait_for(3)

    assert [job.cancelled for job in jobs] == [True, True, False]
    assert jobs[2].result is not None
    assert jobs[2].result.status == "downloaded"
    origin.release("gate")


def test_a_host_never_gets_more_connections_than_it_may_over_all_threads(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(3, files=9, chunks_per_host=4, chunks_per_file=3, chunk_size=4096)
    jobs = [Job(FileRequest(origin.url("same", 100_000, n=str(n)), tmp_path / str(n)), inbox.on_done) for n in range(9)]

    bridge.submit(jobs)
    inbox.wait_for(9)

    assert all(job.result for job in jobs)
    assert origin.stats("same").peak <= 4


def test_descriptors_are_bounded_by_the_limits_whatever_waits(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(2, files=8, chunks_per_host=8, chunks_per_file=4, chunk_size=4096)
    before = len(os.listdir("/proc/self/fd"))
    jobs = [
        Job(FileRequest(origin.url("same", 50_000, n=str(n)), tmp_path / str(n)), inbox.on_done) for n in range(200)
    ]

    bridge.submit(jobs)
    most = 0
    for number in range(1, 201):
        inbox.wait_for(number)
        most = max(most, len(os.listdir("/proc/self/fd")) - before)

    assert all(job.result for job in jobs)
    # A connection has an end here and one in the origin, which shares the process; a file has its part and its journal,
    # and a folder is open while it is synced. Keep-alive connections number as many as slots for each thread.
    assert most <= 2 * 2 * 8 + 3 * 8


ENDING = """
import logging, queue, sys, threading, urllib.request
from concurrent.futures import thread
from pathlib import Path

from scrapy_chunkdl.bridge.bridge import Bridge
from scrapy_chunkdl.bridge.run import Job
from scrapy_chunkdl.download import FileRequest, Limits, Options

logging.basicConfig(format="%(message)s")
url, gate, folder = sys.argv[1:]
calls, done = queue.Queue(), []
options = Options(checksum="sha256")
bridge = Bridge(options, Limits(options), threads=1, deliver=calls.put)
bridge.start()
bridge.submit([Job(FileRequest(url, Path(folder)), done.append)])


def outlast_the_program():
    while not thread._shutdown:
        pass
    urllib.request.urlopen(gate)
    calls.get()()
    print(done[0].cancelled, done[0].error, flush=True)


threading.Thread(target=outlast_the_program).start()
"""


def test_what_still_runs_when_the_program_ends_counts_as_cancelled(origin: Origin, tmp_path: Path) -> None:
    url = origin.url("a.bin", 2_000_000, "hold:gate:1000@get")
    command = [sys.executable, "-c", ENDING, url, f"{origin.base}/_release?gate=gate", str(tmp_path)]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=HANG)

    assert (ended.stdout, ended.stderr) == ("True None\n", "")


def test_a_host_that_came_first_leaves_places_for_those_that_come_later(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1, files=8, chunks_per_host=4)
    begun = [origin.when(f"s{n}", lambda stats: stats.methods["GET"] >= 1) for n in range(4)]
    slow = [Job(FileRequest(origin.url(f"s{n}", 10, "hold:gate@get"), tmp_path), inbox.on_done) for n in range(10)]
    quick = [Job(FileRequest(origin.url(f"q{n}", 10, host="localhost"), tmp_path), inbox.on_done) for n in range(5)]

    bridge.submit(slow)
    for future in begun:
        future.result(HANG)
    assert bridge.running() == 6
    bridge.submit(quick)
    inbox.wait_for(5)

    assert {id(job) for job in inbox.done} == {id(job) for job in quick}
    origin.release("gate")
    inbox.wait_for(15)


class Wants:
    """Stands for an item: has its job, and is told of it."""

    def __init__(self, request: FileRequest, told: list[str]) -> None:
        self._told = told
        self.job = Job(request, on_done=self.note)

    def note(self, job: Job) -> None:
        self._told.append(job.request.url)


def test_who_wanted_a_file_is_let_go_without_the_collector(
    origin: Origin, tmp_path: Path, inbox: Inbox, new_bridge: Callable[..., Bridge]
) -> None:
    bridge = new_bridge(1)
    may_publish = Permission(lambda: True)
    told: list[str] = []
    wants = Wants(FileRequest(origin.url("a", 10), tmp_path, may_publish=may_publish), told)
    gone = weakref.ref(wants)
    gc.disable()
    try:
        bridge.submit([wants.job])
        inbox.run_until(lambda: bool(told))
        del wants

        assert gone() is None
        assert may_publish.run is None
    finally:
        gc.enable()
