from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import Options, read
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())


def page(source: str | bytes) -> Extract:
    return read(source if isinstance(source, bytes) else source.encode(), "page.html", OPTIONS)


PAGE = """<!doctype html><html><head><title>Shop &amp; Co</title><style>p {}</style>
<script>var x = "<p>no</p>"</script></head>
<body><nav>Home | About</nav><h1>Lamps</h1><p>We sell <b>very</b>  good
<a href="/x">lamps</a>.<br>And bulbs.</p><!-- no --><p hidden>secret</p><div style="display: none">secret</div>
<h2>Parts</h2><ul><li>Shade</li><li>Foot<ul><li>Wood</li></ul></li></ul><ol start="4"><li>Four</li><li>Five</li></ol>
<img src="x.png" alt="A red lamp"><pre>a  b
  c</pre><footer>Legal</footer></body></html>"""


def test_what_is_seen_is_read() -> None:
    extract = page(PAGE)
    assert extract.title == "Shop & Co"
    assert extract.text == (
        "Lamps\n\nWe sell very good lamps.\nAnd bulbs.\n\nParts\n\n- Shade\n- Foot\n  - Wood\n\n4. Four\n5. Five"
        "\n\nA red lamp\n\na  b\n  c"
    )
    assert [(h.level, h.title, extract.text[h.start : h.end]) for h in extract.headings] == [
        (1, "Lamps", "Lamps"),
        (2, "Parts", "Parts"),
    ]


def test_tables_are_rows_and_what_spans_rows_is_said_in_each() -> None:
    extract = page(
        "<table><caption>Prices</caption><tr><th>Item<th colspan=2>Cost</tr>"
        "<tr><td rowspan=2>Lamp <i>x</i><td>1|2<td><ul><li>a<li>b</ul></tr><tr><td>3<td></tr></table>"
    )
    assert extract.text == "Prices\n\n| Item | Cost | Cost |\n| Lamp x | 1\\|2 | a b |\n| Lamp x | 3 |  |"


def test_a_heading_too_long_for_a_title_is_text() -> None:
    extract = page(f"<h1>{'long ' * 60}</h1><h2>Short</h2>x")
    assert [h.title for h in extract.headings] == ["Short"]
    assert extract.text.startswith("long long")


def test_a_table_that_arranges_the_page_is_no_table() -> None:
    extract = page("<table><tr><td><h2>News</h2><p>Text.</p><td><table><tr><td>a<td>b</table></table>")
    assert extract.text == "News\n\nText.\n\n| a | b |"
    assert [h.title for h in extract.headings] == ["News"]


@pytest.mark.parametrize(
    "data",
    [
        '<meta charset="windows-1252"><p>Größe “x”'.encode("cp1252"),
        '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>Größe “x”'.encode("cp1252"),
        '<?xml version="1.0" encoding="utf-8"?><html><body><p>Größe “x”'.encode(),
        "<p>Größe “x”".encode("utf-8-sig"),
        "<p>Größe “x”".encode("utf-16"),
        '<meta charset="base64"><p>Größe “x”'.encode(),
    ],
)
def test_encodings(data: bytes) -> None:
    assert page(data).text == "Größe “x”"


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        page("<p>Größe".encode("cp1252"))


def test_nothing_to_see() -> None:
    for source in ("<p></p>", "<script>x</script>", "<nav>a</nav>"):
        with pytest.raises(InputError, match="there is no text in it"):
            page(source)


@pytest.mark.parametrize(
    "source",
    [
        "<div>" * 100_000 + "deep",
        "<div>x<b>y" * 20_000,
        "<ul><li>a" * 5_000,
        "<table><tr><td>a" * 3_000,
        "<p>" + "".join(f"<b a={n}>" for n in range(2_000)) + "<p>x" * 2_000,
        "<table>" + ("<tr><td rowspan=9999 colspan=9999>" + "x" * 150 + "</td></tr>") * 300 + "</table>",
        "<a" * 200_000 + ">x",
        "<" + "a" * 500_000,
    ],
    ids=["depth", "unclosed", "lists", "tables", "formatting", "spans", "brackets", "name"],
)
def test_pages_made_to_do_harm_are_read_in_bounded_time(source: str) -> None:
    began = time.process_time()
    try:
        assert len(page(source).text) < 20_000_000
    except InputError as refused:
        assert "no text" in str(refused)
    assert time.process_time() - began < 20  # the first takes more than a minute where its depth is not bounded


_TAGS = "p div b a ul ol li table tr td th h1 h2 pre br img span caption tbody dl dt dd nav script template svg".split()  # noqa: SIM905


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.integers())
def test_any_order_of_tags_is_read_or_refused(seed: int) -> None:
    pick = random.Random(seed)
    parts = [f"<{'/' * pick.randrange(2)}{pick.choice(_TAGS)} rowspan={pick.randrange(3)}>" for _ in range(40)]
    try:
        extract = page("x".join(parts))
    except InputError:
        return
    assert "<" not in extract.text
    end = 0
    for heading in extract.headings:
        assert end <= heading.start <= heading.end <= len(extract.text)
        end = heading.end


@hypothesis_settings(max_examples=100, deadline=None)
@given(st.data())
def test_damaged_pages(data: st.DataObject) -> None:
    damaged = bytearray(PAGE.encode())
    for _ in range(data.draw(st.integers(1, 10))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        page(bytes(damaged))
    except InputError as refused:
        assert "could not be read" not in str(refused)  # a reason of ours, not a surprise
