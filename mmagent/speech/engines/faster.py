"""Whisper by CTranslate2, as faster-whisper keeps it. It knows that library and its files, no silence.

Windows are batched and decoded by its C++, on CPUs with 8-bit weights; of faster-whisper's own Python nothing runs, so
nothing is ever downloaded.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmagent.engine import checkpoint
from mmagent.errors import ConfigurationError, MissingExtra, ModelError
from mmagent.speech.engines.base import Answer, Prompt, Sizes, WhisperEngine
from mmagent.speech.engines.folder import check_files, fingerprint, loading
from mmagent.speech.engines.mel import log_mel
from mmagent.speech.engines.tokens import FIRST_WITHIN, MULTILINGUAL, Tokens, tokens_of_tokenizer
from mmagent.speech.engines.words import SMOOTH, STEP, Aligned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FILES = ("model.bin", "config.json", "tokenizer.json", "vocabulary.json|vocabulary.txt")
_WITH_BYTES = 4
"""The version of ``model.bin`` since which each tensor says how many bytes it has."""


class FasterWhisperEngine(WhisperEngine):
    """A Whisper of CTranslate2 (extra ``fast``); loaded when it is first needed.

    Args:
        folder: With ``model.bin``, ``config.json``, the vocabulary and ``tokenizer.json``.
        device: ``auto``, ``cuda`` (which needs the libraries of CUDA 12) or ``cpu``.
        dtype: ``auto`` (8 bits on CPUs, float16 on CUDA), ``int8``, ``float32``, ``float16`` or ``bfloat16``.

    Raises:
        ConfigurationError: Something is missing in the folder, or it holds another architecture.
        MissingExtra: The package is not installed.
    """

    name = "faster-whisper"

    def __init__(self, folder: str | Path, device: str = "auto", dtype: str = "auto") -> None:
        folder = Path(folder).expanduser()
        super().__init__(folder)
        self._device, self._dtype = device, dtype
        check_files(folder, FILES, "a Whisper for faster-whisper")
        self._shapes = _read_shapes(folder / "model.bin")
        if find_spec("ctranslate2") is None:
            raise MissingExtra(f"{folder}, a model of faster-whisper,", "fast")
        self._config = checkpoint.read_json(folder / "config.json")

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same window may get other words."""
        files = [path for path in self.where.iterdir() if path.suffix in (".json", ".txt", ".bin")]
        return fingerprint(self.name, files, self._device, self._dtype)

    @cached_property
    def tokens(self) -> Tokens:
        """Its vocabulary."""
        from tokenizers import Tokenizer

        with loading(self.where):
            tokenizer = Tokenizer.from_file(str(self.where / "tokenizer.json"))
            size = self._shapes.get("decoder/embeddings/weight", (tokenizer.get_vocab_size(),))[0]
            symbols = [token for token in self._config.get("suppress_ids") or () if token >= 0]
            return tokens_of_tokenizer(tokenizer, size >= MULTILINGUAL, symbols)

    @cached_property
    def sizes(self) -> Sizes:
        """Those of its network."""
        layers = {"/".join(name.split("/")[:2]) for name in self._shapes if "/layer_" in name}
        encoder = sum(name.startswith("encoder") for name in layers)
        return Sizes(
            encoder_layers=encoder,
            decoder_layers=max(1, len(layers) - encoder),  # an old file does not say
            sounds=self._shapes.get("encoder/position_encodings/encodings", (1500,))[0],
            context=self._shapes.get("decoder/position_encodings/encodings", (448,))[0],
            mels=self._shapes.get("encoder/conv1/weight", (0, 80))[1],
        )

    def _encode(self, windows: Sequence[NDArray[np.float32]]) -> NDArray[Any]:
        import numpy as np

        features = log_mel(windows, self.sizes.mels, self.seconds)
        return np.array(self._model.encode(_view(features), to_cpu=True))

    def _detect(self, heard: Sequence[NDArray[Any]]) -> list[Mapping[str, float]]:
        import numpy as np

        found = self._model.detect_language(_view(np.stack(heard)))
        return [{name.strip("<|>"): float(chance) for name, chance in row} for row in found]

    def _answer(self, heard: Sequence[NDArray[Any]], prompt: Prompt) -> list[Answer]:
        import numpy as np

        drawn = prompt.ask.temperature > 0  # each time anew: a seed does not reach the library's threads
        results = self._model.generate(
            _view(np.stack(heard)),
            [prompt.tokens] * len(heard),
            beam_size=1,
            max_length=max(2 * prompt.most, len(prompt.tokens) + prompt.most),  # it gives at most half of this
            return_scores=True,
            return_no_speech_prob=True,
            suppress_tokens=list(self.tokens.suppressed),
            max_initial_timestamp_index=FIRST_WITHIN,
            sampling_topk=0 if drawn else 1,
            sampling_temperature=prompt.ask.temperature if drawn else 1.0,
        )
        found = []
        for result in results:
            (tokens,), (score,) = result.sequences_ids, result.scores
            said = [token for token in tokens if token != self.tokens.end]
            found.append(Answer(said, score * len(tokens) / (len(said) + 1), result.no_speech_prob))
        return found

    def _align(self, sound: NDArray[Any], head: list[int], text: list[int], frames: int) -> Aligned:
        (found,) = self._model.align(_view(sound[None]), head, [text], 2 * frames, median_filter_width=SMOOTH)
        first: dict[int, int] = {}
        for token, frame in found.alignments:
            first.setdefault(token, frame)
        return Aligned([first[place] * STEP for place in range(len(text) + 1)], list(found.text_token_probs))

    @cached_property
    def _model(self) -> Any:
        import ctranslate2

        device = self._device
        if device == "auto":
            device = "cuda" if ctranslate2.get_cuda_device_count() else "cpu"
        if device not in ("cpu", "cuda"):
            raise ConfigurationError(f"faster-whisper runs on cuda or cpu, not on {device!r:.40}; choose device=auto")
        number = self._dtype if self._dtype != "auto" else {"cpu": "int8", "cuda": "float16"}[device]
        if number not in (there := ctranslate2.get_supported_compute_types(device)):
            known = ", ".join(sorted(there))
            raise ConfigurationError(
                f"faster-whisper has no dtype {number!r:.40} on this {device}; give one of: {known}"
            )
        with loading(self.where):
            return ctranslate2.models.Whisper(str(self.where), device=device, compute_type=number)


def _view(array: NDArray[Any]) -> Any:
    import ctranslate2
    import numpy as np

    return ctranslate2.StorageView.from_array(np.ascontiguousarray(array))


def _read_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of a ``model.bin`` and their shapes, without their numbers; none where it is an old file.

    Raises:
        ConfigurationError: It holds another architecture.
        ModelError: It is damaged.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        with file.open("rb") as data:

            def number(form: str) -> int:
                return int(struct.unpack(f"<{form}", data.read(struct.calcsize(form)))[0])

            def string() -> str:
                size = number("H")
                return str(struct.unpack(f"{size}s", data.read(size))[0][:-1], "utf-8")

            version = number("I")
            kind = string()
            if kind != "WhisperSpec":
                raise ConfigurationError(
                    f"{file.parent} holds a {kind:.60} of CTranslate2 and no Whisper; give the folder of a Whisper"
                )
            number("I")
            for _ in range(number("I") if version >= _WITH_BYTES else 0):
                name = string()
                shapes[name] = tuple(number("I") for _ in range(number("B")))
                number("B")
                data.seek(number("I"), 1)
    except (struct.error, UnicodeDecodeError) as error:
        raise ModelError(f"{file} is damaged or no file of CTranslate2; copy or convert the model again") from error
    return shapes
