"""A friendly MCP server of the official SDK: pictures, recordings, resources, progress. Run: sdk.py [PORT]."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
from pathlib import Path

from mcp.server.mcpserver import Audio, Context, Image, MCPServer
from mcp.types import (
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ResourceLink,
    TextContent,
    TextResourceContents,
    ToolAnnotations,
)

server = MCPServer("friendly", instructions="Be friendly.", log_level="CRITICAL")
MEDIA = Path(os.environ.get("MEDIA", "."))


@server.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(annotations=ToolAnnotations(idempotent_hint=True))
def picture(name: str) -> Image:
    """A picture."""
    return Image(data=(MEDIA / f"{name}.png").read_bytes())


@server.tool()
def recording() -> Audio:
    """A recording."""
    return Audio(data=(MEDIA / "beep.wav").read_bytes())


@server.tool()
def documents() -> CallToolResult:
    """A link, a text, a file and a picture."""
    png = base64.b64encode((MEDIA / "red.png").read_bytes()).decode()
    return CallToolResult(
        content=[
            TextContent(text="Four things."),
            ResourceLink(name="manual", uri="file:///manual.md", mime_type="text/markdown"),
            EmbeddedResource(resource=TextResourceContents(uri="note://1", text="Two words.")),
            EmbeddedResource(resource=BlobResourceContents(uri="picture://red", blob=png)),
        ],
        structured_content={"count": 4},
    )


@server.tool()
def environment(name: str) -> str:
    """A variable of this process."""
    return os.environ.get(name, "(none)")


@server.tool()
def fail(why: str) -> str:
    """Fail."""
    raise ValueError(why)


@server.tool()
async def count(steps: int, context: Context) -> str:
    """Count, and tell of it."""
    for step in range(1, steps + 1):
        await context.report_progress(step, steps, f"step {step}")
    return "done"


@server.tool()
async def wait(seconds: float, mark: str) -> str:
    """Wait; leave a file when cancelled."""
    Path(mark).with_suffix(".begun").touch()
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        Path(mark).touch()
        raise
    return "waited"


@server.tool()
def die() -> str:
    """End this process at once."""
    print("I am dying of", os.environ.get("MY_PASSWORD"), file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
async def ask(context: Context) -> str:
    """Ask the user something, which clients may refuse."""
    from pydantic import BaseModel

    class Answer(BaseModel):
        name: str

    return str(await context.elicit("Who are you?", Answer))


@server.resource("note://{number}")
def note(number: str) -> str:
    """A note."""
    return f"note {number}"


@server.resource("picture://blue", mime_type="image/png")
def blue() -> bytes:
    """A blue picture."""
    return (MEDIA / "blue.png").read_bytes()


@server.prompt()
def greet(name: str) -> str:
    """A greeting."""
    return f"Say hello to {name}."


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]))
    else:
        server.run()
