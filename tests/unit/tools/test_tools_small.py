"""The built-in tools that need no model: arithmetic, the date, a closer look, and the list of them all."""

from __future__ import annotations

import re
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import mmagent.tools
from mmagent import Image as Picture
from mmagent import Tool, ToolContext, ToolError
from mmagent.errors import NotFound
from mmagent.media import BlobStore
from mmagent.tools.calculate import calculate
from mmagent.tools.look import look
from mmagent.tools.today import today


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("9 + 9", "18"),
        ("2 - 6", "-4"),
        ("10 / 4", "2.5"),
        (" (19.99 + 5) * 2 ", "49.98"),
        ("4 / 2", "2"),
        ("0.1 + 0.2", "0.3"),
        ("1 / 3", "0.3333333333"),
        ("-2 ** 2", "-4"),
        ("7 // 2 + 7 % 2", "4"),
        ("0 * -1.5", "0"),
        ("round(10 / 3, 2) + max(1, 2) + min(1, 2) + abs(-4)", "10.33"),
        ("123456789 * 1000", "123456789000"),
    ],
)
def test_arithmetic(expression: str, answer: str) -> None:
    assert calculate(expression) == answer


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("", "is no arithmetic; use numbers"),
        ("1,299 + 5", "is no arithmetic"),
        ("price * 2", "is no arithmetic"),
        ("__import__('os').system('true')", "is no arithmetic"),
        ("(1).__class__", "is no arithmetic"),
        ("True + 1", "is no arithmetic"),
        ("'a' * 9", "is no arithmetic"),
        ("2j", "is no arithmetic"),
        ("(-8) ** 0.5", "is no arithmetic"),
        ("max()", "is no arithmetic"),
        ("round(1, -999999999)", "is no arithmetic"),
        ("1 +\0 1", "is no arithmetic"),
        ("(" * 150 + "1", "is no arithmetic"),
        ("1 / (2 - 2)", "divides by zero"),
        ("9 ** 9 ** 9", "is too large"),
        ("10.0 ** 400", "is too large"),
        ("1e999 - 1e999", "is too large"),
        ("9" * 201, "longer than 200 characters"),
    ],
)
def test_what_is_no_arithmetic_is_refused_in_one_line(expression: str, why: str) -> None:
    with pytest.raises(ToolError, match=why) as caught:
        calculate(expression)
    assert "\n" not in str(caught.value)


@settings(max_examples=300, deadline=2_000)
@given(st.text(alphabet="0123456789.e+-*/%() ,", max_size=60) | st.text(max_size=30))
def test_any_expression_is_answered_or_refused(expression: str) -> None:
    try:
        assert re.fullmatch(r"-?[\d.]+(e[+-]?\d+)?", calculate(expression))
    except ToolError as error:
        assert "\n" not in str(error)


def test_today_is_the_date_and_the_day(monkeypatch: pytest.MonkeyPatch) -> None:
    class Day(date):
        @classmethod
        def today(cls) -> date:
            return date(2026, 11, 22)

    monkeypatch.setattr("mmagent.tools.today.date", Day)
    assert today() == "2026-11-22, Sunday"


def context_of(folder: Path, *pictures: Image.Image) -> ToolContext:
    store = BlobStore(folder)
    return ToolContext(pictures=tuple(store.admit(Picture(picture)) for picture in pictures), blobs=store)


def test_look_shows_the_part_asked_for_and_enlarges_it(tmp_path: Path) -> None:
    picture = Image.new("RGB", (200, 100), "white")
    picture.paste("red", (100, 50, 200, 100))
    context = context_of(tmp_path, picture, Image.new("RGB", (1000, 10), "blue"))
    part = look(context, [0.5, 0.5, 1, 1], 1).source
    assert part.size == (512, 256) and part.getcolors() == [(512 * 256, (255, 0, 0))]
    assert look(context).source.size == (1000, 10)  # the latest, whole, large enough as it is
    assert min(look(context, [0.5, 0.5, 0.50001, 0.50001]).source.size) >= 1


@pytest.mark.parametrize("box", [[0, 0, 1], [0, 0, 0, 1], [0.5, 0, 0.4, 1], [0, 0, 2, 1], [0, 0, float("nan"), 1]])
def test_look_refuses_a_box_that_is_none(tmp_path: Path, box: list[float]) -> None:
    with pytest.raises(ToolError, match="the box"):
        look(context_of(tmp_path, Image.new("RGB", (20, 10))), box)


def test_look_without_a_picture_says_so() -> None:
    with pytest.raises(ToolError, match="there is no picture in this conversation"):
        look(ToolContext())


def test_the_built_in_tools_are_tools_of_their_names_without_effects() -> None:
    found = mmagent.tools.builtins()
    assert [found.name for found in found] == list(mmagent.tools.BUILTIN)
    assert all(isinstance(each, Tool) and each.effect == "read" and each.description for each in found)
    assert [each.name for each in mmagent.tools.builtins("today", "look")] == ["today", "look"]
    with pytest.raises(NotFound, match=r"no built-in tool 'tomorow'; there are: .*today"):
        mmagent.tools.builtin("tomorow")


def test_listing_the_tools_loads_nothing_heavy() -> None:
    heavy = "PIL", "numpy", "torch", "rapidocr", "chromadb", "transformers"
    code = f"import sys, mmagent.tools as t; t.builtins(); print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
