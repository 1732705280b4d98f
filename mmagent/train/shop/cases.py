"""Cases of the shop world, drawn from a seed: what customers bring, what the shop's data and policies are."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from mmagent.train.draw.pictures import COLORS, PRODUCTS
from mmagent.train.shop import beyond
from mmagent.train.shop import phrases as p
from mmagent.train.shop.world import Case, Intent, Kind, Picture, Section, Turn, expansions, lacking


def draw_case(rng: random.Random, *, held_out: bool = False, more: int = 0) -> Case:
    """A case from ``rng``; ``held_out`` draws wordings that training never sees, ``more`` adds turns."""
    draw = _Drawer(rng, held_out)
    return draw.case(more)


INCOMPLETE: tuple[Intent, ...] = ("stock", "price", "look", "calculate")
"""What customers ask for without saying of what."""
PICTURE_INTENTS: tuple[Intent, ...] = ("return", "return", "return", "status", "look", "price")


def draw_picture(rng: random.Random, shelf: str) -> Picture:
    """A picture of a kind (``receipt``, ``label``, ``unrelated``) or of a ``color product``."""
    if shelf in ("receipt", "label"):
        drawer = _Drawer(rng, held_out=False)
        return drawer.picture(shelf, p.item(rng))  # type: ignore[arg-type]
    if shelf == "unrelated":
        return Picture("unrelated")
    color, product = shelf.split(" ", 1)
    return Picture("product", fields={"product": product, "color": color})


class _Drawer:
    def __init__(self, rng: random.Random, held_out: bool) -> None:
        self.rng, self.held_out = rng, held_out
        self.orders: dict[str, dict[str, Any]] = {}
        self.parcels: dict[str, dict[str, Any]] = {}
        self.products: dict[str, dict[str, Any]] = {}
        self.sections: list[Section] = []
        self.shop = rng.choice(p.SHOPS)
        self.window = rng.choice(p.RETURN_WINDOW.numbers)

    def say(self, template: str) -> str:
        return p.phrase(self.rng, template, self.held_out)

    def case(self, more: int) -> Case:
        rng = self.rng
        self.policies()
        turns = (*self.conversation(), *(self.next_turn() for _ in range(more)))
        for _ in range(rng.randint(1, 3)):  # orders that nobody asks about
            self.orders.setdefault(order_id(rng), self.order(p.item(rng)))
        for name in rng.sample(PRODUCTS, 4):
            self.products.setdefault(name, {"price": p.price(rng), "in_stock": rng.choice((0, 1, 2, 4, 7, 12, 30))})
        rng.shuffle(self.sections)
        return Case(self.shop, turns, self.orders, self.parcels, self.products, tuple(self.sections))

    def policies(self) -> None:
        rng = self.rng
        if rng.random() < 0.95:
            self.sections.append(self.section(replace(p.RETURN_WINDOW, numbers=(self.window,))))
        if rng.random() < 0.4:
            self.sections.append(self.section(p.EXCEPTIONS))
        for topic in rng.sample(p.TOPICS, rng.randint(6, 12)):
            self.sections.append(self.section(topic))

    def section(self, topic: p.Topic) -> Section:
        rng = self.rng
        heading = rng.choice(sorted(expansions(topic.headings)))
        answer = p.fill(rng, self.say(topic.says), topic.numbers)
        text = answer
        if rng.random() < 0.5:
            filler = self.say(p.SENTENCES["fillers"])
            text = f"{answer} {filler}" if rng.random() < 0.7 else f"{filler} {answer}"
        return Section(topic.document, heading, text, answer)

    def conversation(self) -> tuple[Turn, ...]:
        rng = self.rng
        first = self.turn()
        draw = rng.random()
        if first.intent in INCOMPLETE and lacking(first, first.intent) and draw < 0.6:
            return (first, self.completion(first))
        if self.asks_number(first) and draw < 0.5:
            return (first, self.completion(first))
        if draw < 0.06:
            return (self.small("greeting", p.SENTENCES["greeting"]), first)
        if draw < 0.12 and not self.asks_number(first):
            return (first, self.small("thanks", p.SENTENCES["thanks"]))
        if draw < 0.2 and not self.asks_number(first):
            return (first, self.policy())
        return (first,)

    @staticmethod
    def asks_number(turn: Turn) -> bool:
        wants = turn.intent in ("return", "status") and not turn.order and not turn.tracking
        return wants and (turn.picture is None or turn.picture.kind in ("product", "unrelated"))

    def turn(self) -> Turn:
        draw = self.rng.random()
        if draw < 0.42:
            return self.with_picture(self.rng.choice(PICTURE_INTENTS))
        if draw < 0.56:
            return self.with_number()
        if draw < 0.60:
            return self.nothing_given()
        if draw < 0.64:
            return self.incomplete()
        if draw < 0.82:
            return self.policy()
        if draw < 0.87:
            return self.stock()
        return self.other()

    def next_turn(self) -> Turn:
        """A turn that needs nothing of what was said before."""
        draw = self.rng.random()
        if draw < 0.2:
            return self.with_picture(self.rng.choice(PICTURE_INTENTS))
        if draw < 0.4:
            return self.with_number()
        if draw < 0.75:
            return self.policy()
        return self.stock() if draw < 0.87 else self.other()

    def other(self) -> Turn:
        draw = self.rng.random()
        if draw < 0.2:
            return self.small("elsewhere", p.SENTENCES["elsewhere"])
        if draw < 0.4:
            return self.beyond()
        if draw < 0.55:
            return self.sum()
        if draw < 0.66:
            return self.small("today", p.SENTENCES["ask_today"])
        if draw < 0.78:
            return self.small("about", p.SENTENCES["about_you"])
        if draw < 0.89:
            return self.small("greeting", p.SENTENCES["greeting"])
        return self.small("goodbye", p.SENTENCES["goodbye"])

    def beyond(self) -> Turn:
        kind = self.rng.choice(beyond.TEXT_KINDS)
        return Turn(beyond.question(self.rng, kind, held_out=self.held_out), "beyond", beyond=kind)

    def incomplete(self) -> Turn:
        """A question that lacks what it is about."""
        intent = self.rng.choice(INCOMPLETE)
        asked = {"stock": "ask_stock_open", "price": "ask_price", "look": "ask_look_open"}
        return Turn(self.dress(self.say(p.SENTENCES[asked.get(intent, "ask_calculate_open")])), intent)

    def small(self, intent: Intent, template: str) -> Turn:
        return Turn(self.say(template), intent)

    def sum(self) -> Turn:
        return self.sum_in(p.SENTENCES["ask_calculate"])

    def sum_in(self, template: str) -> Turn:
        rng = self.rng
        query = f"{rng.randint(2, 999)} {rng.choice('+-*/')} {rng.randint(2, 99)}"
        return Turn(self.say(template).replace("<sum>", query), "calculate", query=query)

    def ask(self, intent: Intent, item: str, *, named: bool) -> str:
        """The question, without greeting."""
        if intent == "return":
            shown = self.rng.choice((item, item.split()[-1])) if item else ""
            what = p.expand(self.rng, p.SENTENCES["named_object"] if named else p.SENTENCES["object"]).replace(
                "<item>", shown
            )
            return self.say(p.SENTENCES["ask_return"]).replace("<object>", what)
        template = {
            "status": p.SENTENCES["ask_status"],
            "look": p.SENTENCES["ask_look"],
            "price": p.SENTENCES["ask_price"],
        }[intent]
        return self.say(template).replace("<item>", item.split()[-1])

    def dress(self, text: str) -> str:
        rng = self.rng
        if rng.random() < 0.25:
            text = p.expand(rng, p.SENTENCES["opening"]) + text
        if rng.random() < 0.2:
            text += p.expand(rng, p.SENTENCES["closing"])
        if rng.random() < 0.15:
            text = text.lower()
        if rng.random() < 0.15:
            text = text.rstrip(".?!")
        return text

    def with_picture(self, intent: Intent) -> Turn:
        rng = self.rng
        kind: Kind = rng.choices(("receipt", "label", "product", "unrelated"), (5, 3, 2, 2))[0]
        item = p.item(rng)
        picture = self.picture(kind, item)
        text = self.dress(self.ask(intent, item, named=False))
        if intent == "look" and rng.random() < 0.15:
            text = ""
        return Turn(text, intent, picture)

    def picture(self, kind: Kind, item: str) -> Picture:
        if kind == "receipt":
            return self.receipt(item)
        if kind == "label":
            return self.label(item)
        if kind == "product":
            product = self.rng.choice(PRODUCTS)
            if self.rng.random() < 0.85:
                self.products[product] = {
                    "price": p.price(self.rng),
                    "in_stock": self.rng.choice((0, 1, 2, 3, 5, 8, 14, 25)),
                }
            return Picture("product", fields={"product": product, "color": self.rng.choice(sorted(COLORS))})
        return Picture("unrelated")

    def receipt(self, item: str) -> Picture:
        rng = self.rng
        code = order_id(rng) if rng.random() < 0.95 else ""
        if code and rng.random() < 0.9:
            self.orders[code] = self.order(item)
        names = [item, *(p.item(rng) for _ in range(rng.randint(0, 2)))]
        bought = [(name, p.price(rng).removesuffix(" EUR")) for name in names]
        total = f"{sum(float(price) for _, price in bought):.2f}"
        date = rng.choice(
            (
                f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
                f"{rng.randint(1, 28)} {rng.choice(p.MONTHS)} 2026",
            )
        )
        label = rng.choice(("Order", "Order no", "Order number", "Ref", "Order:"))
        fields = {"shop": self.shop, "order_id": code, "date": date, "lines": bought, "total": total, "label": label}
        head = [f"{label} {code}", f"Date {date}"] if code else [f"Date {date}"]
        if rng.random() < 0.4:
            head.reverse()
        rows = [self.shop, *head, *(f"{name} {price}" for name, price in bought)]
        rows.append(f"{rng.choice(('Total', 'TOTAL', 'Amount due', 'Sum', 'Total EUR'))} {total}")
        if rng.random() < 0.7:
            rows.append(
                rng.choice(
                    ("Thank you!", "Thanks for your visit", "See you soon", "Goods sold as seen", "Keep this receipt")
                )
            )
        return Picture("receipt", self.misread(rows, code), fields, code)

    def label(self, item: str) -> Picture:
        rng = self.rng
        code = tracking_number(rng)
        if rng.random() < 0.9:
            self.parcels[code] = self.order(item)
            self.parcels[code].pop("price")
        name = f"{rng.choice(p.FIRST_NAMES)} {rng.choice(p.LAST_NAMES)}"
        street = f"{rng.randint(1, 199)} {rng.choice(p.STREETS)}"
        town = f"{rng.randint(1000, 99999)} {rng.choice(p.CITIES)}"
        date = f"2026-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
        carrier = rng.choice(p.CARRIERS)
        fields = {"carrier": carrier, "tracking": code, "to": f"{name}\n{street}\n{town}", "date": date}
        rows = [f"{carrier} {date}", rng.choice(("TO", "Ship to", "Deliver to", "To")), name, street, town]
        rows.append(f"{rng.choice(('Tracking', 'TRACKING', 'Tracking no', 'Tracking:'))} {code}")
        return Picture("label", self.misread(rows, code), fields, code)

    def misread(self, rows: list[str], code: str) -> tuple[str, ...]:
        """OCR's small mistakes, anywhere but in the code."""
        rng = self.rng
        if rng.random() < 0.02:
            return ()
        out = []
        for row in rows:
            if code not in row or not code:
                if rng.random() < 0.05:
                    row = row.replace("O", "0", 1).replace("l", "1", 1)
                if rng.random() < 0.03:
                    row = row.replace(" ", "", 1)
            out.append(row)
        return tuple(out)

    def order(self, item: str) -> dict[str, Any]:
        rng = self.rng
        record: dict[str, Any] = {"item": item, "price": p.price(rng)}
        if rng.random() < 0.8:
            within = rng.random() < 0.55
            days = rng.randint(0, self.window) if within else self.window + rng.randint(1, 70)
            return record | {"status": "delivered", "days_since_delivery": days}
        return record | {
            "status": rng.choice(("shipped", "packed", "in transit", "delayed")),
            "arrives_in_days": rng.randint(1, 14),
        }

    def with_number(self) -> Turn:
        rng = self.rng
        intent: Intent = rng.choice(("return", "return", "status"))
        item = p.item(rng)
        text = self.ask(intent, item, named=True)
        if intent == "status" and rng.random() < 0.35:
            code = tracking_number(rng)
            if rng.random() < 0.85:
                self.parcels[code] = self.order(item)
                self.parcels[code].pop("price")
            return Turn(
                self.dress(text) + self.say(p.SENTENCES["have_tracking"]).replace("<id>", code), intent, tracking=code
            )
        code = order_id(rng)
        if rng.random() < 0.85:
            self.orders[code] = self.order(item)
        given = self.say(p.SENTENCES["have_order"]).replace("<id>", code)
        text = f"{given.strip()} {text}" if rng.random() < 0.2 else text + given
        return Turn(text if rng.random() < 0.8 else p.expand(rng, p.SENTENCES["opening"]) + text, intent, order=code)

    def nothing_given(self) -> Turn:
        intent: Intent = self.rng.choice(("return", "status"))
        return Turn(self.dress(self.ask(intent, p.item(self.rng), named=True)), intent)

    def completion(self, first: Turn) -> Turn:
        """What the first turn lacked: a number, a receipt, a product, a picture or a sum."""
        rng = self.rng
        item = p.item(rng)
        if first.intent == "calculate":
            return self.sum_in(p.SENTENCES["give_sum"])
        if first.intent == "look" or (first.intent in ("stock", "price") and rng.random() < 0.4):
            kind: Kind = "product" if first.intent != "look" else rng.choice(("product", "receipt", "label"))
            return Turn(self.say(p.SENTENCES["give_picture"]), "look", self.picture(kind, item))
        if first.intent in ("stock", "price"):
            return self.stock_of(item, p.SENTENCES["give_item"])
        if rng.random() < 0.4:
            kind = rng.choice(("receipt", "receipt", "label"))
            return Turn(self.say(p.SENTENCES["give_picture"]), first.intent, self.picture(kind, item))
        code = order_id(rng)
        if rng.random() < 0.85:
            self.orders[code] = self.order(item)
        return Turn(self.say(p.SENTENCES["give_order"]).replace("<id>", code), first.intent, order=code)

    def policy(self) -> Turn:
        rng = self.rng
        known = [t for t in (p.RETURN_WINDOW, p.EXCEPTIONS, *p.TOPICS) if any(
            s.document == t.document and s.heading in expansions(t.headings) for s in self.sections)]  # fmt: skip
        missing = [t for t in p.TOPICS if t not in known]
        topic = rng.choice(known) if rng.random() < 0.9 else rng.choice(missing)
        template = topic.asked
        if rng.random() < 0.15:
            template = p.SENTENCES["ask_topic"].replace("<heading>", p.expand(rng, topic.headings).lower())
        query = self.say(template)
        text = self.dress(query)
        kind: Kind = rng.choice(("receipt", "unrelated", "product"))
        picture = self.picture(kind, p.item(rng)) if rng.random() < 0.12 else None
        if query not in text:  # lower case, or without its last sign
            query = query.lower() if query.lower() in text else query.rstrip(".?!")
            query = query if query in text else query.lower()
        return Turn(text, "policy", picture, topic=topic, query=query)

    def stock(self) -> Turn:
        return self.stock_of(p.item(self.rng), p.SENTENCES["ask_stock"])

    def stock_of(self, item: str, template: str) -> Turn:
        rng = self.rng
        if rng.random() < 0.8:
            self.products[item] = {"price": p.price(rng), "in_stock": rng.choice((0, 1, 2, 3, 5, 8, 14, 25))}
        return Turn(self.say(template).replace("<item>", item), "stock", item=item)


def order_id(rng: random.Random) -> str:
    """An order number in one of several makes."""
    d = rng.randint
    letters = "ABCDEFGHKLMNPRTUVWXY"
    a, b, c = rng.choice(letters), rng.choice(letters), rng.choice(letters)
    makes = (
        f"{a}-{d(10000, 99999)}",
        f"{a}{b}-{d(1000, 9999)}",
        f"{a}{b}{c}{d(1000, 9999)}",
        f"2026-{d(1000, 9999)}",
        f"{d(10000, 999999)}",
        f"{a}{d(1, 9)}-{d(1000, 9999)}-{b}",
        f"{a}{b}-{d(100, 999)}-{d(10, 99)}",
    )
    return rng.choice(makes)


def tracking_number(rng: random.Random) -> str:
    """A tracking number in one of several makes."""
    d = rng.randint
    return rng.choice(
        (f"TRK-{d(1000, 9999)}-{d(100, 999)}", f"JD{d(10**9, 10**10 - 1)}", f"{d(1, 9)}Z{d(10**6, 10**7 - 1)}")
    )
