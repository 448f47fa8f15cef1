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


@pytest.mark.parametrize("folder", ["/", "//"])
def test_the_form_after_a_wrong_token_leads_to_no_other_folder(
    board: Board, new_dashboard: NewDashboard, folder: str
) -> None:
    dashboard = new_dashboard(board, token=TOKEN)

    refused = dashboard.ask(
        "POST", f"{folder}login", b"token=wrong", **{"Content-Type": "application/x-www-form-urlencoded"}
    )
    again = dashboard.get(f"{folder}login")

    assert (refused.status, b'role="alert"' in refused.body, b"<script" in refused.body) == (401, True, False)
    assert (again.status, again.headers["Location"]) == (303, "./")
