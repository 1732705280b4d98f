from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from mmagent.errors import InputError
from mmagent.knowledge.read import KINDS, Options, needs_worker, read, type_of
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())


def text_of(data: bytes | str, name: str) -> str:
    return read(data.encode() if isinstance(data, str) else data, name, OPTIONS).text


def titles(source: str) -> list[tuple[int, str, str]]:
    extract = read(source.encode(), "file.md", OPTIONS)
    return [(h.level, h.title, source[h.start : h.end]) for h in extract.headings]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("# A\ntext\n## B\n", [(1, "A", "# A\n"), (2, "B", "## B\n")]),
        ("# Code\n```sh\n# none\n```\n", [(1, "Code", "# Code\n")]),
        ("Title\n=====\n\nx\n\nPart\n----\n", [(1, "Title", "Title\n=====\n"), (2, "Part", "Part\n----\n")]),
        ("a\nb\n---\nc", []),
        ("- item\n---\nc", []),
        ("---\ntitle: x\n---\n# Real\n", [(0, "", "---\ntitle: x\n---\n"), (1, "Real", "# Real\n")]),
        ("#hashtag", []),
        ("# Closed ##\r\nx", [(1, "Closed", "# Closed ##\r\n")]),
        ("# The **bold** [link](http://x) `code`\n", [(1, "The bold link code", None)]),
    ],
)
def test_headings_of_markdown(source: str, expected: list[tuple[int, str, str | None]]) -> None:
    found = titles(source)
    assert [
        (level, title, span and line) for (level, title, line), (_, _, span) in zip(found, expected, strict=True)
    ] == expected


def test_texts_are_taken_as_they_are() -> None:
    for name in ("a.md", "a.txt", "a.rst", "a.py", "a.json", "a.jsonl", "a.YAML"):
        assert text_of("one\r\ntwo  \n\n{}", name) == "one\r\ntwo  \n\n{}"


def test_encodings() -> None:
    assert text_of("Größe".encode("utf-8-sig"), "a.txt") == "Größe"
    assert text_of("Größe 漢字".encode("utf-16"), "a.md") == "Größe 漢字"
    assert text_of(b"\xfe\xff" + "x y".encode("utf-16-be"), "a.csv") == "| x y |"
    for data in ("Größe".encode("latin-1"), b"\xff\xfe broken", b"\xff"):
        with pytest.raises(InputError, match=r"^it is not UTF-8 text; save it as UTF-8$"):
            read(data, "a.txt", OPTIONS)


@pytest.mark.parametrize(
    ("data", "name", "reason"),
    [
        (b"", "a.txt", "no text"),
        (b" \n", "a.md", "no text"),
        (b"a\0b", "a.txt", "not text"),
        (b"x", "a.xyz", r"^\.xyz is not taken in; Markdown"),
        (b"x", "README", "^a file without an ending is not taken in; Markdown"),
        (b"\x1f\x8b\x08 gzip", "a.txt", "gzip; unpack it"),
        (b"RIFF____AVI \0\0", "a.xyz", None),
        (b"WEBVTT\n\nNOTE nothing\n", "a.vtt", "no text"),
    ],
)
def test_what_cannot_be_read_says_why(data: bytes, name: str, reason: str | None) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        read(data, name, OPTIONS)
    assert "\n" not in str(caught.value)


def test_a_limit_names_value_limit_and_setting() -> None:
    with pytest.raises(InputError, match=r"1,500 bytes and the limit is 1,000; MMAGENT_MAX_DOCUMENT_BYTES"):
        read(b"word " * 300, "a.txt", replace(OPTIONS, max_document_bytes=1000))


def test_content_decides_before_the_name() -> None:
    assert type_of(b"\x89PNG\r\n\x1a\n\0\0\0", "a.md") == "image/png"
    assert type_of(b"%PDF-1.7", "a.txt") == "application/pdf"
    assert type_of(b"ID3 tags are explained here.", "a.md") == "text/markdown"
    assert type_of(b"GIF89a is a format.", "a.txt") == "text/plain"


def test_what_could_crash_goes_to_a_worker() -> None:
    assert not any(needs_worker(b"x", f"a.{ending}") for ending in ("md", "txt", "csv", "srt", "json"))
    assert needs_worker(b"<p>", "a.html") and needs_worker(b"%PDF-1.7", "a.pdf")


