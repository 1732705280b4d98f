"""Tiny checkpoints of the model families: real configurations, networks and processors, random weights.

Each is laid out like the family's checkpoints on the hub, so that whatever loads one loads the other. It knows
transformers' classes and sizes, and nothing of who loads them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmagent.testing.templates import TEMPLATES
from mmagent.testing.vocabularies import Vocab, byte_level, metaspace

_SIDE, _PATCH = 32, 8
"""Pixels of a square that a vision tower takes, and of its patches."""

_LAYERS = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
}
_TOWER = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
_SQUARE = {"image_size": _SIDE, "patch_size": _PATCH}

_CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN = (*_CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_HERMES = ("<tool_call>", "</tool_call>")
_IDEFICS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>")
_TILES = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
_GEMMA = ("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<image_soft_token>")
_GEMMA_NAMES = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
_LLAMA3 = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>")


@dataclass(frozen=True)
class _Family:
    config: Callable[[Callable[[str], int], int], Any]
    """From a function that gives a token's id, and the vocabulary's size, to the configuration."""
    special: tuple[str, ...]
    """Special tokens, which no text can spell."""
    end: str
    """The token that ends a turn."""
    added: tuple[str, ...] = ()
    """Tokens added to the vocabulary that text can spell."""
    names: dict[str, str] = field(default_factory=dict)
    """Special tokens that the tokenizer has as attributes."""
    vocab: Callable[[], Vocab] = byte_level
    tokenizer: str = "PreTrainedTokenizerFast"
    begin: str | None = None
    """The token before a sequence."""
    begins: bool = True
    """Whether the tokenizer itself puts it there."""
    pictures: tuple[str, dict[str, Any]] | None = None
    """The image processor's class and sizes."""
    processor: dict[str, Any] = field(default_factory=dict)
    videos: str | None = None
    """The video processor's class; named only, since it needs torchvision."""


def tiny_checkpoint(family: str, path: str | Path, seed: int = 0) -> Path:
    """Save a random checkpoint of a family, tokenizer, processor and chat template and all, into ``path``.

    Some 100,000 parameters in 2 layers; pictures are 4 to 20 tokens a tile; the context is 8,192 tokens.

    Args:
        family: One of `FAMILIES`.
        path: The directory; made where it is not there.
        seed: Of the weights.

    Raises:
        ValueError: There is no such family.
    """
    if family == "nano":
        from mmagent.testing.tiny import tiny_vlm

        return tiny_vlm(path, seed=seed)
    if family not in _FAMILIES:
        raise ValueError(f"there is no family {family!r}; there are: {', '.join(FAMILIES)}")
    shape, folder = _FAMILIES[family], Path(path)
    tokenizer = _tokenizer(shape, family)
    tokenizer.save_pretrained(folder)
    if shape.pictures:
        _save_processor(shape, folder)
    _save_network(shape, tokenizer, folder, seed)
    return folder


def _tokenizer(shape: _Family, family: str) -> Any:
    import transformers
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing

    made = shape.vocab()
    special = {"eos_token": shape.end, "pad_token": shape.special[0], "bos_token": shape.begin}
    kind = getattr(transformers, shape.tokenizer)
    own = {"tokenizer_object": made.tokenizer} if kind is transformers.PreTrainedTokenizerFast else made.parts
    tokenizer = kind(
        **own,
        **special,
        extra_special_tokens=dict(shape.names) or None,
        chat_template=TEMPLATES[family],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_tokens([AddedToken(token, special=True, normalized=False) for token in shape.special])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in shape.added])
    if shape.begin and shape.begins:
        ids = [(shape.begin, tokenizer.convert_tokens_to_ids(shape.begin))]
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single=f"{shape.begin} $A", pair=f"{shape.begin} $A $B", special_tokens=ids
        )
    return tokenizer


def _save_processor(shape: _Family, folder: Path) -> None:
    import transformers

    assert shape.pictures is not None
    kind, sizes = shape.pictures
    getattr(transformers, f"{kind}Pil")(**sizes).save_pretrained(folder)
    _write(folder / "preprocessor_config.json", image_processor_type=kind)
    _write(folder / "processor_config.json", **shape.processor)
    if shape.videos:
        _write(folder / "video_preprocessor_config.json", video_processor_type=shape.videos)


def _write(path: Path, **values: Any) -> None:
    """Set values of a JSON file."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | values, indent=2), encoding="utf-8")


def _save_network(shape: _Family, tokenizer: Any, folder: Path, seed: int) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, GenerationConfig
    from transformers.utils import logging

    config = shape.config(tokenizer.convert_tokens_to_ids, len(tokenizer))
    auto: Any = AutoModelForImageTextToText if shape.pictures else AutoModelForCausalLM
    model = auto.from_config(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():  # strong enough that a wrong position or mask shows in the logits
            noise = torch.randn_like(parameter) * 0.1
            parameter.copy_(noise if parameter.dim() > 1 else parameter + noise)
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id], pad_token_id=tokenizer.pad_token_id
    )
    logging.disable_progress_bar()
    model.save_pretrained(folder)


def _text(kind: str, size: int, **more: Any) -> dict[str, Any]:
    """A decoder's configuration."""
    windows = {"max_window_layers": 2} if kind.startswith("qwen2") or kind == "qwen3" else {}
    return {"model_type": kind, "vocab_size": size, **_LAYERS, **windows, **more}


