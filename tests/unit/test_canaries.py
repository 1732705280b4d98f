"""Secrets that were put everywhere, and are looked for everywhere: logs, traces, metrics, journals, exports, errors."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from mmagent import Agent, Session, conventions, telemetry, tool
from mmagent.chat.protocol import ChatModel
from mmagent.errors import MMAgentError
from mmagent.events import EVENTS, Event, ToolFinished
from mmagent.media import BlobStore
from mmagent.redact import MASK
from mmagent.session.sqlite import SqliteJournal
from mmagent.testing import ScriptedModel, call, record

pytest.importorskip("opentelemetry.sdk")
CANARY = "canary-9f8e7d6c5b"
SHAPED = "sk-proj-Zz9Yy8Xx7Ww6Vv5Uu4Tt3"


class Login(BaseModel):
    """Who logs in."""

    user: str
    password: SecretStr


@dataclass
class Watch:
    """Where a secret could come out."""

    folder: Path
    log: io.StringIO
    spans: Any
    metrics: Any
    said: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    async def ask(self, model: ChatModel, *tools: object) -> None:
        """One turn of an agent whose every trace is kept."""
        session = Session("canaries", SqliteJournal(self.folder / "sessions.db"))
        recording = record(model, self.folder / "recording.jsonl")
        agent = Agent(recording, tools, session=session, builtins=False, blobs=BlobStore(self.folder))  # type: ignore[arg-type]
        try:
            async for event in agent.stream("Do it."):
                self.events.append(event)
        except MMAgentError as error:
            self.said.append(str(error))
        from mmagent.session.export import export_html, export_jsonl, export_markdown

        self.said += [export_markdown(session), export_html(session, agent.blobs), *export_jsonl(session)]
        session.journal.close()

    def everything(self) -> str:
        spans = [span.to_json() for span in self.spans.get_finished_spans()]
        metrics = self.metrics.get_metrics_data()
        files = [path.read_bytes().decode("utf-8", "replace") for path in self.folder.rglob("*") if path.is_file()]
        events = [EVENTS.dump_json(event).decode() for event in self.events]
        told = [metrics.to_json() if metrics else "", self.log.getvalue()]
        return "\n".join([*spans, *files, *events, *told, *self.said])

    def outcomes(self) -> list[str]:
        """What the model was told of its calls."""
        return [event.error or "" for event in self.events if isinstance(event, ToolFinished)]


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.setenv("SHOP_API_KEY", CANARY)
    monkeypatch.setenv(conventions.CAPTURE, "SPAN_ONLY")  # even then
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("mmagent")
    level = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    spans, metrics = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([metrics])
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    before = telemetry._state
    telemetry.enable(tracers, meters)
    yield Watch(tmp_path, log, spans, metrics)
    telemetry._state = before
    meters.shutdown()
    logger.setLevel(level)
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (f"401 for key {CANARY}", f"act failed: RuntimeError: 401 for key {MASK}"),
        (f"401 for {SHAPED}", f"act failed: RuntimeError: 401 for {MASK}"),
        (
            "request failed, headers={'X-Api-Key': 'canary-in-a-header', 'Accept': '*/*'}",
            f"act failed: RuntimeError: request failed, headers={{'X-Api-Key': {MASK}, 'Accept': '*/*'}}",
        ),
        (
            "cannot reach postgresql://bob:canary-in-an-address@host/db",
            f"act failed: RuntimeError: cannot reach postgresql://bob:{MASK}@host/db",
        ),
    ],
)
async def test_what_a_tool_did_not_foresee(message: str, shown: str, watch: Watch) -> None:
    @tool
    def act() -> str:
        """Act."""
        try:
            raise KeyError(message)
        except KeyError as error:
            raise RuntimeError(message) from error

    await watch.ask(ScriptedModel([call("act"), "It failed."]), act)
    assert watch.outcomes() == [shown]
    everything = watch.everything()
    for secret in (CANARY, SHAPED, "canary-in-a-header", "canary-in-an-address"):
        assert secret not in everything
    assert "act failed" in watch.log.getvalue() or "the tool act failed" in watch.log.getvalue()


async def test_what_a_model_did_not_foresee(watch: Watch) -> None:
    await watch.ask(ScriptedModel([ValueError(f"no access with {CANARY} or {SHAPED}")]))
    assert "the model scripted failed: ValueError: no access with" in watch.said[0]
    everything = watch.everything()
    assert CANARY not in everything
    assert SHAPED not in everything


async def test_arguments_that_are_secrets(watch: Watch) -> None:
    """The tool gets them, and nobody else."""

    got: list[str] = []

    @tool
    def log_in(login: Login, pin: SecretStr) -> str:
        """Log in."""
        got.extend([login.password.get_secret_value(), pin.get_secret_value()])
        raise RuntimeError(f"{login.user} may not: {got}")

    args = {"login": {"user": "bob", "password": "swordfish-77"}, "pin": "pin-code-4711"}
    await watch.ask(ScriptedModel([call("log_in", **args), "No."]), log_in)
    assert got == ["swordfish-77", "pin-code-4711"]
    (outcome,) = watch.outcomes()
    assert outcome.startswith("log_in failed: RuntimeError: bob may not")
    everything = watch.everything()
    assert "swordfish-77" not in everything
    assert "pin-code-4711" not in everything
    assert MASK in everything


async def test_a_call_whose_secret_was_not_kept_is_not_repeated_with_the_mask(watch: Watch) -> None:
    got: list[str] = []

    @tool(effect="idempotent")
    def log_in(password: SecretStr) -> str:
        """Log in."""
        got.append(password.get_secret_value())
        return "in"

    await watch.ask(ScriptedModel([call("log_in", password=MASK), "No."]), log_in)
    assert got == []
    assert "secret" in watch.outcomes()[0]


async def test_options_of_a_provider(watch: Watch) -> None:
    pytest.importorskip("langchain_openai")
    from mmagent.chat import LangChainModel

    options = {"api_key": "canary-option-1234", "base_url": "http://bob:canary-option-5678@127.0.0.1:9/v1"}
    model = LangChainModel("openai:gpt-5", max_retries=0, timeout=2, **options)
    await watch.ask(model)
    assert watch.said[0].startswith("openai:gpt-5 failed")
    everything = watch.everything() + repr(model)
    assert "canary-option-1234" not in everything
    assert "canary-option-5678" not in everything


def test_addresses_in_settings(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setenv("MMAGENT_SESSIONS", f"postgresql://bob:{CANARY}@127.0.0.1:9/none?connect_timeout=2")
    from mmagent.settings import settings

    settings.cache_clear()
    with pytest.raises(MMAgentError) as raised:
        Session.open("a").write()
    assert CANARY not in str(raised.value)
    assert CANARY not in watch.everything()
