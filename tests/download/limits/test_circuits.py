"""When a host counts as ill: what follows each other counts, of several files, of kinds that speak of the host."""

from __future__ import annotations

import pytest

from scrapy_chunkdl.download.errors import DownloadError, HostIll, Permanent
from scrapy_chunkdl.download.limits.circuits import (
    FEW,
    FILES,
    FILES_IF_IT_SERVED,
    FILES_OF_DOUBT,
    FILES_OF_THEIR_OWN,
    LONG_PAUSE_S,
    PAGES,
    ROUNDS,
    Circuits,
    Fall,
    Told,
)

HOST = "files.example:443"


class Host:
    """A host as a process sees it, one request after the other; ``changes`` is what was told of it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.changes: list[Fall | str] = []
        self.anew: list[str] = []
        self.circuits = Circuits(lambda: self.now, self.anew.append)
        self.circuits.switch_on(self.changes.append)

    def answers(self, *statuses: int, file: int | None = None, method: str = "GET", **more: object) -> None:
        for number, status in enumerate(statuses):
            self.now += 1
            which = number if file is None else file
            self.circuits.answered(HOST, which, status, self.now, method=method, **more)  # type: ignore[arg-type]
            self.now += 1

    def is_silent(self, reason: str, times: int, file: int | None = None) -> None:
        for number in range(times):
            self.now += 1
            self.circuits.unanswered(HOST, number if file is None else file, reason, self.now)
            self.now += 1

    @property
    def is_ill(self) -> bool:
        try:
            self.circuits.check(HOST)
        except HostIll:
            return True
        return False


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.mark.parametrize("status", [420, 429, 502, 503, 504, 509, 521, 529, 530])
def test_statuses_that_speak_of_the_host_make_it_ill(host: Host, status: int) -> None:
    host.answers(*[status] * max(ROUNDS, FILES))

    assert host.is_ill
    assert host.changes == [Fall(HOST, f"http_{status}")]


@pytest.mark.parametrize("reason", ["dns", "connect_failed", "connect_timeout", "tls", "connection_lost", "stalled"])
def test_so_does_no_answer(host: Host, reason: str) -> None:
    host.is_silent(reason, max(ROUNDS, FILES))

    assert host.is_ill


@pytest.mark.parametrize("status", [403, 500])
def test_some_do_only_from_a_host_that_has_served(host: Host, status: int) -> None:
    host.answers(*[status] * 20)
    assert not host.is_ill

    host.answers(200)
    host.answers(*[status] * (FILES_OF_THEIR_OWN - 1))
    assert not host.is_ill, "a few private files are no ban"
    host.answers(*[status] * FILES_OF_THEIR_OWN)
    assert host.is_ill


@pytest.mark.parametrize("status", [301, 304, 400, 401, 404, 410, 416, 451])
def test_other_answers_are_no_sign_and_end_a_row(host: Host, status: int) -> None:
    for _ in range(10):
        host.answers(*[503] * (ROUNDS - 1), status)

    assert not host.is_ill


def test_one_file_that_fails_alone_is_no_sign_whatever_it_fails_with(host: Host) -> None:
    host.answers(200)
    host.answers(*[503] * 50, file=7)
    host.is_silent("connection_lost", 50, file=7)

    assert not host.is_ill


def test_what_comes_at_once_counts_once(host: Host) -> None:
    """As nginx' limit_req refuses all that is too much in one second: it is asked more slowly, that is all."""
    host.answers(200)
    asked_at = host.now
    for file in range(100):
        host.now += 0.001
        host.circuits.answered(HOST, file, 503, asked_at)

    assert not host.is_ill


def test_a_host_that_has_served_needs_fewer_files(host: Host) -> None:
    host.answers(200)
    for number in range(ROUNDS):
        host.answers(503, file=number % FILES_IF_IT_SERVED)

    assert host.is_ill


def test_a_long_pause_that_it_asks_for_is_enough_where_it_serves_nobody(host: Host) -> None:
    host.answers(429, pause_s=LONG_PAUSE_S - 1)
    assert not host.is_ill

    host.answers(429, pause_s=3600.0)
    assert host.changes == [Fall(HOST, "http_429", 3600.0)]


def test_a_challenge_is_a_sign_whatever_its_status(host: Host) -> None:
    host.answers(*[403] * FILES, is_challenge=True)

    assert host.changes == [Fall(HOST, "challenge")]


def test_pages_in_place_of_files_are_once_the_host_has_served(host: Host) -> None:
    for file in range(20):
        host.circuits.page(HOST, file)
    assert not host.is_ill

    host.answers(200)
    for file in range(PAGES):
        host.answers(200)
        host.circuits.page(HOST, file)
    assert host.is_ill


