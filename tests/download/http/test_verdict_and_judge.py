"""The table of verdicts: each row is reached, what it says of each way of asking, and the docs show it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scrapy_chunkdl.download.http.verdict import ROWS, Asked, Came, Word, row_of, verdict
from scrapy_chunkdl.download.known import Match
from scrapy_chunkdl.download.model import DEFAULT_RETRY_CODES

ROOT = Path(__file__).parents[3]
HEAD, FIRST, LATER, PLAIN = Asked.HEAD, Asked.FIRST, Asked.LATER, Asked.PLAIN

EXAMPLES = [
    ({"status": 200, "match": Match.CONTRADICTION, "failures": 2, "is_vouched": True}, "NO_HINT LESS RETRY USE"),
    ({"status": 200, "match": Match.CONTRADICTION, "failures": 2}, "NO_HINT LESS RETRY RETRY"),
    ({"status": 200, "match": Match.CONTRADICTION}, "NO_HINT RETRY RETRY RETRY"),
    ({"status": 200, "is_doubtful": True}, "HINT LESS RETRY RETRY"),
    ({"status": 200, "match": Match.OTHER}, "HINT AFRESH AFRESH USE"),
    ({"status": 200}, "HINT USE RETRY USE"),
    ({"status": 201}, "HINT USE RETRY USE"),
    ({"status": 203}, "HINT USE RETRY USE"),
    ({"status": 226}, "HINT USE RETRY USE"),
    ({"status": 218}, "HINT USE RETRY USE"),
    ({"status": 206}, "NO_HINT USE USE USE"),
    ({"status": 206, "is_part": True}, "NO_HINT USE USE END"),
    ({"status": 202, "pause": 1.0}, "NO_HINT WAIT_FILE WAIT_FILE WAIT_FILE"),
    ({"status": 202}, "NO_HINT LESS RETRY END"),
    ({"status": 204, "is_empty": True}, "NO_HINT USE END USE"),
    ({"status": 204}, "NO_HINT LESS RETRY END"),
    ({"status": 205}, "NO_HINT LESS RETRY END"),
    ({"status": 304}, "NO_HINT LESS RETRY END"),
    ({"status": 302}, "NO_HINT LESS RETRY END"),
    ({"status": 429, "is_served": True}, "NO_HINT CROWD CROWD CROWD"),
    ({"status": 429}, "WAIT_HOST WAIT_HOST WAIT_HOST WAIT_HOST"),
    ({"status": 403, "pause": 5.0}, "WAIT_HOST WAIT_HOST WAIT_HOST WAIT_HOST"),
    ({"status": 503, "pause": 0.0}, "WAIT_HOST WAIT_HOST WAIT_HOST WAIT_HOST"),
    ({"status": 416, "is_other_size": True}, "NO_HINT AFRESH AFRESH END"),
    ({"status": 416}, "NO_HINT LESS RETRY END"),
    ({"status": 403, "is_suspect": True}, "NO_HINT LESS SLOWER SLOWER"),
    ({"status": 503, "is_suspect": True}, "NO_HINT SLOWER SLOWER SLOWER"),
    ({"status": 500, "failures": 2}, "NO_HINT LESS RETRY RETRY"),
    ({"status": 500}, "NO_HINT RETRY RETRY RETRY"),
    ({"status": 503, "failures": 2}, "NO_HINT LESS RETRY RETRY"),
    *(
        ({"status": status}, "NO_HINT RETRY RETRY RETRY")
        for status in (420, 421, 423, 425, 449, 499, 509, 520, 527, 530)
    ),
    *(({"status": status, "is_suspect": True}, "NO_HINT SLOWER SLOWER SLOWER") for status in (420, 509, 529)),
    ({"status": 304, "conditional": True}, "NO_HINT LESS LESS END"),
    ({"status": 204, "conditional": True}, "NO_HINT LESS LESS END"),
    ({"status": 412, "conditional": True}, "NO_HINT LESS LESS END"),
    ({"status": 501, "conditional": True}, "NO_HINT LESS LESS END"),
    ({"status": 404, "is_served": True}, "NO_HINT CROWD CROWD CROWD"),
    ({"status": 404}, "NO_HINT LESS CROWD END"),
    ({"status": 501}, "NO_HINT LESS CROWD END"),
    ({"reason": "redirect_loop"}, "NO_HINT LESS END END"),
    ({"reason": "connect_failed", "failures": 9}, "NO_HINT RETRY CROWD RETRY"),
    ({"reason": "connection_lost", "failures": 2}, "NO_HINT LESS CROWD RETRY"),
    ({"reason": "connection_lost"}, "NO_HINT RETRY CROWD RETRY"),
    ({"reason": "stalled"}, "NO_HINT RETRY CROWD RETRY"),
    ({"reason": "short_body"}, "NO_HINT RETRY RETRY RETRY"),
]


@pytest.mark.parametrize(("came", "words"), EXAMPLES, ids=lambda value: str(value))
def test_what_an_answer_means_depends_on_what_was_asked(came: dict[str, object], words: str) -> None:
    found = [verdict(Came(asked, **came), DEFAULT_RETRY_CODES) for asked in (HEAD, FIRST, LATER, PLAIN)]  # type: ignore[arg-type]

    assert " ".join(word.name for word in found) == words


def test_each_row_is_reached_and_says_whose_rule_it_is() -> None:
    reached = [row_of(Came(LATER, **came), DEFAULT_RETRY_CODES) for came, _ in EXAMPLES]  # type: ignore[arg-type]

    assert [row.what for row in ROWS if row not in reached] == []
    assert all(row.authority for row in ROWS)


def test_no_answer_to_a_head_ends_a_file() -> None:
    assert Word.END not in {row.head for row in ROWS}


@pytest.mark.parametrize("status", [*range(100, 600, 7), 999])
@pytest.mark.parametrize("asked", Asked)
def test_whatever_comes_there_is_a_word_for_it(asked: Asked, status: int) -> None:
    assert verdict(Came(asked, status), DEFAULT_RETRY_CODES) in Word


@pytest.mark.parametrize("status", [425, 503, 521])
def test_who_retries_no_status_retries_none_that_passes_either(status: int) -> None:
    assert verdict(Came(PLAIN, status), ()) is Word.END


def test_the_docs_show_this_table() -> None:
    code = "import sys; sys.path.insert(0, 'docs'); import answers_table; print(answers_table.table(), end='')"

    table = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "contradicts" in table
    assert table in (ROOT / "docs" / "failures.md").read_text("utf-8")
