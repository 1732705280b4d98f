"""The shop world and the plan that is right for each case. It knows what should happen, no network and no dice.

A `Case` is what a customer brings and what the shop's data and policies are; `mmagent.train.shop.cases` draws them.
`solve` is a generator: it yields the steps that an ideal assistant takes and is sent what each tool returned, so the
same code writes training episodes (with simulated tools) and tells what was right in an evaluation.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal

from mmagent.train.shop import phrases as p
from mmagent.train.shop.beyond import BEYOND

Kind = Literal["receipt", "label", "product", "unrelated"]
Intent = Literal[
    "return", "status", "look", "price", "stock", "policy", "calculate", "today",
    "greeting", "thanks", "goodbye", "about", "elsewhere", "beyond",
]  # fmt: skip

ASK_NUMBER = "Please send me your order number or a picture of the receipt."
ASK_PRODUCT = "Which product do you mean? Please type its name or send a picture of it."
ASK_PICTURE = "I see no picture. Please send one."
ASK_SUM = "Which sum shall I calculate?"
UNRELATED = "This picture has nothing to do with our shop. Please send a receipt, a parcel label or a product."
NO_NUMBER = "I found no order number in the picture. Please type it."
UNREADABLE = "I could not read the picture. Please type the number."
FAILED = "Sorry, I cannot look that up right now. Please try again later."
NOT_IN_POLICIES = "I could not find that in our policies."
ELSEWHERE = "I can only help with our shop: orders, parcels, products and policies."
ABOUT = "I answer questions about orders, parcels, products and policies of our shop."
RETURN_QUERY = "return window and exceptions"


@dataclass(frozen=True)
class Section:
    """A section of the policies; ``text`` is ``answer`` and perhaps a sentence beside it."""

    document: str
    heading: str
    text: str
    answer: str

    @property
    def title(self) -> str:
        """As search results show it."""
        return self.document if self.heading == self.document else f"{self.document} > {self.heading}"


@dataclass(frozen=True)
class Picture:
    """What a picture shows; `mmagent.train.shop.pictures.render` makes the pixels."""

    kind: Kind
    lines: tuple[str, ...] = ()
    """What OCR reads, top to bottom."""
    fields: dict[str, Any] = field(default_factory=dict)
    """Arguments of the drawing function."""
    code: str = ""
    """The order or tracking number in it."""


@dataclass(frozen=True)
class Turn:
    """One message of the customer's."""

    text: str
    intent: Intent
    picture: Picture | None = None
    order: str = ""
    """The order number in the text."""
    tracking: str = ""
    """The tracking number in the text."""
    item: str = ""
    topic: p.Topic | None = None
    query: str = ""
    """The part of the text that asks."""
    beyond: str = ""
    """The kind of a question that is beyond the assistant."""


@dataclass(frozen=True)
class Case:
    """A conversation, and the world it takes place in."""

    shop: str
    turns: tuple[Turn, ...]
    orders: dict[str, dict[str, Any]]
    parcels: dict[str, dict[str, Any]]
    products: dict[str, dict[str, Any]]
    sections: tuple[Section, ...]


@dataclass(frozen=True)
class Call:
    """A tool call."""

    name: str
    args: dict[str, Any]


@dataclass(frozen=True)
class Step:
    """What the assistant says, and the calls it makes; a step without calls ends the turn."""

    text: str
    calls: tuple[Call, ...] = ()
    cites: tuple[str, ...] = ()
    """Titles of the sections that ``text`` cites, in order of the marks."""


@dataclass(frozen=True)
class Hits:
    """What a search returned: numbered passages."""

    found: tuple[tuple[int, Section], ...]

    def number(self, section: Section | None) -> int:
        """The number of that section among the hits; 0 if it is not there."""
        return next((number for number, hit in self.found if hit == section), 0)


Solution = Generator[Step, "tuple[Any, ...]", None]
"""Yields steps; is sent one result per call: parsed JSON, `Hits`, OCR text, or a string that starts with ``error:``."""