def test_a_file_that_is_none_ends_the_row_of_pages(host: Host) -> None:
    host.answers(200)
    for file in range(20):
        host.circuits.page(HOST, file)
        if file % (PAGES - 1) == 0:
            host.circuits.brought(HOST)

    assert not host.is_ill


def ill(host: Host, reason: str = "http_503", *, is_hopeless: bool = False) -> None:
    host.circuits.heard({HOST: Told("it is left alone", reason, 0.0, is_hopeless)}, set())


def test_of_a_try_one_request_goes_out_and_what_comes_of_it_decides(host: Host) -> None:
    ill(host)
    host.circuits.may_try(HOST)
    host.circuits.ask(HOST)
    with pytest.raises(HostIll):
        host.circuits.ask(HOST)

    host.answers(503, file=1)
    assert host.is_ill
    assert host.changes == [Fall(HOST, "http_503")]

    host.circuits.may_try(HOST)
    host.circuits.ask(HOST)
    host.answers(404, file=2)
    assert not host.is_ill
    assert host.changes[1:] == [HOST]
    assert host.anew == [HOST] * 3, "tried, tried, well: at no pace from before"


@pytest.mark.parametrize("served_before", [True, False])
def test_no_more_than_few_run_at_a_host_once_a_few_files_failed_however_close_together(
    host: Host, served_before: bool
) -> None:
    if served_before:
        host.answers(200)
    asked_at = host.now
    host.now += 1
    for file in range(FILES_OF_DOUBT):
        assert host.circuits.most(HOST) > 1000
        host.circuits.answered(HOST, file, 503, asked_at)

    assert host.circuits.most(HOST) == FEW
    host.answers(200)
    assert host.circuits.most(HOST) > 1000


def test_a_host_that_others_found_well_is_asked_as_one_that_never_failed(host: Host) -> None:
    host.answers(*[503] * 8)
    ill(host)

    host.circuits.heard({}, set())

    assert host.circuits.most(HOST) > 1000
    assert not host.circuits.is_doubtful(HOST)
    assert host.anew == [HOST]


def test_a_head_tells_nothing_of_a_try(host: Host) -> None:
    ill(host)
    host.circuits.may_try(HOST)
    host.circuits.ask(HOST)
    host.answers(405, method="HEAD")

    host.circuits.ask(HOST)
    host.answers(200)
    assert not host.is_ill


def test_a_host_that_sent_pages_is_well_once_a_file_is_none(host: Host) -> None:
    ill(host, "wrong_type")
    host.circuits.may_try(HOST)
    host.answers(200)
    assert not host.changes, "it may be one more page"
    host.circuits.page(HOST, 1)
    assert host.changes == [Fall(HOST, "wrong_type")]

    host.circuits.may_try(HOST)
    host.answers(200)
    host.circuits.brought(HOST)
    assert host.changes[1:] == [HOST]


def test_failures_under_way_at_an_ill_host_are_not_told_again(host: Host) -> None:
    ill(host)
    host.answers(*[503] * 30)

    assert host.changes == []


def test_a_host_that_is_waited_for_no_longer_fails_with_the_reason_it_is_ill_for(host: Host) -> None:
    ill(host, "connect_failed", is_hopeless=True)

    with pytest.raises(Permanent, match="CHUNKDL_HOST_PATIENCE") as refusal:
        host.circuits.check(HOST)
    assert (type(refusal.value), refusal.value.reason) == (Permanent, "connect_failed")


def test_a_failing_host_is_asked_one_request_at_a_time(host: Host) -> None:
    assert host.circuits.most(HOST) > 1000
    host.answers(503, 503)
    assert host.circuits.most(HOST) == FEW
    host.answers(200)
    assert host.circuits.most(HOST) > 1000


def test_a_file_that_fails_first_comes_back_once_where_its_host_has_served(host: Host) -> None:
    error = Permanent("403", reason="http_403")
    assert host.circuits.instead_of(error, HOST, "u1") is error, "it never served"
    host.answers(200)
    assert host.circuits.instead_of(error, HOST, "u1") is error, "nothing failed"

    host.answers(403)
    assert isinstance(host.circuits.instead_of(error, HOST, "u1"), HostIll)
    host.answers(200, 403)
    assert host.circuits.instead_of(error, HOST, "u1") is error, "it is alone with that, others are served"
    assert host.circuits.instead_of(error, None, "u2") is error, "its failure says nothing of a host"


def test_nothing_is_ill_before_it_is_switched_on() -> None:
    circuits = Circuits()
    for number in range(50):
        circuits.answered(HOST, number, 503, 1e9 + number)
    circuits.check(HOST)
    error = DownloadError("x", reason="dns")
    assert circuits.instead_of(error, HOST, "u") is error


def test_what_is_remembered_is_bounded(host: Host) -> None:
    for number in range(10_000):
        host.circuits.answered(f"h{number}:80", 1, 503, host.now)

    assert len(host.circuits._rows) <= 4096
