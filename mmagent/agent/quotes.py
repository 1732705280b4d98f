"""Whether quotes are quotes: checks `Quoted` values against the conversation, whatever model they came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmagent.agent.schema import Schema, quoted_values
from mmagent.content import Message, is_quote

CORRECTION = "error: {problem}; answer again"
"""What the model is told of an answer that does not fit, in the user's place."""


def made_up(schema: Schema, value: Any, messages: Sequence[Message]) -> tuple[str, str] | None:
    """The first `Quoted` value that stands nowhere in the conversation, as dotted path and value."""
    return next((found for found in quoted_values(schema, value) if not is_quote(found[1], messages)), None)
