"""Spans and metrics of turns, model calls and tools, for OpenTelemetry. It watches, and changes nothing.

It is on when the application has configured an OpenTelemetry provider before a turn begins, or has called `enable`;
otherwise each call is one check, and OpenTelemetry is not imported. Nothing is sent anywhere but to the application's
own provider. What was said is left out unless ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT`` asks for it, and
even then pictures are hashes and secrets are masked. The names are those of the conventions for generative AI.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmagent import conventions as gen_ai
from mmagent.redact import redact, redacted

if TYPE_CHECKING:
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from mmagent.chat.protocol import ChatModel, ModelRequest
    from mmagent.content import Block, ToolCallBlock
    from mmagent.events import Usage


class _Off:
    """Every span while telemetry is off."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def chunk(self) -> None:
        pass

    def finished(self, *outcome: object) -> None:
        pass


_OFF: Any = _Off()


def turn_span(agent: str, model: str, conversation: str | None) -> TurnSpan:
    """Watch a turn.

    Args:
        agent: The agent's name.
        model: The model's name.
        conversation: The session's name or id; None where it is not kept.
    """
    live = _look()
    return TurnSpan(live, agent, model, conversation) if live else _OFF


def chat_span(model: ChatModel, request: ModelRequest) -> ChatSpan:
    """Watch a model answering a request."""
    live = _live()
    return ChatSpan(live, model, request) if live else _OFF


def tool_span(name: str, call_id: str, effect: str, args: Mapping[str, Any]) -> ToolSpan:
    """Watch a tool.

    Args:
        name: The tool's name.
        call_id: The id of the model's call.
        effect: ``read``, ``idempotent`` or ``unsafe``.
        args: The arguments as they are journaled.
    """
    live = _live()
    return ToolSpan(live, name, call_id, effect, args) if live else _OFF


def policy_event(name: str, call_id: str, action: str, why: str) -> None:
    """Note on the current span what policy says of a call.

    Args:
        name: The tool's name.
        call_id: The id of the model's call.
        action: ``allow``, ``ask`` or ``deny``.
        why: The rule; told only where content is.
    """
    if not _live():
        return
    from opentelemetry import trace

    attributes = {
        gen_ai.GUARDRAIL: "policy",
        gen_ai.VERDICT: gen_ai.VERDICTS.get(action, action),
        gen_ai.TOOL: name,
        gen_ai.CALL_ID: call_id,
    }
    if _captures():
        attributes[gen_ai.VERDICT_REASON] = redact(why)
    trace.get_current_span().add_event(gen_ai.GUARDRAIL_EVENT, attributes)


def enable(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Turn telemetry on, whatever is configured.

    Args:
        tracer_provider: Where spans go; None: OpenTelemetry's own provider.
        meter_provider: Where metrics go; None: OpenTelemetry's own provider.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
    """
    global _state
    _state = _Telemetry(tracer_provider, meter_provider)


def disable() -> None:
    """Turn telemetry off, whatever is configured."""
    global _state
    _state = False


class _Telemetry:
    """The application's tracer and meters."""

    def __init__(self, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None):
        try:
            from opentelemetry import metrics, trace
        except ModuleNotFoundError as error:
            from mmagent.errors import MissingExtra

            raise MissingExtra("telemetry", "telemetry") from error
        self.tracer = trace.get_tracer("mmagent", tracer_provider=tracer_provider, schema_url=gen_ai.SCHEMA)
        meter = metrics.get_meter("mmagent", meter_provider=meter_provider, schema_url=gen_ai.SCHEMA)
        self.metrics: dict[str, Histogram] = {
            name: meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=buckets)
            for name, (unit, description, buckets) in gen_ai.METRICS.items()
        }


_state: _Telemetry | bool | None = None
"""What is on; False once it was turned off; None while nobody has decided."""


def _live() -> _Telemetry | None:
    return _state or None  # type: ignore[return-value]


def _look() -> _Telemetry | None:
    """`_live`, once it was looked whether the application has a provider by now."""
    global _state
    if _state is None and "opentelemetry.sdk" in sys.modules and _configured():
        _state = _Telemetry()
    return _live()


