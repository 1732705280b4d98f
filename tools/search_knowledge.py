"""Lets the model search the documents that it was given, and look at the pictures found. It knows no store."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmagent import Image, ToolContext, ToolError, ToolResult, tool

MAX_PICTURES = 2
"""Shown of one search."""
MAX_SIDE = 1024
"""Pixels of the longer side of each."""


@tool(effect="read", untrusted=True)
def search_knowledge(query: str, ctx: ToolContext) -> ToolResult:
    """Search the documents for passages about the query."""
    if ctx.knowledge is None:
        raise ToolError("no documents have been given to search in")
    hits = [(ctx.cite(hit), hit) for hit in ctx.knowledge.search(query, k=3)]
    passages = [_passage(number, hit) for number, hit in hits]
    seen = [one for one in hits if one[1].is_picture][:MAX_PICTURES] if ctx.sees_pictures else []
    shown: list[Any] = ["\n".join(passages) or "no passage found"]
    for number, hit in seen:
        shown += _picture(number, hit, ctx, "\n" if isinstance(shown[-1], Image) else "")
    return ToolResult(content=shown if seen else shown[0], data=[asdict(hit) for _, hit in hits])


def _passage(number: int, hit: Any) -> str:
    """Number, title and words; of what is heard or looked at, the place, too."""
    place = f" ({hit.where})" if hit.is_picture or hit.kind == "speech" else ""
    words = " ".join(hit.text.splitlines())
    return f"[{number}] {hit.title}{place}" + (f"\n{words}" if words or not place else "")


def _picture(number: int, hit: Any, ctx: ToolContext, before: str) -> list[Any]:
    """The picture under a line that says where it is from; a search does not fail because a file is gone."""
    assert ctx.knowledge is not None
    try:
        picture = ctx.knowledge.picture(hit)
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
    except Exception as error:  # whatever a decoder does with somebody's file
        why = str(error).partition("\n")[0][:200] or type(error).__name__
        return [f"{before}[{number}] {hit.where}: cannot be shown: {why}"]
    return [f"{before}[{number}] {hit.where}:", Image(picture)]
