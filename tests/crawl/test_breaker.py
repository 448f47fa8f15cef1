"""When items are tried one at a time, when an error counts against one, and when an empty list is looked at again."""

from __future__ import annotations

import logging

import pytest
from clocks import Clock

from scrapy_chunkdl.crawl.breaker import ALIKE, LONGEST_DELAY_S, LONGEST_PAUSE_S, Breaker, delay_s, place_of
from scrapy_chunkdl.crawl.polling import Polling


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("s:items", clock)


def fail(breaker: Breaker, *items: int) -> list[bool]:
    return [breaker.failed(b"%d" % item, "in a later pipeline") for item in items]


def test_different_items_that_fail_one_after_the_other_open_it(breaker: Breaker) -> None:
    assert fail(breaker, *range(ALIKE + 2)) == [True] * (ALIKE - 1) + [False] * 3
    assert breaker.is_open


@pytest.mark.parametrize("items", [[1] * 20, [1, 2] * 10, [1, 2, 3, 4] * 5])
def test_the_same_few_items_do_not(breaker: Breaker, items: list[int]) -> None:
    assert all(fail(breaker, *items))
    assert not breaker.is_open


def test_where_only_a_few_are_left_to_try_their_errors_count_again(breaker: Breaker) -> None:
    fail(breaker, *range(ALIKE))

    counts = fail(breaker, *([1, 2, 3] * 10))

    assert counts[0] is False
    assert counts[-20:] == [True] * 20
    assert breaker.is_open
    assert not any(fail(breaker, *range(100, 130))[ALIKE:])


def test_one_that_passes_between_begins_the_count_anew(breaker: Breaker) -> None:
    for first in range(0, 40, 4):
        assert all(fail(breaker, *range(first, first + 4)))
        breaker.passed()

    assert not breaker.is_open


def test_while_it_is_open_one_item_at_a_time_is_tried_with_growing_pauses(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, *range(ALIKE))
    pauses = []
    for n in range(12):
        began = clock.now
        while not breaker.room(32, held=0):
            clock.now += 0.25
        assert (breaker.room(32, held=0), breaker.room(32, held=1)) == (1, 0)
        pauses.append(clock.now - began)
        fail(breaker, 100 + n)

    assert pauses[:5] == sorted(pauses[:5])
    assert LONGEST_PAUSE_S <= max(pauses) <= 1.3 * LONGEST_PAUSE_S


def test_both_ends_are_told_once(breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fail(breaker, *range(50))
        clock.now += 90
        breaker.passed()
        breaker.passed()

    opened, closed = (record.getMessage() for record in caplog.records)
    assert "s:items all failed, now in a later pipeline" in opened
    assert "passed after 90 s" in closed
    assert breaker.room(32, held=5) == 32


@pytest.mark.parametrize(
    ("errors", "minutes"),
    [
        ([KeyError("a")], 5),
        ([TypeError(), AttributeError(), NameError(), ZeroDivisionError()], 5),
        ([ConnectionError()], 60),
        ([ValueError("Expecting value: line 1")], 60),
        ([KeyError("a"), TimeoutError()], 60),
        ([None], 60),
    ],
    ids=str,
)
def test_it_gives_up_sooner_where_only_the_code_itself_is_wrong_and_says_when(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture, errors: list[Exception | None], minutes: int
) -> None:
    for n in range(ALIKE):
        breaker.failed(b"%d" % n, "in a later pipeline", errors[n % len(errors)])

    assert f"A crawl with nothing else to do ends in {minutes} min." in caplog.text
    clock.now += 60 * minutes - 1
    assert not breaker.gives_up
    clock.now += 2
    assert breaker.gives_up


def test_an_outage_that_lasts_is_told_again_less_and_less(
    breaker: Breaker, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(60):
        clock.now += 60
        breaker.failed(b"%d" % n, "in a later pipeline (KeyError in p.Database)", ConnectionError())

    told = [message for message in caplog.messages if message.startswith("No item of s:items has passed for ")]
    assert ["10 min" in told[0], "20 min" in told[1], "40 min" in told[2]] == [True] * 3
    assert len(told) == 3
    assert "ends in 50 min" in told[0]
    assert all(len(message) <= 300 for message in caplog.messages)


@pytest.mark.parametrize("first", [0.0, 0.5, 30.0, 7200.0])
def test_delays_double_and_are_bounded(first: float) -> None:
    delays = [delay_s(first, errors) for errors in range(200)]

    assert all(first * 2**n <= delay <= 1.25 * first * 2**n for n, delay in enumerate(delays[:5]) if first < 100)
    assert max(delays) <= 1.25 * max(first, LONGEST_DELAY_S)
    assert min(delays) >= first


def test_the_place_of_an_error_is_the_projects() -> None:
    class Database:
        def process_item(self) -> None:
            [].index(1)

    with pytest.raises(ValueError, match="not in list") as raised:
        Database().process_item()
    assert raised.value.__traceback__ is not None
    raised.value.__traceback__ = raised.value.__traceback__.tb_next

    assert place_of(raised.value).startswith(f"ValueError in {__name__}.")
    assert place_of(raised.value).endswith("Database")
    assert place_of(ValueError("never raised")) == "ValueError"


def test_an_empty_list_is_looked_at_less_and_less_and_work_makes_it_quick_again(clock: Clock) -> None:
    polling = Polling(clock)
    looks = 0
    for _ in range(4 * 60):
        if polling.is_due():
            looks += 1
            polling.looked(found=False)
        clock.now += 0.25
    assert looks <= 35

    polling.looked(found=True)
    assert polling.is_due()
