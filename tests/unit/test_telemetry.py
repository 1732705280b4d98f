"""Spans and metrics, as an application that has configured OpenTelemetry gets them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmagent import Agent, conventions, telemetry, tool
from mmagent.chat.protocol import ChatModel, ModelRequest, Sampling
from mmagent.content import Message, text
from mmagent.errors import ModelError, TurnError
from mmagent.events import Usage
from mmagent.media import BlobStore
from mmagent.testing import ScriptedModel, call

pytest.importorskip("opentelemetry.sdk")
CANARY = "canary-9f8e7d6c5b"
PICTURE = "sha256:" + "ab" * 32
USED = Usage(prompt_tokens=11, cached_tokens=4, completion_tokens=3, forced_tokens=1)


@dataclass
class Seen:
    """What reached the application's exporters."""

    exporter: Any
    reader: Any

    @property
    def spans(self) -> dict[str, Any]:
        return {span.name: span for span in self.exporter.get_finished_spans()}

    def metrics(self) -> dict[str, list[Any]]:
        data = self.reader.get_metrics_data()
        found = (metric for one in data.resource_metrics for scope in one.scope_metrics for metric in scope.metrics)
        return {metric.name: list(metric.data.data_points) for metric in found}

    def everything(self) -> str:
        """All of it, as exporters write it."""
        spans = "".join(span.to_json() for span in self.exporter.get_finished_spans())
        data = self.reader.get_metrics_data()
        return spans + (data.to_json() if data else "")


@pytest.fixture
def seen() -> Iterator[Seen]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    before = telemetry._state
    telemetry.enable(tracers, meters)
    yield Seen(exporter, reader)
    telemetry._state = before
    meters.shutdown()


@pytest.fixture
def request_(tmp_path: Path) -> ModelRequest:
    picture = {"type": "image", "file_id": PICTURE, "mime_type": "image/png", "extras": {"name": "mine.png"}}
    messages = (
        Message(role="system", content=(text("Be kind."),)),
        Message.model_validate({"role": "user", "content": [text(f"My key is {CANARY}."), picture]}),
    )
    return ModelRequest(messages, BlobStore(tmp_path), sampling=Sampling(temperature=0.5, seed=7))


def one_turn(asked: ModelRequest) -> None:
    model = ScriptedModel([])
    with telemetry.turn_span("shop", "openai:gpt-5", "session-1") as turn:
        with telemetry.chat_span(model, asked) as chat:
            chat.chunk()
            chat.chunk()
            calls = [{"type": "tool_call", "id": "c1", "name": "find", "args": {"what": CANARY}}]
            chat.finished(USED, "tool_calls", "Looking.", calls)  # type: ignore[arg-type]
        telemetry.policy_event("find", "c1", "ask", "the rule")
        with telemetry.tool_span("find", "c1", "read", {"what": CANARY}) as tool:
            tool.finished(None, (text(f"found {CANARY}"),))
        turn.finished(USED, 2)


def test_spans_follow_the_conventions(seen: Seen, request_: ModelRequest) -> None:
    one_turn(request_)
    turn, chat, tool = (seen.spans[name] for name in ("invoke_agent shop", "chat scripted", "execute_tool find"))
    assert turn.parent is None
    assert chat.parent.span_id == tool.parent.span_id == turn.context.span_id
    assert dict(turn.attributes) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-5",
        "gen_ai.agent.name": "shop",
        "gen_ai.conversation.id": "session-1",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 3,
        "mmagent.usage.forced_tokens": 1,
        "mmagent.turn.steps": 2,
    }
    assert chat.attributes["gen_ai.operation.name"] == "chat"
    assert chat.attributes["gen_ai.conversation.id"] == "session-1"
    assert chat.attributes["gen_ai.request.temperature"] == 0.5
    assert chat.attributes["gen_ai.request.seed"] == 7
    assert chat.attributes["gen_ai.response.finish_reasons"] == ("tool_call",)
    assert chat.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert tool.attributes["gen_ai.tool.name"] == "find"
    assert tool.attributes["gen_ai.tool.call.id"] == "c1"
    assert tool.attributes["gen_ai.agent.name"] == "shop"
    (event,) = turn.events
    assert event.name == "gen_ai.guardrail.result"
    assert event.attributes["gen_ai.guardrail.verdict.type"] == "escalate"


