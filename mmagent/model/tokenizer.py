"""The tokenizer of mmagent's own models: byte-level BPE, digits one by one, one special token per role."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = (
    "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|image|>",
    "<tool_call>", "</tool_call>",
)  # fmt: skip
"""In the order of their ids, from 0."""

AUDIO_TOKEN = "<|audio|>"
"""Placeholder of recordings; only networks with an audio tower have it."""


def chat_template() -> str:
    """The Jinja template of the prompt format."""
    return files("mmagent.model").joinpath("chat_template.jinja").read_text(encoding="utf-8")


def wrap_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A trained tokenizer as transformers uses it, with special tokens and chat template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL_TOKENS[2:]),
        chat_template=chat_template(),
        clean_up_tokenization_spaces=False,
    )


def train_tokenizer(texts: Any, vocab_size: int) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE of ``vocab_size`` tokens, specials included, from an iterable of texts."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return wrap_tokenizer(tokenizer)


def add_audio_token(tokenizer: Any) -> int:
    """The id of the placeholder of recordings, which is added where the tokenizer has none.

    A decoder whose vocabulary is smaller than ``len(tokenizer)`` then needs ``resize_token_embeddings``.
    """
    if AUDIO_TOKEN not in tokenizer.get_vocab():
        tokenizer.add_special_tokens({"additional_special_tokens": [AUDIO_TOKEN]}, replace_extra_special_tokens=False)
    return int(tokenizer.convert_tokens_to_ids(AUDIO_TOKEN))