def _of(model_type: str, **values: Any) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(model_type, **values)


_PINPOINTS = [[_SIDE, _SIDE], [_SIDE, 2 * _SIDE], [2 * _SIDE, _SIDE], [2 * _SIDE, 2 * _SIDE]]
_TILED = {"size": {"longest_edge": 2 * _SIDE}, "max_image_size": {"longest_edge": _SIDE}}
_QWEN_PIXELS = {"patch_size": 4, "merge_size": 2, "size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}}


def _idefics(kind: str, id_of: Callable[[str], int], size: int) -> Any:
    return _of(
        kind,
        vision_config={**_TOWER, **_SQUARE},
        text_config=_text("llama", size),
        image_token_id=id_of("<image>"),
        scale_factor=2,
    )


def _mrope(*section: int) -> dict[str, Any]:
    return {"rope_type": "default", "rope_theta": 1e4, "mrope_section": list(section)}


def _qwen_ids(id_of: Callable[[str], int]) -> dict[str, int]:
    names = {"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"}
    names |= {"vision_start_token": "<|vision_start|>", "vision_end_token": "<|vision_end|>"}
    return {f"{name}_id": id_of(token) for name, token in names.items()}


def _gemma_text(size: int) -> dict[str, Any]:
    """One layer that sees a window, one that sees all."""
    layers = ["sliding_attention", "full_attention"]
    return _text("gemma3_text", size, head_dim=16, query_pre_attn_scalar=16, sliding_window=16, layer_types=layers)


_FAMILIES = {
    "llava": _Family(
        config=lambda id_of, size: _of(
            "llava",
            vision_config={"model_type": "clip_vision_model", **_TOWER, **_SQUARE},
            text_config=_text("llama", size),
            image_token_index=id_of("<image>"),
            image_seq_length=16,
        ),
        vocab=lambda: metaspace("<unk>", "<s>", "</s>"),
        tokenizer="LlamaTokenizer",
        special=("<unk>", "<s>", "</s>", "<image>", "<pad>"),
        begin="<s>",
        end="</s>",
        pictures=(
            "CLIPImageProcessor",
            {"size": {"shortest_edge": _SIDE}, "crop_size": {"height": _SIDE, "width": _SIDE}},
        ),
        processor={
            "processor_class": "LlavaProcessor",
            "patch_size": _PATCH,
            "num_additional_image_tokens": 1,
            "vision_feature_select_strategy": "default",
            "image_token": "<image>",
        },
    ),
    "llava_onevision": _Family(
        config=lambda id_of, size: _of(
            "llava_onevision",
            vision_config={"model_type": "siglip_vision_model", **_TOWER, **_SQUARE, "vision_use_head": False},
            text_config=_text("qwen2", size),
            image_token_index=id_of("<image>"),
            video_token_index=id_of("<video>"),
            image_grid_pinpoints=_PINPOINTS,
        ),
        tokenizer="Qwen2Tokenizer",
        special=(*_CHATML, "<image>", "<video>"),
        end="<|im_end|>",
        pictures=(
            "LlavaOnevisionImageProcessor",
            {"size": {"height": _SIDE, "width": _SIDE}, "image_grid_pinpoints": _PINPOINTS},
        ),
        processor={
            "processor_class": "LlavaOnevisionProcessor",
            "num_image_tokens": (_SIDE // _PATCH) ** 2,
            "vision_feature_select_strategy": "full",
        },
        videos="LlavaOnevisionVideoProcessor",
    ),
    "smolvlm": _Family(
        config=lambda id_of, size: _idefics("smolvlm", id_of, size),
        special=(*_CHATML, *_IDEFICS, *_TILES),
        begin="<|im_start|>",
        begins=False,
        end="<end_of_utterance>",
        pictures=("SmolVLMImageProcessor", _TILED),
        processor={"processor_class": "SmolVLMProcessor", "image_seq_len": 4},
        videos="SmolVLMVideoProcessor",
    ),
    "idefics3": _Family(
        config=lambda id_of, size: _idefics("idefics3", id_of, size),
        special=(*_LLAMA3, *_IDEFICS, *_TILES),
        begin="<|begin_of_text|>",
        end="<end_of_utterance>",
        pictures=("Idefics3ImageProcessor", _TILED),
        processor={"processor_class": "Idefics3Processor", "image_seq_len": 4},
    ),
    "internvl": _Family(
        config=lambda id_of, size: _of(
            "internvl",
            vision_config={**_TOWER, "image_size": [_SIDE, _SIDE], "patch_size": [_PATCH, _PATCH]},
            text_config=_text("qwen2", size),
            image_token_id=id_of("<IMG_CONTEXT>"),
            image_seq_length=4,
        ),
        tokenizer="Qwen2Tokenizer",
        special=(*_CHATML, "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        added=_HERMES,
        names={
            "start_image_token": "<img>",
            "end_image_token": "</img>",
            "context_image_token": "<IMG_CONTEXT>",
            "video_token": "<video>",
        },
        end="<|im_end|>",
        pictures=("GotOcr2ImageProcessor", {"size": {"height": _SIDE, "width": _SIDE}, "max_patches": 4}),
        processor={"processor_class": "InternVLProcessor", "image_seq_length": 4},
        videos="InternVLVideoProcessor",
    ),
    "qwen2_5_vl": _Family(
        config=lambda id_of, size: _of(
            "qwen2_5_vl",
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": 4,
                "window_size": 16,
                "out_hidden_size": _LAYERS["hidden_size"],
                "fullatt_block_indexes": [1],
            },
            text_config=_text("qwen2_5_vl_text", size, rope_parameters=_mrope(2, 3, 3)),
            **_qwen_ids(id_of),
        ),
        tokenizer="Qwen2Tokenizer",
        special=_QWEN,
        added=_HERMES,
        end="<|im_end|>",
        pictures=("Qwen2VLImageProcessor", _QWEN_PIXELS),
        processor={"processor_class": "Qwen2_5_VLProcessor"},
        videos="Qwen2VLVideoProcessor",
    ),
    "qwen3_vl": _Family(
        config=lambda id_of, size: _of(
            "qwen3_vl",
            vision_config={
                "depth": 2,
                "hidden_size": 32,
                "intermediate_size": 48,
                "num_heads": 2,
                "patch_size": 4,
                "out_hidden_size": _LAYERS["hidden_size"],
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0, 1],
            },
            text_config=_text(
                "qwen3_vl_text", size, head_dim=16, rope_parameters=_mrope(4, 2, 2) | {"mrope_interleaved": True}
            ),
            **_qwen_ids(id_of),
        ),
        tokenizer="Qwen2Tokenizer",
        special=_QWEN,
        added=(*_HERMES, "<think>", "</think>"),
        end="<|im_end|>",
        pictures=("Qwen2VLImageProcessor", _QWEN_PIXELS),
        processor={"processor_class": "Qwen3VLProcessor"},
        videos="Qwen3VLVideoProcessor",
    ),
    "gemma3": _Family(
        config=lambda id_of, size: _of(
            "gemma3",
            vision_config={"model_type": "siglip_vision_model", **_TOWER, **_SQUARE, "vision_use_head": False},
            text_config=_gemma_text(size),
            mm_tokens_per_image=4,
            image_token_index=id_of("<image_soft_token>"),
            boi_token_index=id_of("<start_of_image>"),
            eoi_token_index=id_of("<end_of_image>"),
        ),
        vocab=lambda: metaspace("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
        tokenizer="GemmaTokenizer",
        special=("<pad>", "<eos>", "<bos>", "<unk>", *_GEMMA),
        names=_GEMMA_NAMES,
        begin="<bos>",
        end="<end_of_turn>",
        pictures=("Gemma3ImageProcessor", {"size": {"height": _SIDE, "width": _SIDE}}),
        processor={"processor_class": "Gemma3Processor", "image_seq_length": 4},
    ),
    "llama": _Family(
        config=lambda id_of, size: _of(**_text("llama", size)),
        special=_LLAMA3,
        begin="<|begin_of_text|>",
        end="<|eot_id|>",
    ),
    "qwen2": _Family(
        config=lambda id_of, size: _of(**_text("qwen2", size, tie_word_embeddings=True)),
        tokenizer="Qwen2Tokenizer",
        special=_CHATML,
        added=_HERMES,
        end="<|im_end|>",
    ),
    "qwen3": _Family(
        config=lambda id_of, size: _of(**_text("qwen3", size, head_dim=16)),
        tokenizer="Qwen2Tokenizer",
        special=_CHATML,
        added=(*_HERMES, "<think>", "</think>"),
        end="<|im_end|>",
    ),
    "smollm": _Family(
        config=lambda id_of, size: _of(**_text("llama", size, tie_word_embeddings=True)),
        special=_CHATML,
        begin="<|im_start|>",
        begins=False,
        end="<|im_end|>",
    ),
    "gemma3_text": _Family(
        config=lambda id_of, size: _of(**_gemma_text(size)),
        vocab=lambda: metaspace("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"),
        tokenizer="GemmaTokenizer",
        special=("<pad>", "<eos>", "<bos>", "<unk>", *_GEMMA[:2]),
        begin="<bos>",
        end="<end_of_turn>",
    ),
}

FAMILIES: tuple[str, ...] = ("nano", *_FAMILIES)
"""All families, those that see first."""