def test_metrics_follow_the_conventions(seen: Seen, request_: ModelRequest) -> None:
    one_turn(request_)
    metrics = seen.metrics()
    assert set(metrics) == set(conventions.METRICS)
    for name, points in metrics.items():
        assert tuple(points[0].explicit_bounds) == tuple(conventions.METRICS[name][2])
    (chat,) = metrics["gen_ai.client.operation.duration"]
    labels = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "mmagent", "gen_ai.request.model": "scripted"}
    assert dict(chat.attributes) == labels
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in metrics["gen_ai.client.token.usage"]}
    assert tokens == {"input": 11, "output": 3}
    (tool,) = metrics["gen_ai.execute_tool.duration"]
    assert dict(tool.attributes) == {"gen_ai.tool.name": "find", "gen_ai.agent.name": "shop"}
    assert [metrics[name][0].count for name in metrics if "chunk" in name] == [1, 1]


@pytest.mark.parametrize("capture", [None, "", "NO_CONTENT", "EVENT_ONLY", "nonsense"])
def test_content_is_left_out(
    capture: str | None, seen: Seen, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(conventions.CAPTURE, raising=False)
    if capture is not None:
        monkeypatch.setenv(conventions.CAPTURE, capture)
    one_turn(request_)
    with pytest.raises(ValueError), telemetry.tool_span("find", "c2", "read", {"what": CANARY}):
        raise ValueError(CANARY)
    with telemetry.tool_span("find", "c3", "read", {}) as tool:
        tool.finished(f"no {CANARY}", (text(f"error: no {CANARY}"),))
    everything = seen.everything()
    for said in (CANARY, "Be kind", "Looking", "the rule", PICTURE):
        assert said not in everything


def test_content_comes_on_request_with_hashes_and_without_secrets(
    seen: Seen, request_: ModelRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(conventions.CAPTURE, "span_only")
    monkeypatch.setenv("SHOP_API_KEY", CANARY)
    one_turn(request_)
    chat, tool = seen.spans["chat scripted"], seen.spans["execute_tool find"]
    assert json.loads(chat.attributes["gen_ai.system_instructions"]) == [{"type": "text", "content": "Be kind."}]
    (message,) = json.loads(chat.attributes["gen_ai.input.messages"])
    assert message["role"] == "user"
    assert message["parts"][1] == {"type": "file", "modality": "image", "mime_type": "image/png", "file_id": PICTURE}
    (answer,) = json.loads(chat.attributes["gen_ai.output.messages"])
    assert [part["type"] for part in answer["parts"]] == ["text", "tool_call"]
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"what": "**********"}
    assert json.loads(tool.attributes["gen_ai.tool.call.result"])[0]["content"] == "found **********"
    assert CANARY not in seen.everything()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError(CANARY), "ValueError"),
        (TurnError(CANARY), "mmagent.errors.TurnError"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_errors_are_marked_and_pass_through(error: BaseException, kind: str, seen: Seen) -> None:
    from opentelemetry.trace import StatusCode

    with pytest.raises(type(error)), telemetry.turn_span("shop", "nano", None):
        raise error
    span = seen.spans["invoke_agent shop"]
    assert span.attributes["error.type"] == kind
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert not span.events
    (point,) = seen.metrics()["gen_ai.invoke_agent.duration"]
    assert point.attributes["error.type"] == kind


def test_a_tool_that_failed_is_an_error(seen: Seen) -> None:
    with telemetry.tool_span("find", "c1", "read", {}) as tool:
        tool.finished("no such order", (text("error: no such order"),))
    assert seen.spans["execute_tool find"].attributes["error.type"] == "tool_error"


@pytest.mark.parametrize(
    ("name", "provider", "model"),
    [
        ("openai:gpt-5", "openai", "gpt-5"),
        ("google_genai:gemini-3", "gcp.gemini", "gemini-3"),
        ("nano", "mmagent", "nano"),
        ("org/model", "mmagent", "org/model"),
        ("/home/bob/models/mine", "mmagent", "mine"),
        ("C:\\models", "mmagent", "C:\\models"),
    ],
)
def test_providers_and_models_are_told_apart(name: str, provider: str, model: str, seen: Seen) -> None:
    with telemetry.turn_span("a", name, None):
        pass
    attributes = seen.spans["invoke_agent a"].attributes
    assert (attributes["gen_ai.provider.name"], attributes["gen_ai.request.model"]) == (provider, model)


async def test_spans_of_tools_side_by_side_have_the_turn_as_parent(seen: Seen) -> None:
    async def run(name: str) -> None:
        with telemetry.tool_span(name, name, "read", {}):
            await asyncio.sleep(0)

    with telemetry.turn_span("a", "nano", None):
        await asyncio.gather(run("x"), run("y"))
    turn = seen.spans["invoke_agent a"]
    assert {seen.spans[f"execute_tool {name}"].parent.span_id for name in "xy"} == {turn.context.span_id}


def probe(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_off_and_imports_nothing_until_the_application_has_a_provider() -> None:
    lines = probe(
        "import sys\n"
        "from mmagent import telemetry as t\n"
        "span = lambda: t.turn_span('a', 'nano', None)\n"
        "with span() as one: one.finished(None, 1)\n"
        "print(span() is t.tool_span('a', 'b', 'read', {}), any(m.startswith('opentelemetry') for m in sys.modules))\n"
        "import opentelemetry.sdk.metrics, opentelemetry.sdk.trace, opentelemetry.trace\n"
        "print(type(span()).__name__)\n"
        "opentelemetry.trace.set_tracer_provider(opentelemetry.sdk.trace.TracerProvider())\n"
        "print(type(span()).__name__)\n"
        "t.disable()\n"
        "print(type(span()).__name__)\n"
    ).split("\n")
    assert lines == ["True False", "_Off", "TurnSpan", "_Off"]


def test_a_meter_provider_alone_turns_it_on() -> None:
    code = (
        "import opentelemetry.metrics, opentelemetry.sdk.metrics\n"
        "opentelemetry.metrics.set_meter_provider(opentelemetry.sdk.metrics.MeterProvider())\n"
        "from mmagent import telemetry\n"
        "print(type(telemetry.turn_span('a', 'nano', None)).__name__)\n"
    )
    assert probe(code) == "TurnSpan"


def agent(model: ChatModel, tmp_path: Path, *tools: Any, name: str = "shop") -> Agent:
    return Agent(model, tools, name=name, builtins=False, blobs=BlobStore(tmp_path / "blobs"))


async def test_a_turn_of_an_agent_is_one_tree(seen: Seen, tmp_path: Path) -> None:
    @tool(effect="read")
    def find(what: str) -> str:
        """Find a thing."""
        from opentelemetry import trace

        trace.get_current_span().set_attribute("mine", "yes")  # a tool sees its own span, in its thread too
        return f"{what} is here"

    helper = agent(ScriptedModel([call("find", what="A"), "It is here."]), tmp_path, find, name="helper")
    boss = agent(ScriptedModel([call("ask_helper", question="Where is A?"), "Here."]), tmp_path, helper.as_tool())
    await boss.arun("Where is A?")
    spans = {span.context.span_id: span for span in seen.exporter.get_finished_spans()}
    parents = {(span.name, spans[span.parent.span_id].name if span.parent else None) for span in spans.values()}
    assert parents == {
        ("invoke_agent shop", None),
        ("chat scripted", "invoke_agent shop"),
        ("execute_tool ask_helper", "invoke_agent shop"),
        ("invoke_agent helper", "execute_tool ask_helper"),
        ("chat scripted", "invoke_agent helper"),
        ("execute_tool find", "invoke_agent helper"),
    }
    assert seen.spans["execute_tool find"].attributes["mine"] == "yes"
    assert seen.spans["invoke_agent shop"].attributes["mmagent.turn.steps"] == 2
    assert not any("error.type" in span.attributes for span in spans.values())


async def test_a_turn_that_nobody_waits_for_any_more_is_cancelled(seen: Seen, tmp_path: Path) -> None:
    from contextlib import aclosing

    async with aclosing(agent(ScriptedModel(["one two three"]), tmp_path).stream("Count.")) as events:
        async for event in events:
            if event.type == "text_delta":
                break
    for name in ("chat scripted", "invoke_agent shop"):
        assert seen.spans[name].attributes["error.type"] == "cancelled"


async def test_a_turn_that_failed_says_how(seen: Seen, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        await agent(ScriptedModel([ValueError("odd")]), tmp_path).arun("Count.")
    assert seen.spans["chat scripted"].attributes["error.type"] == "ValueError"
    assert seen.spans["invoke_agent shop"].attributes["error.type"] == "mmagent.errors.ModelError"
