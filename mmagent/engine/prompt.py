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

    maker, more = loaded.tokenizer, {}
    if loaded.processor is not None:  # else the processor adds them itself, which does not go with sanitizing
        maker, more = loaded.processor, {"processor_kwargs": {"add_special_tokens": False}}
    try:
        made = maker.apply_chat_template(
            messages,
            tools=tools or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            sanitize_control_tokens=True,
            **more,
        )
    except (ValueError, TypeError, NotImplementedError, jinja2.TemplateError) as error:
        raise ModelError(
            f"{loaded.name} cannot take this conversation: {' '.join(str(error).split())[:300]}"
        ) from error
    inputs = dict(made) if loaded.processor is None else _begun(dict(made), loaded.tokenizer)
    return Prompt(inputs["input_ids"][0].tolist(), tuple(pictures), inputs)


def _begun(inputs: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """The inputs with the tokens before them that the processor would have added, where the template has not."""
    import torch

    first: list[int] = tokenizer("")["input_ids"]
    ids = inputs["input_ids"]
    if ids[0, : len(first)].tolist() == first:
        return inputs
    fill = {"input_ids": first, "attention_mask": [1] * len(first)}

    def longer(name: str, value: Any) -> Any:
        if getattr(value, "shape", None) != ids.shape:
            return value
        return torch.cat([value.new_tensor([fill.get(name, [0] * len(first))]), value], dim=1)

    return {name: longer(name, value) for name, value in inputs.items()}


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
