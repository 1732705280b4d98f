"""Text of models, tools and files, made safe for a terminal. It knows text and stderr only."""

from __future__ import annotations

import re
import sys
from typing import TextIO

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Show control characters escaped (``\x1b``), so that no terminal obeys them; new lines and tabs stay.

    Escaped are C0 and C1 controls, lone surrogates, and the marks that turn the direction of writing.
    """
    return _CONTROLS.sub(lambda match: _escaped(match.group()), text.replace("\r\n", "\n"))


def complain(message: str, err: TextIO | None = None) -> None:
    """Print ``error: message`` as one line of stderr."""
    print(f"error: {printable(' '.join(message.splitlines()))}", file=err or sys.stderr, flush=True)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def tell(note: str) -> None:
    """Say something beside the answer, on stderr."""
    print(f"note: {printable(note)}", file=sys.stderr, flush=True)
