"""Optical character recognition by RapidOCR, on the CPU, with the models that come inside its package."""

from __future__ import annotations

from mmagent import MMAgentError, ToolContext, ToolError, ToolResult, tool
from mmagent.media.ocr import recognise, rows_of


@tool(effect="read", untrusted=True)
def read_text(ctx: ToolContext, image: int = 0) -> ToolResult:
    """Read the text in a picture.

    Args:
        image: The picture's number in the conversation, 1 is the first; 0 is the latest.
    """
    picture = ctx.open_picture(image)
    try:
        rows = rows_of(recognise(picture))
    except MMAgentError as error:
        raise ToolError(str(error)) from error
    content = "\n".join(" ".join(line["text"] for line in row) for row in rows)
    return ToolResult(
        content=content or "no text found in the picture", data={"lines": [line for row in rows for line in row]}
    )
