"""LangChain's published standard suites over what `as_langchain` makes of our models and of a knowledge store.

The chat model's suite runs twice: over nano, the real model that ships, and over `Follower`, which does what a capable
model would, so that what nano is too small to mean is checked too. No test is changed; what is skipped is listed, with
the reason, in `TOO_SMALL` and `SKIPPED` and in ``docs/langchain.md``.
"""

from __future__ import annotations

import functools
import io
import json
import operator
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
import numpy as np
import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from langchain_tests.integration_tests import ChatModelIntegrationTests, RetrieversIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydantic import BaseModel, Field

from mmagent.chat import Capabilities, LocalModel, ModelDone, ModelEvent, ModelRequest, ModelText, ModelToolCall
from mmagent.chat.langchain_export import ChatMMAgent
from mmagent.events import Usage
from mmagent.knowledge import Knowledge
from mmagent.knowledge.langchain import KnowledgeRetriever

pytestmark = pytest.mark.xdist_group("nano")

NANO = LocalModel("nano")  # loads at its first use, and then serves the whole module

_UNMEANT = "nano has 5.8M parameters and knows a shop: its call is valid, and not the one that is asked for"
_ENDLESS = "nano has 5.8M parameters and knows a shop: it seldom finds an end for a free text about something else"
TOO_SMALL = {
    "test_tool_calling": _UNMEANT,
    "test_tool_calling_async": _UNMEANT,
    "test_agent_loop": _UNMEANT,
    "test_unicode_tool_call_integration": _UNMEANT,
    "test_bind_runnables_as_tools": _ENDLESS,
    "test_structured_output": _ENDLESS,
    "test_structured_output_async": _ENDLESS,
    "test_structured_output_pydantic_2_v1": _ENDLESS,
    "test_structured_output_optional_param": _ENDLESS,
    "test_json_mode": _ENDLESS,
}
"""What is skipped over nano, and runs over `Follower`."""

SKIPPED = {
    "test_serdes": "the model holds a network of this process, which JSON cannot",
    "test_audio_inputs": "the door takes text and pictures",
    "test_pdf_inputs": "the door takes text and pictures",
    "test_pdf_tool_message": "the door takes text and pictures",
    "test_stream_time": "it times recorded HTTP traffic, and there is none",
}
"""What the suite skips itself, because of what the model says of itself."""


@tool
def lookup(order: str) -> str:
    """Find an order."""
    return order


class Follower:
    """A model that does as it is told: it calls the tool it must, or the first, with what stands in the question."""

    name = "follower"
    capabilities = Capabilities(context_length=4096, images=True, tools=True, constrained=True)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
        question = next(message.text for message in reversed(request.messages) if message.role == "user")
        calls = bool(request.tools) and (bool(request.require_call) or request.messages[-1].role == "user")
        if calls:
            wanted = request.tools[0].name if request.require_call in (True, False) else request.require_call
            tool = next(tool for tool in request.tools if tool.name == wanted)
            args = fill(tool.parameters, question)
            call_id = f"call_{len(request.messages)}"
            yield ModelToolCall({"type": "tool_call", "id": call_id, "name": tool.name, "args": args})
        else:
            answer = json.dumps(fill(request.output, question)) if request.output else "Hello, how are you?"
            for piece in re.findall(r"\S+\s*", answer):
                if piece.strip("?") in request.sampling.stop:
                    break
                yield ModelText(piece)
        usage = Usage(prompt_tokens=self.count_tokens(request), completion_tokens=4)
        yield ModelDone(usage, "tool_calls" if calls else "end")

    def count_tokens(self, request: ModelRequest) -> int:
        return sum(len(message.text.split()) + len(message.media) for message in request.messages)


def fill(schema: dict[str, Any], question: str) -> Any:
    """A value that follows a schema: numbers and quoted words are those of the question."""
    if "properties" in schema:
        return {key: fill(part, question) for key, part in schema["properties"].items()}
    if schema.get("type") == "integer":
        return int(re.findall(r"\d+", question)[0]) if re.search(r"\d", question) else 0
    quoted = re.search(r"'(.+?)'", question)
    return quoted[1] if quoted else question.split()[-1]