def test_options_cross_a_pipe_and_their_fingerprint_names_what_matters() -> None:
    assert Options.from_json(OPTIONS.to_json()) == OPTIONS
    assert replace(OPTIONS, ocr=not OPTIONS.ocr).fingerprint != OPTIONS.fingerprint
    assert replace(OPTIONS, pages_as_pictures=True).fingerprint != OPTIONS.fingerprint
    assert replace(OPTIONS, max_document_bytes=1).fingerprint == OPTIONS.fingerprint
    assert OPTIONS.limits.max_image_pixels == OPTIONS.max_image_pixels
    assert "Markdown" in KINDS


VTT = """WEBVTT - A talk

NOTE not said

STYLE
::cue { color: red }

intro
00:11.000 --> 00:13.500 align:right
<v Roger>We are in <i>New York</i> City

00:13.500 --> 00:16.000
<v Roger>and it is &lt;late&gt;

1:00:16.000 --> 1:00:18.000
<v.loud Neil>Two
lines
"""


def test_subtitles_are_lines_with_times_and_speakers() -> None:
    extract = read(VTT.encode(), "talk.vtt", OPTIONS)
    assert extract.text == "Roger: We are in New York City\nand it is <late>\nNeil: Two lines"
    assert (extract.kind, extract.title, extract.mime_type) == ("speech", "A talk", "text/vtt")
    said = [(extract.text[m.start : m.end], m.t0, m.t1) for m in extract.marks]
    assert said[1:] == [("and it is <late>", 13.5, 16.0), ("Neil: Two lines", 3616.0, 3618.0)]


@pytest.mark.parametrize("harm", ["<v " * 300_000, "<v." * 300_000, "<" + "b" * 300_000, "{\\" * 300_000])
def test_subtitles_made_to_do_harm_are_read_in_bounded_time(harm: str) -> None:
    began = time.process_time()
    assert read(f"WEBVTT\n\n00:01.000 --> 00:02.000\n{harm}\n".encode(), "a.vtt", OPTIONS).text
    assert time.process_time() - began < 5


def test_subrip() -> None:
    source = (
        "1\r\n00:00:01,000 --> 00:00:02,500\r\n{\\an8}<b>Hello</b>\r\n\r\n2\r\n00:00:03,000 --> 00:00:02,000\r\nBye\r\n"
    )
    extract = read(source.encode(), "a.srt", OPTIONS)
    assert extract.text == "Hello\nBye"
    assert [(m.t0, m.t1) for m in extract.marks] == [(1.0, 2.5), (3.0, 3.0)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a,b\n1,2\n", "| a | b |\n| 1 | 2 |"),
        ("a;b\n1,5;2\n", "| a | b |\n| 1,5 | 2 |"),
        ("a\tb\r\n1\t2\r\n", "| a | b |\n| 1 | 2 |"),
        ("a|b\n1|2", "| a | b |\n| 1 | 2 |"),
        ('a,b\n"x, y; z;","two\nlines"\n', "| a | b |\n| x, y; z; | two lines |"),
        ("only\none, two\ncolumn\n", "| only |\n| one | two |\n| column |"),
        ("a,b\n\n,,\n1\n1,2,3\n", "| a | b |\n| 1 |\n| 1 | 2 | 3 |"),
        ('a,b\n"x|y",2', "| a | b |\n| x\\|y | 2 |"),
    ],
)
def test_tables_in_plain_text(source: str, expected: str) -> None:
    assert text_of(source, "a.csv") == expected


def test_the_name_says_that_tabs_are_between_values() -> None:
    assert text_of("a,b,c\t1\nd,e,f\t2\n", "a.tsv") == "| a,b,c | 1 |\n| d,e,f | 2 |"


def test_a_cell_may_be_long() -> None:
    assert len(text_of(f'a,b\n"{"x" * 500_000}",2\n', "a.csv")) > 500_000


@hypothesis_settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("ab1 .,;|\t\n\r#-=`*\"'<>:0é\u2028\x0b"), max_size=300),
    st.sampled_from(["a.md", "a.csv", "a.tsv", "a.vtt", "a.srt", "a.txt"]),
)
def test_any_text_is_read_or_refused(source: str, name: str) -> None:
    try:
        extract = read(source.encode(), name, OPTIONS)
    except InputError:
        return
    end = 0
    for span in sorted([*extract.headings, *extract.marks], key=lambda span: span.start):
        assert end <= span.start <= span.end <= len(extract.text)
        end = span.end
