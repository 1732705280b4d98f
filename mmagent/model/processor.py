"""From messages, pictures, videos and sound to the network's inputs. It knows token counts and pixels, no weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers.processing_utils import MultiModalData, ProcessorMixin

from mmagent.model.configuration import WHISPER_HOP, WHISPER_RATE, WHISPER_STRIDE, MMAgentConfig, audio_token_count
from mmagent.model.tokenizer import AUDIO_TOKEN
from mmagent.model.video import as_pictures


class MMAgentProcessor(ProcessorMixin):
    """Tokenizer, image processor and, where the network hears, Whisper's mel spectrogram as one.

    A picture becomes ``image_seq_length`` placeholder tokens for each of its tiles, row by row, the view of the whole
    last (InternVL's order). A recording becomes one for each started ``audio_downsample`` encoder positions. A video
    block of a conversation becomes some of its frames, each after its time.

    Args:
        image_processor: Turns pictures into ``pixel_values`` of a fixed size; if it cuts tiles, also ``num_patches``.
        tokenizer: Has the chat template and the token ``image_token``.
        image_seq_length: Tokens per picture or tile, `MMAgentConfig.image_seq_length`.
        image_token: Placeholder of a picture.
        mel_bins: Mel bands that the audio tower takes; None is a network without ears.
        audio_window: Seconds that the audio tower takes at once; longer recordings are cut into several windows.
        audio_downsample: `MMAgentConfig.audio_downsample`.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        chat_template: str | None = None,
        image_seq_length: int = 16,
        image_token: str = "<|image|>",
        mel_bins: int | None = None,
        audio_window: int = 30,
        audio_downsample: int = 8,
        **kwargs: Any,
    ) -> None:
        self.image_seq_length = image_seq_length
        self.image_token = image_token
        self.image_token_id = tokenizer.convert_tokens_to_ids(image_token)
        self.mel_bins = mel_bins
        self.audio_window = audio_window
        self.audio_downsample = audio_downsample
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)  # type: ignore[no-untyped-call]
        if mel_bins is not None:
            from transformers import WhisperFeatureExtractor

            self.feature_extractor = WhisperFeatureExtractor(feature_size=mel_bins, chunk_length=audio_window)
            self.audio_token = AUDIO_TOKEN
            self.audio_token_id = tokenizer.convert_tokens_to_ids(AUDIO_TOKEN)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As in transformers; blocks ``{"type": "video", "video": frames, "fps": rate}`` become frames with times.

        Raises:
            ValueError: A video is not given as frames and rate.
        """
        batched = bool(conversation) and isinstance(conversation[0], (list, tuple))
        shown = [_show_videos(one) for one in conversation] if batched else _show_videos(conversation)
        return super().apply_chat_template(shown, *args, **kwargs)

    def validate_inputs(
        self, images: Any = None, text: Any = None, videos: Any = None, audio: Any = None, **_: Any
    ) -> None:
        """Refuse what transformers would leave out in silence.

        Raises:
            ValueError: Placeholders and media differ in number, or the network does not take a modality.
        """
        if videos is not None:
            raise ValueError("give videos as video blocks of apply_chat_template, or their frames as images")
        if audio is not None and self.mel_bins is None:
            raise ValueError("this network has no audio tower; transcribe recordings, or set audio_config")
        super().validate_inputs(images=images, text=text, audio=audio)

    def replace_image_token(self, image_inputs: dict[str, Any], image_idx: int, **_: Any) -> str:
        """The text that stands for one picture."""
        tiles = int(image_inputs["num_patches"][image_idx]) if "num_patches" in image_inputs else 1
        return self.image_token * (self.image_seq_length * tiles)

    @property
    def unused_input_names(self) -> list[str]:
        """What sub-processors make that the network does not take."""
        return ["num_patches"]

    def _process_audio(self, audio: Any, **kwargs: Any) -> tuple[dict[str, Any], list[str]]:
        cut = [_windows(np.asarray(recording), self.audio_window * WHISPER_RATE) for recording in audio]
        made = self.feature_extractor(
            [window for windows in cut for window in windows],
            sampling_rate=kwargs.get("sampling_rate") or WHISPER_RATE,
            return_attention_mask=True,
            return_tensors="np",
        )
        inputs = {"input_features": made["input_features"], "input_features_mask": made["attention_mask"]}
        return inputs, [AUDIO_TOKEN * self._audio_tokens(len(recording)) for recording in audio]

    def _audio_tokens(self, samples: int) -> int:
        """Tokens of a recording of that many samples."""
        window = self.audio_window * WHISPER_RATE
        sizes = [min(window, samples - start) for start in range(0, samples, window)]
        return sum(audio_token_count(-(-size // WHISPER_HOP), self.audio_downsample) for size in sizes)

    def _get_num_multimodal_tokens(
        self,
        image_sizes: Sequence[tuple[int, int]] | None = None,
        audio_lengths: Sequence[int] | None = None,
        **_: Any,
    ) -> MultiModalData:
        """Placeholders of pictures of (height, width) pixels and recordings of so many samples, before all else."""
        count = getattr(self.image_processor, "get_number_of_image_patches", lambda height, width: 1)
        tiles = [count(height, width) for height, width in image_sizes or ()]
        return MultiModalData(
            num_image_tokens=[self.image_seq_length * number for number in tiles],
            num_image_patches=tiles,
            num_audio_tokens=[self._audio_tokens(samples) for samples in audio_lengths or ()],
        )


def build_processor(tokenizer: Any, config: MMAgentConfig) -> MMAgentProcessor:
    """The processor of a network: pictures, or their tiles, squeezed to its square, pixels to [-1, 1]."""
    audio = config.audio_config
    hearing = {} if audio is None else {
        "mel_bins": audio.num_mel_bins,
        "audio_window": audio.max_source_positions * WHISPER_STRIDE * WHISPER_HOP // WHISPER_RATE,
        "audio_downsample": config.audio_downsample,
    }  # fmt: skip
    return MMAgentProcessor(
        _image_processor(int(config.vision_config.image_size), config.tiles),
        tokenizer,
        chat_template=tokenizer.chat_template,
        image_seq_length=config.image_seq_length,
        **hearing,
    )


def _image_processor(side: int, tiles: int) -> Any:
    size = {"height": side, "width": side}
    if tiles == 1:
        from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

        return SiglipImageProcessorPil(size=size)
    # InternVL's: the grid whose aspect is closest, then the whole picture once more
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    half = [0.5, 0.5, 0.5]
    return GotOcr2ImageProcessorPil(size=size, crop_to_patches=True, max_patches=tiles, image_mean=half, image_std=half)


def _show_videos(conversation: Any) -> list[Any]:
    """The conversation with each video as pictures; what has none is left as it is."""
    shown = []
    for message in conversation:
        content = message.get("content")
        if isinstance(content, list) and any(block.get("type") == "video" for block in content):
            blocks = [as_pictures(block) if block.get("type") == "video" else [block] for block in content]
            message = {**message, "content": [block for group in blocks for block in group]}
        shown.append(message)
    return shown


def _windows(recording: np.ndarray[Any, Any], size: int) -> list[np.ndarray[Any, Any]]:
    if recording.ndim != 1 or not len(recording):
        raise ValueError(f"a recording is an array of samples of one channel, this has shape {recording.shape}")
    return [recording[start : start + size] for start in range(0, len(recording), size)]
