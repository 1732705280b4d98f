"""Tiny networks of every shape that the configuration allows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, SiglipVisionConfig, WhisperConfig

from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration, MMAgentProcessor
from mmagent.model.processor import build_processor
from mmagent.model.tokenizer import add_audio_token
from mmagent.testing.tiny import byte_tokenizer

Made = tuple[MMAgentForConditionalGeneration, MMAgentProcessor]


def make_tiny(*, hears: bool = False, text_config: Any = None, **options: Any) -> Made:
    """A random network with 4 × 4 patches and two layers, its gates open, and its processor."""
    tokenizer = byte_tokenizer()
    if hears:
        options["audio_token_id"] = add_audio_token(tokenizer)
        options["audio_config"] = WhisperConfig(
            d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=32, num_mel_bins=80,
            max_source_positions=50,
        )  # fmt: skip
    config = MMAgentConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32,
            patch_size=8, vision_use_head=False,
        ),
        text_config=text_config or LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
            num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True, bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        **{"cross_attention_every": 1, "latents": 3, "audio_downsample": 4, **options},
    )  # fmt: skip
    torch.manual_seed(0)
    model = MMAgentForConditionalGeneration(config).eval()
    for name, parameter in model.named_parameters():
        if "gate" in name.rsplit(".", 1)[-1]:
            parameter.data.fill_(0.5)
    return model, build_processor(tokenizer, config)


@pytest.fixture(scope="session")
def make() -> Callable[..., Made]:
    """`make_tiny`."""
    return make_tiny
