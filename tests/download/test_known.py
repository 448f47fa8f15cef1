"""Evidence: what one more answer is to what is known of a file."""

from __future__ import annotations

import pytest

from scrapy_chunkdl.download.http.headers import Validator
from scrapy_chunkdl.download.known import By, Known, Match, compare

OLD, NEW = "Mon, 01 Jan 2024 00:00:00 GMT", "Tue, 02 Jan 2024 00:00:00 GMT"
ONE, TWO, NONE = Validator('"one"', OLD, True), Validator('"two"', NEW, True), Validator()
DATED, BACKEND, WEAK = Validator(None, OLD, True), Validator('"two"', OLD, True), Validator('W/"one"', OLD, True)
PDF, PAGE = "application/pdf", "text/html; charset=utf-8"
SAME, OTHER, CONTRADICTION, UNTOLD = Match.SAME, Match.OTHER, Match.CONTRADICTION, Match.UNTOLD


def known(by: By, size: int | None, validator: Validator, content_type: str | None = None) -> Known:
    return Known(by, size, validator, content_type)


@pytest.mark.parametrize(
    ("before", "answer", "match"),
    [
        (known(By.HEAD, 9, ONE), known(By.GET, 9, ONE), SAME),
        (known(By.HEAD, 9, ONE), known(By.GET, None, ONE), SAME),
        (known(By.PARTS, 9, ONE), known(By.GET, 9, TWO), OTHER),
        # HEAD may be wrong about the size; ranges that agreed are not.
        (known(By.HEAD, 9, ONE), known(By.GET, 5, ONE), OTHER),
        (known(By.PARTS, 9, ONE), known(By.GET, 5, ONE), CONTRADICTION),
        (known(By.FINISHED, 9, ONE), known(By.GET, 5, ONE), CONTRADICTION),
        (known(By.HEAD, 9, ONE), known(By.GET, 0, ONE), CONTRADICTION),
        # A date may be set with the file (cp -p, rsync -t); ETags differ between backends, sizes do not.
        *((known(by, 9, DATED), known(By.GET, 5, DATED), OTHER) for by in By),
        *((known(by, 9, ONE), known(By.GET, 5, BACKEND), OTHER) for by in By),
        (known(By.PARTS, 9, ONE), known(By.GET, 9, BACKEND), SAME),
        (known(By.FINISHED, 9, ONE), known(By.GET, 0, BACKEND), OTHER),
        (known(By.FINISHED, 9, ONE), known(By.GET, 5, DATED), OTHER),
        (known(By.FINISHED, 9, WEAK), known(By.GET, 5, WEAK), OTHER),
        (known(By.FINISHED, 9, DATED), known(By.GET, 0, DATED), CONTRADICTION),
        (known(By.FINISHED, 9, DATED, PDF), known(By.GET, 5, DATED, PAGE), CONTRADICTION),
        # An answer without validators never overrules one that has them.
        (known(By.HEAD, 9, ONE), known(By.BARE_GET, 5, NONE), CONTRADICTION),
        (known(By.FINISHED, 9, ONE), known(By.HEAD, 5, NONE), CONTRADICTION),
        (known(By.HEAD, None, ONE, PDF), known(By.BARE_GET, 5, NONE, PAGE), CONTRADICTION),
        (known(By.HEAD, 9, ONE, PDF), known(By.BARE_GET, None, NONE, PAGE), CONTRADICTION),
        (known(By.HEAD, 9, ONE, PAGE), known(By.BARE_GET, None, NONE, PAGE), UNTOLD),
        (known(By.HEAD, 9, ONE, PDF), known(By.BARE_GET, 9, NONE, "application/octet-stream"), UNTOLD),
        # Where nobody has any, a GET is believed, but for nothing and for a page instead.
        (known(By.HEAD, 9, NONE), known(By.BARE_GET, 5, NONE), OTHER),
        (known(By.HEAD, 9, NONE, PDF), known(By.BARE_GET, 5, NONE, PAGE), CONTRADICTION),
        (known(By.HEAD, 9, NONE), known(By.BARE_GET, 0, NONE), CONTRADICTION),
        (known(By.BARE_GET, 9, NONE), known(By.BARE_GET, 5, NONE), OTHER),
        (known(By.HEAD, 9, NONE), known(By.GET, 9, ONE), UNTOLD),
        (known(By.HEAD, None, NONE), known(By.GET, 9, ONE), UNTOLD),
    ],
)
def test_what_an_answer_is_to_what_is_known(before: Known, answer: Known, match: Match) -> None:
    assert compare(before, answer) is match
