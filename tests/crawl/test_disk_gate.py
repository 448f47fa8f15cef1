"""When claiming stops for want of room, when it goes on, and what is said of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from clocks import Clock

from scrapy_chunkdl.crawl.disk_gate import LONGEST_PAUSE_S, TOLD_AGAIN_S, DiskGate
from scrapy_chunkdl.download import NoRoom
from scrapy_chunkdl.download.disk.room import Reserve, Room
from scrapy_chunkdl.download.errors import KeysExpired

MIB = 1 << 20
FULL = Room(5 * MIB, 100 * MIB)
ROOMY = Room(50 * MIB, 100 * MIB)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(clock: Clock) -> DiskGate:
    return DiskGate(Path("/data"), Reserve(size_bytes=10 * MIB), clock)


def test_keys_that_ran_out_are_waited_for_as_room_is(gate: DiskGate, caplog: pytest.LogCaptureFixture) -> None:
    gate.refused(KeysExpired("the store's keys have run out: ExpiredToken"))

    assert gate.room(32, 1) == 0
    assert "Nothing more is claimed until its keys are renewed; no file is given up for it." in caplog.text


def no_room(needs_bytes: int = 0) -> NoRoom:
    return NoRoom("no space left for /data/x: make room, it resumes", needs_bytes=needs_bytes)


@pytest.mark.parametrize(
    ("room", "needs", "claims"),
    [
        (ROOMY, 0, 32),
        (ROOMY, 39 * MIB, 32),
        (ROOMY, 41 * MIB, 0),
        (FULL, 0, 0),
        (Room(0, 0), 0, 32),
        (Room(50 * MIB, 100 * MIB, 3), 0, 0),
        (Room(50 * MIB, 100 * MIB, 10_000), 0, 32),
    ],
)
def test_claiming_stops_before_the_reserve_with_what_running_files_need_counted_in(
    gate: DiskGate, room: Room, needs: int, claims: int
) -> None:
    gate.note(room, needs)

    assert gate.room(32, held=0) == claims
    assert (gate.because is None) is (claims > 0)


def test_it_goes_on_by_itself_when_there_is_room(gate: DiskGate) -> None:
    gate.note(FULL, 0)
    gate.note(ROOMY, 0)

    assert (gate.room(32, held=7), gate.because) == (32, None)


def test_where_a_file_found_no_room_one_item_at_a_time_is_tried_with_growing_pauses(
    gate: DiskGate, clock: Clock
) -> None:
    gate.note(ROOMY, 0)
    pauses = []
    for _ in range(12):
        gate.refused(no_room())
        began = clock.now
        while not gate.room(32, held=0):
            clock.now += 0.25
        assert (gate.room(32, held=0), gate.room(32, held=1)) == (1, 0)
        pauses.append(clock.now - began)

    assert pauses[:5] == sorted(pauses[:5])
    assert LONGEST_PAUSE_S <= max(pauses) <= 1.3 * LONGEST_PAUSE_S


def test_a_burst_of_files_that_find_no_room_makes_one_pause(gate: DiskGate, clock: Clock) -> None:
    for _ in range(32):
        gate.refused(no_room())

    clock.now += 1.3
    assert gate.room(32, held=0) == 1


def test_one_that_is_written_opens_it(gate: DiskGate, clock: Clock) -> None:
    gate.refused(no_room())
    gate.passed()

    assert (gate.room(32, held=5), gate.because) == (32, None)


def test_room_for_the_file_that_found_none_ends_the_pause(gate: DiskGate, clock: Clock) -> None:
    for _ in range(9):
        gate.refused(no_room(30 * MIB))
        clock.now = gate._next_at
    gate.refused(no_room(30 * MIB))
    gate.note(Room(35 * MIB, 100 * MIB), 0)
    assert gate.room(32, held=0) == 0, "it would touch the reserve"

    gate.note(ROOMY, 0)
    assert gate.room(32, held=0) == 1


def test_it_is_told_once_and_so_is_the_end_however_often_it_comes_and_goes(
    gate: DiskGate, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(20):
            gate.note(FULL, 0)
            clock.now += 5
            gate.note(ROOMY, 0)
            clock.now += 5
    full, room = (record.getMessage() for record in caplog.records)
    assert "5.24 MB free" in full
    assert "CHUNKDL_MIN_FREE" in full
    assert "no file is given up" in full
    assert "again after 5 s" in room

    with caplog.at_level(logging.INFO):
        clock.now += TOLD_AGAIN_S
        gate.note(FULL, 0)
    assert len(caplog.records) == 3


def test_a_disk_that_cannot_be_looked_at_stops_nothing(clock: Clock) -> None:
    def hangs(folder: Path) -> Room:
        raise OSError("stale")

    gate = DiskGate(Path("/data"), Reserve(), clock, hangs)
    gate._look_once(0)

    assert gate.room(32, held=0) == 32
