"""Whisper, from a folder, over recordings of any length. It knows samples, windows and times, no documents.

Windows are 30 s long and begin where the last whole segment ended, as in "Robust Speech Recognition via Large-Scale
Weak Supervision" (Radford et al., 2022), section 4.5; none sees the words of the one before, so that loops die out.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from mmagent.errors import ConfigurationError, ModelError, NotFound
from mmagent.media.limits import refusal
from mmagent.media.sound import RATE, waveform
from mmagent.settings import settings
from mmagent.speech import Segment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WINDOW = 30 * RATE
"""Samples that Whisper hears at once."""
STEP = 0.02
"""Seconds between two timestamps of Whisper."""
FLOOR = 0.0025
"""Root mean square of a tenth of a second below which it is silent; Whisper makes up words where nobody speaks."""
REPETITIVE = 2.4
"""How many times smaller a text may be packed before it is a loop and no speech."""

_FRAME, _LEAD, _LEAST = RATE // 10, RATE // 5, RATE // 10
"""Samples of one look for silence, those kept before the first sound, and those that are worth hearing."""
_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json|processor_config.json",
    "tokenizer.json|vocab.json",
)
_WEIGHTS = "model.safetensors|model.safetensors.index.json"
_MIB = 1024 * 1024


class Transcriber:
    """A Whisper model of a local folder, as ``save_pretrained`` writes it; it is loaded when it is first needed.

    Args:
        folder: The folder. Nothing is ever downloaded.
        device: ``auto``, ``cuda``, ``mps`` or ``cpu``.
        max_seconds: The longest recording; None: the setting ``max_index_seconds``.

    Raises:
        NotFound: There is no such folder.
        ConfigurationError: Something is missing in it; the message says what.
    """

    def __init__(self, folder: str | Path, device: str = "auto", max_seconds: float | None = None) -> None:
        self.folder = Path(folder)
        self._device, self._max_seconds = device, max_seconds
        self._lock = Lock()
        _check(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Differs where the same recording may get other words: the files, of weights their ends and sizes."""
        digest = hashlib.sha256(b"whisper-1")
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".json", ".txt", ".safetensors"):
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
                digest.update(_ends(path))
        return f"whisper-{digest.hexdigest()[:16]}"

    def segments(self, data: bytes, name: str) -> list[Segment]:
        """What is said in a recording or video, in order; nothing where it is silent or has no sound.

        Args:
            data: The file.
            name: What to call it in error messages.

        Raises:
            MediaError: It cannot be decoded.
            LimitError: It is longer than allowed.
            ModelError: The model cannot be loaded or cannot go on.
        """
        limit = self._max_seconds or settings().max_index_seconds
        sound, found, offset = _Sound(waveform(data, name)), list[Segment](), 0
        while len(window := sound.window(WINDOW)) >= _LEAST:
            if offset + len(window) > limit * RATE:
                raise refusal(name, f"longer than {limit:,.0f} s", int(limit), "max_index_seconds", "recording")
            silent = _silence(window)
            if silent:
                used = silent
            else:
                heard, used = self._hear(window, last=len(window) < WINDOW)
                found += [Segment(offset / RATE + t0, offset / RATE + t1, text) for t0, t1, text in heard]
            sound.drop(used)
            offset += used
        return found

    def _hear(self, window: NDArray[np.float32], last: bool) -> tuple[list[tuple[float, float, str]], int]:
        """The segments of a window with their times in it, and how many samples of it are done with."""
        seconds = len(window) / RATE
        pieces, whole = _timed(self._tokens(window), self._first_time, seconds)
        done = len(window) if last or whole < 1.0 else min(len(window), round(whole * RATE))
        _, tokenizer = self._parts
        said = (
            (round(t0, 2), round(t1, 2), " ".join(tokenizer.decode(ids, skip_special_tokens=True).split()))
            for t0, t1, ids in pieces
            if round(t0 * RATE) < done  # as done is rounded: 16.06 * RATE is less than 256960
        )
        return [(t0, t1, text) for t0, t1, text in said if text and not _is_loop(text)], done

    def _tokens(self, window: NDArray[np.float32]) -> list[int]:
        """What the model says to a window: text and timestamps, by greedy decoding."""
        import torch

        extractor, _ = self._parts
        model = self._model
        with self._lock, torch.inference_mode():
            try:
                heard = extractor(window, sampling_rate=RATE, return_tensors="pt").input_features
                answer = model.generate(
                    heard.to(model.device, model.dtype), return_timestamps=True, do_sample=False, num_beams=1
                )
            except (RuntimeError, ValueError) as error:  # out of memory, a configuration that does not fit
                raise ModelError(f"the speech model in {self.folder} failed ({_first_line(error)})") from error
        return [int(token) for token in answer[0]]

    @cached_property
    def _first_time(self) -> int:
        """The token of 0 seconds; the following ones are 20 ms apart."""
        return int(self._model.generation_config.no_timestamps_token_id) + 1

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """What makes features of samples, and words of tokens."""
        from transformers import WhisperFeatureExtractor, WhisperTokenizer

        with _loading(self.folder):
            extractor = WhisperFeatureExtractor.from_pretrained(self.folder, local_files_only=True)
            return extractor, WhisperTokenizer.from_pretrained(self.folder, local_files_only=True)

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import WhisperForConditionalGeneration

        from mmagent.engine.load import pick_device

        device = pick_device(self._device)
        dtype = torch.float16 if device.type == "cuda" else torch.float32
        with _loading(self.folder):
            model: Any = WhisperForConditionalGeneration.from_pretrained(
                self.folder, dtype=dtype, local_files_only=True, use_safetensors=True
            )
        if getattr(model.generation_config, "no_timestamps_token_id", None) is None:
            raise ConfigurationError(
                f"the generation_config.json in {self.folder} has no no_timestamps_token_id, so times are not known; "
                "take the one of the model that it was made from"
            )
        return model.to(device).eval()


