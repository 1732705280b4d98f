"""Tool calls from a network of random weights: how many break their schema, how many quotes were never said.

Each generation draws a new conversation and new tools (quoted, integer, number, enum, boolean, string, optional,
nested, array), and samples at temperature 1 under the grammar. Calls are checked with jsonschema and
`mmagent.content.is_quote`, which share no code with the grammar. Prints one JSON line; a missed bar is exit code 1.

    python -m benchmarks.grammar            # 1,000 generations
    python -m benchmarks.grammar --quick    # 100
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema

from mmagent.chat.protocol import ToolSpec
from mmagent.content import Message, is_quote, quotable_lines, text
from mmagent.engine import Decoder, Grammar, Loaded, ParsedCall, Response, Sampler, build_prompt
from mmagent.engine.load import load
from mmagent.testing import tiny_vlm

WORDS = (
    "order:A-48213? return lamp, €12.50 'two' \"quoted\" back\\slash Größe=40 (blue) 你好 #7 e-mail: x@y.z — \t | 🙂"
)


@dataclass
class Report:
    """What was counted."""

    generations: int = 0
    calls: int = 0
    quotes: int = 0
    broken_calls: int = 0
    """Calls that fail their schema, or are of no tool."""
    invented_quotes: int = 0
    """Quoted values that stand nowhere in what was said."""
    cut_off: int = 0
    """Generations that met the token limit before their call was whole; such a call is never handed out."""
    tokens: int = 0
    forced_tokens: int = 0
    compile_cpu_ms: float = 0.0
    """Mean for one grammar."""
    mask_cpu_ms: float = 0.0
    """Mean for one sampled token."""
    seconds: float = 0.0


def random_line(rng: random.Random) -> str:
    """A line of words, punctuation and whatever else people type."""
    return " ".join(rng.choice([*WORDS.split(" "), str(rng.randrange(10**6))]) for _ in range(rng.randint(1, 12)))


def random_messages(rng: random.Random) -> tuple[Message, ...]:
    """A question, and perhaps what a tool returned before."""
    said = "\n".join(random_line(rng) for _ in range(rng.randint(1, 3)))
    messages = [Message(role="user", content=(text(said),))]
    if rng.random() < 0.5:
        messages.append(Message(role="assistant", content=(text("I look it up."),)))
        messages.append(Message(role="tool", name="find", tool_call_id="1", content=(text(random_line(rng)),)))
    return tuple(messages)


def random_schema(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """A schema of an argument. Strings are short: random weights seldom close one by themselves."""
    leaves = [
        {"type": "string", "x-quoted": True},
        {"type": "string", "x-quoted": True},
        {"type": "integer"},
        {"type": "integer", "minimum": -5, "maximum": 120},
        {"type": "number"},
        {"type": "boolean"},
        {"type": "string", "maxLength": rng.randint(1, 12)},
        {"enum": rng.sample(["red", "blue", "d'or", 'say "hi"', "ü", 1, 2.5, None], 3)},
        {"anyOf": [{"type": "string", "x-quoted": True}, {"type": "null"}]},
    ]
    if depth < 2 and rng.random() < 0.3:
        inner = random_schema(rng, depth + 1)
        if rng.random() < 0.5:
            low = rng.randint(0, 1)
            return {"type": "array", "items": inner, "minItems": low, "maxItems": low + rng.randint(1, 2)}
        return random_object(rng, depth + 1)
    return rng.choice(leaves)


def random_object(rng: random.Random, depth: int = 0) -> dict[str, Any]:
    """An object, some of its properties optional."""
    names = rng.sample(["order_id", "name", "count", "größe", "a b", "x"], rng.randint(0 if depth else 1, 4))
    required = [name for name in names if rng.random() < 0.6]
    properties = {name: random_schema(rng, depth) for name in names}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def random_tools(rng: random.Random) -> list[ToolSpec]:
    """One to four tools."""
    names = rng.sample(["look_up", "find", "return_item", "finder"], rng.randint(1, 4))
    return [ToolSpec(name, f"Does {name}.", random_object(rng)) for name in names]


def quotes_of(value: Any, schema: Mapping[str, Any]) -> Iterator[str]:
    """The quoted strings in a value."""
    if isinstance(value, str) and (
        schema.get("x-quoted") or any(option.get("x-quoted") for option in schema.get("anyOf", ()))
    ):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from quotes_of(part, schema["properties"][name])
    elif isinstance(value, list):
        for part in value:
            yield from quotes_of(part, schema["items"])


def check(call: ParsedCall, tools: list[ToolSpec], messages: tuple[Message, ...], report: Report) -> None:
    """Judge one call by the independent validators."""
    report.calls += 1
    schema = next((tool.parameters for tool in tools if tool.name == call.name), None)
    if schema is None or not jsonschema.Draft202012Validator(schema).is_valid(call.arguments):
        report.broken_calls += 1
        return
    for quote in quotes_of(call.arguments, schema):
        report.quotes += 1
        report.invented_quotes += not is_quote(quote, messages)


def generate(decoder: Decoder, seed: int, report: Report, max_tokens: int = 600) -> None:
    """One conversation, its tools, one answer."""
    rng = random.Random(seed)
    messages, tools = random_messages(rng), random_tools(rng)
    loaded = decoder.loaded
    began = time.thread_time()
    grammar = Grammar(loaded.vocabulary, tools=tools, quotable=quotable_lines(messages), require_call=True)
    report.compile_cpu_ms += 1000 * (time.thread_time() - began)
    response = Response(loaded.vocabulary, grammar.format)
    turns = [{"role": message.role, "content": [{"type": "text", "text": message.text}]} for message in messages]
    functions = [{"type": "function", "function": asdict(tool)} for tool in tools]
    generation = decoder.generate(
        build_prompt(loaded, turns, functions),
        grammar=grammar,
        sampler=Sampler(temperature=1, seed=seed),
        max_tokens=max_tokens,
    )
    for token in generation:
        for part in response.feed(token):
            if isinstance(part, ParsedCall):
                check(part, tools, messages, report)
    report.generations += 1
    report.cut_off += generation.stop == "length"
    report.tokens += generation.usage.completion_tokens
    report.forced_tokens += generation.usage.forced_tokens


def measure(loaded: Loaded, count: int) -> Report:
    """Run ``count`` generations."""
    report = Report()
    decoder = Decoder(loaded, prefix_cache_bytes=0, feature_cache_bytes=0)
    masking = 0.0
    mask = Grammar.mask

    def timed(self: Grammar, logits: Any) -> Any:
        nonlocal masking
        began = time.thread_time()
        result = mask(self, logits)
        masking += time.thread_time() - began
        return result

    Grammar.mask = timed  # type: ignore[method-assign]
    began = time.perf_counter()
    try:
        for seed in range(count):
            generate(decoder, seed, report)
    finally:
        Grammar.mask = mask  # type: ignore[method-assign]
    report.seconds = round(time.perf_counter() - began, 1)
    report.compile_cpu_ms = round(report.compile_cpu_ms / count, 3)
    report.mask_cpu_ms = round(1000 * masking / max(report.tokens - report.forced_tokens, 1), 4)
    return report


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 generations, not 1,000")
    quick = parser.parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(tiny_vlm(Path(folder) / "tiny"), "cpu", "float32")
        report = measure(loaded, 100 if quick else 1000)
    print(json.dumps({"benchmark": "grammar", **asdict(report)}))
    raise SystemExit(int(report.broken_calls > 0 or report.invented_quotes > 0))


if __name__ == "__main__":
    main()
