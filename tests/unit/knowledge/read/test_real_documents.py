"""Real files of many kinds against what docling's authors expect of them (the shared data)."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from mmagent.knowledge.read import Options, read
from mmagent.settings import Settings

OPTIONS = Options.of(Settings())
KINDS = ("csv", "docx", "html", "pptx", "webvtt", "xlsx")
BELOW = {
    "csv-pipe.csv": (0.98, 1.0),  # the expected text has bars as character references
    "example_08.html": (1.0, 0.99),
    "pptx_chart.pptx": (0.85, 0.75),  # names of chart types are expected, and the numbers of one chart not
    "powerpoint_sample.pptx": (0.94, 0.85),  # numbers of lists; speaker's notes are not expected
    "powerpoint_with_image.pptx": (1.0, 0.5),  # nor is the alternative text of a picture
    "webvtt_example_01.vtt": (1.0, 0.85),  # who speaks is not expected
    "webvtt_example_02.vtt": (1.0, 0.8),
    "webvtt_example_03.vtt": (1.0, 0.8),
    "wiki_duck.html": (0.95, 0.99),  # buttons and navigation are expected
    "word_sample.docx": (1.0, 0.95),
    "xlsx_01.xlsx": (0.7, 0.99),  # numbers in charts are expected again
    "xlsx_02_sample_sales_data.xlsm": (0.7, 1.0),  # days are expected with a time, 00:00:00
    "xlsx_03_chartsheet.xlsx": (0.65, 0.97),
}
"""Recall and precision that are reached where not all is expected or found, and why."""

_NOTES = re.compile(r"<!--.*?-->|\]\((?:[^()]|\([^()]*\))*\)|\\(?=[_*])")


def words(text: str) -> Counter[str]:
    """The words of a Markdown text, without comments and the addresses of links."""
    return Counter(re.findall(r"\w+", _NOTES.sub(" ", text).lower()))


def agreement(found: str, expected: str) -> tuple[float, float]:
    """Recall and precision of the words found, each as often as it stands there."""
    ours, theirs = words(found), words(expected)
    both = (ours & theirs).total()
    return both / max(theirs.total(), 1), both / max(ours.total(), 1)


def test_words_are_those_that_are_expected(shared_data: Path) -> None:
    folder, poor, seen = shared_data / "docs_docling", {}, 0
    for file in sorted(file for kind in KINDS for file in (folder / kind / "sources").iterdir()):
        truth = file.parents[1] / "groundtruth" / f"{file.name}.md"
        if truth.is_file():
            seen += 1
            recall, precision = agreement(read(file.read_bytes(), file.name, OPTIONS).text, truth.read_text("utf-8"))
            least = BELOW.get(file.name, (1.0, 1.0))
            if recall < least[0] or precision < least[1]:
                poor[file.name] = (recall, precision)
    assert seen > 30
    assert poor == {}


@pytest.mark.parametrize("name", ["blocks", "duck", "mixed", "nested", "wiki"])
def test_markdown_is_taken_as_it_is(shared_data: Path, name: str) -> None:
    data = (shared_data / "docs_docling" / "md" / "sources" / f"{name}.md").read_bytes()
    extract = read(data, "a.md", OPTIONS)
    assert extract.text.encode() == data
    assert extract.headings