def solve(case: Case, turn: Turn, intent: Intent) -> Solution:
    """The right steps of one turn. ``intent`` is the turn's own, or an earlier one that it completes."""
    picture = turn.picture
    simple = {
        "greeting": "Hello! How can I help you?",
        "thanks": "You are welcome!",
        "goodbye": "Goodbye!",
        "about": ABOUT,
        "elsewhere": ELSEWHERE,
    }
    if intent in simple:
        yield Step(simple[intent])
    elif intent == "beyond":
        yield Step(BEYOND[turn.beyond])
    elif question := lacking(turn, intent):
        yield Step(question)
    elif intent == "policy":
        yield from _policy(case, turn)
    elif intent in ("calculate", "today"):
        yield from _simple_tool(turn, intent)
    elif intent == "stock":
        yield from _product(turn.item)
    elif turn.order or turn.tracking:
        yield from _known(case, intent, turn.order, turn.tracking)
    elif picture is None or picture.kind == "unrelated":
        yield Step(UNRELATED)
    elif picture.kind == "product":
        yield from _photo(picture, intent)
    elif picture.kind == "receipt":
        yield from _receipt(case, picture, intent)
    else:
        yield from _label(case, picture, intent)


def lacking(turn: Turn, intent: Intent) -> str:
    """What must be asked for before anything can be done; empty where nothing is missing."""
    if turn.picture or turn.order or turn.tracking or turn.item or turn.query:
        return ""
    questions: dict[str, str] = {"look": ASK_PICTURE, "calculate": ASK_SUM}
    questions |= dict.fromkeys(("stock", "price"), ASK_PRODUCT) | dict.fromkeys(("return", "status"), ASK_NUMBER)
    return questions.get(intent, "")


def _policy(case: Case, turn: Turn) -> Solution:
    (hits,) = yield Step("Plan: search the policies.", (Call("search_knowledge", {"query": turn.query}),))
    gold = section_on(case, turn.topic)
    number = hits.number(gold) if isinstance(hits, Hits) else 0
    if isinstance(hits, str) and hits.startswith("error:"):
        yield Step(FAILED)
    elif gold is None or not number:
        yield Step(NOT_IN_POLICIES)
    else:
        yield Step(f"{gold.answer} [{number}]", cites=(gold.title,))


def _simple_tool(turn: Turn, intent: Intent) -> Solution:
    if intent == "today":
        (date,) = yield Step("Plan: check the date.", (Call("today", {}),))
        yield Step(f"Today is {date}.")
        return
    (result,) = yield Step("Plan: calculate.", (Call("calculate", {"expression": turn.query}),))
    yield Step(f"{turn.query} = {result}")


def _product(name: str) -> Solution:
    (found,) = yield Step("Plan: look up the product.", (Call("find_product", {"name": name}),))
    if isinstance(found, str):
        yield Step(FAILED if broken(found) else f"We do not have a {name}.")
    elif found["in_stock"] == 0:
        yield Step(f"The {name} costs {found['price']} and is sold out.")
    else:
        yield Step(f"The {name} costs {found['price']} and {found['in_stock']} are in stock.")


def _photo(picture: Picture, intent: Intent) -> Solution:
    if intent in ("look", "price"):
        yield from _product(picture.fields["product"])
    else:
        shown = f"{picture.fields['color']} {picture.fields['product']}"
        yield Step(f"I see a {shown}, but I need the order number or a picture of the receipt.")


def _receipt(case: Case, picture: Picture, intent: Intent) -> Solution:
    if intent == "price":
        (text,) = yield Step("Plan: read the receipt.", (Call("read_text", {}),))
        total = picture.fields["total"]
        yield Step(f"The total on the receipt is {total}." if total in text else UNREADABLE)
        return
    plan = "Plan: read the receipt, look up the order" + (
        ", check the policy, count the days." if intent == "return" else "."
    )
    (text,) = yield Step(plan, (Call("read_text", {}),))
    yield from _read(case, picture, intent, text)


def _label(case: Case, picture: Picture, intent: Intent) -> Solution:
    if intent == "price":
        yield Step("A parcel label shows no price. Please send the receipt or a picture of the product.")
        return
    plan = "Plan: read the label, track the parcel" + (
        ", check the policy, count the days." if intent == "return" else "."
    )
    (text,) = yield Step(plan, (Call("read_text", {}),))
    yield from _read(case, picture, intent, text)


