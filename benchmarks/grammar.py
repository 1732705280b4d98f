"""Is the grammar right, and what does it cost? Random weights, BFCL's gold calls, and times.

1. Tool calls from a network of random weights, at temperature 1 under the grammar: of new tools each (quoted, integer,
   number, enum, boolean, string, optional, nested, array), and of BFCL v4's own. Checked with jsonschema and
   `mmagent.content.is_quote`, which share no code with the grammar: none may be broken, no quote invented.
2. BFCL v4's gold calls, teacher-forced: the grammar must accept 99 % of those that follow their own schema.
3. The time of a decode step (forced tokens, mask, masked logits, accepted token) against 3 ms, at most 5 %; the time
   to compile with 2 kB to 1 MB of quotable text.

Prints one JSON line; a missed bar is exit code 1.

    python -m benchmarks.grammar            # 1,000 and 2,000 generations; vocabularies of 49,152 and 151,552
    python -m benchmarks.grammar --quick    # 100 and 100; the smaller vocabulary
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonschema
import torch

from benchmarks import bfcl
from benchmarks.bpe import bpe_vocabulary
from mmagent.chat.protocol import ToolSpec
from mmagent.content import Message, is_quote, quotable_lines, text
from mmagent.engine import Engine, Grammar, Loaded, ParsedCall, Response, Sampler, Vocabulary, build_prompt
from mmagent.engine.grammar.formats import MMAGENT
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
            yield from quotes_of(part, schema.get("properties", {}).get(name, {}))
    elif isinstance(value, list):
        for part in value:
            yield from quotes_of(part, schema.get("items", {}))


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


def generate(
    engine: Engine, seed: int, messages: tuple[Message, ...], tools: list[ToolSpec], report: Report, limit: int = 600
) -> None:
    """One answer to a conversation."""
    loaded = engine.loaded
    began = time.thread_time()
    grammar = Grammar(loaded.vocabulary, tools=tools, quotable=quotable_lines(messages), require_call=True)
    report.compile_cpu_ms += 1000 * (time.thread_time() - began)
    response = Response(loaded.vocabulary, grammar.format)
    turns = [{"role": message.role, "content": [{"type": "text", "text": message.text}]} for message in messages]
    generation = engine.generate(
        build_prompt(loaded, turns, []), grammar=grammar, sampler=Sampler(temperature=1, seed=seed), max_tokens=limit
    )
    for token in generation:
        for part in response.feed(token):
            if isinstance(part, ParsedCall):
                check(part, tools, messages, report)
    report.generations += 1
    report.cut_off += generation.stop == "length"
    report.tokens += generation.usage.completion_tokens
    report.forced_tokens += generation.usage.forced_tokens


def random_weights(loaded: Loaded, conversations: Iterator[tuple[tuple[Message, ...], list[ToolSpec]]]) -> Report:
    """One generation for each conversation and its tools."""
    report = Report()
    engine = Engine(loaded, prefix_cache_bytes=0, feature_cache_bytes=0)
    masking, bitmask = 0.0, Grammar.bitmask

    def timed(self: Grammar) -> Any:
        nonlocal masking
        began = time.thread_time()
        result = bitmask(self)
        masking += time.thread_time() - began
        return result

    Grammar.bitmask = timed  # type: ignore[method-assign]
    began = time.perf_counter()
    try:
        for seed, (messages, tools) in enumerate(conversations):
            generate(engine, seed, messages, tools, report)
    finally:
        Grammar.bitmask = bitmask  # type: ignore[method-assign]
    report.seconds = round(time.perf_counter() - began, 1)
    report.compile_cpu_ms = round(report.compile_cpu_ms / report.generations, 3)
    report.mask_cpu_ms = round(1000 * masking / max(report.tokens - report.forced_tokens, 1), 4)
    return report


def new_tools(count: int) -> Iterator[tuple[tuple[Message, ...], list[ToolSpec]]]:
    """Conversations and tools that nobody wrote."""
    for seed in range(count):
        rng = random.Random(seed)
        yield random_messages(rng), random_tools(rng)


def bfcl_tools(count: int, folder: Path) -> Iterator[tuple[tuple[Message, ...], list[ToolSpec]]]:
    """BFCL's tools, their strings and lists kept short so that random weights come to an end."""
    menus = [[ToolSpec(tool.name, "", short(tool.parameters)) for tool in case.tools] for case in bfcl.cases(folder)]
    random.Random(0).shuffle(menus)
    for index in range(count):
        yield (Message(role="user", content=(text("go"),)),), menus[index % len(menus)]


