"""From chat messages to token ids, by the model's own chat template. It knows templates and tokens, no network.

What users, tools and the model wrote can never become a control token: transformers encodes control strings that
stand in the messages as plain text (``sanitize_control_tokens``); only the template's own are real.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from mmagent.errors import ModelError

if TYPE_CHECKING:
    from PIL.Image import Image

    from mmagent.engine.load import Loaded


@dataclass(frozen=True)
class Picture:
    """A picture of the prompt; two of the same key are the same pixels."""

    key: str
    image: Image


@dataclass(frozen=True)
class Prompt:
    """What the network is run on."""

    ids: list[int]
    pictures: tuple[Picture, ...] = ()
    """In the order of their placeholders."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """All that the processor made, for networks that need more than ids and features."""


def build_prompt(
    loaded: Loaded, messages: list[dict[str, Any]], tools: list[dict[str, Any]], pictures: Sequence[Picture] = ()
) -> Prompt:
    """Render and tokenise a conversation, up to where the assistant's next message begins.

    Args:
        loaded: The model.
        messages: In transformers' form; contents are lists of blocks where the model takes pictures, else strings.
        tools: Functions in transformers' form.
        pictures: Those of the messages, in order.

    Raises:
        ModelError: The model has no chat template, or its template refuses the conversation.
    """
    import jinja2

    maker = loaded.processor or loaded.tokenizer
    try:
        made = maker.apply_chat_template(
            messages,
            tools=tools or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
        )
    except (ValueError, TypeError, NotImplementedError, jinja2.TemplateError) as error:
        raise ModelError(
            f"{loaded.name} cannot take this conversation: {' '.join(str(error).split())[:300]}"
        ) from error
    return Prompt(made["input_ids"][0].tolist(), tuple(pictures), dict(made))


def keep_tokens(ids: list[int], earlier: Iterable[list[int]], spell: Callable[[Iterable[int]], bytes]) -> list[int]:
    """``ids`` with its beginning as it was once generated, so that its keys and values are found again.

    A model may spell a text with other tokens than the tokenizer would. Where an earlier sequence spells the beginning
    of ``ids``, byte for byte and control token for control token, the longest such sequence takes its place.
    """
    text = spell(ids)
    edges = {end: index for index, end in enumerate(accumulate(len(spell([token])) for token in ids), start=1)}
    best: list[int] = []
    rest = 0
    for sequence in earlier:
        spelt = spell(sequence)
        if len(sequence) > len(best) and len(spelt) in edges and text.startswith(spelt):
            best, rest = sequence, edges[len(spelt)]
    return [*best, *ids[rest:]]
