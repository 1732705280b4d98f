"""From a checkpoint to what makes its inputs out of text and pictures. It knows transformers' processors, no weights.

A processor is made of transformers' own class, mended where the engine needs it:

- Many also take videos, with a part that cannot be built without torchvision. Pictures are all that the engine gives
  them, so a part that refuses every video stands in its place, on every machine alike.
- Some count placeholders in what users typed, and so refuse a conversation that merely speaks of ``<image>``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mmagent.errors import ModelError


def load_processor(path_or_id: str | Path, config: Any, **where: Any) -> Any:
    """The processor of a vision-language checkpoint, with a chat template where the checkpoint has one at all.

    Args:
        path_or_id: A directory that ``save_pretrained`` wrote, or a hub id.
        config: The checkpoint's configuration.
        where: Passed on to every ``from_pretrained``, e.g. ``local_files_only``.

    Raises:
        ModelError: Its processor takes more than text, pictures and videos.
        OSError: Files are missing.
    """
    from transformers import AutoProcessor
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    kind: Any = PROCESSOR_MAPPING.get(type(config), None)
    if kind is None or "image_processor" not in kind.get_attributes():
        return AutoProcessor.from_pretrained(str(path_or_id), **where)
    _without_number_words(kind)
    parts = [_part(name, kind, path_or_id, where) for name in kind.get_attributes()]
    values, _ = kind.get_processor_dict(str(path_or_id), **where)
    processor = _mended(kind).from_args_and_dict(parts, values)
    processor.chat_template = processor.chat_template or processor.tokenizer.chat_template
    for name, value in getattr(kind, "images_kwargs", {}).items():  # so that the picture part alone does as the whole
        setattr(processor.image_processor, name, value)
    return processor


def _part(name: str, kind: Any, path_or_id: str | Path, where: dict[str, Any]) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer

    if name == "image_processor":
        return AutoImageProcessor.from_pretrained(str(path_or_id), **where)
    if name == "tokenizer":
        return AutoTokenizer.from_pretrained(str(path_or_id), **where)
    if name == "video_processor":
        return _no_videos()
    raise ModelError(f"{kind.__name__} needs a {name}, which mmagent does not know; use a model without it")


def _no_videos() -> Any:
    from transformers.video_processing_utils import VideoProcessorMixin

    class NoVideos(VideoProcessorMixin):
        """Stands where a video processor must."""

        num_frames = fps = None

        def __call__(self, *_: Any, **__: Any) -> Any:
            raise ValueError("videos cannot be taken; give pictures of their frames")

    return NoVideos()


def _mended(kind: Any) -> Any:
    """The class, under its own name, with `NoVideos` allowed and placeholders counted in the template's text only."""
    from transformers import ProcessorMixin

    changes: dict[str, Any] = {
        # without torchvision transformers cannot even look up what a video processor is
        "check_argument_for_proper_class": lambda self, name, part: type(part),
        # guards against truncation, which there is none of, and takes typed placeholders for real ones
        "_check_special_mm_tokens": lambda self, text, inputs, modalities: None,
    }
    if kind.__name__ in _UNUSED:
        changes |= {
            "__call__": ProcessorMixin.__call__,  # theirs counts typed placeholders; for pictures it does no more
            "prepare_inputs_layout": _layout(kind),
            "unused_input_names": _UNUSED[kind.__name__],
        }
    return type(kind.__name__, (kind,), changes)


_UNUSED = {"Idefics3Processor": ["rows", "cols"], "InternVLProcessor": ["num_patches"]}
"""What the picture parts of these give that their networks do not take."""


def _layout(kind: Any) -> Any:
    def prepare_inputs_layout(self: Any, **inputs: Any) -> tuple[Any, Any, None, None]:
        images, text, *_ = kind.prepare_inputs_layout(self, **inputs)
        return images, text, None, None

    return prepare_inputs_layout


def _without_number_words(kind: Any) -> None:
    """Let SmolVLM's processor be made without num2words, which it spells the number of a video's frames with."""
    module = sys.modules[kind.__module__]
    if getattr(module, "num2words", "") is None:
        vars(module)["num2words"] = str