def _read(case: Case, picture: Picture, intent: Intent, text: str) -> Solution:
    if text.startswith("error:") or text == "no text found in the picture":
        yield Step(UNREADABLE)
    elif not picture.code or picture.code not in text:
        yield Step(NO_NUMBER)
    elif picture.kind == "receipt":
        yield from _order(case, intent, Call("lookup_order", {"order_id": picture.code}), "")
    else:
        yield from _order(case, intent, Call("track_parcel", {"tracking": picture.code}), "")


def _known(case: Case, intent: Intent, order: str, tracking: str) -> Solution:
    plan = "Plan: look up the order" if order else "Plan: track the parcel"
    plan += ", check the policy, count the days." if intent == "return" else "."
    call = Call("lookup_order", {"order_id": order}) if order else Call("track_parcel", {"tracking": tracking})
    yield from _order(case, intent, call, plan)


def _order(case: Case, intent: Intent, lookup: Call, plan: str) -> Solution:
    """Look an order or parcel up and, for a return, read the policy beside it."""
    calls = (lookup, Call("search_knowledge", {"query": RETURN_QUERY})) if intent == "return" else (lookup,)
    results = yield Step(plan, calls)
    found = results[0]
    code = next(iter(lookup.args.values()))
    thing = "order" if lookup.name == "lookup_order" else "parcel"
    if isinstance(found, str):
        missing = f"I could not find {thing} {code}. Please check the number."
        yield Step(FAILED if broken(found) else missing)
    elif found["status"] != "delivered":
        yield Step(f"The {found['item']} is not there yet: {found['status']}, {found['arrives_in_days']} days to go.")
    elif intent != "return":
        yield Step(f"The {found['item']} was delivered {found['days_since_delivery']} days ago.")
    elif isinstance(results[1], Hits):
        yield from _judge(case, found, results[1])
    else:
        yield Step(FAILED)


def _judge(case: Case, found: dict[str, Any], hits: Hits) -> Solution:
    item, days = found["item"], found["days_since_delivery"]
    window, exceptions = section_on(case, p.RETURN_WINDOW), section_on(case, p.EXCEPTIONS)
    if exceptions and item in excluded(exceptions) and (number := hits.number(exceptions)):
        yield Step(f"No, the {item} cannot be returned. [{number}]", cites=(exceptions.title,))
        return
    number = hits.number(window)
    if window is None or not number:
        yield Step(NOT_IN_POLICIES)
        return
    limit = window_days(window)
    (left,) = yield Step("", (Call("calculate", {"expression": f"{limit} - {days}"}),))
    if str(left).startswith("-"):
        verdict = f"No, the {item} was delivered {days} days ago and the limit is {limit} days."
    else:
        verdict = (
            f"Yes, you can return the {item}: delivered {days} days ago, the limit is {limit} days, {left} days left."
        )
    yield Step(f"{verdict} [{number}]", cites=(window.title,))


def broken(result: str) -> bool:
    """Whether a tool's error is a failure of the tool, not its answer."""
    return " failed: " in result or " timed out " in result


def section_on(case: Case, topic: p.Topic | None) -> Section | None:
    """The case's section on a topic, if its policies have one."""
    if topic is None:
        return None
    headings = expansions(topic.headings)
    return next((s for s in case.sections if s.document == topic.document and s.heading in headings), None)


def expansions(template: str) -> frozenset[str]:
    """The choices of a flat ``{a|b|c}``."""
    return frozenset(template.strip("{}").split("|"))


def window_days(section: Section) -> int:
    """The number of days that a section on the return window gives."""
    return next(int(word) for word in section.answer.replace(".", " ").split() if word.isdigit())


def excluded(section: Section) -> tuple[str, ...]:
    """The items that a section on exceptions names."""
    text = section.answer
    for before in ("returned: ", "products: ", "from returns: ", "return of "):
        text = text.partition(before)[2] or text
    text = text.removesuffix(".").removesuffix(" is not possible")
    return tuple(text.replace(" and ", ", ").split(", "))