def _configured() -> bool:
    """Whether the application has set a provider; OpenTelemetry's placeholders are classes of its interface."""
    for signal, get in (("trace", "get_tracer_provider"), ("metrics", "get_meter_provider")):
        module = sys.modules.get(f"opentelemetry.{signal}")
        if module and not type(getattr(module, get)()).__module__.startswith(f"opentelemetry.{signal}"):
            return True
    return False


def _captures() -> bool:
    return os.environ.get(gen_ai.CAPTURE, "").upper() in ("SPAN_ONLY", "SPAN_AND_EVENT", "TRUE")


class _Live:
    """A span that is on: begun, made the current one, ended with its duration and its error."""

    metric: str

    def __init__(
        self, live: _Telemetry, name: str, attributes: dict[str, Any], labels: dict[str, str], *, remote: bool = False
    ) -> None:
        self.live, self.name, self.attributes, self.remote = live, name, attributes, remote
        self.labels = labels
        """The metrics' attributes: few different values."""

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        kind = trace.SpanKind.CLIENT if self.remote else trace.SpanKind.INTERNAL
        self.span: Span = self.live.tracer.start_span(self.name, kind=kind, attributes=self.attributes)
        self.token = context.attach(self.within(trace.set_span_in_context(self.span)))
        self.started = time.perf_counter()
        return self

    def within(self, context: Any) -> Any:
        """What the spans inside are to know."""
        return context

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        from opentelemetry import context

        seconds = time.perf_counter() - self.started
        if error is not None:
            self.failed(_error_type(error), error)
        self.live.metrics[self.metric].record(seconds, self.labels)
        context.detach(self.token)
        self.span.end()

    def failed(self, kind: str, message: object) -> None:
        """Mark the span as failed; what the error says may be content."""
        from opentelemetry.trace import Status, StatusCode

        self.labels[gen_ai.ERROR_TYPE] = kind
        self.span.set_attribute(gen_ai.ERROR_TYPE, kind)
        self.span.set_status(Status(StatusCode.ERROR, redact(message) if _captures() else None))


class TurnSpan(_Live):
    """One turn of an agent: ``invoke_agent``."""

    metric = "gen_ai.invoke_agent.duration"

    def __init__(self, live: _Telemetry, agent: str, model: str, conversation: str | None) -> None:
        provider, model = gen_ai.provider_and_model(model)
        self.shared = {gen_ai.AGENT: agent} | ({gen_ai.CONVERSATION: conversation} if conversation else {})
        attributes = {
            gen_ai.OPERATION: gen_ai.INVOKE_AGENT,
            gen_ai.PROVIDER: provider,
            gen_ai.MODEL: model,
            **self.shared,
        }
        super().__init__(live, f"{gen_ai.INVOKE_AGENT} {agent}", attributes, {gen_ai.AGENT: agent, gen_ai.MODEL: model})

    def within(self, context: Any) -> Any:
        from opentelemetry.context import set_value

        return set_value(_SHARED, self.shared, context)

    def finished(self, usage: Usage, steps: int) -> None:
        """The turn ended or paused, after so many model calls that used this much together."""
        self.span.set_attributes({**gen_ai.usage_of(usage), gen_ai.STEPS: steps})


