"""Speech to text. It knows samples and words, no documents and stores; importing it loads no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.speech.transcribe import Transcriber, load_transcriber

__all__ = ["Segment", "Transcriber", "load_transcriber"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Some words that were said."""

    t0: float
    """When they begin, in seconds."""
    t1: float
    """When they end, in seconds; never before ``t0``."""
    text: str


def __getattr__(name: str) -> Any:
    if name in ("Transcriber", "load_transcriber"):
        from mmagent.speech import transcribe

        return getattr(transcribe, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
