"""Whatever the weights, no call breaks its schema and no quote is invented: 60 of the benchmark's 1,000 generations."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmagent.content import Message, text
from mmagent.engine import ParsedCall
from mmagent.engine.load import load
from mmagent.testing import tiny_vlm

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "grammar.py"


@pytest.fixture(scope="module")
def generations() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_grammar", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_random_weights_call_validly_and_invent_no_quote(generations: ModuleType, tmp_path: Path) -> None:
    report = generations.random_weights(load(tiny_vlm(tmp_path / "tiny"), "cpu", "float32"), generations.new_tools(60))
    assert report.generations == 60
    assert report.calls >= 60
    assert report.quotes >= 30
    assert report.broken_calls == 0
    assert report.invented_quotes == 0
    assert report.cut_off <= 3


def test_the_judge_sees_what_is_broken(generations: ModuleType) -> None:
    tools = [
        generations.ToolSpec("find", "", {"type": "object", "properties": {"id": {"type": "string", "x-quoted": True}}})
    ]
    messages = (Message(role="user", content=(text("order A-17"),)),)
    report = generations.Report()
    for call in (
        ParsedCall("find", {"id": "A-17"}),
        ParsedCall("find", {"id": "A-18"}),
        ParsedCall("find", {"id": 3}),
        ParsedCall("x", {}),
    ):
        generations.check(call, tools, messages, report)
    assert (report.calls, report.quotes, report.broken_calls, report.invented_quotes) == (4, 2, 2, 1)
