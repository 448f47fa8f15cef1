"""The encoding of a name is told by evidence; what is not sure stays as Latin letters, and nothing becomes U+FFFD."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrapy_chunkdl.text.charsets import hints_of, text_of

NAMES = {
    "utf-8": ["年报.pdf", "café.pdf", "отчет.pdf"],
    "gb18030": ["年报.pdf", "2022年度报告.pdf", "施工图纸.dwg", "第３章（终稿）.pdf", "毕业论文.docx", "课程表"],
    "big5": ["年報.pdf", "財務報表.pdf", "說明會.doc", "高雄市議會.pdf", "附錄三.pdf"],
    "cp932": ["年報.pdf", "有価証券報告書.pdf", "お知らせ.doc", "ガイドライン.pdf", "請願書.pdf"],
    "cp949": ["연보.pdf", "사업보고서.pdf", "세금계산서.pdf", "회의록.hwp", "부산.pdf"],
    "euc_jp": ["お知らせ.doc", "ガイドライン.pdf", "会社案内.pdf"],
    "cp1252": ["café.pdf", "Größe.pdf", "São Paulo.pdf", "Façade élevée.pdf", "¿Qué?.pdf", "Île.pdf", "“x”.pdf"],
}


@pytest.mark.parametrize(
    ("encoding", "name"), [(encoding, name) for encoding, names in NAMES.items() for name in names]
)
def test_a_name_is_read_in_the_encoding_it_is_in(encoding: str, name: str) -> None:
    assert text_of(name.encode(encoding)) == name


@pytest.mark.parametrize(
    ("host", "encoding", "name"),
    [
        ("files.go.kr", "cp949", "갹.pdf"),
        ("h.jp", "cp932", "鉄.pdf"),
        ("h.com.tw", "big5", "蔡.pdf"),
        ("h.cn", "gbk", "鑫.pdf"),
    ],
)
def test_the_country_of_a_host_is_a_hint(host: str, encoding: str, name: str) -> None:
    assert text_of(name.encode(encoding), hints_of(host)) == name


@given(st.binary(max_size=60))
def test_whatever_the_bytes_are_a_text_comes_out(raw: bytes) -> None:
    text = text_of(raw)

    assert "\ufffd" not in text or b"\xef\xbf\xbd" in raw
    assert text_of(text.encode()) == text