def short(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with strings of 8 characters and lists of 2 items at most, and no values of any type."""
    made = dict(schema)
    if not made.keys() & {"type", "enum", "properties"}:
        return {"type": ["integer", "boolean", "null"]}
    if made.get("type") == "string" and not made.keys() & {"enum", "format", "pattern"}:
        made["maxLength"] = 8
    if made.get("type") == "array":
        made |= {"items": short(made.get("items", {})), "maxItems": max(2, made.get("minItems", 0))}
    if made.get("type") == "object" and "properties" not in made:
        made |= {
            "additionalProperties": short(made.get("additionalProperties", {})),
            "maxProperties": max(2, len(made.get("required", ()))),
        }
    made |= (
        {"properties": {name: short(part) for name, part in made["properties"].items()}} if "properties" in made else {}
    )
    return made


def spelt(gold: bfcl.Gold) -> str:
    """A gold call as a model would write it."""
    arguments = json.dumps(gold.arguments, ensure_ascii=False, separators=(",", ":"))
    return f"{MMAGENT.open}{MMAGENT.head(gold.name)}{arguments}}}{MMAGENT.close}"


def accepted_golds(vocabulary: Vocabulary, folder: Path) -> dict[str, Any]:
    """How many of BFCL's gold calls the grammar of their case's tools accepts, and why not the others."""
    counts: Counter[str] = Counter()
    refused, contradicted = [], []
    for case in bfcl.cases(folder):
        schemas = {tool.name: tool.parameters for tool in case.tools}
        for gold in case.golds:
            counts["golds"] += 1
            validator = jsonschema.Draft202012Validator(schemas[gold.name])
            if wrong := next(validator.iter_errors(gold.arguments), None):
                contradicted.append(f"{gold.source}: {wrong.json_path} {wrong.message}"[:120])
                continue
            counts["expressible"] += 1
            tokens = vocabulary.ll.tokenize_str(spelt(gold), parse_special=True)
            grammar = Grammar(vocabulary, tools=case.tools, format=MMAGENT)
            fits = grammar.allows([*tokens, vocabulary.ends[0]])
            if fits > len(tokens):
                counts["accepted"] += 1
            else:
                refused.append(f"{gold.source}: after {vocabulary.ll.decode_str(tokens[:fits])[-60:]!r}")
    share = counts["accepted"] / counts["expressible"]
    return {**counts, "share": round(share, 5), "refused": refused, "golds_against_their_own_schema": contradicted}


def step_time(vocabulary: Vocabulary, folder: Path, count: int) -> dict[str, float]:
    """What the grammar adds to a decode step, in gold calls; CPU time, on one thread."""
    logits = torch.zeros(vocabulary.width)
    steps, forced, seconds, worst = 0, 0, 0.0, 0.0
    compile_seconds = []
    for case in [case for case in bfcl.cases(folder) if case.golds][:: max(1, 1240 // count)]:
        rest = spelt(case.golds[0]).encode()
        began = time.thread_time()
        grammar = Grammar(vocabulary, tools=case.tools, format=MMAGENT)
        compile_seconds.append(time.thread_time() - began)
        while rest:
            began = time.thread_time()
            tokens = grammar.forced()
            spent = time.thread_time() - began
            forced += len(tokens)
            rest = rest[len(vocabulary.ll.decode_bytes(tokens)) :]
            if not rest:
                break
            token = vocabulary.ll.tokenize_bytes(rest, parse_special=True)[0]
            if not grammar.allows([token]):  # a gold that contradicts its schema
                break
            began = time.thread_time()
            grammar.mask(logits)
            grammar.accept(token)
            spent += time.thread_time() - began
            steps, seconds, worst = steps + 1, seconds + spent, max(worst, spent)
            rest = rest[len(vocabulary.ll.decode_bytes([token])) :]
            logits.zero_()
    return {
        "width": vocabulary.width,
        "step_us": round(1e6 * seconds / steps, 1),
        "worst_step_us": round(1e6 * worst, 1),
        "share_of_3_ms": round(seconds / steps / 0.003, 4),
        "forced_share": round(forced / (forced + steps), 3),
        "compile_ms": round(1000 * sum(compile_seconds) / len(compile_seconds), 2),
    }


def quote_times(vocabulary: Vocabulary) -> dict[str, dict[str, float]]:
    """CPU milliseconds to make a grammar: with text never seen, with the same text again, with one more line."""
    quoted = {"type": "object", "properties": {"q": {"type": "string", "x-quoted": True}}, "required": ["q"]}
    tools, rng = [ToolSpec("look", "", quoted)], random.Random(0)

    def milliseconds(lines: list[str]) -> float:
        began = time.thread_time()
        Grammar(vocabulary, tools=tools, quotable=lines)
        return round(1000 * (time.thread_time() - began), 2)

    times = {}
    for size in (2_000, 20_000, 200_000, 1_000_000):
        lines = [random_line(rng)]
        while sum(map(len, lines)) < size:
            lines.append(random_line(rng))
        times[str(size)] = {
            "new": milliseconds(lines),
            "same": min(milliseconds(list(lines)) for _ in range(3)),
            "one_line_more": min(milliseconds([*lines, random_line(rng)]) for _ in range(3)),
        }
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 generations of each kind, one vocabulary")
    parser.add_argument("--bfcl", type=Path, default=bfcl.FOLDER, help="folder of BFCL v4's files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        loaded = load(tiny_vlm(Path(folder) / "tiny"), "cpu", "float32")
        reports = [
            random_weights(loaded, new_tools(100 if options.quick else 1000)),
            random_weights(loaded, bfcl_tools(100 if options.quick else 2000, options.bfcl)),
        ]
    vocabularies = [bpe_vocabulary(size) for size in ((49_152,) if options.quick else (49_152, 151_552))]
    golds = accepted_golds(vocabularies[0], options.bfcl)
    steps = [step_time(vocabulary, options.bfcl, 100 if options.quick else 400) for vocabulary in vocabularies]
    result = {
        "random_weights": asdict(reports[0]),
        "random_weights_bfcl": asdict(reports[1]),
        "bfcl_golds": golds,
        "decode_step": steps,
        "quotes_ms": quote_times(vocabularies[0]),
    }
    print(json.dumps({"benchmark": "grammar", **result}, ensure_ascii=False))
    missed = [report for report in reports if report.broken_calls or report.invented_quotes or not report.calls]
    slow = [step for step in steps if step["share_of_3_ms"] > 0.05]
    raise SystemExit(int(bool(missed or slow or golds["share"] < 0.99)))


if __name__ == "__main__":
    main()
