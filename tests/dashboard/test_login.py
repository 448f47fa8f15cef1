"""The form that asks for the token."""

from __future__ import annotations

import pytest
from served import TOKEN, NewDashboard

from scrapy_chunkdl.dashboard.board import Board


@pytest.mark.parametrize(
    ("accept", "language", "button"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh-CN", "登录"),
        ("de, ZH-TW;q=0.5, en;q=0.3", "zh-CN", "登录"),
        ("en-GB, zh;q=0.9", "en", "Sign in"),
        ("zh;q=0, de", "en", "Sign in"),
        ("zh;q=much", "en", "Sign in"),
        ("", "en", "Sign in"),
    ],
)
def test_the_form_is_in_the_readers_language(
    board: Board, new_dashboard: NewDashboard, accept: str, language: str, button: str
) -> None:
    page = new_dashboard(board, token=TOKEN).get("/", **{"Accept-Language": accept}).body.decode()

    assert f'<html lang="{language}">' in page
    assert f">{button}</button>" in page