class Letters:
    """An embedder without weights: how often each letter stands in a text."""

    fingerprint = "letters"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = np.array([[text.lower().count(chr(97 + n)) + 0.01 for n in range(26)] for text in texts], np.float32)
        return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


@pytest.fixture(autouse=True)
def a_web_of_one_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """The suite fetches its picture from the web; here it comes from memory, and anything else from nowhere."""

    def get(url: str, **_: Any) -> httpx.Response:
        assert url.endswith(".png"), f"tests have no network; something asks for {url}"
        data = io.BytesIO()
        Pillow.new("RGB", (320, 200), "orange").save(data, "PNG")
        return httpx.Response(200, content=data.getvalue())

    monkeypatch.setattr(httpx, "get", get)


class OverNano:
    """What nano is and can do."""

    chat: Any = NANO

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatMMAgent

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"chat": self.chat, "max_tokens": 128}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str | None:
        return "nano"

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        model, question = self.chat_model_class(**self.chat_model_params), "Where is my order? " * 40
        model.invoke(question)
        if not stream:
            return model.invoke(question)
        return functools.reduce(operator.add, model.stream(question))


class OverFollower(OverNano):
    """What a capable model is and can do."""

    chat: Any = Follower()


@pytest.mark.nano
class TestUnit(OverNano, ChatModelUnitTests):
    """The unit suite, which asks for no answers."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"chat": self.chat}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return {"MMAGENT_MODEL": "nano"}, {}, {"model": "nano"}


@pytest.mark.nano
class TestNano(OverNano, ChatModelIntegrationTests):
    """The integration suite over the model that ships."""

    @pytest.fixture(autouse=True)
    def what_it_can_mean(self, request: pytest.FixtureRequest) -> None:
        if reason := TOO_SMALL.get(request.node.originalname):
            pytest.skip(reason)

    @pytest.mark.parametrize("method", ["json_schema", "json_mode", "function_calling"])
    def test_a_schema_holds_whatever_the_model_means(self, method: Any) -> None:
        class Order(BaseModel):
            lamps: int = Field(ge=1, le=9)
            colour: Literal["red", "blue"]

        chat = ChatMMAgent(chat=self.chat).with_structured_output(Order, method=method)
        assert isinstance(chat.invoke("Two blue lamps."), Order)
        assert isinstance(list(chat.stream("Two blue lamps."))[-1], Order)

    def test_the_chosen_tool_is_called_with_valid_arguments(self) -> None:
        @tool
        def count(number: Annotated[int, Field(ge=10, le=20)]) -> int:
            """Count."""
            return number

        chat = ChatMMAgent(chat=self.chat).bind_tools([lookup, count], tool_choice="count")
        (made,) = chat.invoke("Find order A-17.").tool_calls
        assert made["name"] == "count"
        assert 10 <= made["args"]["number"] <= 20

    def test_a_prompt_seen_before_is_cached(self) -> None:
        usage = self.invoke_with_cache_read_input().usage_metadata
        assert usage is not None
        assert 100 < usage["input_token_details"]["cache_read"] < usage["input_tokens"]


@pytest.mark.nano
class TestFollower(OverFollower, ChatModelIntegrationTests):
    """The integration suite over a model that means what it says; nano is what it is exchanged for in a call."""


class TestRetriever(RetrieversIntegrationTests):
    """The retriever suite over a store with a stub for an embedder."""

    @pytest.fixture(autouse=True)
    def opened(self, tmp_path: Path) -> Iterator[None]:
        documents = tmp_path / "documents"
        documents.mkdir()
        for number in range(5):
            (documents / f"{number}.md").write_text(f"# Returns {number}\n\nLamps go back within {number + 10} days.\n")
        with Knowledge(tmp_path / "store", embedder=Letters()) as self.knowledge:
            self.knowledge.add(documents)
            yield

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return KnowledgeRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"knowledge": self.knowledge}

    @property
    def retriever_query_example(self) -> str:
        return "When do lamps go back?"


def test_the_docs_list_what_is_skipped() -> None:
    page = (Path(__file__).parents[2] / "docs" / "langchain.md").read_text(encoding="utf-8")
    for name in (*TOO_SMALL, *SKIPPED):
        assert f"`{name}`" in page
