"""What OpenTelemetry's conventions for generative AI call things: names, buckets, the JSON of messages.

It knows the conventions and this package's data; it imports no OpenTelemetry.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent.content import Block, Message
    from mmagent.events import Usage

CONVENTIONS = "1.41.0"
"""The version of the semantic conventions, the last that was released with those of generative AI in it.

Since then they live in open-telemetry/semantic-conventions-genai, which has released nothing yet. From there are the
durations of agents and tools, and the attributes of guardrails.
"""
SCHEMA = f"https://opentelemetry.io/schemas/{CONVENTIONS}"
CAPTURE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""``SPAN_ONLY`` or ``SPAN_AND_EVENT`` put what was said on the spans; anything else leaves it out."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
STREAM = "gen_ai.request.stream"
TEMPERATURE = "gen_ai.request.temperature"
TOP_P = "gen_ai.request.top_p"
TOP_K = "gen_ai.request.top_k"
MAX_TOKENS = "gen_ai.request.max_tokens"
SEED = "gen_ai.request.seed"
STOP_SEQUENCES = "gen_ai.request.stop_sequences"
OUTPUT_TYPE = "gen_ai.output.type"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE = "gen_ai.token.type"
AGENT = "gen_ai.agent.name"
CONVERSATION = "gen_ai.conversation.id"
TOOL = "gen_ai.tool.name"
TOOL_TYPE = "gen_ai.tool.type"
CALL_ID = "gen_ai.tool.call.id"
ARGUMENTS = "gen_ai.tool.call.arguments"
RESULT = "gen_ai.tool.call.result"
INSTRUCTIONS = "gen_ai.system_instructions"
INPUT_MESSAGES = "gen_ai.input.messages"
OUTPUT_MESSAGES = "gen_ai.output.messages"
GUARDRAIL_EVENT = "gen_ai.guardrail.result"
GUARDRAIL = "gen_ai.guardrail.component.name"
VERDICT = "gen_ai.guardrail.verdict.type"
VERDICT_REASON = "gen_ai.guardrail.verdict.reason"
ERROR_TYPE = "error.type"
FORCED_TOKENS = "mmagent.usage.forced_tokens"
STEPS = "mmagent.turn.steps"
EFFECT = "mmagent.tool.effect"

CHAT, EXECUTE_TOOL, INVOKE_AGENT = "chat", "execute_tool", "invoke_agent"
LOCAL = "mmagent"
"""The provider of models that run in this process."""
CANCELLED = "cancelled"
TOOL_FAILED = "tool_error"

_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TURN_SECONDS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
METRICS: Mapping[str, tuple[str, str, Sequence[float]]] = {
    "gen_ai.client.operation.duration": ("s", "GenAI operation duration.", _SECONDS),
    "gen_ai.client.operation.time_to_first_chunk": ("s", "Time to receive the first chunk.", _SECONDS),
    "gen_ai.client.operation.time_per_output_chunk": ("s", "Time per output chunk after the first.", _SECONDS),
    "gen_ai.client.token.usage": ("{token}", "Number of input and output tokens used.", _TOKENS),
    "gen_ai.invoke_agent.duration": ("s", "Duration of a single agent invocation.", _TURN_SECONDS),
    "gen_ai.execute_tool.duration": ("s", "The duration of a single tool execution.", _SECONDS),
}
"""The histograms: unit, description, bucket boundaries."""

_PROVIDERS = {
    "azure_ai": "azure.ai.inference",
    "azure_openai": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "bedrock_converse": "aws.bedrock",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "xai": "x_ai",
}
"""LangChain's names of providers, where the conventions have another."""

VERDICTS = {"ask": "escalate"}

FINISH = {"end": "stop", "tool_calls": "tool_call"}
"""The conventions' words for why a model stopped, where ours are others."""


def provider_and_model(name: str) -> tuple[str, str]:
    """From ``openai:gpt-5``, a hub id or a folder to what the conventions call provider and model."""
    provider, colon, model = name.partition(":")
    if colon and provider.replace("_", "").isalnum() and len(provider) > 1:
        return _PROVIDERS.get(provider, provider), model
    return LOCAL, os.path.basename(name.rstrip("/\\")) if os.path.isabs(name) else name


def usage_of(usage: Usage) -> dict[str, int]:
    """Tokens as attributes of a span."""
    return {
        INPUT_TOKENS: usage.prompt_tokens,
        OUTPUT_TOKENS: usage.completion_tokens,
        CACHED_TOKENS: usage.cached_tokens,
        FORCED_TOKENS: usage.forced_tokens,
    }


def message_of(message: Message) -> dict[str, Any]:
    """A message in the conventions' JSON."""
    parts = parts_of(message.content)
    if message.role == "tool":
        parts = [{"type": "tool_call_response", "id": message.tool_call_id, "response": parts}]
    return {"role": message.role, "parts": parts}


def parts_of(content: Iterable[Block]) -> list[dict[str, Any]]:
    """Content blocks in the conventions' JSON; media are their hashes."""
    parts: list[dict[str, Any]] = []
    for block in content:
        if block["type"] == "text":
            parts.append({"type": "text", "content": block["text"]})
        elif block["type"] == "reasoning":
            parts.append({"type": "reasoning", "content": block["reasoning"]})
        elif block["type"] == "tool_call":
            parts.append({"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["args"]})
        else:
            modality = "document" if block["type"] == "file" else block["type"]
            mime = {"mime_type": block["mime_type"]} if "mime_type" in block else {}
            parts.append({"type": "file", "modality": modality, **mime, "file_id": block["file_id"]})
    return parts
