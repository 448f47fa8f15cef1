"""Windows of the day by a clock that is set, through both switches of daylight saving time."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from clocks import Clock

from scrapy_chunkdl.crawl.schedule import Schedule, ScheduleGate
from scrapy_chunkdl.settings.schedule import schedule

SPRING, AUTUMN = "2026-03-29", "2026-10-25"
"""Sundays on which Berlin skips 02:00 to 03:00, and has that hour twice."""


def at(day: str, time: str, fold: int = 0, zone: str = "Europe/Berlin") -> float:
    """Seconds since 1970 at which the clock on the wall shows that; ``fold`` 1: for the second time."""
    return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def windows(*told: dict[str, Any], zone: str = "Europe/Berlin") -> Schedule:
    return Schedule(schedule([{"zone": zone, **one} for one in told]))


NIGHT = {"from": "22:00", "to": "06:00", "days": "fri", "rate": 5}
OFFICE = {"from": "08:00", "to": "18:00", "days": "mon-fri", "rate": 7}


@pytest.mark.parametrize(
    ("day", "time", "rate", "until"),
    [
        ("2026-11-26", "07:59", None, ("2026-11-26", "08:00")),
        ("2026-11-26", "08:00", 7, ("2026-11-26", "18:00")),
        ("2026-11-26", "17:59", 7, ("2026-11-26", "18:00")),
        ("2026-11-26", "18:00", None, ("2026-11-27", "08:00")),
        ("2026-11-27", "21:59", None, ("2026-11-27", "22:00")),
        ("2026-11-27", "23:00", 5, ("2026-11-28", "06:00")),
        ("2026-11-28", "05:59", 5, ("2026-11-28", "06:00")),
        ("2026-11-28", "22:30", None, ("2026-11-30", "08:00")),
        ("2026-11-29", "03:00", None, ("2026-11-30", "08:00")),
    ],
)
def test_a_window_is_in_force_from_its_first_minute_to_its_last_also_over_midnight(
    day: str, time: str, rate: int | None, until: tuple[str, str]
) -> None:
    now = windows(OFFICE, NIGHT).at(at(day, time))

    assert (now.is_pause, now.rate, now.until) == (False, rate, at(*until))


@pytest.mark.parametrize(
    ("window", "in_force", "not_in_force"),
    [
        # begins in the hour that is skipped: it begins with the next
        (("02:30", "04:00"), [("03:00", 0), ("03:59", 0)], [("01:59", 0), ("04:00", 0)]),
        # ends in it: it ends with it
        (("01:00", "02:30"), [("01:00", 0), ("01:59", 0)], [("00:59", 0), ("03:00", 0), ("03:30", 0)]),
        # lies in it: it comes right after, for its length
        (("02:00", "02:30"), [("03:00", 0), ("03:29", 0)], [("01:59", 0), ("03:30", 0)]),
        (("02:15", "02:45"), [("03:15", 0), ("03:44", 0)], [("01:59", 0), ("03:00", 0), ("03:45", 0)]),
        (("02:00", "03:00"), [("03:00", 0), ("03:59", 0)], [("01:59", 0), ("04:00", 0)]),
        # has it inside
        (("22:00", "06:00"), [("01:59", 0), ("03:00", 0), ("05:59", 0)], [("06:00", 0)]),
    ],
)
def test_in_spring_a_window_that_begins_in_the_missing_hour_comes(
    window: tuple[str, str], in_force: list[tuple[str, int]], not_in_force: list[tuple[str, int]]
) -> None:
    schedule = windows({"from": window[0], "to": window[1], "pause": True})

    assert [time for time, fold in in_force if not schedule.at(at(SPRING, time, fold)).is_pause] == []
    assert [time for time, fold in not_in_force if schedule.at(at(SPRING, time, fold)).is_pause] == []


@pytest.mark.parametrize(
    ("window", "in_force", "not_in_force"),
    [
        # begins in the hour that comes twice
        (("02:30", "04:00"), [("02:30", 0), ("02:59", 0), ("02:30", 1), ("03:00", 0)], [("02:29", 0), ("02:00", 1)]),
        (("02:00", "02:30"), [("02:00", 0), ("02:29", 0), ("02:00", 1), ("02:29", 1)], [("02:30", 0), ("02:30", 1)]),
        (("01:00", "02:30"), [("01:59", 0), ("02:29", 0), ("02:00", 1), ("02:29", 1)], [("02:30", 0), ("02:30", 1)]),
        (("22:00", "06:00"), [("02:59", 0), ("02:00", 1), ("05:59", 0)], [("06:00", 0)]),
        (("01:00", "03:00"), [("01:00", 0), ("02:59", 0), ("02:00", 1), ("02:59", 1)], [("00:59", 0), ("03:00", 0)]),
    ],
)
def test_in_autumn_a_window_is_in_force_whenever_the_clock_shows_a_time_in_it(
    window: tuple[str, str], in_force: list[tuple[str, int]], not_in_force: list[tuple[str, int]]
) -> None:
    schedule = windows({"from": window[0], "to": window[1], "pause": True})

    assert [found for found in in_force if not schedule.at(at(AUTUMN, *found)).is_pause] == []
    assert [found for found in not_in_force if schedule.at(at(AUTUMN, *found)).is_pause] == []


@pytest.mark.parametrize(
    ("window", "now", "until"),
    [
        (("22:00", "06:00"), at("2026-03-28", "23:00"), at(SPRING, "06:00")),
        (("22:00", "06:00"), at("2026-10-24", "23:00"), at(AUTUMN, "06:00")),
        (("02:30", "04:00"), at(SPRING, "01:30"), at(SPRING, "03:00")),
        (("02:00", "02:30"), at(SPRING, "03:10"), at(SPRING, "03:30")),
        (("02:00", "02:30"), at(AUTUMN, "02:10"), at(AUTUMN, "02:30")),
        (("02:00", "02:30"), at(AUTUMN, "02:40"), at(AUTUMN, "02:00", 1)),
        (("22:00", "02:30"), at(AUTUMN, "02:40"), at(AUTUMN, "02:00", 1)),
    ],
)
def test_what_holds_is_told_until_the_very_moment_it_ends(window: tuple[str, str], now: float, until: float) -> None:
    schedule = windows({"from": window[0], "to": window[1], "pause": True})

    assert schedule.at(now).until == until
    assert schedule.at(until).is_pause is not schedule.at(until - 1).is_pause


@pytest.mark.parametrize(
    ("zone", "day", "window", "in_force", "not_in_force"),
    [
        ("Australia/Lord_Howe", "2026-10-04", ("02:10", "02:20"), ["02:40", "02:49"], ["01:59", "02:30", "02:50"]),
        ("Africa/Cairo", "2026-04-24", ("00:10", "00:40"), ["01:10", "01:39"], ["01:00", "01:40"]),
        ("America/New_York", "2026-03-08", ("02:30", "05:00"), ["03:00", "04:59"], ["01:59", "05:00"]),
        ("Asia/Kathmandu", "2026-03-29", ("02:00", "02:30"), ["02:00", "02:29"], ["01:59", "02:30"]),
    ],
)
def test_other_zones_switch_at_other_times_and_by_other_steps(
    zone: str, day: str, window: tuple[str, str], in_force: list[str], not_in_force: list[str]
) -> None:
    schedule = windows({"from": window[0], "to": window[1], "pause": True}, zone=zone)

    assert [time for time in in_force if not schedule.at(at(day, time, zone=zone)).is_pause] == []
    assert [time for time in not_in_force if schedule.at(at(day, time, zone=zone)).is_pause] == []


@pytest.mark.parametrize(
    ("told", "is_pause", "rate"),
    [
        ([{"rate": 5}, {"rate": 3}, {"rate": 0}], False, 3),
        ([{"rate": 0}], False, 0),
        ([{"rate": 5}, {"from": "11:00", "to": "13:00", "pause": True}], True, None),
        ([{"days": "sat,sun", "rate": 5}], False, None),
        ([{"days": "sat-thu", "rate": 5}], False, 5),
        ([{"days": ["wed", "thu"], "rate": 5}], False, 5),
    ],
)
def test_of_several_windows_a_pause_is_first_then_the_lowest_rate(
    told: list[dict[str, Any]], is_pause: bool, rate: int | None
) -> None:
    now = windows(*told).at(at("2026-11-26", "12:00"))

    assert (now.is_pause, now.rate) == (is_pause, rate)


@pytest.mark.parametrize(
    ("zone", "day"),
    [
        ("Europe/Berlin", SPRING),
        ("Europe/Berlin", AUTUMN),
        ("Australia/Lord_Howe", "2026-04-05"),  # half an hour, both ways
        ("Australia/Lord_Howe", "2026-10-04"),
        ("America/Havana", "2026-03-08"),  # at midnight, both ways
        ("America/Havana", "2026-11-01"),
        ("Africa/Cairo", "2026-04-24"),
        ("Pacific/Apia", "2011-12-31"),  # a day that never was
        ("Asia/Kolkata", "2026-03-29"),
        ("UTC", "2026-03-29"),
    ],
)
@pytest.mark.parametrize("window", [("22:00", "06:00"), ("23:30", "00:30"), ("00:00", "24:00"), ("01:45", "02:15")])
def test_what_is_told_holds_until_the_moment_that_is_told_and_no_longer(
    zone: str, day: str, window: tuple[str, str]
) -> None:
    schedule = windows({"from": window[0], "to": window[1], "days": "fri-sun", "pause": True}, zone=zone)
    noon = at(day, "12:00", zone=zone)

    for moment in range(int(noon) - 2 * 86400, int(noon) + 86400, 9900):
        told = schedule.at(moment)
        assert told.until is not None
        assert moment < told.until <= moment + 8 * 86400
        assert schedule.at(told.until - 1).is_pause == told.is_pause != schedule.at(told.until).is_pause


def test_a_schedule_that_never_changes_has_no_end() -> None:
    assert windows({"rate": 5}).at(at("2026-11-26", "12:00")).until is None


def test_without_a_zone_the_machines_clock_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = at("2026-11-26", "12:30")
    here = datetime.fromtimestamp(now)

    assert Schedule(schedule([{"from": f"{here:%H:%M}", "to": "24:00", "pause": True}])).at(now).is_pause


def test_rates_change_and_a_pause_begins_as_the_clock_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock, rates = Clock(), list[int]()
    told = [
        {"from": "08:00", "to": "12:30", "rate": 7},
        {"from": "12:00", "to": "13:00", "pause": True},
        {"from": "18:00", "to": "19:00", "rate": 0},
    ]
    gate = ScheduleGate(schedule([{"zone": "Europe/Berlin", **one} for one in told]), 100, rates.append, clock)
    seen = []
    for time in ("07:00", "08:00", "08:01", "12:00", "12:30", "13:00", "18:00", "19:00"):
        clock.now = at("2026-11-26", time)
        seen.append((gate.tick(), gate.is_paused))
        if time == "12:30":
            because = gate.because

    assert rates == [7, 100, 0, 100]
    assert [began for began, _ in seen] == [False, False, False, True, False, False, False, False]
    assert [paused for _, paused in seen] == [False, False, False, True, True, False, False, False]
    assert because == "Nothing is claimed until 2026-11-26 13:00 CET: a pause of CHUNKDL_SCHEDULE"
    assert "Files are fetched at most 7 B/s now, until 2026-11-26 12:00 CET" in caplog.text


def test_a_clock_that_is_set_back_is_believed() -> None:
    clock = Clock()
    gate = ScheduleGate(
        schedule([{"from": "12:00", "to": "13:00", "zone": "UTC", "pause": True}]), 0, lambda _: None, clock
    )
    clock.now = at("2026-11-26", "12:10", zone="UTC")
    gate.tick()
    clock.now = at("2026-11-26", "11:50", zone="UTC")
    gate.tick()

    assert not gate.is_paused
