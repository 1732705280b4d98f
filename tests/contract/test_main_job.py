"""The main job with the model that ships: nothing is scripted, the pixels and the data decide."""

from __future__ import annotations

import io
import json
import random
import shutil
from pathlib import Path

import pytest

from mmagent import Agent, Image, LocalModel, Result
from mmagent.evaluate.shop import evaluate
from mmagent.events import ToolCalled
from mmagent.train.draw import pictures
from mmagent.train.shop import world

pytestmark = [pytest.mark.nano, pytest.mark.xdist_group("nano")]

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples" / "shop"


@pytest.fixture(scope="module")
def nano() -> LocalModel:
    return LocalModel("nano")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A copy of the example shop that a test may change."""
    return Path(shutil.copytree(SHOP, tmp_path / "shop"))


def ask(nano: LocalModel, folder: Path, question: str, picture: Path | bytes | None = None) -> Result:
    with Agent(nano, [folder / "tools.py"], knowledge=folder / "policies") as agent:
        return agent.run(question, *([Image(picture)] if picture else []))


def called(result: Result) -> list[str]:
    return [event.name for event in result.events if isinstance(event, ToolCalled)]


def receipt(order_id: str, item: str) -> bytes:
    image, _ = pictures.receipt(
        random.Random(11),
        shop="Oak and Iron",
        order_id=order_id,
        date="2026-10-02",
        lines=[(item, "34.50")],
        total="34.50",
    )
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_demo(nano: LocalModel, shop: Path) -> None:
    result = ask(nano, shop, "Can I still return the lamp?", shop / "receipt.png")
    assert called(result) == ["read_text", "lookup_order", "search_knowledge", "calculate"]
    assert result.text.startswith("Yes")
    assert "18 days" in result.text
    (citation,) = result.citations
    assert citation.quote in (shop / "policies" / "returns.md").read_text()
    assert "30 days" in citation.quote


def test_another_receipt_another_answer(nano: LocalModel, shop: Path) -> None:
    result = ask(nano, shop, "Can I still return the lamp?", receipt("LM-2041", "kettle"))
    assert result.text.startswith("No")
    assert "51 days" in result.text


def test_another_policy_another_answer(nano: LocalModel, shop: Path) -> None:
    policy = shop / "policies" / "returns.md"
    policy.write_text(policy.read_text().replace("30 days", "90 days"))
    result = ask(nano, shop, "Can I still return the lamp?", receipt("LM-2041", "kettle"))
    assert result.text.startswith("Yes")
    assert "39 days left" in result.text


def test_other_data_another_answer(nano: LocalModel, shop: Path) -> None:
    data = shop / "shop.json"
    orders = json.loads(data.read_text())
    del orders["orders"]["A-48213"]
    data.write_text(json.dumps(orders))
    result = ask(nano, shop, "Can I still return the lamp?", shop / "receipt.png")
    assert "could not find order A-48213" in result.text


def test_pixels_decide_under_the_same_words(nano: LocalModel, shop: Path) -> None:
    words = "Can I still return this?"
    results = {name: ask(nano, shop, words, shop / f"{name}.png") for name in ("receipt", "label", "lamp", "holiday")}
    plans = {name: called(result) for name, result in results.items()}
    assert plans["receipt"][:2] == ["read_text", "lookup_order"]
    assert plans["label"][:2] == ["read_text", "track_parcel"]
    assert plans["lamp"] == plans["holiday"] == []
    assert results["lamp"].text.startswith("I see a red ")  # which product it is, nano often gets wrong
    assert "nothing to do with our shop" in results["holiday"].text


def test_no_picture_and_no_number_asks_for_one(nano: LocalModel, shop: Path) -> None:
    result = ask(nano, shop, "I want to return my lamp.")
    assert called(result) == []
    assert "order number" in result.text


def test_unseen_cases(nano: LocalModel) -> None:
    """A sample of what `mmagent eval nano --skill shop` measures; the model's card says how much of it is right."""
    outcomes = evaluate(nano, SHOP / "tools.py", count=16, seed=1, progress=lambda _: None)
    wrong = [f"{outcome.kind}: {outcome.wrong}" for outcome in outcomes if outcome.wrong]
    assert len(wrong) <= 11, "\n".join(wrong)


def test_no_answer_and_no_plan_is_in_the_code() -> None:
    """What nano says stands in its training data alone."""
    said = [
        world.ASK_NUMBER,
        world.UNRELATED,
        world.NO_NUMBER,
        world.ELSEWHERE,
        world.ASK_PRODUCT,
        "beyond me",
        world.RETURN_QUERY,
        "Plan: ",
        "days left",
    ]
    known = [key for records in json.loads((SHOP / "shop.json").read_text()).values() for key in records if "-" in key]
    for folder in ("mmagent", "tools", "prompts"):
        for path in (*(ROOT / folder).rglob("*.py"), *(ROOT / folder).rglob("*.md"), *(ROOT / folder).rglob("*.jinja")):
            if path.parts[len(ROOT.parts) + 1] not in ("train", "evaluate", "nano"):
                text = path.read_text(encoding="utf-8")
                assert not [words for words in (*said, *known) if words in text], path
