from __future__ import annotations

import random
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from docx.oxml import parse_xml
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.util import Inches

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read import Options, needs_worker, read, type_of
from mmagent.knowledge.read.sheets import read_sheets
from mmagent.knowledge.read.slides import read_slides
from mmagent.knowledge.read.word import read_word
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def saved(document: Any) -> bytes:
    buffer = BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def outline(extract: Extract) -> list[tuple[int, str]]:
    assert all(extract.text[h.start : h.end] == h.title for h in extract.headings)
    return [(h.level, h.title) for h in extract.headings]


def word() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Handbook"
    document.sections[0].header.paragraphs[0].text = "Header"
    document.add_paragraph("Before.")
    document.add_heading("Returns", 1)
    document.add_paragraph("Bring it back.\tSoon.")
    document.add_paragraph("Unused", style="List Bullet")
    document.add_paragraph("Boxed", style="List Bullet")
    document.add_paragraph("First", style="List Number")
    document.add_paragraph("Second", style="List Number")
    document.add_heading("Times", 2)
    table = document.add_table(2, 3)
    for at, text in enumerate(("Item", "Days", "", "Lamp | bulb", "14", "x")):
        table.rows[at // 3].cells[at % 3].text = text
    table.rows[0].cells[1].merge(table.rows[0].cells[2])
    return saved(document)


def slides() -> bytes:
    deck = pptx.Presentation()
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Quarter"
    first.placeholders[1].text = "Up\nDown"
    first.placeholders[1].text_frame.paragraphs[1].level = 1
    first.notes_slide.notes_text_frame.text = "Say it slowly."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    table = second.shapes.add_table(2, 2, 0, 0, Inches(1), Inches(1)).table
    for at, text in enumerate(("a", "b", "c", "d")):
        table.cell(at // 2, at % 2).text = text
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 9, 9).text_frame.text = "In a group"
    data = CategoryChartData()
    data.categories = ["East", "West"]
    data.add_series("2026", (1.5, 2))
    chart = second.shapes.add_chart(XL_CHART_TYPE.COLUMN_CLUSTERED, 0, 0, 9, 9, data).chart
    chart.has_title = True
    chart.chart_title.text_frame.text = "Sales"
    return saved(deck)


def sheets() -> bytes:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Stock"
    sheet["B2"], sheet["C2"], sheet["B3"], sheet["C3"] = "Item", "Count", "Lamp", 3.0
    sheet["E9"], sheet["E10"] = True, 0.1 + 0.2
    hidden = book.create_sheet("Secret")
    hidden["A1"] = "no"
    hidden.sheet_state = "hidden"
    book.create_sheet("Empty")
    dates = book.create_sheet("Dates")
    from datetime import datetime

    dates["A1"], dates["B1"] = datetime(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5)
    return saved(book)


MAKERS: dict[str, Callable[[], bytes]] = {"a.docx": word, "a.pptx": slides, "a.xlsx": sheets}


def test_word() -> None:
    extract = read(word(), "a.docx", OPTIONS)
    assert extract.text == (
        "Before.\n\nReturns\n\nBring it back.\tSoon.\n\n- Unused\n- Boxed\n1. First\n2. Second\n\nTimes\n\n"
        "| Item | Days | Days |\n| Lamp \\| bulb | 14 | x |"
    )
    assert (extract.title, outline(extract)) == ("Handbook", [(1, "Returns"), (2, "Times")])
    assert extract.mime_type.endswith("wordprocessingml.document")


@pytest.mark.parametrize(("reader", "make"), [(read_word, word), (read_slides, slides), (read_sheets, sheets)])
def test_a_reader_says_the_type_that_leads_to_it(reader: Callable[..., Extract], make: Callable[[], bytes]) -> None:
    data = make()
    assert reader(data, "a", OPTIONS).mime_type == type_of(data, "a")


def test_headings_stand_below_a_title() -> None:
    document = docx.Document()
    document.add_heading("The book", 0)
    document.add_heading("One", 1)
    document.add_paragraph("x")
    assert outline(read(saved(document), "a.docx", OPTIONS)) == [(1, "The book"), (2, "One")]


def test_numbers_of_headings_are_counted() -> None:
    document = docx.Document()
    numbering = document.part.numbering_part.element
    levels = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, (form, text) in enumerate([("upperRoman", "%1"), ("decimal", "%1.%2"), ("lowerLetter", "(%3)")])
    )
    numbering.insert(0, parse_xml(f'<w:abstractNum {W} w:abstractNumId="77">{levels}</w:abstractNum>'))
    numbering.append(parse_xml(f'<w:num {W} w:numId="78"><w:abstractNumId w:val="77"/></w:num>'))
    for text, depth in (("One", 0), ("First", 1), ("Second", 1), ("a", 2), ("Two", 0), ("Again", 1)):
        paragraph = document.add_heading(text, depth + 1)
        number = f'<w:numPr {W}><w:ilvl w:val="{depth}"/><w:numId w:val="78"/></w:numPr>'
        paragraph._p.get_or_add_pPr().append(parse_xml(number))
    titles = [title for _, title in outline(read(saved(document), "a.docx", OPTIONS))]
    assert titles == ["I One", "I.1 First", "I.2 Second", "(a) a", "II Two", "II.1 Again"]


