"""Small BPE vocabularies, learnt in milliseconds from a few lines: byte-level ones and ones of words with spaces in.

They have merges, so that texts are cut in more than one way, and can spell any text. They know no special tokens.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXTS = (
    "Where is my order? The lamp is late; look the order up and answer with the date that the tool returns.",
    '{"type": "function", "function": {"name": "lookup_order", "description": "Look an order up.", "parameters": '
    '{"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}}}',
    '<tool_call>\n{"name": "lookup_order", "arguments": {"order_id": "B-10375"}}\n</tool_call>',
    "A picture of a red lamp on a table, and a picture of a blue chair next to the window.",
)
_SIZE = 400


@dataclass(frozen=True)
class Vocab:
    """A vocabulary, whole and in parts."""

    tokenizer: Tokenizer
    """Ready to use, for classes that take it whole."""
    parts: dict[str, Any]
    """``vocab`` and ``merges``, for classes that build their own."""


def byte_level() -> Vocab:
    """All bytes, and merges of them, as GPT-2, Qwen and Llama 3 have them."""
    return _rebuilt(_learn_bytes())


def metaspace(*first: str) -> Vocab:
    """Characters, words with ``▁`` for a space, and bytes for all else, as Llama 2 and Gemma have them.

    Args:
        first: Tokens that take the first ids.
    """
    return _rebuilt(_learn_words(first))


def _rebuilt(text: str) -> Vocab:
    from tokenizers import Tokenizer

    model = json.loads(text)["model"]
    parts = {"vocab": model["vocab"], "merges": [tuple(pair) for pair in model["merges"]]}
    return Vocab(Tokenizer.from_str(text), parts)


@lru_cache
def _learn_bytes() -> str:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=_SIZE, initial_alphabet=sorted(alphabet), show_progress=False)
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return str(tokenizer.to_str())


@lru_cache
def _learn_words(first: tuple[str, ...]) -> str:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE + len(first) + len(bytes_),
        special_tokens=[*first, *bytes_],
        initial_alphabet=[chr(code) for code in range(33, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return str(tokenizer.to_str())
