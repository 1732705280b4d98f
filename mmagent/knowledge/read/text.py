"""Reads plain text and subtitles. It knows encodings and cue times, and no mark-up."""

from __future__ import annotations

import codecs
import re
from dataclasses import replace
from html import unescape
from typing import TYPE_CHECKING

from mmagent.errors import InputError
from mmagent.knowledge.extract import Extract
from mmagent.knowledge.read.compose import Composer, one_line

if TYPE_CHECKING:
    from mmagent.knowledge.read import Options

_BLANK = re.compile(r"\n[ \t]*\n")
_TIME = r"(?:(\d{1,4}):)?([0-5]?\d):([0-5]?\d)[.,](\d{3})"
_CUE = re.compile(rf"[ \t]*{_TIME}[ \t]*-->[ \t]*{_TIME}")
_VOICE = re.compile(r"<v(?:\.[^\s<>]*+)?[ \t]++([^<>]*+)>")
_TAG = re.compile(r"</?[a-zA-Z0-9:.][^<>]*>|\{\\[^{}]*\}")
"""WebVTT and SubRip tags, and the position codes that SubRip took from SSA."""


def decode(data: bytes) -> str:
    """The characters of a text in UTF-8, or in UTF-16 that says so in its first bytes.

    Raises:
        InputError: It is in another encoding, or no text.
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("it is not UTF-8 text; save it as UTF-8") from error
    if "\0" in text:
        raise InputError("it is not text")
    return text


def read_text(data: bytes, name: str, options: Options) -> Extract:
    """A plain text, as it is: spans are in characters of the file."""
    return Extract(decode(data), "text/plain")


def read_subtitles(data: bytes, name: str, options: Options) -> Extract:
    """The cues of a WebVTT or SubRip file, one a line, each with its times; who speaks comes first where it is said."""
    text = decode(data).replace("\r\n", "\n").replace("\r", "\n")
    page, speaker = Composer(), ""
    for block in _BLANK.split(text):
        lines = block.strip("\n").split("\n")
        at, cue = next(((at, cue) for at, line in enumerate(lines[:2]) if (cue := _CUE.match(line))), (0, None))
        if cue is None:
            continue  # the header, a note or a style
        said = "\n".join(lines[at + 1 :])
        voice = _VOICE.search(said)
        words = one_line(unescape(_TAG.sub("", said)))
        if voice and one_line(voice[1]) != speaker and words:
            speaker = one_line(voice[1])
            words = f"{speaker}: {words}"
        t0, t1 = _seconds(*cue.groups()[:4]), _seconds(*cue.groups()[4:])
        page.timed(words, t0, max(t0, t1))
    return replace(page.extract("text/vtt", _title(text)), kind="speech")


def _seconds(hours: str | None, minutes: str, seconds: str, thousandths: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(thousandths) / 1000


def _title(text: str) -> str:
    """What stands behind the word WEBVTT in the first line."""
    first = text.split("\n", 1)[0]
    return first[6:].strip(" \t-") if first.startswith("WEBVTT") else ""