def test_text_boxes_controls_and_changes() -> None:
    document = docx.Document()
    box = "<w:txbxContent><w:p><w:r><w:t>In a box</w:t></w:r></w:p></w:txbxContent>"
    document.element.body.insert(
        0,
        parse_xml(
            f"<w:p {W} {MC}><w:r><w:t>Beside</w:t><mc:AlternateContent><mc:Choice>{box}</mc:Choice>"
            f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r>"
            "<w:del><w:r><w:t>deleted</w:t></w:r></w:del><w:ins><w:r><w:t> added</w:t></w:r></w:ins></w:p>"
        ),
    )
    document.element.body.insert(
        1, parse_xml(f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>Controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>")
    )
    assert read(saved(document), "a.docx", OPTIONS).text == "Beside added\n\nIn a box\n\nControlled"


def test_slides_are_pages() -> None:
    extract = read(slides(), "a.pptx", OPTIONS)
    assert extract.text == (
        "Quarter\n\nUp\n  - Down\n\nSay it slowly.\n\n| a | b |\n| c | d |\n\nIn a group\n\nSales\n\n"
        "|  | 2026 |\n| East | 1.5 |\n| West | 2 |"
    )
    assert [(m.page, extract.text[m.start : m.end].split()[0]) for m in extract.marks] == [(1, "Quarter"), (2, "|")]
    assert [(h.level, h.title) for h in extract.headings] == [(2, "Quarter"), (2, "")]  # the second has none


def test_too_many_slides_are_refused() -> None:
    with pytest.raises(InputError, match="2 slides and the limit is 1; MMAGENT_MAX_INDEX_PAGES"):
        read(slides(), "a.pptx", replace(OPTIONS, max_index_pages=1))


def test_sheets() -> None:
    extract = read(sheets(), "a.xlsx", OPTIONS)
    assert extract.text == (
        "Stock\n\n| Item | Count |\n| Lamp | 3 |\n\n| TRUE |\n| 0.3 |\n\nDates\n\n| 2026-01-02 | 2026-01-02 03:04:05 |"
    )
    assert outline(extract) == [(2, "Stock"), (2, "Dates")]
    assert extract.notes == ["the hidden sheet 'Secret' was left out"]


def test_a_sheet_with_too_many_cells_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    book = openpyxl.Workbook()
    book.active["XFD1048576"] = "far away"
    with pytest.raises(InputError, match="it has more than 1,000,000 cells; split it"):
        monkeypatch.setattr("mmagent.knowledge.read.sheets.MAX_CELLS", 1_000_000)
        read(saved(book), "a.xlsx", OPTIONS)


def rewritten(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return buffer.getvalue()


LAUGHS = b'<!DOCTYPE x [<!ENTITY a "' + b"lol" * 100 + b'"><!ENTITY b "' + b"&a;" * 100 + b'">]>'


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused(name: str, encoding: str) -> None:
    def declare(part: str, content: bytes) -> bytes:
        if not re.search(r"document\.xml$|slide1\.xml$|sheet1\.xml$", part):
            return content
        text = re.sub(rb"^<\?xml.*?\?>", b"", content)
        return (LAUGHS + text).decode().encode(encoding)

    with pytest.raises(InputError, match="entities"):
        read(rewritten(MAKERS[name](), declare), name, OPTIONS)


@pytest.mark.parametrize("name", MAKERS)
def test_what_unpacks_to_too_much_is_refused(name: str) -> None:
    def inflate(part: str, content: bytes) -> bytes:
        return content + b" " * 3_000_000 if part == "docProps/app.xml" else content

    with pytest.raises(InputError, match=r"more than 2,000,000 bytes unpacked .*MMAGENT_MAX_ARCHIVE_BYTES"):
        read(rewritten(MAKERS[name](), inflate), name, replace(OPTIONS, max_archive_bytes=2_000_000))


def test_a_header_that_lies_about_the_size_is_not_believed() -> None:
    data = rewritten(
        word(), lambda part, content: content + b" " * 5_000_000 if part == "docProps/app.xml" else content
    )
    size = next(
        info for info in zipfile.ZipFile(BytesIO(data)).infolist() if info.filename == "docProps/app.xml"
    ).file_size
    lying = data.replace(size.to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert lying != data
    with pytest.raises(InputError, match="it is damaged"):
        read(lying, "a.docx", OPTIONS)
    with pytest.raises(InputError, match="bytes unpacked"):
        read(lying, "a.docx", replace(OPTIONS, max_archive_bytes=2_000_000))


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        ("EncryptedPackage", "it is encrypted; save it without a password"),
        ("WordDocument", r"before 2007; save it as \.docx"),
        ("PowerPoint Document", r"before 2007; save it as \.pptx"),
        ("Workbook", r"before 2007; save it as \.xlsx"),
        ("Other", "before 2007"),
    ],
)
def test_old_and_encrypted_files_say_what_to_do(stream: str, reason: str) -> None:
    data = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600) + stream.encode("utf-16-le") + bytes(100)
    with pytest.raises(InputError, match=reason):
        read(data, "a.doc", OPTIONS)


