"""Tiny networks with random weights, saved like real ones, for tests that need a model but not its wits."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def byte_tokenizer() -> Any:
    """A byte-level tokenizer of 256 bytes and the special tokens, with mmagent's chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    from mmagent.model.tokenizer import SPECIAL_TOKENS, wrap_tokenizer

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    return wrap_tokenizer(tokenizer)


def tiny_vlm(path: str | Path, *, seed: int = 0) -> Path:
    """Save a random vision-language model of some 60,000 parameters, processor and all, into ``path``.

    Pictures are 32 × 32 pixels and 4 tokens; the vocabulary is bytes; the context is 4,096 tokens.
    """
    import torch
    from transformers import LlamaConfig, SiglipVisionConfig
    from transformers.utils import logging as transformers_logging

    from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration
    from mmagent.model.processor import build_processor

    tokenizer = byte_tokenizer()
    config = MMAgentConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=8,
            vision_use_head=False,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    MMAgentForConditionalGeneration(config).save_pretrained(path)
    build_processor(tokenizer, config).save_pretrained(path)
    return Path(path)
