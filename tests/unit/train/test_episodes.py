"""The prompt format is a contract: what nano is trained on is what the agent builds at run time."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mmagent.agent import Agent
from mmagent.agent.context.prompt import tool_specs
from mmagent.chat.conversation import _function, _message
from mmagent.content import Message
from mmagent.model.tokenizer import chat_template
from mmagent.prompts import render
from mmagent.testing import ScriptedModel, call
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.shop import episodes, phrases
from mmagent.train.shop.cases import draw_case
from mmagent.train.shop.world import Hits, solve

SHOP = Path(__file__).parents[3] / "examples" / "shop"


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return byte_tokenizer()


def signatures(tokenizer: Any, tools: list[dict[str, Any]]) -> list[str]:
    text = tokenizer.apply_chat_template([{"role": "user", "content": ""}], tools=tools, tokenize=False)
    return text.removeprefix("<|system|>\n").partition("<|end|>")[0].splitlines()


def test_trained_signatures_are_those_of_the_real_tools(tokenizer: Any, tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    (documents / "a.md").write_text("# A\n\nText.\n")
    with Agent(ScriptedModel([]), [SHOP / "tools.py"], knowledge=documents) as agent:
        real = [_function(spec) for spec in tool_specs(agent.tools)]
    assert sorted(signatures(tokenizer, real)) == sorted(signatures(tokenizer, list(episodes.TOOLS)))


def test_trained_instructions_are_the_packaged_prompts() -> None:
    assert render("agent", instructions="") == episodes.SYSTEM
    assert render("agent", instructions=render("shop")) == f"{episodes.SYSTEM}\n{episodes.SHOP_SYSTEM}"


def test_a_turn_at_run_time_reads_like_a_turn_in_training(tokenizer: Any, tmp_path: Path) -> None:
    """The demo's turn, played by a script through the real agent, tools and knowledge, against the same in training."""
    said = "Plan: look up the order, check the policy, count the days."
    model = ScriptedModel(
        [
            [said, call("lookup_order", order_id="A-48213"), call("search_knowledge", query=episodes.RETURN_QUERY)],
            [call("calculate", expression="30 - 12")],
            "Yes. [1]",
        ]
    )
    with Agent(model, [SHOP / "tools.py"], knowledge=SHOP / "policies", instructions=render("shop")) as agent:
        agent.run("Can I still return the lamp? My order is A-48213.")
    request = model.requests[-1]
    images: Any = iter(())
    lived = [_message(message, images, as_blocks=True) for message in request.messages]
    specs = [_function(spec) for spec in request.tools]
    at_run_time = tokenizer.apply_chat_template(lived, tools=specs, tokenize=False, add_generation_prompt=True)

    record = json.loads((SHOP / "shop.json").read_text())["orders"]["A-48213"]
    found = next(m.text for m in request.messages if m.name == "search_knowledge")
    calls = [("lookup_order", {"order_id": "A-48213"}), ("search_knowledge", {"query": episodes.RETURN_QUERY})]
    written = [
        {"role": "system", "content": f"{episodes.SYSTEM}\n{episodes.SHOP_SYSTEM}"},
        {"role": "user", "content": "Can I still return the lamp? My order is A-48213."},
        {"role": "assistant", "content": said, "tool_calls": [_call(name, args) for name, args in calls]},
        {"role": "tool", "name": "lookup_order", "content": episodes.shown(record)},
        {"role": "tool", "name": "search_knowledge", "content": found},
        {"role": "assistant", "content": "", "tool_calls": [_call("calculate", {"expression": "30 - 12"})]},
        {"role": "tool", "name": "calculate", "content": episodes.calculated("30 - 12")},
    ]
    trained = tokenizer.apply_chat_template(written, tools=specs, tokenize=False, add_generation_prompt=True)
    assert at_run_time == trained
    assert found.splitlines()[0].startswith("[1] Returns > "), "passages are shown with number and title path"


def _call(name: str, args: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": args}}


def test_passages_are_shown_in_training_as_the_tool_shows_them() -> None:
    case = draw_case(random.Random(5))
    text = episodes.shown(Hits(tuple(enumerate(case.sections[:2], 1))))
    one, two = case.sections[:2]
    assert text == f"[1] {one.title}\n{one.text}\n[2] {two.title}\n{two.text}"


def test_held_out_wordings_stay_out_of_training() -> None:
    rng = random.Random(0)
    template = phrases.SENTENCES["ask_return"]
    trained = {phrases.phrase(rng, template, False) for _ in range(800)}
    kept = {phrases.phrase(rng, template, True) for _ in range(300)}
    assert len(kept) > 10
    assert not trained & kept


def held_out_of(template: str) -> set[str]:
    rng = random.Random(0)
    drawn = {phrases.phrase(rng, template, True) for _ in range(20)}
    return {text for text in drawn if phrases.is_held_out(text)}


@pytest.mark.parametrize(
    "topic", [phrases.RETURN_WINDOW, phrases.EXCEPTIONS, *phrases.TOPICS], ids=lambda topic: topic.headings
)
def test_each_topic_has_held_out_answers_and_questions(topic: phrases.Topic) -> None:
    assert held_out_of(topic.says)
    assert held_out_of(topic.asked)


@pytest.mark.parametrize("name", [name for name in phrases.SENTENCES if name not in ("object", "named_object")])
def test_each_sentence_of_customers_has_held_out_wordings(name: str) -> None:
    kept = held_out_of(phrases.SENTENCES[name])
    assert kept
    if name in ("greeting", "thanks", "goodbye", "about_you"):
        assert len({re.sub(r"\W+", " ", text.lower()).strip() for text in kept}) >= 4


def test_case_and_signs_make_no_other_wording() -> None:
    for texts in (("Hiya", "Hiya.", "hiya!"), ("I'm off, bye", "i m off bye"), ("Order: <id>.", "order id")):
        assert len({phrases.is_held_out(text) for text in texts}) == 1


def test_cases_and_their_solutions_follow_from_the_seed() -> None:
    def first_steps(seed: int) -> list[str]:
        case = draw_case(random.Random(seed))
        return [next(solve(case, turn, turn.intent)).text for turn in case.turns]

    assert [first_steps(seed) for seed in range(30)] == [first_steps(seed) for seed in range(30)]
    assert len({tuple(first_steps(seed)) for seed in range(60)}) > 15, "plans differ from case to case"


def test_every_episode_is_a_conversation_that_the_journal_could_hold() -> None:
    rng = random.Random(1)
    for _ in range(100):
        for message in episodes.shop_episode(rng).messages:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            text_blocks = [block for block in blocks if block["type"] == "text"]
            assert Message(role=message["role"], content=text_blocks).role == message["role"]


def test_the_template_is_packaged() -> None:
    assert "<tool_call>" in chat_template()
