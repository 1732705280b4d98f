"""Conversations out of a user's own JSONL file, drawn line by line. It knows files and lines; what a row may say is in
`mmagent.train.sources.row`.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import random
import tempfile
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from mmagent.errors import InputError, MMAgentError, NotFound
from mmagent.train.sample import Draw, OnBadRow, Sample, Share, Shown, Tool
from mmagent.train.sources.row import BadRow, Read, read_row, read_tools
from mmagent.train.sources.vary import Values

log = logging.getLogger(__name__)

MAX_LINE = 64 << 20
"""Bytes of a row; pictures may stand in it as data URLs."""
MAX_UNPACKED = 64 << 30
"""Bytes that a ``.gz`` may unpack to."""
LOOKED_AT = 1000
"""Rows that are read before the first is drawn, so that what is wrong shows at once."""
TRIES = 1000
"""Rows in a row that may be bad."""
_SEEK_STEP = 1 << 20
_BOM = b"\xef\xbb\xbf"


def rows(
    path: str, tools: str | None = None, on_bad_row: OnBadRow = "stop", as_agent: bool = True, vary: Share = 0.0
) -> Draw:
    """Conversations of a ``.jsonl`` or ``.jsonl.gz`` file, each as likely as any other.

    A row is ``{"messages": [...], "tools": [...], "images": [...]}`` as OpenAI has them, ShareGPT's
    ``{"conversations": [{"from", "value"}]}``, or ``{"prompt", "answer", "image"}``. Paths of pictures are relative to
    the file. Rows are read when they are drawn, so a file may be larger than memory.

    Args:
        path: The file.
        tools: The tools of rows that name none: a JSON list of signatures, or a Python file of tools as ``--tools``
            takes it, which is run.
        on_bad_row: ``stop``: a row that cannot be read is an error; ``skip``: it is logged, counted and left out.
        as_agent: Whether a row's system message stands for an agent's instructions and is written as an agent writes
            it (``prompts/agent.md``); else system messages are left as they are.
        vary: The share, from 0 to 1, that is drawn with other values: what calls copy from the user and answers from
            results is exchanged for what stands there in other rows, and digits of arguments for any others.

    Raises:
        NotFound: There is no such file.
        InputError: A row is bad, or none is good; the message has file, line and what is wrong.
        ConfigurationError: The file of tools is wrong.
    """
    known = read_tools(tools) if tools else []
    return Rows(Path(path).expanduser(), known, skip=on_bad_row == "skip", as_agent=as_agent, vary=vary)


class Rows:
    """The rows of a file.

    Args:
        path: The file.
        tools: Of rows that name none.
        skip: Whether bad rows are left out.
        as_agent: Whether system messages are an agent's instructions.
        vary: The share that is drawn with other values.
    """

    def __init__(self, path: Path, tools: list[Tool], *, skip: bool, as_agent: bool, vary: float) -> None:
        self.path, self._tools, self._skip, self._as_agent, self._vary = path, tools, skip, as_agent, vary
        self._values = Values()
        self.bad: dict[int, str] = {}
        """What is wrong with the rows that were left out so far, by their place among the rows."""
        self._file = _opened(path)
        self._starts, self._lines = _index(self._file)
        self._look()

    def __len__(self) -> int:
        return len(self._starts)

    def __call__(self, rng: random.Random) -> Sample:
        """A row.

        Raises:
            InputError: It is bad, and bad rows are not skipped; or many in a row were.
        """
        for _ in range(TRIES):
            sample = self._try(rng.randrange(len(self._starts)), pictures=True)
            if sample is not None:
                return self._varied(sample, rng)
        raise InputError(
            f"{TRIES} rows of {self.path} in a row were bad, {len(self.bad)} of its {len(self)} so far; the last: "
            f"{next(reversed(self.bad.values()))}; correct the file"
        )

    def _look(self) -> None:
        """Read the first rows, and more until one is good."""
        good = False
        for place in range(len(self._starts)):
            if place >= LOOKED_AT and good:
                return
            sample = self._try(place, pictures=False)
            if sample is not None:
                self._values.add(sample.messages, sample.tools)
                good = True
        if not good:
            why = next(iter(self.bad.values()), f"{self.path} has no rows")
            raise InputError(f"there is no row to train on in {self.path}: {why}; docs/train_your_own.md shows a row")

    def _varied(self, sample: Sample, rng: random.Random) -> Sample:
        if rng.random() >= self._vary:
            return sample
        return replace(sample, messages=self._values.exchange(sample.messages, rng))

    def _try(self, place: int, *, pictures: bool) -> Sample | None:
        """A row; None where it is bad and bad rows are skipped."""
        if place in self.bad:
            return None
        try:
            read = read_row(self._value(place), self.path.parent, self._tools, self._as_agent)
            shown = [Shown(picture.open()) for picture in read.pictures] if pictures else _all_there(read)
            return Sample(read.messages, read.tools, shown)
        except (BadRow, InputError) as error:
            message = f"{self.path}, line {self._lines[place]}: {error}"
            if not self._skip:
                raise InputError(f"{message}; correct the row, or leave such rows out with on_bad_row: skip") from error
            self.bad[place] = message
            log.warning("left out a row (%d so far): %s", len(self.bad), message)
            return None

    def _value(self, place: int) -> Any:
        self._file.seek(self._starts[place])
        line = self._file.readline(MAX_LINE + 1)
        if len(line) > MAX_LINE:
            raise BadRow(f"it is longer than {MAX_LINE >> 20} MiB")
        try:
            return json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise BadRow(f"it is not UTF-8 (byte {error.start + 1})") from error
        except json.JSONDecodeError as error:
            raise BadRow(f"it is no JSON: {error.msg} at character {error.pos + 1}") from error
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, lists in lists in lists
            raise BadRow("it is no JSON that can be read") from error


def _all_there(read: Read) -> list[Shown]:
    for picture in read.pictures:
        picture.check()
    return []


def _opened(path: Path) -> IO[bytes]:
    """The file, unpacked where it is packed."""
    try:
        if not path.is_file():
            raise NotFound(f"there is no file {path}; check the path, which is relative to the folder you are in")
        packed = path.open("rb")
        if packed.read(2) != b"\x1f\x8b":
            packed.seek(0)
            return packed
        packed.close()
        return _unpacked(path)
    except MMAgentError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}); check its permissions") from error


def _unpacked(path: Path) -> IO[bytes]:
    """A copy on disk that goes when it is closed: one cannot jump to a line of what is packed."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - it is what is returned
    try:
        with gzip.open(path) as packed:
            while block := packed.read(_SEEK_STEP):
                if copy.tell() + len(block) > MAX_UNPACKED:
                    raise InputError(f"{path} unpacks to more than {MAX_UNPACKED >> 30} GiB; give it in parts")
                copy.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is a damaged gzip file ({error}); pack it again") from error
    copy.seek(0, os.SEEK_SET)
    return copy


def _index(file: IO[bytes]) -> tuple[array[int], array[int]]:
    """Where each row begins, and its line; lines without words are no rows."""
    starts, lines = array("Q"), array("Q")
    for number, start, blank in _each_line(file):
        if not blank:
            starts.append(start)
            lines.append(number)
    return starts, lines


def _each_line(file: IO[bytes]) -> Iterator[tuple[int, int, bool]]:
    """Number, offset, and whether it is blank; a line is never in memory as a whole."""
    file.seek(0)
    start = len(_BOM) if file.read(len(_BOM)) == _BOM else 0
    file.seek(start)
    number, blank, place = 1, True, start
    while piece := file.readline(_SEEK_STEP):
        place += len(piece)
        blank = blank and not piece.strip()
        if piece.endswith(b"\n"):
            yield number, start, blank
            number, blank, start = number + 1, True, place
    if place > start:
        yield number, start, blank
