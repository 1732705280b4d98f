"""LangChain's agent on our models and tools, and our agent on LangChain's, from the question to the answer."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.tools import tool as langchain_tool
from PIL import Image as Pillow

from mmagent import Agent, Image, Knowledge, LocalModel, ToolContext
from mmagent.agent.tools import load_tools
from mmagent.agent.tools.langchain import as_langchain
from mmagent.chat import Capabilities, ModelEvent, ModelRequest
from mmagent.media import BlobStore
from mmagent.prompts import render
from mmagent.tools import builtins

pytestmark = pytest.mark.xdist_group("nano")

SHOP = Path(__file__).parents[2] / "examples" / "shop"
QUESTION = "Can I still return the lamp?"


def png(color: str) -> bytes:
    data = io.BytesIO()
    Pillow.new("RGB", (64, 64), color).save(data, "PNG")
    return data.getvalue()


def picture(data: bytes) -> dict[str, Any]:
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/png"}


class Watched:
    """A model, and what it was asked."""

    def __init__(self, model: LocalModel) -> None:
        self.model, self.requests = model, list[ModelRequest]()

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        self.requests.append(request)
        return self.model.stream(request)

    def count_tokens(self, request: ModelRequest) -> int:
        return self.model.count_tokens(request)


@pytest.fixture(scope="module")
def nano() -> LocalModel:
    return LocalModel("nano")


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


@pytest.fixture
def policies(tmp_path: Path) -> Iterator[Knowledge]:
    with Knowledge(tmp_path / "store") as knowledge:
        knowledge.add(SHOP / "policies")
        yield knowledge


def asked() -> Any:
    content: list[Any] = [{"type": "text", "text": QUESTION}, picture((SHOP / "receipt.png").read_bytes())]
    return {"messages": [HumanMessage(content=content)]}


def exported(blobs: BlobStore, knowledge: Knowledge) -> list[BaseTool]:
    """The tools that ship and the shop's, as LangChain's."""
    ours = [*builtins(), *load_tools(SHOP / "tools.py")]
    return [as_langchain(tool, blobs=blobs, context=ToolContext(knowledge=knowledge)) for tool in ours]


@pytest.mark.nano
def test_nano_does_the_main_job_in_langchains_loop(nano: LocalModel, blobs: BlobStore, policies: Knowledge) -> None:
    tools = exported(blobs, policies)
    agent = create_agent(as_langchain(nano, blobs=blobs), tools, system_prompt=render("agent", instructions=""))
    messages: list[BaseMessage] = agent.invoke(asked())["messages"]
    assert [message.name for message in messages if isinstance(message, ToolMessage)] == [
        "read_text",
        "lookup_order",
        "search_knowledge",
        "calculate",
    ]
    assert messages[-1].text.startswith("Yes")
    assert "18 days" in messages[-1].text


@langchain_tool
def lookup_order(order_id: str) -> list[dict[str, Any]]:
    """Look an order up by its number."""
    order = {"item": "desk lamp", "status": "delivered", "days_since_delivery": 12}
    return [{"type": "text", "text": json.dumps(order)}, picture(png("green"))]


@pytest.mark.nano
async def test_nano_sees_the_pictures_of_questions_and_of_tools(
    nano: LocalModel, blobs: BlobStore, policies: Knowledge
) -> None:
    watched = Watched(nano)
    tools = [tool for tool in exported(blobs, policies) if tool.name != "lookup_order"]
    agent = create_agent(
        as_langchain(watched, blobs=blobs), [lookup_order, *tools], system_prompt=render("agent", instructions="")
    )
    told: list[str] = []
    async for chunk, _ in agent.astream(asked(), stream_mode="messages"):
        if isinstance(chunk, AIMessageChunk) and chunk.text:
            told.append(chunk.text)
    assert len(told) > 10
    first, after_reading, after_lookup = watched.requests[:3]
    receipt = first.messages[-1].media[0]
    assert blobs.get(receipt["file_id"]) == (SHOP / "receipt.png").read_bytes()
    assert "A-48213" in after_reading.messages[-1].text
    (result,) = (message for message in after_lookup.messages if message.name == "lookup_order")
    assert [blobs.get(block["file_id"]) for block in result.media] == [png("green")]
    blind = result.model_copy(update={"content": result.content[:1]})
    messages = tuple(blind if message is result else message for message in after_lookup.messages)
    without = ModelRequest(messages, blobs, tools=after_lookup.tools)
    assert nano.count_tokens(after_lookup) - nano.count_tokens(without) >= 16  # as many as a picture has


class Fake(GenericFakeChatModel):
    """A LangChain model with answers made up beforehand, that takes tools."""

    asked: list[Any] = []  # noqa: RUF012  (pydantic copies it)
    bound: list[Any] = []  # noqa: RUF012

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        self.bound.append([tool["function"]["name"] for tool in tools])
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> Any:
        self.asked.append(messages)
        return super()._generate(messages, *args, **kwargs)


def calling(name: str, **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "call_1"}])


async def test_our_agent_runs_a_langchain_model_with_langchain_tools(blobs: BlobStore) -> None:
    model = Fake(
        disable_streaming=True, messages=iter([calling("lookup_order", order_id="A-48213"), AIMessage("A desk lamp.")])
    )
    with Agent(model, [lookup_order], builtins=False, blobs=blobs) as agent:
        result = await agent.arun("What is it?", Image(png("red")))
    assert result.text == "A desk lamp."
    assert model.bound[0] == ["lookup_order"]
    question, answer = model.asked
    assert question[-1].content[-1] == picture(png("red"))
    assert [message.type for message in answer] == ["system", "human", "ai", "tool", "human"]
    assert "days_since_delivery" in answer[3].text
    assert answer[4].content[-1] == picture(png("green"))


async def test_our_agent_tells_a_langchain_model_what_went_wrong(blobs: BlobStore) -> None:
    model = Fake(disable_streaming=True, messages=iter([calling("lookup_order"), AIMessage("Which order?")]))
    with Agent(model, [lookup_order], builtins=False, blobs=blobs) as agent:
        assert (await agent.arun("What is it?")).text == "Which order?"
    assert model.asked[1][-1].text.startswith("error: lookup_order got wrong arguments: order_id: Field required")
