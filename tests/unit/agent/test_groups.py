"""Groups that a model opens, and the choice among many tools by what the question says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mmagent.agent.tools import AnyTool, Tool, ToolContext, tool
from mmagent.agent.tools.calls import perform
from mmagent.agent.tools.groups import OPEN_TOOLS, ToolGroup, select
from mmagent.agent.tools.toolbox import Toolbox
from mmagent.errors import ConfigurationError
from mmagent.media import BlobStore


def made(name: str, description: str = "A tool.", **parameters: str) -> AnyTool:
    properties = {key: {"type": "string", "description": text} for key, text in parameters.items()}
    return Tool.from_schema(name, description, {"properties": properties}, lambda **_: None, effect="read")


def box(*given: Any, limit: int | None = None) -> Toolbox:
    return Toolbox(given, builtins=False, limit=limit)


BILLING = ToolGroup("billing", [made("refund"), made("invoice")], "money back and invoices")
SHIPPING = ToolGroup("shipping", [made("track")], "where parcels are")


def test_lazy_groups_are_told_of_in_one_line_until_they_are_opened() -> None:
    tools = box(made("lookup"), BILLING, SHIPPING)
    assert list(tools.visible()) == ["lookup", OPEN_TOOLS]
    assert tools.all[OPEN_TOOLS].description == (
        "Get more tools. Groups are billing: money back and invoices; shipping: where parcels are."
    )
    assert tools.all[OPEN_TOOLS].parameters["properties"]["groups"] == {
        "type": "array",
        "items": {"type": "string", "enum": ["billing", "shipping"]},
    }
    assert (tools.all[OPEN_TOOLS].effect, tools.all[OPEN_TOOLS].untrusted) == ("read", False)
    assert {"lookup", "refund", "invoice", "track"} < set(tools.all)


def test_opened_tools_come_last_so_that_the_others_keep_their_place() -> None:
    tools = box(BILLING, made("lookup"), SHIPPING)
    assert list(tools.visible({"shipping"})) == ["lookup", OPEN_TOOLS, "track"]
    assert list(tools.visible({"shipping", "billing"})) == ["lookup", OPEN_TOOLS, "refund", "invoice", "track"]
    assert list(tools.visible({"gone"})) == ["lookup", OPEN_TOOLS]


async def test_opening_says_what_is_there_now(tmp_path: Any) -> None:
    tools = box(BILLING, SHIPPING)
    one = tools.all[OPEN_TOOLS]
    args = one.validate({"groups": ["shipping", "billing"]})
    outcome = await perform(one, args, ToolContext(), BlobStore(tmp_path), 10)
    assert outcome.content[0].get("text") == "there are now: track, refund, invoice"
    assert tools.groups_opened(args) == ("billing", "shipping")
    assert tools.groups_opened({"groups": ["nowhere"]}) == tools.groups_opened({}) == ()
    with pytest.raises(ValidationError):
        one.validate({"groups": ["nowhere"]})


def test_groups_that_are_not_lazy_are_only_a_name() -> None:
    assert list(box(ToolGroup("billing", [made("refund")], "money", lazy=False)).visible()) == ["refund"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ([BILLING, ToolGroup("billing", [made("pay")], "more")], "two tool groups are called billing"),
        ([BILLING, made("refund")], "two tools are called refund"),
        ([BILLING, made(OPEN_TOOLS)], "a tool is called open_tools"),
        ([ToolGroup("billing", [made("pay")], " ")], "the tool group 'billing' needs a name and a description"),
        ([ToolGroup("billing", [5], "what for")], "5 is no tool"),
    ],
)
def test_groups_that_cannot_be_used_are_told(given: list[Any], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        box(*given)


MANY = [
    made("create_invoice", "Write an invoice for an order.", order_id="The order."),
    made("refund_payment", "Give a customer the money back.", amount="How much."),
    made("trackParcel", "Where a parcel is on its way."),
    made("wetter", "Das Wetter an einem Ort abfragen."),
    made("traduire", "Traduire une phrase, même très longue."),
    made("tianqi", "查询城市的天气预报"),
    made("tenki", "天気予報を調べる"),
    made("pogoda", "Прогноз погоды в городе"),
]


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("Can I get an invoice?", "create_invoice"),
        ("I want refunds for these PAYMENTS", "refund_payment"),
        ("where is my parcel?", "trackParcel"),
        ("how much is it?", "refund_payment"),
        ("Wie wird das Wetter in Köln?", "wetter"),
        ("peux-tu traduire les phrases tres longues ?", "traduire"),
        ("北京的天气怎么样", "tianqi"),
        ("明日の天気予報は？", "tenki"),
        ("какая погода в городе?", "pogoda"),
    ],
)
def test_the_tool_that_a_question_is_about_is_chosen(question: str, name: str) -> None:
    assert name in select(MANY, question, 2)


def test_the_choice_keeps_order_limit_and_those_that_are_always_there() -> None:
    assert select(MANY, "", 3) == ["create_invoice", "refund_payment", "trackParcel"]
    assert select(MANY, "parcel", 2, {"pogoda"}) == ["trackParcel", "pogoda"]
    assert select(MANY, "parcel", 1, {"wetter", "pogoda"}) == ["wetter", "pogoda"]
    assert select([], "parcel", 2) == []


def test_a_toolbox_shows_no_more_than_its_limit() -> None:
    tools = box(*MANY, BILLING, limit=3)
    assert list(tools.visible(question="where is my parcel?")) == ["create_invoice", "trackParcel", OPEN_TOOLS]
    assert tools.visible(question="where is my parcel?") is tools.visible(question="where is my parcel?")
    shown = list(tools.visible({"billing"}, "where is my parcel?"))
    assert shown == [OPEN_TOOLS, "refund", "invoice"]
    with pytest.raises(ConfigurationError, match="max_tool_specs is 0"):
        box(limit=0)


def test_objects_may_bring_tools_of_their_own() -> None:
    class Server:
        def mmagent_tools(self) -> list[AnyTool]:
            return [made("search"), made("fetch")]

    assert list(box(Server()).all) == ["search", "fetch"]
    assert list(box(ToolGroup("web", [Server()], "the web")).visible({"web"})) == [OPEN_TOOLS, "search", "fetch"]


def test_langchain_tools_are_taken() -> None:
    tools = pytest.importorskip("langchain_core.tools")

    @tools.tool
    def weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    found = box(weather).all["weather"]
    assert found.description.startswith("The weather in a city.")
    assert list(found.parameters["properties"]) == ["city"]


def test_a_tool_may_be_in_two_groups() -> None:
    @tool
    def both() -> None:
        """Both."""

    tools = box(ToolGroup("a", [both], "one"), ToolGroup("b", [both], "other"))
    assert list(tools.visible({"a", "b"})) == [OPEN_TOOLS, "both"]