class ChatSpan(_Live):
    """One call of a model: ``chat``."""

    metric = "gen_ai.client.operation.duration"

    def __init__(self, live: _Telemetry, model: ChatModel, request: ModelRequest) -> None:
        provider, name = gen_ai.provider_and_model(model.name)
        sampling = request.sampling
        labels = {gen_ai.OPERATION: gen_ai.CHAT, gen_ai.PROVIDER: provider, gen_ai.MODEL: name}
        attributes: dict[str, Any] = {
            **labels,
            **_shared(),
            gen_ai.STREAM: True,
            gen_ai.OUTPUT_TYPE: "json" if request.output else "text",
            gen_ai.TEMPERATURE: sampling.temperature,
            gen_ai.TOP_P: sampling.top_p,
            gen_ai.MAX_TOKENS: sampling.max_tokens,
        }
        if sampling.top_k:
            attributes[gen_ai.TOP_K] = float(sampling.top_k)
        if sampling.seed is not None:
            attributes[gen_ai.SEED] = sampling.seed
        if sampling.stop:
            attributes[gen_ai.STOP_SEQUENCES] = sampling.stop
        if _captures():
            said = request.messages
            attributes[gen_ai.INSTRUCTIONS] = _json(
                part for message in said if message.role == "system" for part in gen_ai.parts_of(message.content)
            )
            attributes[gen_ai.INPUT_MESSAGES] = _json(
                gen_ai.message_of(message) for message in said if message.role != "system"
            )
        super().__init__(live, f"{gen_ai.CHAT} {name}", attributes, labels, remote=provider != gen_ai.LOCAL)
        self.last: float | None = None

    def chunk(self) -> None:
        """A piece of the answer arrived."""
        now = time.perf_counter()
        if self.last is None:
            self.span.set_attribute(gen_ai.FIRST_CHUNK, now - self.started)
            self.live.metrics["gen_ai.client.operation.time_to_first_chunk"].record(now - self.started, self.labels)
        else:
            self.live.metrics["gen_ai.client.operation.time_per_output_chunk"].record(now - self.last, self.labels)
        self.last = now

    def finished(self, usage: Usage, stop: str, text: str, calls: Iterable[ToolCallBlock]) -> None:
        """The answer is complete."""
        self.span.set_attributes({**gen_ai.usage_of(usage), gen_ai.FINISH_REASONS: (gen_ai.FINISH.get(stop, stop),)})
        tokens = self.live.metrics["gen_ai.client.token.usage"]
        tokens.record(usage.prompt_tokens, {**self.labels, gen_ai.TOKEN_TYPE: "input"})
        tokens.record(usage.completion_tokens, {**self.labels, gen_ai.TOKEN_TYPE: "output"})
        if _captures():
            parts = [*([{"type": "text", "content": text}] if text else []), *gen_ai.parts_of(calls)]
            answer = {"role": "assistant", "parts": parts, "finish_reason": gen_ai.FINISH.get(stop, stop)}
            self.span.set_attribute(gen_ai.OUTPUT_MESSAGES, _json([answer]))


class ToolSpan(_Live):
    """One execution of a tool: ``execute_tool``."""

    metric = "gen_ai.execute_tool.duration"

    def __init__(self, live: _Telemetry, name: str, call_id: str, effect: str, args: Mapping[str, Any]) -> None:
        shared = _shared()
        attributes = {
            gen_ai.OPERATION: gen_ai.EXECUTE_TOOL,
            gen_ai.TOOL: name,
            gen_ai.TOOL_TYPE: "function",
            gen_ai.CALL_ID: call_id,
            gen_ai.EFFECT: effect,
        }
        if _captures():
            attributes[gen_ai.ARGUMENTS] = json.dumps(redacted(args), ensure_ascii=False)
        labels = {gen_ai.TOOL: name} | ({gen_ai.AGENT: shared[gen_ai.AGENT]} if gen_ai.AGENT in shared else {})
        super().__init__(live, f"{gen_ai.EXECUTE_TOOL} {name}", {**attributes, **shared}, labels)

    def finished(self, outcome_error: str | None, content: Iterable[Block]) -> None:
        """The tool returned ``content``, or failed with an error."""
        if outcome_error is not None:
            self.failed(gen_ai.TOOL_FAILED, outcome_error)
        elif _captures():
            self.span.set_attribute(gen_ai.RESULT, _json(gen_ai.parts_of(content)))


_SHARED = "mmagent-turn"


def _shared() -> dict[str, str]:
    """The agent and the conversation of the turn that this happens in."""
    from opentelemetry.context import get_value

    shared = get_value(_SHARED)
    return shared if isinstance(shared, dict) else {}


def _error_type(error: BaseException) -> str:
    if isinstance(error, asyncio.CancelledError | GeneratorExit | KeyboardInterrupt):
        return gen_ai.CANCELLED
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _json(parts: Iterable[Any]) -> str:
    return json.dumps(redacted(list(parts)), ensure_ascii=False)