def load_transcriber(folder: str | Path | None = None, device: str = "auto") -> Transcriber:
    """The speech model of a folder, or of the settings.

    Raises:
        ConfigurationError: None is set, or something is missing in the folder.
        NotFound: There is no such folder.
    """
    folder = folder or settings().speech_model
    if not folder:
        raise ConfigurationError(
            "there is no speech model; set MMAGENT_SPEECH_MODEL to a folder with a Whisper model in safetensors"
        )
    return Transcriber(folder, device)


class _Sound:
    """Samples that come in pieces, of which windows are looked at and dropped."""

    def __init__(self, pieces: Iterator[NDArray[np.float32]]) -> None:
        self._coming = pieces
        self._pieces: list[NDArray[np.float32]] = []

    def window(self, length: int) -> NDArray[np.float32]:
        """The next samples, fewer at the end."""
        import numpy as np

        there = sum(map(len, self._pieces))
        while there < length and (piece := next(self._coming, None)) is not None:
            self._pieces.append(piece)
            there += len(piece)
        self._pieces = [np.concatenate(self._pieces)] if self._pieces else [np.zeros(0, np.float32)]
        return self._pieces[0][:length]

    def drop(self, count: int) -> None:
        """Forget the first samples of the last window."""
        self._pieces = [self._pieces[0][count:]]


def _silence(window: NDArray[np.float32]) -> int:
    """How many samples to skip: up to just before the first sound, or all; 0 where it begins at once."""
    import numpy as np

    frames = window[: len(window) // _FRAME * _FRAME].reshape(-1, _FRAME)
    loud = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)) >= FLOOR
    if not loud.any():
        return len(window)
    return max(0, int(loud.argmax()) * _FRAME - _LEAD)


def _timed(
    tokens: Sequence[int], first_time: int, seconds: float
) -> tuple[list[tuple[float, float, list[int]]], float]:
    """Spans of text tokens between two timestamps, within the window and one after the other.

    Returns:
        Begin, end and tokens of each, and where the last one ended that was whole; 0 where none was.
    """
    found: list[tuple[float, float, list[int]]] = []
    begin, whole = 0.0, 0.0
    words: list[int] = []
    for token in tokens:
        if token < first_time:
            words.append(token)
            continue
        time = min(max((token - first_time) * STEP, begin), seconds)
        if words and time > begin:
            found.append((begin, time, words))
            whole = time
        begin, words = time, []
    if words and seconds > begin:
        found.append((begin, seconds, words))
    return found, whole


def _is_loop(text: str) -> bool:
    data = text.encode()
    return len(data) / len(zlib.compress(data)) > REPETITIVE


def _check(folder: Path) -> None:
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}; set MMAGENT_SPEECH_MODEL to one with a Whisper model")
    missing = [
        names.replace("|", " or ")
        for names in (*_FILES, _WEIGHTS)
        if not any((folder / name).is_file() for name in names.split("|"))
    ]
    if missing:
        raise ConfigurationError(
            f"{folder} has no {', no '.join(missing)}; set MMAGENT_SPEECH_MODEL to a folder with a whole Whisper model"
        )


def _ends(path: Path) -> bytes:
    """A file, or the first and last MiB of a large one."""
    with path.open("rb") as file:
        start = file.read(_MIB)
        file.seek(max(len(start), path.stat().st_size - _MIB))
        return start + file.read(_MIB)


@contextmanager
def _loading(folder: Path) -> Iterator[None]:
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # transformers and safetensors raise anything on files that do not fit
        raise ModelError(
            f"the speech model in {folder} cannot be loaded ({_first_line(error)}); is it a Whisper model, and whole?"
        ) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
