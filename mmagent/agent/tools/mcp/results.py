"""What an MCP server answers, as what a tool may return: media bit for bit, resources with where they come from. It
knows the protocol's content blocks; it runs nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmagent.agent.tools import ToolResult
from mmagent.agent.tools.mcp.foreign import clean
from mmagent.content import Audio, Document, Image, Media, Video
from mmagent.errors import ToolError
from mmagent.media.sniff import sniff

if TYPE_CHECKING:
    from mcp.types import CallToolResult

MAX_BLOCKS = 1000
MAX_MEDIA = 64
"""Files in one result."""
MAX_ERROR = 20_000
"""Characters of what a tool says of its failure."""
_KINDS: dict[str, type[Media]] = {"image": Image, "audio": Audio, "video": Video}


def tool_result(result: CallToolResult) -> ToolResult:
    """The result of a call.

    Raises:
        ToolError: The tool says that it failed, or its result cannot be taken.
    """
    found = parts(result.content)
    if result.is_error:
        said = "\n".join(part for part in found if isinstance(part, str)).strip()
        raise ToolError(said[:MAX_ERROR] or "the tool failed and did not say why")
    others = [part for part in found if isinstance(part, Document) and not _is_pdf(part)]
    content: list[Any] = [part for part in found if part not in others]
    data = result.structured_content
    if not found and data is not None:
        content = [json.dumps(data, ensure_ascii=False)]
    return ToolResult(content=content[0] if len(content) == 1 else content, data=data, artifacts=others)


def parts(blocks: Sequence[Any]) -> list[str | Media]:
    """Content blocks, or the contents of a resource, as text and media.

    Raises:
        ToolError: There are too many, or one is damaged.
    """
    if len(blocks) > MAX_BLOCKS:
        raise ToolError(f"the result has {len(blocks)} parts; at most {MAX_BLOCKS} are taken")
    found = [_part(block) for block in blocks]
    if (files := sum(isinstance(part, Media) for part in found)) > MAX_MEDIA:
        raise ToolError(f"the result has {files} files; at most {MAX_MEDIA} are taken")
    return found


def _part(block: Any) -> str | Media:
    """By the fields that a block has, as protocol versions call the same things by other types."""
    if (resource := getattr(block, "resource", None)) is not None:
        return _resource(resource)
    kind = getattr(block, "type", None)
    if kind == "text":
        return str(block.text)
    if kind in ("image", "audio"):
        return _KINDS[kind](_decoded(block.data))
    if kind == "resource_link":
        notes = (block.name, block.uri, block.mime_type or "", block.description or "")
        return "resource: " + " | ".join(filter(None, (clean(note, 500) for note in notes)))
    return _resource(block)


def _resource(resource: Any) -> str | Media:
    if (text := getattr(resource, "text", None)) is not None:
        return f"{clean(resource.uri, 500)}\n{text}"
    data = _decoded(getattr(resource, "blob", ""))
    kind = sniff(data)
    if kind is None and _is_text(data):
        return f"{clean(resource.uri, 500)}\n{data.decode()}"
    return _KINDS.get((kind or "").partition("/")[0], Document)(data)


def _is_pdf(document: Document) -> bool:
    return isinstance(document.source, bytes) and document.source.startswith(b"%PDF-")


def _is_text(data: bytes) -> bool:
    try:
        return "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ToolError("the result holds a file that is no base64") from error