def test_packages_of_other_kinds_say_what_to_do() -> None:
    for kind, reason in (("vnd.oasis.opendocument.text", "OpenDocument"), ("epub+zip", "e-book")):
        buffer = BytesIO()
        with zipfile.ZipFile(buffer, "w") as package:
            package.writestr("mimetype", f"application/{kind}")
        with pytest.raises(InputError, match=reason):
            read(buffer.getvalue(), "a.odt", OPTIONS)


@pytest.mark.parametrize("name", MAKERS)
def test_the_name_does_not_matter_and_a_worker_is_needed(name: str) -> None:
    data = MAKERS[name]()
    assert read(data, "a.bin", OPTIONS) == read(data, name, OPTIONS)
    assert needs_worker(data, name)


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_files_are_read_or_refused(name: str) -> None:
    """Bytes flipped in the archive, and in the parts before they are packed, where checksums do not help."""
    original, pick = MAKERS[name](), random.Random(7)

    def flip(data: bytes, times: int) -> bytes:
        damaged = bytearray(data)
        for _ in range(times):
            damaged[pick.randrange(len(damaged))] = pick.choice(b'<>/"= \0a1\xff')
        return bytes(damaged)

    with zipfile.ZipFile(BytesIO(original)) as package:
        parts = [part for part in package.namelist() if part.endswith((".xml", ".rels"))]
    refused = 0
    for turn in range(40):
        victim = pick.choice(parts)
        damaged = (
            flip(original, 5)
            if turn % 3 == 0
            else rewritten(
                original, lambda part, content, victim=victim: flip(content, 2) if part == victim else content
            )
        )
        try:
            extract = read(damaged, name, OPTIONS)
        except InputError as reason:
            assert "\n" not in str(reason)
            refused += 1
        else:
            assert all(0 <= h.start <= h.end <= len(extract.text) for h in extract.headings)
    assert refused > 10
