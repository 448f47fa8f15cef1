"""The plan: who fetches which bytes, judged by measured rates. Time is passed in, so nothing here waits."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.download.plan.plan import Plan, Span
from scrapy_chunkdl.download.plan.ranges import Ranges

MIB = 1 << 20

CHUNK = 100


def taken(plan: Plan, connections: int) -> list[Span]:
    worth = plan.connections_worth(connections)
    return [span for span in (plan.take() for _ in range(worth)) if span is not None]


def bounds(spans: list[Span]) -> list[tuple[int, int]]:
    return [(span.start, span.stop) for span in spans]


def run(span: Span, size: int, *, seconds: float, asked: float = 0.0, latency: float = 0.01) -> None:
    """Let ``size`` bytes arrive evenly over ``seconds`` after the first byte."""
    span.asked(asked or 1e-9)
    steps = 10
    for step in range(steps + 1):
        span.arrived(size // steps if step else 0, asked + latency + seconds * step / steps)


def test_missing_chunks_are_split_evenly_and_each_span_is_whole_chunks() -> None:
    assert bounds(taken(Plan(1000, CHUNK), 4)) == [(0, 300), (300, 600), (600, 900), (900, 1000)]


def test_a_file_gets_no_more_connections_than_it_has_chunks() -> None:
    assert bounds(taken(Plan(250, CHUNK), 8)) == [(0, 100), (100, 200), (200, 250)]


def test_what_is_done_is_not_taken_again() -> None:
    plan = Plan(1000, CHUNK, [(0, 350), (500, 900)])

    assert bounds(taken(plan, 1)) == [(350, 500)]


def test_what_a_span_did_not_bring_is_taken_again() -> None:
    plan = Plan(200, CHUNK)
    [span] = taken(plan, 1)
    span.arrived(30, 1.0)

    plan.settle(span)

    again = plan.take()
    assert again is not None
    assert (again.start, again.stop) == (30, 200)
    assert plan.newly_in_place() == [(0, 30)]
    assert plan.newly_in_place() == []


def test_an_idle_connection_takes_half_of_one_as_fast_as_its_peers() -> None:
    plan = Plan(20_000, CHUNK)
    first, second = taken(plan, 2)
    run(first, 10_000, seconds=1.0)
    run(second, 5_000, seconds=0.5)
    plan.settle(first)

    found = plan.take_over(now=0.51)

    assert found is not None
    span, victim = found
    assert victim is second
    assert victim.stop == span.start
    assert 2_000 < span.remaining < 3_000


def test_of_one_that_stalls_everything_is_taken() -> None:
    plan = Plan(30_000, CHUNK)
    first, second, third = taken(plan, 3)
    run(first, 10_000, seconds=1.0)
    run(second, 10_000, seconds=1.0)
    run(third, 100, seconds=0.001)
    plan.settle(first)
    plan.settle(second)

    found = plan.take_over(now=60.0)

    assert found is not None
    assert found[0].stop == 30_000
    assert found[1] is third
    assert third.remaining < 10


@pytest.mark.parametrize("answered", [True, False])
def test_of_one_that_falls_silent_near_its_end_everything_is_taken(answered: bool) -> None:
    plan = Plan(2_000_000, CHUNK)
    plan.connections_worth(2)
    first, second = taken(plan, 2)
    run(first, 1_000_000, seconds=0.5)
    if answered:
        run(second, 999_000, seconds=0.4)
    else:
        second.asked(1e-9)
    plan.settle(first)
    position = second.position

    assert not answered or plan.take_over(now=0.9) is None
    found = plan.take_over(now=1.1)

    assert found is not None
    assert (found[0].start, found[0].stop, found[1]) == (position, 2_000_000, second)
    assert second.remaining == 0


def test_a_long_tail_is_shared_by_all_that_are_idle() -> None:
    plan = Plan(16_000_000, CHUNK)
    plan.connections_worth(4)
    spans = taken(plan, 4)
    for span in spans[:3]:
        run(span, 4_000_000, seconds=2.0)
        plan.settle(span)
    run(spans[3], 100_000, seconds=2.0)

    found = plan.take_over(now=2.02, idle=3)

    assert found is not None
    pieces = [found[0], plan.take(), plan.take()]
    assert plan.take() is None
    assert [piece.start for piece in pieces if piece] == [found[1].stop, found[0].stop, pieces[1].stop]
    assert pieces[2].stop == 16_000_000
    assert max(piece.remaining for piece in pieces) < 1_310_000
    assert found[1].remaining < 50_000


def test_bytes_taken_from_a_silent_connection_may_be_awaited_twice_as_long() -> None:
    plan = Plan(40_000, CHUNK)
    first, second = taken(plan, 2)
    run(first, 20_000, seconds=0.01)
    second.asked(1e-9)
    plan.settle(first)

    asked_at = []
    for now in (n / 100 for n in range(1, 1000)):
        if (found := plan.take_over(now)) is not None:
            found[0].asked(now)
            asked_at.append(now)

    assert asked_at == pytest.approx([0.5, 1.5, 3.5, 7.5], abs=0.05)


def test_one_that_was_asked_just_now_is_shared_when_that_is_worth_it() -> None:
    plan = Plan(2_000_000, CHUNK)
    plan.connections_worth(2)
    first, second = taken(plan, 2)
    run(first, 1_000_000, seconds=1.0)
    plan.settle(first)
    second.asked(1.0)

    found = plan.take_over(now=1.005)

    assert found is not None
    assert 490_000 < found[0].remaining < 500_000


def test_one_that_was_asked_just_now_and_is_short_is_left_alone() -> None:
    plan = Plan(40_000, CHUNK)
    first, second = taken(plan, 2)
    run(first, 20_000, seconds=0.01)
    plan.settle(first)
    second.asked(0.02)

    assert plan.take_over(now=0.025) is None


def test_nothing_is_taken_where_asking_costs_more_than_it_gains() -> None:
    plan = Plan(20_000, CHUNK)
    first, second = taken(plan, 2)
    run(first, 10_000, seconds=1.0)
    run(second, 9_900, seconds=0.99)
    plan.settle(first)

    assert plan.take_over(now=1.0) is None


def test_nothing_is_taken_before_anything_was_measured() -> None:
    plan = Plan(20_000, CHUNK)
    taken(plan, 2)

    assert plan.take_over(now=5.0) is None


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=30))
def test_ranges_are_the_set_of_their_bytes(pairs: list[tuple[int, int]]) -> None:
    ranges, model = Ranges(), set()
    for start, stop in pairs:
        new = set(range(start, stop)) - model
        assert ranges.add(start, stop) == len(new)
        model |= new

    assert {byte for start, stop in ranges for byte in range(start, stop)} == model
    assert ranges.total == len(model)
    assert {b for start, stop in ranges.missing(0, 300) for b in range(start, stop)} == set(range(300)) - model


@pytest.mark.parametrize("seed", range(100))
def test_whatever_happens_spans_never_overlap_and_the_file_is_completed(seed: int) -> None:
    rng = random.Random(seed)
    size, connections = rng.randint(1, 5000), rng.choice([1, 3, 8])
    plan, now = Plan(size, CHUNK), 1.0
    plan.connections_worth(connections)

    while not plan.is_complete:
        now += rng.choice([0.001, 0.01, 0.1, 1.0])
        if len(plan.running) < connections:
            idle = connections - len(plan.running)
            span = plan.take() or next(iter(plan.take_over(now, idle) or ()), None)
            if span is not None:
                span.asked(now)
        for span in sorted(plan.running, key=lambda span: span.start):
            span.arrived(min(span.remaining, rng.choice([0, 0, 1, 50, 200])), now)
            if span.remaining == 0 or rng.random() < 0.05:  # done, or its connection broke
                plan.settle(span)
        held = sorted((span.start, span.stop) for span in plan.running)
        assert all(before[1] <= after[0] for before, after in pairwise(held))

    for span in list(plan.running):
        plan.settle(span)
    assert plan.done.covers(0, size)
    assert sum(stop - start for start, stop in plan.newly_in_place()) == size


def test_the_cells_of_a_file_show_what_is_done_running_taken_over_tried_again_and_missing() -> None:
    plan = Plan(10 * MIB, MIB, [(0, 2 * MIB)])
    plan.connections_worth(4)
    running, again, other, last = (span for _ in range(4) if (span := plan.take()) is not None)
    for span in (running, again, again, other):
        span.asked(0.0)
    running.arrived(MIB, 1.0)
    other.taken_over = True
    plan.settle(last)

    assert plan.cells(256) == "dddr" + "tm" + "hm" + "mm"
    assert plan.cells(5) == "dr" + "thm"
    assert plan.cells(1) == "h"


def test_the_cells_of_a_whole_file_are_all_done_whatever_its_size() -> None:
    for size in (1, MIB - 1, 3 * MIB, 3 * MIB + 1, 1000 * MIB + 17):
        for most in (1, 7, 256):
            assert set(Plan(size, MIB, [(0, size)]).cells(most)) == {"d"}
            assert set(Plan(size, MIB).cells(most)) == {"m"}
