"""From an answer, as it is being written, to sentences that can be said. It knows text and Markdown, no voice.

What makes no sense to the ear is left out: code, marks of citations, addresses but for their host. A table is said row
by row with its headings. Order numbers are spelled. No words are added, so it holds for any language.
"""

from __future__ import annotations

import html
import re
import unicodedata

LONGEST = 400
"""Characters of a sentence; a longer one is cut at a comma or a space."""
MOST_ROWS = 8
"""Rows of a table that are said."""

_END = re.compile(r"(?<=[.!?…])[\"'»”’)\]*_]*(?=\s)|(?<=[。！？])[」』”]*")
_TITLE = re.compile("mr|mrs|ms|dr|prof|st|vs|approx|dept|tel|bzw|ca|ggf|str|vgl")
_NUMBERED = re.compile("no|nos|nr|fig|pp?|vol|art|sec|kap|abs")
"""Abbreviations with a full stop: before anything, and before a number."""
_FENCE = re.compile(r"\s*(```|~~~)")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\((?:[^()\s]|\([^()\s]*\))*(?:\s+\"[^\"]*\")?\)")
_ADDRESS = re.compile(r"<?https?://(?:www\.)?([\w.-]*\w)(?:[^\s<>)\]]*[^\s<>)\].,;:!?])?>?")
_CITATION = re.compile(r"\s*\[\d+(?:\s*[,;–-]\s*\d+)*\]")
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_BEGINNING = re.compile(r"^\s*(?:#{1,6}\s+|>+\s?|[-*+•]\s+(?:\[[ xX]\]\s+)?)", re.MULTILINE)
_RULE = re.compile(r"^\s*(?:[-*_=]\s*){3,}$", re.MULTILINE)
_EMPHASIS = re.compile(r"(\*{1,3}|_{1,3}|~~|`+)(?=\S)(.+?)(?<=\S)\1", re.DOTALL)
_CODE = re.compile(r"\b(?=[A-Z0-9-]*\d)(?=[A-Z0-9-]*[A-Z])[A-Z0-9]+(?:-[A-Z0-9]+)*\b")
"""Capital letters with digits, as in ``ACME-123``."""
_DIGITS = re.compile(r"#(\d{2,})\b|(?<![\d.,])(\d{7,})(?![\d.,]\d)")
_UNSAID = re.compile("[\u2600-\u27bf\ufe0f\u200b-\u200f\u2028-\u202e\u2066-\u2069\U0001f000-\U0001faff]")


class Sentences:
    """Cuts a text that comes in pieces into sentences, each as soon as it is whole. Together they are the text."""

    def __init__(self) -> None:
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """The sentences that this piece completes."""
        self._text += text
        whole = []
        while (end := _end(self._text)) is not None:
            whole.append(self._text[:end])
            self._text = self._text[end:]
        return whole

    def finish(self) -> list[str]:
        """The rest, where the text is over."""
        rest, self._text = self._text, ""
        return [rest] if rest else []


def speakable(text: str) -> str:
    """What to say of a piece of Markdown, in one line; empty where it has nothing for the ear."""
    if _FENCE.match(text):
        return ""
    if text.lstrip().startswith("|"):
        text = _table(text)
    text = _LINK.sub(r"\1", html.unescape(text))
    text = _CITATION.sub("", _ADDRESS.sub(r"\1", text))
    text = _RULE.sub("", _TAG.sub("", text))
    text = _BEGINNING.sub("", text)
    for _ in range(3):  # as deep as they are nested
        text = _EMPHASIS.sub(r"\2", text)
    text = _CODE.sub(lambda match: _spelled(match.group()), text)
    text = _DIGITS.sub(lambda match: " ".join(match.group(1) or match.group(2)), text)
    text = re.sub(r"[\[\]{}|*`~^\\#_<>]+", " ", _UNSAID.sub("", text))
    text = "".join(one if unicodedata.category(one)[0] != "C" else " " for one in text)
    text = re.sub(r"\s+([.,;:!?])", r"\1", " ".join(text.split()))
    return text if any(map(str.isalnum, text)) else ""


def _end(text: str) -> int | None:
    """Where the first sentence ends, the space after it included; None while more has to come to know."""
    start = len(text) - len(text.lstrip())
    if fence := _FENCE.match(text):
        closed = re.compile(rf"\n[ \t]*{fence.group(1)}[^\n]*\n").search(text, start)
        return closed.end() if closed else None
    if text[start : start + 1] == "|":
        return _end_of_table(text, start)
    line = text.find("\n", start)
    line = len(text) if line < 0 else line
    for match in _END.finditer(text, start, line + 1):
        rest = text[match.end() :].lstrip()
        if not rest and "\n" not in text[match.end() :] and text[match.start() - 1] not in "。！？":
            break  # the next word tells
        if not _goes_on(text[start : match.start()], rest):
            end = len(text) - len(rest)
            return end if end <= LONGEST else _cut(text)
    if line < len(text):
        return line + 1 if line < LONGEST else _cut(text)
    return _cut(text) if len(text) > LONGEST else None


def _end_of_table(text: str, start: int) -> int | None:
    at = start
    while (line := text.find("\n", at)) >= 0:
        at = line + 1
        rest = text[at:].lstrip(" \t")
        if not rest:
            return None
        if not rest.startswith("|"):
            return at
    return None


def _cut(text: str) -> int:
    """Where to cut what is too long: after the last comma or space that is not too early, else anywhere."""
    head = text[:LONGEST]
    for marks in (",;:", " \n\t"):
        at = max(head.rfind(mark) for mark in marks)
        if at >= LONGEST // 3:
            return at + 1
    return LONGEST


def _goes_on(before: str, after: str) -> bool:
    """Whether a full stop ends no sentence: after an abbreviation, an initial, the number of a list."""
    if not before.endswith("."):
        return False
    word = before[:-1].rpartition(" ")[2].lstrip("(\"'«„“").casefold()
    if after[:1].islower() or before[:-1].strip().isdecimal():
        return True
    if word in ("a.m", "p.m"):
        return False
    if _NUMBERED.fullmatch(word):
        return after[:1].isdecimal()
    return bool(_TITLE.fullmatch(word)) or "." in word or (len(word) == 1 and word.isalpha() and word != "i")


def _table(text: str) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.strip().splitlines()]
    rows = [row for row in rows if not all(re.fullmatch(r":?-*:?", cell) for cell in row)]
    if len(rows) < 2:
        return ". ".join(", ".join(row) for row in rows)
    head, *body = rows
    said = (
        ", ".join(f"{name}: {cell}" if name else cell for name, cell in zip(head, row, strict=False) if cell)
        for row in body[:MOST_ROWS]
    )
    return ". ".join(said) + "."


def _spelled(code: str) -> str:
    return ", ".join(" ".join(part) for part in code.split("-"))
