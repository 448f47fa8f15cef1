"""Signals of items: receivers of Scrapy's own are called at once, all others as Scrapy's manager does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from scrapy.signalmanager import SignalManager

from scrapy_chunkdl.crawl.scrapy_engine import DirectSignals

pytestmark = pytest.mark.skipif(
    not hasattr(SignalManager, "send_catch_log_async"), reason="this Scrapy sends signals by Deferreds"
)

SIGNAL = object()


def of_scrapy(function: Callable[..., Any]) -> Callable[..., Any]:
    function.__module__ = "scrapy.extensions.corestats"
    return function


def taking(told: list[Any]) -> dict[str, Callable[..., Any]]:
    async def later(item: Any) -> str:
        await asyncio.sleep(0)
        told.append(("later", item))
        return "later"

    def plain(item: Any) -> str:
        told.append(("plain", item))
        return "plain"

    def failing(item: Any) -> None:
        raise RuntimeError("no")

    return {"later": later, "plain": plain, "failing": failing}


@pytest.mark.parametrize("is_scrapys", [True, False])
@pytest.mark.parametrize(
    ("names", "answers"),
    [
        (["plain"], ["plain"]),
        (["plain", "plain"], ["plain"]),
        (["plain", "later"], ["plain", "later"]),
        (["failing", "plain"], [RuntimeError, "plain"]),
        ([], []),
    ],
)
async def test_each_receiver_is_called_and_answers_as_from_scrapys_manager(
    names: list[str], answers: list[Any], is_scrapys: bool, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[Any] = []
    receivers = taking(told)
    manager = SignalManager(sender=object())
    for name in names:
        receiver = of_scrapy(receivers[name]) if is_scrapys else receivers[name]
        manager.connect(receiver, SIGNAL)

    with caplog.at_level(logging.ERROR):
        got = await DirectSignals(manager).send_catch_log_async(SIGNAL, item="x", spider=None)
    as_told = [record.getMessage().partition(":")[0] for record in caplog.records]

    assert [type(answer) if isinstance(answer, Exception) else answer for _, answer in got] == answers
    assert sorted(name for name, _ in told) == sorted(set(names) - {"failing"})
    assert as_told == ["Error caught on signal handler"] * ("failing" in names)


def test_all_else_is_the_managers() -> None:
    manager = SignalManager(sender=object())
    told: list[Any] = []
    receiver = taking(told)["plain"]

    direct = DirectSignals(manager)
    direct.connect(receiver, SIGNAL)
    manager.send_catch_log(SIGNAL, item=1)

    assert told == [("plain", 1)]
