"""The page's texts: complete in both languages, all used, none missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STATIC = Path(__file__).parents[2] / "scrapy_chunkdl" / "dashboard" / "static"
BUILT = re.compile(r"`([\w.${}]*\w\$\{[\w.${}]*|[\w.${}]*\}\w[\w.${}]*)`")
"""Keys that are put together when the page runs, such as ``state_${shown}``."""


def texts_of(language: str) -> dict[str, str]:
    """Return the texts of a language, by key."""
    lines = (STATIC / f"{language}.js").read_text("utf-8")
    found = re.findall(r'^  (\w+): "(.*)",$', lines, re.MULTILINE)
    assert len(found) == len(re.findall(r"^  \w+:", lines, re.MULTILINE)), "a text is not on one line"
    assert len(dict(found)) == len(found), "a key is there twice"
    return dict(found)


def scripts() -> str:
    """Return the page's own code, without its texts."""
    return "".join(path.read_text("utf-8") for path in STATIC.glob("*.js") if path.stem not in {"en", "zh"})


def test_both_languages_have_the_same_keys() -> None:
    assert texts_of("en").keys() == texts_of("zh").keys()


def test_a_translation_fills_in_the_same_values() -> None:
    for key, english in texts_of("en").items():
        assert set(re.findall(r"\{\w+\}", texts_of("zh")[key])) == set(re.findall(r"\{\w+\}", english)), key


def test_chinese_texts_are_chinese() -> None:
    kept = {"unknown", "of_size", "chart_at", "ill_and"}  # signs and numbers alone

    latin = {key for key, text in texts_of("zh").items() if not re.search(r"[\u4e00-\u9fff]", text)}

    assert latin == kept


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_key_that_is_asked_for_is_there(language: str) -> None:
    markup = (STATIC / "index.html").read_text("utf-8")
    asked = set(re.findall(r'data-t(?:-label|-placeholder)?="(\w+)"', markup))
    asked |= set(re.findall(r'\bt\(\s*"(\w+)"', scripts()))
    asked |= set(re.findall(r'\bhead: "(\w+)"', scripts()))

    assert len(asked) > 80
    assert asked <= texts_of(language).keys()


def test_no_text_is_left_over() -> None:
    used = scripts() + (STATIC / "index.html").read_text("utf-8")
    patterns = [re.sub(r"\\\$\\\{[^}]*\\\}", r"\\w+", re.escape(key)) for key in BUILT.findall(used)]
    assert len(patterns) > 5
    assert not any(re.fullmatch(pattern, "no_text_has_this_key") for pattern in patterns)

    unused = [
        key
        for key in texts_of("en")
        if not re.search(rf'"{key}"', used) and not any(re.fullmatch(pattern, key) for pattern in patterns)
    ]

    assert unused == []


def test_nothing_is_set_as_markup_and_nothing_is_inline() -> None:
    markup = (STATIC / "index.html").read_text("utf-8")

    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|setAttribute", scripts())
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", markup)
