"""A vocabulary as large as real models', learned from Python's own sources. It knows text and tokens, no network."""

from __future__ import annotations

import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmagent.engine import Vocabulary

_SPLIT = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
"""Nearly that of Llama 3 and Qwen."""
_LARGEST_FROM_STDLIB = 60_000
_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")


def bpe_vocabulary(size: int) -> Vocabulary:
    """A byte-level BPE of at most ``size`` tokens; the first call learns it (8 s for 49,152), later ones read it."""
    from transformers import PreTrainedTokenizerFast

    file = Path(tempfile.gettempdir()) / f"mmagent-benchmark-bpe-{size}.json"
    if not file.is_file():
        _learn(size).save(str(file))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(file), eos_token="<|im_end|>", additional_special_tokens=list(_SPECIAL)
    )
    return Vocabulary(tokenizer, size + 256)  # networks pad their logits


def _learn(size: int) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(size), trainer)
    return tokenizer


def _texts(size: int) -> Iterator[str]:
    """The standard library; for a large vocabulary what is installed beside it too."""
    library = Path(sysconfig.get_path("stdlib"))
    own = (path for path in sorted(library.rglob("*.py")) if "site-packages" not in path.parts)
    yield from (path.read_text("utf-8", "replace") for path in own)
    if size > _LARGEST_FROM_STDLIB:
        installed = Path(sysconfig.get_path("purelib"))
        yield from (path.read_text("utf-8", "replace") for path in sorted(installed.rglob("*.py"))[:9000])
