"""A closer look: part of a picture, enlarged, for the model to see again. It reads no text and judges nothing."""

from __future__ import annotations

from math import ceil, floor
from typing import Annotated

from pydantic import Field

from mmagent import Image, ToolContext, ToolError, tool

MIN_SIDE = 512
"""Pixels of the longer side of what the model sees, at least."""

WHOLE = [0.0, 0.0, 1.0, 1.0]


@tool(effect="read", untrusted=True)
def look(
    ctx: ToolContext, box: Annotated[list[float], Field(min_length=4, max_length=4)] = WHOLE, image: int = 0
) -> Image:
    """See a part of a picture again, enlarged.

    Args:
        box: Left, top, right and bottom of the part, each from 0 to 1; the whole picture if left out.
        image: The picture's number in the conversation, 1 is the first; 0 is the latest.
    """
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise ToolError(f"the box {box} is not [left, top, right, bottom] with 0 <= left < right <= 1, same downwards")
    from PIL.Image import Resampling

    picture = ctx.open_picture(image)
    width, height = picture.size
    left, top, right, bottom = box
    part = picture.crop((floor(left * width), floor(top * height), ceil(right * width), ceil(bottom * height)))
    scale = MIN_SIDE / max(part.size)
    if scale > 1:
        larger = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
        part = part.resize(larger, Resampling.LANCZOS)
    return Image(part)
