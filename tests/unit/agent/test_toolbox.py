"""Which tools an agent has, and in which order models are told of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmagent.agent import Agent, tool
from mmagent.agent.tools.toolbox import Toolbox
from mmagent.chat.protocol import Capabilities
from mmagent.errors import ConfigurationError, NotFound
from mmagent.testing import ScriptedModel


def mine() -> None: ...


@tool(name="today")
def my_today() -> str:
    return "some day"


def names(given: Any = None, *, builtins: bool = True, images: bool = True, knowledge: bool = False) -> list[str]:
    return list(Toolbox(given, builtins=builtins, images=images, knowledge=knowledge).all)


def test_built_in_tools_that_apply_come_first() -> None:
    assert names() == ["read_text", "look", "calculate", "today"]
    assert names([mine], images=False) == ["read_text", "calculate", "today", "mine"]
    assert names([mine], knowledge=True) == ["read_text", "look", "calculate", "today", "search_knowledge", "mine"]


def test_they_can_be_left_out_and_asked_for_one_by_one() -> None:
    assert names(builtins=False) == []
    assert names(["calculate", mine], builtins=False) == ["calculate", "mine"]


def test_a_tool_of_the_user_takes_the_place_of_a_built_in_one() -> None:
    assert Toolbox([my_today]).all["today"] is my_today


def test_a_file_of_tools_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "shop.py"
    path.write_text("from mmagent import tool\n@tool\ndef lookup() -> str:\n    return ''\n")
    assert names([str(path)], builtins=False) == ["lookup"]
    with pytest.raises(NotFound):
        names([str(tmp_path / "none.py")])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([mine, mine], "two tools are called mine"),
        (["calculator"], "no built-in tool 'calculator'; there are: read_text, look, calculate"),
        ([5], "5 is no tool"),
    ],
)
def test_what_cannot_be_a_tool_is_told(given: list[Any], why: str) -> None:
    with pytest.raises((ConfigurationError, NotFound), match=why):
        names(given)


def test_a_model_that_calls_no_tools_gets_none_and_refuses_given_ones() -> None:
    model = ScriptedModel([], capabilities=Capabilities(context_length=100, tools=False))
    assert Agent(model).tools == {}
    with pytest.raises(ConfigurationError, match="the model scripted cannot call tools"):
        Agent(model, [mine])
