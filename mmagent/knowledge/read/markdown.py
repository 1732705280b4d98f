"""Reads Markdown: its text as it is, and where its headings stand. It knows no other mark-up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mmagent.knowledge.extract import Extract, Heading
from mmagent.knowledge.read.compose import MAX_TITLE
from mmagent.knowledge.read.text import decode

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_SETEXT = re.compile(r" {0,3}(={2,}|-{2,})[ \t]*$")
_BLOCK = re.compile(r" {0,3}(?:[-*+](?=\s)|[>|#]|\d+[.)]\s)")
_MARKUP = re.compile(r"[*`]|!?\[([^\]]*)\]\([^)]*\)")


def read_markdown(data: bytes, name: str, options: Options) -> Extract:
    """A Markdown text as it is: spans are in characters of the file."""
    text = decode(data)
    return Extract(text, "text/markdown", headings=headings(text))


def headings(source: str) -> list[Heading]:
    """The headings of a Markdown text, in order; its front matter is one of level 0 without words, so no passage."""
    matter = _FRONT_MATTER.match(source)
    skipped = [Heading(0, matter.end(), 0, "")] if matter else []
    return skipped + list(_headings(source, matter.end() if matter else 0))


def _headings(source: str, start: int) -> Iterator[Heading]:
    fence, before, position = "", (start, ""), start
    paragraph = 0  # lines of the paragraph so far: an underline makes a heading of a paragraph of one line
    for line in source[start:].splitlines(keepends=True):
        begin, position = position, position + len(line)
        bare = line.rstrip("\r\n")
        mark = _FENCE.match(bare)
        if fence:
            fence = "" if mark and mark[1].startswith(fence) and not bare[mark.end() :].strip() else fence
            paragraph = 0
        elif mark:
            fence, paragraph = mark[1], 0
        elif atx := _ATX.match(bare):
            yield Heading(begin, position, len(atx[1]), _plain(bare[atx.end() :]))
            paragraph = 0
        elif paragraph == 1 and (underline := _SETEXT.match(bare)):
            yield Heading(before[0], position, 1 if underline[1][0] == "=" else 2, _plain(before[1]))
            paragraph = 0
        elif not bare.strip():
            paragraph = 0
        else:
            paragraph = paragraph + 1 if paragraph or not _BLOCK.match(bare) else 2
        before = (begin, bare)


def _plain(title: str) -> str:
    """A heading's words, without mark-up and closing hashes."""
    words = title.split()
    if words and not words[-1].strip("#"):
        words.pop()
    title = " ".join(words)[:MAX_TITLE]
    return " ".join(_MARKUP.sub(r"\1", title).split())
