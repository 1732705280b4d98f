"""From frames and a rate to pictures with times. It knows frames, no tokens and no files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

NUM_FRAMES = 8
"""Frames that are shown of a video, at most."""


def sample_frames(video: Sequence[Image] | np.ndarray[Any, Any], fps: float) -> list[tuple[float, Image]]:
    """At most `NUM_FRAMES` frames, evenly spread from the first to the last, each with its time in seconds.

    Args:
        video: Frames in order, as pictures or as an array ``[F, H, W, 3]`` of bytes.
        fps: Frames per second, more than 0.

    Raises:
        ValueError: There are no frames, or ``fps`` is not a rate.
    """
    from PIL.Image import fromarray

    if not len(video):
        raise ValueError("the video has no frames; decode it first, or leave it out")
    if not fps > 0:
        raise ValueError(f"fps is {fps}; give the video's frames per second, so that frames have times")
    chosen = np.linspace(0, len(video) - 1, min(NUM_FRAMES, len(video))).round().astype(int).tolist()
    frames = [(index / fps, video[index]) for index in chosen]
    return [(time, fromarray(frame) if isinstance(frame, np.ndarray) else frame) for time, frame in frames]


def clock(seconds: float) -> str:
    """A time as it stands in the prompt, to the tenth of a second: ``1:02.5``."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02}.{tenths % 10}"


def as_pictures(block: dict[str, Any]) -> list[dict[str, Any]]:
    """A video block as image blocks with times, which the chat template writes before each of them.

    Args:
        block: ``{"type": "video", "video": frames, "fps": 25.0}``.

    Raises:
        ValueError: It has no frames or no rate.
    """
    if block.get("video") is None or isinstance(block["video"], str) or "fps" not in block:
        raise ValueError(
            'a video block needs its decoded frames and their rate: {"type": "video", "video": …, "fps": …}'
        )
    frames = sample_frames(block["video"], block["fps"])
    return [{"type": "image", "image": frame, "time": clock(time)} for time, frame in frames]
