"""Lets the model search the documents that it was given."""

from __future__ import annotations

from dataclasses import asdict

from mmagent import ToolContext, ToolError, ToolResult, tool


@tool(effect="read", untrusted=True)
def search_knowledge(query: str, ctx: ToolContext) -> ToolResult:
    """Search the documents for passages about the query."""
    if ctx.knowledge is None:
        raise ToolError("no documents have been given to search in")
    hits = ctx.knowledge.search(query, k=3)
    passages = [f"[{ctx.cite(hit)}] {hit.title}\n{' '.join(hit.text.splitlines())}" for hit in hits]
    return ToolResult(content="\n".join(passages) or "no passage found", data=[asdict(hit) for hit in hits])
