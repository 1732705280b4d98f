"""MCP end to end: our client with servers of the official SDK, the official client with our server, ours with ours."""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import wave
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp", reason="the extra 'mcp' is not installed")

from PIL import Image as Pillow
from PIL import ImageDraw

from mmagent.agent.tools import AnyTool, ToolContext, ToolResult
from mmagent.agent.tools.calls import Outcome, check, perform
from mmagent.agent.tools.mcp import MCPServer
from mmagent.content import Audio, Image
from mmagent.errors import InputError, ToolError
from mmagent.media import BlobStore

SDK = [sys.executable, str(Path(__file__).parents[1] / "servers" / "sdk.py")]
TOKEN = "a token of this test"
SERVE = """
import json, sys
from pathlib import Path
from mmagent.cli.mcp import serve
from mmagent.cli.outcome import one_line_errors

options = json.loads(sys.argv[1])
folders = lambda key: [Path(one) for one in options.get(key, [])]
with one_line_errors():
    serve(knowledge=next(iter(folders("knowledge")), None), tools=folders("tools"), roots=folders("roots"),
          port=options.get("port"))
"""
TOOLS = '''
from mmagent import Image, Progress, ToolError, tool
from PIL import Image as Pillow

@tool
def order(number: int):
    """Order something."""
    yield Progress("asking", 0.5)
    print("this is no protocol")
    yield f"ordered {number}"

@tool(effect="idempotent", sends=False)
def paint(colour: str) -> Image:
    """Paint a picture."""
    if colour == "none":
        raise ToolError("there is no such colour")
    return Pillow.new("RGB", (4, 4), colour)
'''


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for colour in ("red", "blue"):
        Pillow.new("RGB", (16, 16), colour).save(folder / f"{colour}.png")
    with wave.open(str(folder / "beep.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 800, "NONE", ""))
        file.writeframes(bytes(1600))
    return folder


def wait_for(port: int, process: subprocess.Popen[Any]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise AssertionError("the server did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module", params=["stdio", "http"])
def friend(request: pytest.FixtureRequest, media: Path) -> Iterator[MCPServer]:
    """A server of the official SDK, seen through our client."""
    if request.param == "stdio":
        with MCPServer([*SDK], env={"MEDIA": str(media)}, timeout=60) as server:
            yield server
        return
    port = free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([*SDK, str(port)], env={**os.environ, "MEDIA": str(media)}, **quiet)  # type: ignore[call-overload]
    try:
        wait_for(port, process)
        with MCPServer(url=f"http://127.0.0.1:{port}/mcp", timeout=60) as server:
            yield server
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def tools(friend: MCPServer) -> dict[str, AnyTool]:
    return {tool.name: tool for tool in friend.mmagent_tools()}


async def run(tools: dict[str, AnyTool], name: str, context: ToolContext[Any], /, **arguments: Any) -> Outcome:
    """A call, as an agent makes it."""
    chosen, checked = check({"type": "tool_call", "id": "1", "name": name, "args": arguments}, tools, [])
    assert context.blobs
    return await perform(chosen, checked, context, context.blobs, 60)


@pytest.fixture
def context(tmp_path: Path) -> ToolContext[Any]:
    return ToolContext(blobs=BlobStore(tmp_path / "blobs"), call_id="1")


async def test_results_of_every_kind_arrive(tools: dict[str, AnyTool], media: Path, context: ToolContext[Any]) -> None:
    assert context.blobs
    added = await run(tools, "add", context, a=1, b=2)
    assert (added.content[0], added.data) == ({"type": "text", "text": "3"}, {"result": 3})
    for colour, outcome in zip(
        ("red", "blue"),
        await asyncio.gather(*(run(tools, "picture", context, name=colour) for colour in ("red", "blue"))),
        strict=True,
    ):
        (block,) = [block for block in outcome.content if block["type"] == "image"]
        assert context.blobs.get(block["file_id"]) == (media / f"{colour}.png").read_bytes()
    heard = await tools["recording"].call({}, context)
    assert isinstance(heard, ToolResult)
    assert heard.content == Audio((media / "beep.wav").read_bytes())
    four = await tools["documents"].call({}, context)
    assert four.data == {"count": 4}
    assert four.content == [
        "Four things.",
        "resource: manual | file:///manual.md | text/markdown",
        "note://1\nTwo words.",
        Image((media / "red.png").read_bytes()),
    ]


async def test_failures_and_questions_are_errors(tools: dict[str, AnyTool], context: ToolContext[Any]) -> None:
    assert "fail" in ((await run(tools, "fail", context, why="no")).error or "")
    assert (await run(tools, "ask", context)).error
    assert (await run(tools, "add", context, a=1, b=1)).data == {"result": 2}


async def test_progress_is_passed_on(tools: dict[str, AnyTool], tmp_path: Path) -> None:
    notes: list[tuple[str, float | None]] = []
    context = ToolContext[Any](
        blobs=BlobStore(tmp_path), call_id="1", on_progress=lambda note: notes.append((note.message, note.fraction))
    )
    assert (await run(tools, "count", context, steps=4)).data == {"result": "done"}
    assert set(notes) == {("step 1", 0.25), ("step 2", 0.5), ("step 3", 0.75), ("step 4", 1.0)}


async def test_a_cancelled_call_is_cancelled_at_the_server(
    tools: dict[str, AnyTool], context: ToolContext[Any], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    call = asyncio.create_task(run(tools, "wait", context, seconds=60, mark=str(mark)))
    while not mark.with_suffix(".begun").exists():
        await asyncio.sleep(0.01)
    call.cancel()
    while not mark.exists():
        await asyncio.sleep(0.01)


def test_resources_and_prompts(friend: MCPServer, media: Path) -> None:
    assert [(one.uri, one.mime_type) for one in friend.resources()] == [("picture://blue", "image/png")]
    assert friend.read("picture://blue") == [Image((media / "blue.png").read_bytes())]
    assert friend.read("note://7") == ["note://7\nnote 7"]
    assert [(one.name, one.arguments) for one in friend.prompts()] == [("greet", ("name",))]
    assert friend.prompt("greet", name="Ada") == ["Say hello to Ada."]
    with pytest.raises(ToolError, match="refused"):
        friend.read("nowhere://1")


async def test_a_child_gets_few_variables(media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    with MCPServer(SDK, env={"MEDIA": str(media), "GIVEN": "yes"}, allow=["environment"]) as server:
        (environment,) = server.mmagent_tools()
        answers = [
            (await environment.call({"name": name}, ToolContext())).content for name in ("SECRET_OF_OURS", "GIVEN")
        ]
    assert answers == ["(none)", "yes"]


# Our server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to serve, with a way out of it; and beside it a file of tools and documents."""
    place = tmp_path_factory.mktemp("place")
    for folder in ("served", "documents"):
        (place / folder).mkdir()
    page = Pillow.new("RGB", (400, 120), "white")
    ImageDraw.Draw(page).text((20, 30), "ORDER 4711", fill="black", font_size=48)
    page.save(place / "served" / "page.png")
    page.save(place / "secret.png")
    (place / "served" / "way-out.png").symlink_to(place / "secret.png")
    (place / "served" / "notes.txt").write_text("these are notes")
    (place / "documents" / "returns.md").write_text("# Returns\n\nYou may return lamps within 30 days.\n")
    (place / "tools.py").write_text(TOOLS)
    return place


def command(**options: Any) -> list[str]:
    import json

    return [sys.executable, "-c", SERVE, json.dumps(options)]


@asynccontextmanager
async def official(place: Path) -> AsyncIterator[Any]:
    """The official client, with our server over stdio."""
    from mcp import Client
    from mcp.client.stdio import StdioServerParameters

    options = {
        "roots": [str(place / "served")],
        "tools": [str(place / "tools.py")],
        "knowledge": [str(place / "documents")],
    }
    words = command(**options)
    environment = {key: value for key, value in os.environ.items() if key.startswith(("MMAGENT_", "HF_", "OMP_"))}
    async with Client(StdioServerParameters(command=words[0], args=words[1:], env=environment)) as client:
        yield client


async def test_the_official_client_uses_our_tools(place: Path) -> None:
    async with official(place) as client:
        listed = {tool.name: tool for tool in (await client.list_tools()).tools}
        names = ["read_text", "look", "calculate", "today", "search_knowledge", "order", "paint"]
        assert list(listed) == names
        assert listed["look"].annotations.read_only_hint
        assert set(listed["look"].input_schema["properties"]) == {"path", "data", "box"}
        assert (listed["order"].annotations.destructive_hint, listed["order"].annotations.open_world_hint) == (
            True,
            True,
        )
        assert listed["paint"].annotations.idempotent_hint
        assert listed["paint"].annotations.open_world_hint is False

        seen = await client.call_tool("look", {"path": "page.png", "box": [0, 0, 0.5, 0.5]})
        part = Pillow.open(BytesIO(base64.b64decode(seen.content[0].data)))
        assert max(part.size) == 512
        data = base64.b64encode((place / "served" / "page.png").read_bytes()).decode()
        read = await client.call_tool("read_text", {"data": data})
        assert "4711" in read.content[0].text
        assert read.structured_content["lines"][0]["confidence"] > 0.5
        assert (await client.call_tool("calculate", {"expression": "6 * 7"})).content[0].text == "42"

        notes: list[Any] = []

        async def note(done: float, total: float | None, message: str | None) -> None:
            notes.append((done, total, message))

        ordered = await client.call_tool("order", {"number": 3}, progress_callback=note)
        assert ordered.content[0].text == "ordered 3"
        assert notes == [(0.5, 1.0, "asking")]
        painted = await client.call_tool("paint", {"colour": "red"})
        assert Pillow.open(BytesIO(base64.b64decode(painted.content[0].data))).getpixel((0, 0)) == (255, 0, 0)

        refused = {
            "way out": ("look", {"path": "way-out.png"}, "there is no file"),
            "above": ("look", {"path": "../secret.png"}, "there is no file"),
            "elsewhere": ("look", {"path": str(place / "secret.png")}, "there is no file"),
            "no picture": ("look", {"path": "notes.txt"}, "no picture"),
            "folder": ("look", {"path": "."}, "there is no file"),
            "neither": ("look", {}, "either path or data"),
            "no base64": ("look", {"data": "@"}, "no base64"),
            "tool error": ("paint", {"colour": "none"}, "no such colour"),
            "arguments": ("calculate", {"expresion": "1"}, "wrong arguments"),
            "no tool": ("fly", {}, "there is no tool fly"),
        }
        for name, arguments, why in refused.values():
            answer = await client.call_tool(name, arguments)
            assert answer.is_error
            assert why in answer.content[0].text


class Documents:
    """Knowledge, as far as the tool needs it."""

    def __init__(self) -> None:
        self.opened: list[Path] = []
        self.closed = False

    def of_folder(self, folder: Path) -> Documents:
        self.opened.append(folder)
        return self

    def search(self, query: str, k: int) -> list[Any]:
        from mmagent.knowledge import Hit

        text = f"You may {query} within 30 days."
        return [Hit(id="1", text=text, title="Returns", uri="returns.md", start=0, end=9, score=1.0)]

    def close(self) -> None:
        self.closed = True


async def test_documents_are_opened_when_something_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp import Client

    import mmagent.knowledge
    from mmagent.serve.mcp import ToolServer
    from mmagent.tools import builtins

    documents = Documents()
    monkeypatch.setattr(mmagent.knowledge, "Knowledge", documents, raising=False)
    server = ToolServer(builtins("search_knowledge", "today"), [], Path("documents"))
    async with Client(server.protocol) as client:
        await client.call_tool("today")
        assert documents.opened == []
        for _ in range(2):
            found = await client.call_tool("search_knowledge", {"query": "return a lamp"})
        assert found.content[0].model_dump()["text"] == "[1] Returns\nYou may return a lamp within 30 days."
        assert found.structured_content["result"][0]["uri"] == "returns.md"
        assert documents.opened == [Path("documents")]
    server.close()
    assert documents.closed


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    """Our server over HTTP."""
    port = free_port()
    environment = {**os.environ, "MMAGENT_MCP_TOKEN": TOKEN}
    process = subprocess.Popen(
        command(port=port, roots=[str(place / "served")]), env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait()
        assert process.stderr and TOKEN not in process.stderr.read()
        process.stderr.close()


async def test_our_client_uses_our_server_over_http(address: str, place: Path, context: ToolContext[Any]) -> None:
    assert context.blobs
    with MCPServer(url=address, headers={"Authorization": f"Bearer {TOKEN}"}, trusted=True, timeout=60) as server:
        tools = {tool.name: tool for tool in server.mmagent_tools()}
        assert {name: tool.effect for name, tool in tools.items()} == dict.fromkeys(
            ("read_text", "look", "calculate", "today"), "read"
        )
        outcome = await run(tools, "look", context, path="page.png")
        (block,) = [block for block in outcome.content if block["type"] == "image"]
        assert context.blobs.open_image(block["file_id"]).size == (512, 154)
    with (
        MCPServer(url=address, headers={"Authorization": "Bearer wrong"}) as stranger,
        pytest.raises(ToolError, match="HTTP 401"),
    ):
        stranger.mmagent_tools()


def test_strangers_and_foreign_pages_are_turned_away(address: str) -> None:
    import httpx2

    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    token = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
    with httpx2.Client(trust_env=False) as web:
        assert web.post(address, json=body).status_code == 401
        assert web.get(address.replace("/mcp", "/docs")).status_code == 401
        assert web.post(address, json=body, headers={**token, "Origin": "https://example.com"}).status_code == 403
        assert web.post(address, json=body, headers={**token, "Host": "example.com"}).status_code == 421


def test_what_cannot_be_served_is_one_line() -> None:
    for options, why in (
        ({"roots": ["/no/such/folder"]}, "there is no folder /no/such/folder"),
        ({"tools": ["/no/such/file.py"]}, "there is no file"),
    ):
        done = subprocess.run(command(**options), capture_output=True, text=True, check=False, input="")
        assert done.returncode == 2
        assert done.stderr.startswith("error: ") and why in done.stderr
        assert done.stdout == ""


async def test_a_tool_that_ends_too_late_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcp import Client

    from mmagent.agent.tools import tool
    from mmagent.serve.mcp import ToolServer

    released, ended = threading.Event(), threading.Event()

    @tool(effect="read", timeout=0.05)
    def slow(context: ToolContext) -> None:
        """Slow."""
        released.wait(30)
        try:
            assert context.blobs
            context.blobs.put(b"late", "text/plain")
        finally:
            ended.set()

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with Client(ToolServer([slow], []).protocol) as client:
        answer = await client.call_tool("slow")
    assert answer.content[0].model_dump()["text"] == "slow timed out after 0.05 s"
    released.set()
    assert ended.wait(30)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="folders are opened one in another")
def test_a_folder_that_becomes_a_link_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmagent.serve import mcp

    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder, said in ((root / "a", b"inside"), (outside, b"outside")):
        folder.mkdir(parents=True)
        (folder / "page.png").write_bytes(said)
    assert mcp.read_below([root], "a/page.png") == b"inside"
    resolve = Path.resolve

    def swapped(path: Path, **options: Any) -> Path:
        found = resolve(path, **options)
        (root / "a").rename(root / "b")
        (root / "a").symlink_to(outside)
        return found

    monkeypatch.setattr(Path, "resolve", swapped)
    with pytest.raises(InputError, match="there is no file"):
        mcp.read_below([root], "a/page.png")
