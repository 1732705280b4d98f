"""LangChain's tools in an agent of ours, and our tools in LangChain's hands."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from langchain.tools import ToolRuntime
from langchain_core.documents import Document
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, ToolException
from langchain_core.tools import tool as langchain_tool
from langgraph.prebuilt import InjectedState
from langgraph.types import Command
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import BaseModel, Field

from mmagent import ToolContext, ToolError, ToolResult, tool
from mmagent.agent.tools.calls import Outcome, check, perform
from mmagent.agent.tools.langchain import as_langchain, as_tool
from mmagent.content import Image, Quoted
from mmagent.errors import ConfigurationError
from mmagent.knowledge import Hit, Knowledge
from mmagent.media import BlobStore


def png(color: str = "red") -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (4, 4), color).save(data, "PNG")
    return data.getvalue()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


async def use(base: BaseTool, blobs: BlobStore, **args: Any) -> Outcome:
    """A call as an agent makes it."""
    made = as_tool(base)
    chosen, arguments = check(
        {"type": "tool_call", "id": "call_7", "name": made.name, "args": args}, {made.name: made}, ()
    )
    return await perform(chosen, arguments, ToolContext(blobs=blobs, call_id="call_7"), blobs, 30)


class Order(BaseModel):
    order_id: str = Field(description="As on the receipt.")
    lamps: int = Field(default=1, ge=1)


@langchain_tool(args_schema=Order)
def lookup(order_id: str, lamps: int) -> str:
    """Look an order up."""
    return f"{order_id}: {lamps} lamps"


@langchain_tool
async def alookup(order_id: str) -> dict[str, Any]:
    """Look an order up."""
    return {"order": order_id, "paid": True}


async def test_a_sync_and_an_async_tool_run(blobs: BlobStore) -> None:
    assert (await use(lookup, blobs, order_id="A17")).content == ({"type": "text", "text": "A17: 1 lamps"},)
    assert (await use(alookup, blobs, order_id="A17")).content[0]["text"] == '{"order": "A17", "paid": true}'  # type: ignore[typeddict-item]


def test_the_model_is_told_what_langchain_knows_of_the_arguments() -> None:
    made = as_tool(lookup, effect="read")
    assert (made.name, made.description, made.effect) == ("lookup", "Look an order up.", "read")
    assert made.parameters["properties"]["order_id"]["description"] == "As on the receipt."
    assert made.parameters["required"] == ["order_id"]
    assert as_tool(lookup).effect == "unsafe"


async def test_arguments_are_held_to_the_schema_twice(blobs: BlobStore) -> None:
    with pytest.raises(ToolError, match="lookup got wrong arguments: lamps: Input should be at least 1"):
        await use(lookup, blobs, order_id="A17", lamps=0)

    class Strict(BaseModel):
        code: str = Field(pattern="^A")

    @langchain_tool(args_schema=Strict)
    def strict(code: str) -> str:
        """Strict."""
        return code

    outcome = await use(strict, blobs, code="B")
    assert outcome.error == "strict got wrong arguments: code: String should match pattern '^A'"


async def test_a_schema_may_be_json(blobs: BlobStore) -> None:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
    raw = StructuredTool(name="raw", description="Raw.", args_schema=schema, func=lambda q: q.upper())
    assert (await use(raw, blobs, q="a")).content == ({"type": "text", "text": "A"},)


class Classic(BaseTool):
    """A tool written as a class."""

    name: str = "classic"
    description: str = "A class."

    def _run(self, word: str) -> str:
        return word * 2


async def test_a_tool_may_be_a_class(blobs: BlobStore) -> None:
    assert (await use(Classic(), blobs, word="la")).content == ({"type": "text", "text": "lala"},)


async def test_pictures_are_seen_and_addresses_stay_words(blobs: BlobStore) -> None:
    @langchain_tool
    def shoot() -> list[dict[str, Any]]:
        """Take pictures."""
        return [
            {"type": "text", "text": "Two of three:"},
            {"type": "image", "base64": encoded(png("red")), "mime_type": "image/png"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + encoded(png("blue"))}},
            {"type": "image", "url": "https://example.com/a.png"},
        ]

    first, red, blue, address = (await use(shoot, blobs)).content
    assert first == {"type": "text", "text": "Two of three:"}
    assert [blobs.get(block["file_id"]) for block in (red, blue)] == [png("red"), png("blue")]  # type: ignore[typeddict-item]
    assert address == {"type": "text", "text": "[a picture at https://example.com/a.png, which is not fetched]"}


async def test_a_tool_cannot_show_files_of_this_machine(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(png())
    for url in (str(tmp_path / "private.png"), f"file:{tmp_path}/private.png", "file://["):

        @langchain_tool
        def fetch(url: str = url) -> list[dict[str, Any]]:
            """Fetch."""
            return [{"type": "image", "url": url}]

        (shown,) = (await use(fetch, blobs)).content
        assert shown == {"type": "text", "text": f"[a picture at {url}, which is not fetched]"}


async def test_damaged_base64_is_told(blobs: BlobStore) -> None:
    @langchain_tool
    def shoot() -> list[dict[str, Any]]:
        """Take a picture."""
        return [{"type": "image", "base64": "é"}]

    assert "base64 is damaged" in str((await use(shoot, blobs)).error)


async def test_an_artifact_is_for_programs(blobs: BlobStore) -> None:
    @langchain_tool(response_format="content_and_artifact")
    def search(query: str) -> tuple[str, list[Document]]:
        """Search."""
        return "1 passage", [Document("Lamps.", metadata={"page": 3})]

    outcome = await use(search, blobs, query="lamps")
    assert outcome.content == ({"type": "text", "text": "1 passage"},)
    assert outcome.data[0]["page_content"] == "Lamps."
    assert outcome.data[0]["metadata"] == {"page": 3}


async def test_bytes_in_an_artifact_are_a_file(blobs: BlobStore) -> None:
    @langchain_tool(response_format="content_and_artifact")
    def draw() -> tuple[str, bytes]:
        """Draw."""
        return "drawn", png()

    (file,) = (await use(draw, blobs)).artifacts
    assert blobs.get(file["file_id"]) == png()


@pytest.mark.parametrize("handled", [False, True])
async def test_a_failure_is_told_in_its_words(handled: bool, blobs: BlobStore) -> None:
    @langchain_tool
    def fail() -> str:
        """Fail."""
        raise ToolException("the shop is closed")

    fail.handle_tool_error = handled
    outcome = await use(fail, blobs)
    assert (outcome.error, outcome.crashed) == ("the shop is closed", False)


async def test_a_command_for_a_graph_is_refused(blobs: BlobStore) -> None:
    @langchain_tool
    def go() -> Command[Any]:
        """Go."""
        return Command(goto="end")

    assert (await use(go, blobs)).error == "go returned a Command, which only a LangGraph graph can follow"


async def test_the_id_of_the_call_is_given_and_hidden(blobs: BlobStore) -> None:
    @langchain_tool
    def receipt(x: int, call_id: Annotated[str, InjectedToolCallId]) -> str:
        """Say the id."""
        return call_id

    assert list(as_tool(receipt).parameters["properties"]) == ["x"]
    assert (await use(receipt, blobs, x=1)).content == ({"type": "text", "text": "call_7"},)


def test_a_graphs_state_cannot_be_had() -> None:
    @langchain_tool
    def count(state: Annotated[dict[str, Any], InjectedState]) -> int:
        """Count."""
        return len(state)

    @langchain_tool
    def store(x: int, runtime: ToolRuntime) -> int:
        """Store."""
        return x

    for base, name in ((count, "state"), (store, "runtime")):
        with pytest.raises(ConfigurationError, match=f"the parameter {name} of the tool {base.name} is filled in by"):
            as_tool(base)


@tool(effect="read")
def paint(color: str) -> ToolResult:
    """Paint.

    Args:
        color: What to paint with.
    """
    if color == "octarine":
        raise ToolError("there is no octarine left")
    return ToolResult(["Here:", Image(png(color))], data={"color": color})


def called(name: str, **args: Any) -> dict[str, Any]:
    return {"type": "tool_call", "id": "call_7", "name": name, "args": args}


async def test_our_tool_is_a_structured_tool(blobs: BlobStore) -> None:
    out = as_langchain(paint, blobs=blobs)
    assert isinstance(out, StructuredTool)
    assert (out.name, out.description) == ("paint", "Paint.")
    assert out.args["color"]["description"] == "What to paint with."
    for message in (out.invoke(called("paint", color="blue")), await out.ainvoke(called("paint", color="blue"))):
        assert isinstance(message, ToolMessage)
        assert (message.artifact, message.status, message.tool_call_id) == ({"color": "blue"}, "success", "call_7")
        words, picture = message.content_blocks
        assert words == {"type": "text", "text": "Here:"}
        assert base64.b64decode(picture["base64"]) == png("blue")  # type: ignore[typeddict-item]


def test_what_goes_wrong_in_our_tool_is_told_to_the_model(blobs: BlobStore) -> None:
    out = as_langchain(paint, blobs=blobs)
    for args, why in (
        ({"color": "octarine"}, "there is no octarine left"),
        ({"colour": "red"}, "paint got wrong arguments: color: Field required"),
    ):
        message = out.invoke(called("paint", **args))
        assert (message.status, message.text) == ("error", why)


async def test_our_sync_tool_can_be_invoked_inside_a_loop(blobs: BlobStore) -> None:
    assert as_langchain(paint, blobs=blobs).invoke({"color": "red"})[0] == {"type": "text", "text": "Here:"}


def test_the_context_brings_what_a_tool_needs(blobs: BlobStore) -> None:
    @tool(effect="read")
    def price(context: ToolContext[dict[str, int]], item: str) -> int:
        """Price."""
        return context.deps[item]

    assert as_langchain(price, blobs=blobs, context=ToolContext(deps={"lamp": 5})).invoke({"item": "lamp"}) == "5"


def test_each_call_counts_for_itself(blobs: BlobStore) -> None:
    @tool(effect="read")
    def find(context: ToolContext, what: str) -> str:
        """Find."""
        return f"[{context.cite(Hit(id=what, text=what, title=what, uri=what, start=0, end=1, score=1.0))}]"

    out, context = as_langchain(find, blobs=blobs), ToolContext[Any]()
    assert [out.invoke({"what": what}) for what in "ab"] == ["[1]", "[1]"]
    as_langchain(paint, blobs=blobs, context=context).invoke({"color": "red"})
    assert not context.labels


def test_a_model_cannot_give_what_a_graph_fills_in(blobs: BlobStore) -> None:
    message = as_langchain(paint, blobs=blobs).invoke(called("paint", color="red", mmagent_runtime={"state": {}}))
    why = "paint got wrong arguments: mmagent_runtime: Extra inputs are not permitted"
    assert (message.status, message.text) == ("error", why)


def test_quotes_are_checked_only_where_there_is_a_conversation(blobs: BlobStore) -> None:
    @tool(effect="read")
    def find(code: Quoted) -> str:
        """Find."""
        return code

    assert as_langchain(find, blobs=blobs).invoke({"code": "A17"}) == "A17"


class Lengths:
    """An embedder without weights, for a store with one passage."""

    fingerprint = "lengths"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.ones((len(texts), 1), np.float32)


@pytest.fixture
def policies(tmp_path: Path) -> Iterator[Knowledge]:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "returns.md").write_text("# Returns\n\nLamps go back within 14 days.\n")
    with Knowledge(tmp_path / "store", embedder=Lengths()) as knowledge:
        knowledge.add(tmp_path / "policies")
        yield knowledge


def test_our_knowledge_is_a_retriever(policies: Knowledge) -> None:
    (document,) = as_langchain(policies).invoke("When do lamps go back?")
    assert document.page_content == "Lamps go back within 14 days."
    assert (document.metadata["title"], document.metadata["uri"]) == ("Returns", "returns.md")
    assert document.metadata["id"] == document.id
    assert document.metadata["score"] > 0
