"""Receipts, invoices, order screens and parcel labels with questions about what stands on them.

It knows what is asked and what is right; `forms` knows what stands there, `papers` how it looks.
"""

from __future__ import annotations

import json
import random

from mmagent.train.draw.forms import Form, Kind, draw_form
from mmagent.train.draw.papers import draw_paper
from mmagent.train.sample import Count, Draw, Message, Sample, Share, Shown, assistant, system, user
from mmagent.train.shop.episodes import SYSTEM
from mmagent.train.shop.phrases import expand, item

ABSENT = "It does not say."
"""The answer to a question about something that is not there."""
NAMES: dict[Kind, str] = {
    "receipt": "till receipt",
    "invoice": "invoice",
    "screen": "order screen",
    "label": "parcel label",
}

_ASKED: dict[str, str] = {
    "order": "{What|Which} order number{| is it| is this| is shown}?|{Read|Give|Copy|Find} the order number."
    "|Order number?|{What is|What's} the {order|reference} number?|{What is|What's} the number of {the|this} order?"
    "|The order number, please.|Which order is this?",
    "date": "{What|Which} date{| is it| is shown}?|{Read|Give|Copy|Find} the date.|Date?|{What is|What's} the date?"
    "|When was {it|this}?|What day is {printed|on it}?|The date, please.|Which day was {it|this}?",
    "total": "{What is|What's} the {total|sum|amount}?|{Read|Give|Copy|Find} the total.|Total?|How much {is it|is due}?"
    "|How much in all?|What does it come to?|The total, please.|What is the full {price|amount}?",
    "shop": "{Which|What} shop{| is it| is this}?|{Read|Give|Copy|Find} the shop's name.|Shop?"
    "|{What is|What's} the {shop|store} called?|Who {is the seller|sells this|sold it}?"
    "|Where was it bought?|The shop, please.|Name the {shop|store}.",
    "customer": "{Who|Which customer} is it for?|{Read|Give|Copy|Find} the customer's name.|Customer?"
    "|Whose order is it?|{What is|What's} the customer's name?|Who {is the customer|bought it|gets it}?|To whom is it?"
    "|Name the customer.",
    "tracking": "{What|Which} tracking number{| is it| is shown}?|{Read|Give|Copy|Find} the tracking number.|Tracking?"
    "|{What is|What's} the {tracking|parcel} number?|How can it be tracked?|Which number tracks it?"
    "|The tracking number, please.|Tracking number?",
    "carrier": "{Which|What} carrier{| is it}?|{Read|Give|Find} the carrier's name.|Carrier?|Who {brings|delivers} it?"
    "|{What is|What's} the carrier?|Which parcel service?|The carrier, please.|Who ships it?",
    "count": "How many {items|products|things}{| are there| are listed| were bought}?|{Count|Number of} items{|.}"
    "|How many {lines|entries} have {a price|goods}?",
    "price": "{What|How much} {is|was} the <item>?|{Read|Give|Find} the price of the <item>.|Price of the <item>?"
    "|What does the <item> cost?|{How much for|How much does} the <item>{| cost}?|The price of the <item>, please."
    "|What is paid for the <item>?|What did the <item> cost?",
    "kind": "What {is this|kind of document is this|is shown|do you see}?|Which kind of {paper|document}?"
    "|Document type?|{Name|Tell} the kind of document.|Is it a receipt, an invoice, a screen or a label?"
    "|What sort of document is it?",
}
_TOLD = (("by", "carrier"), ("of", "shop"), ("for", "customer"), ("order", "order"), ("tracking", "tracking"),
         ("on", "date"), ("total", "total"))  # fmt: skip
_TRANSCRIBE = (
    "Read the text.|Read it.|Read all.|Write down the text.|What does it say?|Transcribe.|Copy the text.|Text?"
)
_JSON = "Order, date and total as JSON.|JSON: order, date, total.|Give order, date and total as JSON."
_WEIGHTS = {
    "order": 5, "date": 4, "total": 5, "shop": 2, "customer": 2, "tracking": 3, "carrier": 1,
    "price": 3, "count": 1, "kind": 1,
}  # fmt: skip
_ABSENT_WEIGHT = 0.35
"""Of a fact that is not there."""
_JSON_SHARE = 0.12


