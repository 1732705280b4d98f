"""Shows a picture again of which the model is shown less, or nothing, by now. It knows the conversation's pictures."""

from __future__ import annotations

from mmagent import Image, ToolContext, ToolError, tool


@tool(effect="read")
def recall_media(ctx: ToolContext, image: int) -> Image:
    """See a picture of this conversation again in full.

    Args:
        image: The picture's number, 1 is the first.
    """
    if not ctx.pictures or ctx.blobs is None:
        raise ToolError("there is no picture in this conversation")
    if not 1 <= image <= len(ctx.pictures):
        raise ToolError(f"there is no picture {image}; the latest is picture {len(ctx.pictures)}")
    return Image(ctx.blobs.get(ctx.pictures[image - 1]["file_id"]))
