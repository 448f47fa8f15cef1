"""What a file is doing, and for how long each state may go without a sign."""

from __future__ import annotations

import time
from contextlib import ExitStack

import pytest

from scrapy_chunkdl.download import Limits, Options
from scrapy_chunkdl.download.progress import Doing, Progress, State

LEASE = 60.0
HOUR = 3600.0


@pytest.fixture
def progress() -> Progress:
    return Progress(asking_s=90.0, receiving_s=30.0)


@pytest.mark.parametrize(
    ("doing", "patience_s"),
    [
        (Doing.WAITING_FOR_A_DISK, 1800.0),
        (Doing.WAITING_FOR_A_HOST, 30.0),
        (Doing.CHECKING, 300.0),
        (Doing.PUBLISHING, 1800.0),
        (Doing.DELIVERING, 300.0),
    ],
)
def test_each_state_has_a_patience_of_its_own(progress: Progress, doing: Doing, patience_s: float) -> None:
    with progress.during(doing):
        told, since = progress.state()

        assert told is doing
        assert progress.is_alive(since + patience_s + LEASE - 1, LEASE)
        assert not progress.is_alive(since + patience_s + LEASE + 1, LEASE)

        progress.moved_at = since + HOUR
        assert progress.is_alive(since + HOUR + patience_s - 1)


def test_a_request_without_an_answer_has_the_patience_of_asking_and_a_body_that_of_receiving(
    progress: Progress,
) -> None:
    asked = progress.asked()
    assert progress.state() == State(Doing.ASKING, asked)
    assert progress.is_alive(asked + 89)
    assert not progress.is_alive(asked + 91)

    progress.moved_at = asked + 10
    assert progress.state() == State(Doing.RECEIVING, asked + 10)
    assert progress.is_alive(asked + 10 + 29)
    assert not progress.is_alive(asked + 10 + 31)


def test_a_pause_on_purpose_is_no_stall_and_no_time_to_come_is_one_of_a_sign(progress: Progress) -> None:
    progress.paused_for(120)
    now = time.monotonic()

    assert progress.moved_at <= now
    assert progress.state().doing is Doing.WAITING_FOR_A_HOST
    assert progress.is_alive(now + 120 + 29)
    assert not progress.is_alive(now + 120 + 91)


@pytest.mark.parametrize("doing", list(Doing))
def test_whatever_a_file_does_it_does_not_outlive_the_loop_that_runs_it(progress: Progress, doing: Doing) -> None:
    now = time.monotonic()
    turned_at = now
    progress.turned = lambda: turned_at

    with progress.during(doing):
        progress.moved_at = now + HOUR
        assert progress.is_alive(now + 1, LEASE)
        assert not progress.is_alive(now + HOUR, LEASE)
        turned_at = now + HOUR
        assert progress.is_alive(now + HOUR, LEASE)


def test_a_file_that_waits_for_its_place_is_alive_as_long_as_the_loop_turns() -> None:
    progress = Progress(turned=lambda: 10 * HOUR)

    with progress.during(Doing.WAITING_FOR_A_PLACE):
        assert progress.state().doing is Doing.WAITING_FOR_A_PLACE
        assert progress.is_alive(10 * HOUR + 1)


@pytest.mark.parametrize(
    ("doing", "connections", "told"),
    [
        ([Doing.WAITING_FOR_A_HOST, Doing.CHECKING], 0, Doing.CHECKING),
        ([Doing.CHECKING, Doing.DELIVERING], 0, Doing.DELIVERING),
        ([Doing.WAITING_FOR_A_HOST], 0, Doing.WAITING_FOR_A_HOST),
        ([Doing.WAITING_FOR_A_HOST], 3, Doing.ASKING),
        ([], 3, Doing.ASKING),
    ],
)
def test_of_several_things_the_one_that_tells_most_is_told(
    progress: Progress, doing: list[Doing], connections: int, told: Doing
) -> None:
    progress.connections = connections

    with ExitStack() as stack:
        for one in doing:
            stack.enter_context(progress.during(one))
        assert progress.state().doing is told


async def test_who_waits_for_a_host_is_alive_while_one_of_those_who_hold_it_moves(progress: Progress) -> None:
    limits, holder, host = Limits(Options()), Progress(), "h:80"
    async with limits.slot(host):
        limits.hold(host, holder)
        holder.moved_at = now = time.monotonic() + HOUR

        with progress.during(Doing.WAITING_FOR_A_HOST, lambda: limits.moved_at(host)):
            assert progress.is_alive(now + 29)
            assert not progress.is_alive(now + 31)  # the holder hangs, and so does this
            holder.paused_for(HOUR + 60)
            assert progress.is_alive(now + 31)
        limits.let_go(host, holder)

    assert limits.moved_at(host) <= time.monotonic()  # nobody holds it here: the wait is on purpose
    assert holder.connections == 0