def documents(questions: Count = 3, transcribe: Share = 0.3, plain: bool = False) -> Draw:
    """A source of documents, each with a conversation about it.

    Args:
        questions: How many a conversation has, besides reading the whole text.
        transcribe: The share of conversations that begin with the whole text.
        plain: Documents are neither turned nor worn.
    """

    def draw(rng: random.Random) -> Sample:
        form = draw_form(rng)
        asked = [transcription(rng, form.text)] if rng.random() < transcribe else []
        asked += ask_some(rng, form, questions)
        return conversation(rng, asked, show(rng, form, plain=plain))

    return draw


def conversation(rng: random.Random, asked: list[tuple[str, str]], shown: Shown) -> Sample:
    """Questions and answers on one picture; now and then under the instructions of an agent that has no tools."""
    messages: list[Message] = [system(SYSTEM)] if rng.random() < 0.4 else []
    for index, (question, answer) in enumerate(asked):
        messages += [user(question, images=not index), assistant(answer)]
    return Sample(messages, pictures=[shown])


def transcription(rng: random.Random, text: str) -> tuple[str, str]:
    """To read all of a text."""
    return _say(rng, _TRANSCRIBE), text


def show(rng: random.Random, form: Form, *, plain: bool = False) -> Shown:
    """A document as a picture."""
    image, marks = draw_paper(rng, form, plain=plain)
    return Shown(image, marks, caption(form))


def caption(form: Form) -> str:
    """A sentence of at most 30 words that tells a document from others."""
    facts = form.facts
    told = [_with_article(form)]
    told += [f"{word} {facts[key]}" for word, key in _TOLD if key in facts]
    things = " and ".join(name for name, _ in form.items)
    return " ".join(told) + (f": {things}." if things else ".")


def ask(rng: random.Random, form: Form, field: str) -> tuple[str, str]:
    """A question about a document and its answer, word for word as printed.

    Args:
        rng: Draws the words.
        form: The document.
        field: A fact of `Form.facts`; or ``price`` of one of its items, ``count`` of items, ``kind``.
    """
    question = _say(rng, _ASKED[field])
    if field == "price":
        thing, price = _price(rng, form)
        return question.replace("<item>", thing), price
    if field == "count":
        return question, str(len(form.items)) if form.items else ABSENT
    if field == "kind":
        return question, f"{_with_article(form)}."
    return question, form.facts.get(field, ABSENT)


def ask_some(rng: random.Random, form: Form, count: int) -> list[tuple[str, str]]:
    """So many questions of different fields and their answers; now and then one for several fields as JSON."""
    fields = [field for field in _ASKED if field != "price" or len(form.items) > 1 or rng.random() < 0.7]
    weights = [_WEIGHTS[field] * (1 if _has(form, field) else _ABSENT_WEIGHT) for field in fields]
    asked = []
    for _ in range(min(count, len(fields))):
        index = rng.choices(range(len(fields)), weights)[0]
        asked.append(ask(rng, form, fields.pop(index)))
        weights.pop(index)
    if rng.random() < _JSON_SHARE:
        known = {field: form.facts.get(field) for field in ("order", "date", "total")}
        asked[-1] = _say(rng, _JSON), json.dumps(known, separators=(",", ":"))
    return asked


def _has(form: Form, field: str) -> bool:
    return bool(form.items) if field in ("price", "count") else field == "kind" or field in form.facts


def _say(rng: random.Random, alternatives: str) -> str:
    return expand(rng, "{" + alternatives + "}")


def _price(rng: random.Random, form: Form) -> tuple[str, str]:
    """A thing and its price; now and then one that is not on the document."""
    prices = {name.lower(): price for name, price in form.items}
    if not prices or rng.random() < 0.08:
        other = item(rng)
        return other, prices.get(other.lower(), ABSENT)
    name, price = rng.choice(form.items)
    return name if rng.random() < 0.5 else name.lower(), price


def _with_article(form: Form) -> str:
    name = NAMES[form.kind]
    return f"{'An' if name[0] in 'aeiou' else 'A'} {name}"
