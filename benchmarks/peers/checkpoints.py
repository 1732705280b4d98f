"""The networks that are measured: Llama-shaped, of random weights with a fixed seed, saved once into a folder.

Weights are bfloat16 numbers, so that float32 and bfloat16 systems compute with the very same ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = 1
"""Part of a checkpoint's folder name; a change to how they are made needs another."""


@dataclass(frozen=True)
class Shape:
    """A decoder with tied embeddings and heads of 64."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def parameters(self) -> int:
        """All of them, the embedding counted once."""
        attention = 2 * self.hidden * 64 * (self.heads + self.kv_heads)
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return self.layers * layer + self.vocabulary * self.hidden + self.hidden


SHAPES = {
    "22M": Shape(384, 1024, 10, 6, 2, 16384),
    "135M": Shape(576, 1536, 30, 9, 3, 49152),  # SmolLM2-135M
    "494M": Shape(896, 4864, 24, 14, 2, 151936),  # Qwen2.5-0.5B, without its biases
}
NAMES = ("nano", *SHAPES)


def checkpoint(name: str, folder: Path) -> Path:
    """The folder of a network, made where it is not there yet.

    Args:
        name: One of `NAMES`; ``nano`` is the decoder of the model that ships.
        folder: Where checkpoints are kept.
    """
    path = folder / f"{name}-v{VERSION}"
    if not (path / "complete").is_file():
        model, tokenizer = _nano() if name == "nano" else _random(SHAPES[name])
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        (path / "complete").touch()
    return path


def random_vlm(folder: Path) -> Path:
    """The folder of a vision-language model of SmolVLM-256M's shape: SigLIP 768 × 12, a decoder of 576 × 30.

    A picture is 512 pixels square and 64 tokens; every other token is a byte.
    """
    path = folder / f"vlm-256M-v{VERSION}"
    if not (path / "complete").is_file():
        import torch
        from transformers import SiglipVisionConfig

        from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration
        from mmagent.model.processor import build_processor
        from mmagent.testing.tiny import byte_tokenizer

        tokenizer = byte_tokenizer()
        vision = SiglipVisionConfig(image_size=512, patch_size=16, vision_use_head=False)
        config = MMAgentConfig(
            vision_config=vision,
            text_config=_config(SHAPES["135M"], tokenizer),
            downsample=4,
            image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        )
        torch.manual_seed(0)
        network: Any = MMAgentForConditionalGeneration(config)
        network.to(torch.bfloat16).save_pretrained(path)
        build_processor(tokenizer, config).save_pretrained(path)
        (path / "complete").touch()
    return path


def parameters(path: Path) -> int:
    """Of a checkpoint, the tied embedding counted once."""
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    shape = (
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
    )
    return Shape(*(config[key] for key in shape)).parameters


def _random(shape: Shape) -> tuple[Any, Any]:
    import torch
    from transformers import LlamaForCausalLM

    from mmagent.testing.tiny import byte_tokenizer

    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    network: Any = LlamaForCausalLM(_config(shape, tokenizer))
    return network.to(torch.bfloat16), tokenizer


def _config(shape: Shape, tokenizer: Any) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=64,
        vocab_size=shape.vocabulary,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _nano() -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForImageTextToText, AutoTokenizer

    import mmagent.model  # noqa: F401 - makes our own networks known to the Auto classes
    from mmagent import nano

    whole = AutoModelForImageTextToText.from_pretrained(nano.folder(), dtype=torch.bfloat16)
    return whole.language_model, AutoTokenizer.from_pretrained(nano.folder())
