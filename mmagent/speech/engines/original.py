"""Whisper by openai-whisper, from a `.pt` file. It knows that package's network and decoding, no silence."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.errors import ConfigurationError, MissingExtra, NotFound
from mmagent.speech.engines.base import Answer, Prompt, Sizes, WhisperEngine
from mmagent.speech.engines.folder import fingerprint, loading
from mmagent.speech.engines.mel import log_mel
from mmagent.speech.engines.tokens import MULTILINGUAL, Tokens, tokens_of
from mmagent.speech.engines.words import Aligned, token_times

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


EXTRAS = ("alignment_heads", "suppress_tokens")
"""What our own files have beside dimensions and weights."""


class OpenAIWhisperEngine(WhisperEngine):
    """A Whisper of openai-whisper (extra ``whisper``); loaded when it is first needed.

    Args:
        file: Dimensions and weights, as that package keeps them. Nothing is ever downloaded, no pickle is run.
        device: ``auto``, ``cuda`` or ``cpu``. On CUDA it runs in float16.

    Raises:
        NotFound: There is no such file.
        MissingExtra: The package is not installed.
    """

    name = "openai-whisper"

    def __init__(self, file: str | Path, device: str = "auto") -> None:
        file = Path(file).expanduser()
        super().__init__(file)
        self._device = device
        if not file.is_file():
            raise NotFound(f"there is no file {file}; give a .pt file of openai-whisper")
        try:
            distribution("openai-whisper")  # by its name there: another package is imported as whisper, too
        except PackageNotFoundError as error:
            raise MissingExtra(f"{file}, a file of openai-whisper,", "whisper") from error

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same window may get other words."""
        return fingerprint(self.name, [self.where], self._device)

    @cached_property
    def tokens(self) -> Tokens:
        """Its vocabulary, which comes with the package."""
        known = self._tokenizer
        languages = zip(known.all_language_codes, known.all_language_tokens, strict=True)  # in no order
        return tokens_of(
            known.special_tokens.get,
            lambda text: list(known.encoding.encode_ordinary(text)),
            lambda tokens: str(known.encoding.decode(list(tokens))),
            self._dims["n_vocab"] >= MULTILINGUAL,
            self._checkpoint.get("suppress_tokens", known.non_speech_tokens),
            dict(sorted(languages, key=lambda pair: pair[1])),
        )

    @cached_property
    def sizes(self) -> Sizes:
        """Those of its network."""
        names = ("n_audio_layer", "n_text_layer", "n_audio_ctx", "n_text_ctx", "n_mels")
        return Sizes(*(self._dims[name] for name in names))

    def _encode(self, windows: Sequence[NDArray[np.float32]]) -> torch.Tensor:
        import torch

        model = self._model
        features = torch.from_numpy(log_mel(windows, self.sizes.mels, self.seconds)).to(model.device)
        with torch.inference_mode():
            heard: torch.Tensor = model.encoder(features.half() if model.device.type == "cuda" else features)
        return heard

    def _detect(self, heard: Sequence[torch.Tensor]) -> list[Mapping[str, float]]:
        import torch

        found: list[Mapping[str, float]] = self._model.detect_language(torch.stack(list(heard)), self._tokenizer)[1]
        return found

    def _answer(self, heard: Sequence[torch.Tensor], prompt: Prompt) -> list[Answer]:
        import torch
        from whisper.decoding import DecodingOptions, decode

        sounds = torch.stack(list(heard))
        options = DecodingOptions(
            task=prompt.ask.task,
            language=prompt.ask.language or "en",
            temperature=prompt.ask.temperature,
            sample_len=prompt.most,
            prompt=prompt.tokens[1 : prompt.start] or None,
            suppress_tokens=list(self.tokens.suppressed),
            fp16=sounds.dtype == torch.float16,
        )
        with torch.random.fork_rng(devices=[sounds.device] if sounds.is_cuda else []):
            torch.manual_seed(0)
            found = decode(self._model, sounds, options)
        return [Answer(each.tokens, each.avg_logprob, each.no_speech_prob) for each in found]

    def _align(self, sound: torch.Tensor, head: list[int], text: list[int], frames: int) -> Aligned:
        import torch
        from whisper.model import disable_sdpa

        model, seen = self._model, dict[int, torch.Tensor]()
        read = torch.tensor([[*head, self.tokens.no_times, *text, self.tokens.end]], device=sound.device)
        hooks = [
            block.cross_attn.register_forward_hook(lambda _, __, out, index=index: seen.update({index: out[1][0]}))
            for index, block in enumerate(model.decoder.blocks)
        ]
        try:
            with torch.inference_mode(), disable_sdpa():
                logits = model.decoder(read, sound[None])[0, len(head) : -2, : self.tokens.end]
        finally:
            for hook in hooks:
                hook.remove()
        chances = logits.softmax(-1).gather(1, read[0, len(head) + 1 : -1, None])[:, 0]
        weights = torch.stack([seen[layer][place] for layer, place in self._heads])[..., :frames].float()
        return Aligned(token_times(weights.softmax(-1).cpu().numpy(), len(head)), chances.tolist())

    @cached_property
    def _heads(self) -> list[tuple[int, int]]:
        """Those that follow the sound; where it is not known which do, all of the upper half."""
        return [(int(layer), int(head)) for layer, head in self._model.alignment_heads.indices().T.tolist()]

    @cached_property
    def _tokenizer(self) -> Any:
        from whisper.tokenizer import get_tokenizer

        size = self._dims["n_vocab"]
        multilingual = size >= MULTILINGUAL
        with loading(self.where):
            return get_tokenizer(multilingual, num_languages=size - 51765 - int(multilingual))

    @cached_property
    def _dims(self) -> dict[str, int]:
        return dict(self._checkpoint["dims"])

    @cached_property
    def _checkpoint(self) -> dict[str, Any]:
        return read_checkpoint(self.where)

    @cached_property
    def _model(self) -> Any:
        import torch
        import whisper
        from whisper.model import ModelDimensions, Whisper

        from mmagent.engine.load import pick_device

        device = pick_device(self._device)
        place = device if device.type == "cuda" else torch.device("cpu")
        with loading(self.where):
            model = Whisper(ModelDimensions(**self._dims))
            model.load_state_dict(self._checkpoint["model_state_dict"])
            if heads := self._checkpoint.get("alignment_heads"):
                chosen = torch.zeros(self._dims["n_text_layer"], self._dims["n_text_head"], dtype=torch.bool)
                chosen[tuple(torch.tensor(heads).T)] = True
                model.register_buffer("alignment_heads", chosen.to_sparse(), persistent=False)
            elif heads := whisper._ALIGNMENT_HEADS.get(self.where.stem):  # a file as it came
                model.set_alignment_heads(heads)
        return model.eval().to(place)


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Dimensions and weights of a ``.pt`` file; weights are mapped, not read, and nothing in it is run.

    Raises:
        ModelError: It cannot be read.
        ConfigurationError: It is no Whisper.
    """
    import torch

    with loading(file):
        found = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
    if not isinstance(found, dict) or not {"dims", "model_state_dict"} <= found.keys():
        what = f"a {type(found).__name__}"
        if isinstance(found, dict):
            what = f"{', '.join(repr(key)[:40] for key in list(found)[:3])} ..."
        raise ConfigurationError(
            f"{file} holds {what} and no Whisper of openai-whisper, which has 'dims' and 'model_state_dict'; "
            "give another file"
        )
    return found
