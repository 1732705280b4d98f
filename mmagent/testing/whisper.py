"""Whispers with random weights, small or of any size, for tests and benchmarks. It knows no speech."""

from __future__ import annotations

import base64
from functools import lru_cache
from pathlib import Path
from typing import Any

LANGUAGES = (
    "en", "zh", "de", "es", "ru", "ko", "fr", "ja", "pt", "tr", "pl", "ca", "nl", "ar", "sv", "it", "id", "hi", "fi",
    "vi", "he", "uk", "el", "ms", "cs", "ro", "da", "hu", "ta", "no", "th", "ur", "hr", "bg", "lt", "la", "mi", "ml",
    "cy", "sk", "te", "fa", "lv", "bn", "sr", "az", "sl", "kn", "et", "mk", "br", "eu", "is", "hy", "ne", "mn", "bs",
    "kk", "sq", "sw", "gl", "mr", "pa", "si", "km", "sn", "yo", "so", "af", "oc", "ka", "be", "tg", "sd", "gu", "am",
    "yi", "lo", "uz", "fo", "ht", "ps", "tk", "nn", "mt", "sa", "lb", "my", "bo", "tl", "mg", "as", "tt", "haw", "ln",
    "ha", "ba", "jw", "su",
)  # fmt: skip
"""In the order of the vocabulary of the released Whispers."""


def save_whisper(
    folder: Path,
    ranks: Path | None = None,
    *,
    multilingual: bool = True,
    endless: bool = False,
    seed: int = 0,
    gain: float = 10.0,
    **sizes: int,
) -> Path:
    """Write a network that says words and times by turns, as ``save_pretrained`` does.

    Args:
        folder: Where.
        ranks: A ``.tiktoken`` file with the vocabulary; None: words are bytes, and it knows English and German.
        multilingual: Whether prompts name language and task.
        endless: It never ends by itself, so that every window takes the same work.
        seed: Of the weights.
        gain: How much larger than usual they are: words differ in their chances, and what is heard matters.
        sizes: Of the ``WhisperConfig``; by default some 100,000 weights.

    Returns:
        The folder.
    """
    import torch
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    from mmagent.speech.engines.convert import whisper_options

    tokenizer, special = vocabulary(ranks)
    end = special["<|endoftext|>"]
    common = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": special["<|startoftranscript|>"],
    }
    small = {"d_model": 32, "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "encoder_layers": 2, "decoder_layers": 2}
    small |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    values: dict[str, Any] = {"vocab_size": end + len(special), **small, **sizes, **common}
    config = WhisperConfig(**values)
    torch.manual_seed(seed)
    model: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" not in name and weight.dim() > 1:
                weight.mul_(gain)
    symbols = [*tokenizer.convert_tokens_to_ids(["#", "("]), *([end] if endless else [])]
    options = whisper_options(special, symbols, multilingual)
    model.generation_config = GenerationConfig(**common, **options, max_length=config.max_target_positions)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(folder)
    return folder


@lru_cache(maxsize=3)
def vocabulary(ranks: Path | None = None) -> tuple[Any, dict[str, int]]:
    """A ``WhisperTokenizer`` and its special tokens.

    Args:
        ranks: As of `save_whisper`.
    """
    from mmagent.speech.engines.convert import whisper_tokenizer

    known = {bytes([byte]): byte for byte in range(256)}
    languages: tuple[str, ...] = ("en", "de")
    if ranks:
        lines = (line.split() for line in ranks.read_bytes().splitlines())
        known, languages = {base64.b64decode(token): int(rank) for token, rank in lines}, LANGUAGES
    names = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in languages)]
    names += ["<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    names += [f"<|{step * 0.02:.2f}|>" for step in range(1501)]
    return whisper_tokenizer(known, names), {name: len(known) + place for place, name in enumerate(names)}
