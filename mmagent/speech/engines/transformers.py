"""Whisper by transformers, from a folder that `save_pretrained` wrote. It knows tensors and devices, no silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.engine import checkpoint
from mmagent.errors import ConfigurationError, ModelError
from mmagent.speech.engines.base import Answer, Prompt, Sizes, WhisperEngine
from mmagent.speech.engines.folder import check_files, fingerprint, loading
from mmagent.speech.engines.mel import log_mel
from mmagent.speech.engines.tokens import MULTILINGUAL, Tokens, tokens_of_tokenizer
from mmagent.speech.engines.words import Aligned, token_times

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from mmagent.speech.engines.network import Network

FILES = ("config.json", "generation_config.json", "tokenizer.json|vocab.json")
WEIGHTS = f"{checkpoint.WEIGHTS}|{checkpoint.INDEX}"


class TransformersEngine(WhisperEngine):
    """A Whisper of transformers, by a decoding loop of our own; loaded when it is first needed.

    Args:
        folder: With ``model.safetensors``, configuration and tokenizer. Nothing is ever downloaded.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        dtype: ``auto`` (float16 on CUDA, bfloat16 on CPUs that multiply it), ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        ConfigurationError: Something is missing in the folder, or it holds another architecture.
    """

    name = "transformers"

    def __init__(self, folder: str | Path, device: str = "auto", dtype: str = "auto") -> None:
        folder = Path(folder).expanduser()
        super().__init__(folder)
        self._device, self._dtype = device, dtype
        check_files(folder, (*FILES, WEIGHTS), "a Whisper that save_pretrained wrote")
        self._config = checkpoint.read_config(folder)
        check_architecture(self._config, folder)
        self._options = checkpoint.read_json(folder / "generation_config.json")

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same window may get other words."""
        files = [path for path in self.where.iterdir() if path.suffix in (".json", ".txt", ".safetensors")]
        return fingerprint(self.name, files, self._device, self._dtype)

    @cached_property
    def tokens(self) -> Tokens:
        """Its vocabulary."""
        multilingual = bool(self._options.get("is_multilingual", self._config["vocab_size"] >= MULTILINGUAL))
        with loading(self.where):
            return tokens_of_tokenizer(
                read_tokenizer(self.where), multilingual, self._options.get("suppress_tokens") or ()
            )

    @cached_property
    def sizes(self) -> Sizes:
        """Those of its network."""
        names = ("encoder_layers", "decoder_layers", "max_source_positions", "max_target_positions", "num_mel_bins")
        with loading(self.where):
            return Sizes(*(int(self._config[name]) for name in names))

    def _encode(self, windows: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        import torch

        return self._network.encode(torch.from_numpy(log_mel(windows, self.sizes.mels, self.seconds)))

    def _detect(self, heard: Sequence[torch.Tensor]) -> list[Mapping[str, float]]:
        import torch

        network, places = self._network, list(self.tokens.languages.values())
        start = torch.full((len(heard), 1), self.tokens.start, device=network.device)
        logits = network.step(network.start(torch.stack(list(heard)), 1), start, [0])[:, 0, places]
        return [dict(zip(self.languages, row, strict=True)) for row in logits.softmax(-1).tolist()]

    def _answer(self, heard: Sequence[torch.Tensor], prompt: Prompt) -> list[Answer]:
        import torch

        from mmagent.speech.engines.greedy import decode

        return decode(self._network, torch.stack(list(heard)), self.tokens, prompt)

    def _align(self, sound: torch.Tensor, head: list[int], text: list[int], frames: int) -> Aligned:
        import torch

        network, seen = self._network, list[torch.Tensor]()
        read = torch.tensor([[*head, self.tokens.no_times, *text, self.tokens.end]], device=sound.device)
        places = range(len(head), len(head) + len(text))
        logits = network.step(network.start(sound[None], read.shape[1]), read, places, self._heads, seen)[0]
        chances = logits[:, : self.tokens.end].softmax(-1).gather(1, read[0, len(head) + 1 : -1, None])[:, 0]
        weights = torch.cat(seen)[..., :frames].softmax(-1).cpu().numpy()
        return Aligned(token_times(weights, len(head)), chances.tolist())

    @cached_property
    def _heads(self) -> list[tuple[int, int]]:
        """Those that follow the sound; where it is not known which do, all of the upper half."""
        if known := self._options.get("alignment_heads"):
            return [(int(layer), int(head)) for layer, head in known]
        layers, heads = self.sizes.decoder_layers, int(self._config["decoder_attention_heads"])
        return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]

    @cached_property
    def _network(self) -> Network:
        from mmagent.engine.load import pick_device
        from mmagent.speech.engines.network import Network

        device = pick_device(self._device)
        if device.type == "cuda":
            self.rows = 16
        with loading(self.where):
            return Network(read_model(self.where, _pick_dtype(self._dtype, device)).to(device).eval())


def check_architecture(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse what is no Whisper.

    Raises:
        ConfigurationError: The message says what it is.
    """
    if (kind := config.get("model_type")) != "whisper":
        names = ", ".join(map(str, config.get("architectures") or ())) or "no architecture is named"
        raise ConfigurationError(
            f"{folder} holds a model of the kind {kind} ({names}) and no Whisper; give the folder of a Whisper"
        )


def read_tokenizer(folder: Path) -> Any:
    """The `tokenizers.Tokenizer` of a folder, from ``tokenizer.json`` or ``vocab.json`` and ``merges.txt``."""
    from tokenizers import Tokenizer

    if (file := folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(file))
    from transformers import WhisperTokenizer

    return WhisperTokenizer.from_pretrained(str(folder), local_files_only=True).backend_tokenizer


def read_model(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """The network of a folder, on the CPU; None keeps the dtype of its files.

    Raises:
        ModelError: Weights are missing, damaged, or do not fit the configuration.
    """
    from transformers import WhisperForConditionalGeneration

    checkpoint.check_depth(checkpoint.read_config(folder), checkpoint.read_weights(folder), folder)
    with checkpoint.quiet():
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            str(folder),
            dtype=dtype or "auto",
            local_files_only=True,
            use_safetensors=True,
            attn_implementation="sdpa",
            output_loading_info=True,
        )
    model, info = loaded
    if missing := sorted(info["missing_keys"]):
        raise ModelError(
            f"the weights of {folder} are incomplete: {len(missing)} are not there, first {missing[0]}; "
            "copy or download them again"
        )
    return model


def _pick_dtype(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype of that name; for ``auto`` what the device does best."""
    import torch

    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if wanted in known:
        return known[wanted]
    if wanted != "auto":
        raise ConfigurationError(f"the dtype {wanted!r:.40} is not known; give auto or one of: {', '.join(known)}")
    if device.type == "cuda":
        return torch.float16
    fast = device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return torch.bfloat16 if fast else torch.float32
