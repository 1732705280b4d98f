"""What stands on receipts, invoices, order screens and parcel labels: knows words and numbers, not how they look."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mmagent.train.shop import phrases as p
from mmagent.train.shop.cases import order_id, tracking_number

Kind = Literal["receipt", "invoice", "screen", "label"]
Role = Literal["band", "head", "text", "strong", "small", "button", "rule", "bars"]
KINDS: tuple[Kind, ...] = ("receipt", "invoice", "screen", "label")
WIDEST = 26
"""Characters of a row."""
MOST = 10
"""Rows of a document that have words."""

_SYLLABLES = tuple(first + vowel for first in "bcdfghjklmnprstvwz" for vowel in ("a", "e", "i", "o", "u", "er", "an"))
_SIGNS: tuple[tuple[str, str], ...] = (("", ""), ("", ""), ("", " EUR"), ("", " EUR"), ("$", ""), ("EUR ", ""))
_SHOPS_END = ("Store", "Shop", "Market", "House", "& Co", "Goods", "Home", "Express", "Mart", "Outlet")
_ORDER = ("Order", "Order no", "Order no.", "Order number", "Order ID", "Order #", "Ref", "Ref.", "Reference", "No.")
_BILL = (*_ORDER, "Invoice", "Invoice no", "Inv no", "Inv #", "Bill no", "Document")
_TILL = (*_ORDER, "Receipt", "Receipt no", "Rcpt", "Trans", "Bill no", "Bon")
_DATE = ("Date", "Date", "Dated", "Day", "On", "Issued", "Printed", "")
_BOUGHT = ("Ordered", "Placed on", "Order date", "Date", "Bought on", "Placed", "")
_TOTAL = ("Total", "TOTAL", "Amount due", "Sum", "Grand total", "To pay", "Amount", "Balance due", "Total due")
_THANKS = ("Thank you!", "See you soon", "Come again", "Have a nice day", "Keep this receipt", "Goods sold as seen")
_BUTTONS = ("Track order", "Buy again", "Return items", "View details", "Contact us", "Download PDF", "OK")
_TO = ("To", "TO", "Ship to", "Deliver to", "Recipient", "Bill to", "Customer", "Sold to", "Name")
_TRACKING = ("Tracking", "TRACKING", "Tracking no", "Track", "Parcel", "Shipment", "Track ID")


@dataclass(frozen=True)
class Row:
    """A line of a document: words at its left and its right, or a thing without words."""

    left: str = ""
    right: str = ""
    role: Role = "text"

    @property
    def text(self) -> str:
        """The words of the line, as they are read."""
        return f"{self.left} {self.right}".strip()


@dataclass(frozen=True)
class Form:
    """A document before it is drawn."""

    kind: Kind
    facts: dict[str, str]
    """``order``, ``date``, ``total``, ``shop``, ``customer``, ``tracking``, ``carrier`` as printed; what is not printed
    is not here."""
    items: tuple[tuple[str, str], ...]
    """Names and prices, as printed; a parcel label has none."""
    rows: tuple[Row, ...]

    @property
    def text(self) -> str:
        """The words from top to bottom, a line each."""
        return "\n".join(row.text for row in self.rows if row.text)


def draw_form(rng: random.Random, kind: Kind | None = None) -> Form:
    """A document with its facts, at random; each of number, date and total is missing now and then."""
    chosen = kind or rng.choices(KINDS, (4, 3, 3, 2))[0]
    while True:
        form = _drawn(rng, chosen)
        if sum(bool(row.text) for row in form.rows) <= MOST:
            return form


def _drawn(rng: random.Random, kind: Kind) -> Form:
    facts = {"shop": _shop(rng), "order": order_id(rng), "date": _date(rng)}
    for name in ("order", "date"):
        if rng.random() < 0.06:
            facts.pop(name)
    before, after = rng.choice(_SIGNS)
    comma = after == " EUR" and rng.random() < 0.4

    def money(amount: float) -> str:
        return before + f"{amount:.2f}".replace(".", "," if comma else ".") + after

    items = () if kind == "label" else _items(rng, money)
    rows = _FORMS[kind](rng, facts, items, money)
    if rng.random() < 0.15:
        facts, items, rows = _upper(facts, items, rows)
    return Form(kind, facts, tuple((name, price) for name, price, _ in items), tuple(rows))


_Items = tuple[tuple[str, str, float], ...]
_Money = Callable[[float], str]


def _shop(rng: random.Random) -> str:
    if rng.random() < 0.4:
        return rng.choice(p.SHOPS)
    first = _made_up(rng) if rng.random() < 0.5 else rng.choice(p.CITIES + p.LAST_NAMES)
    return f"{first} {rng.choice(_SHOPS_END)}"


def _made_up(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 3))).capitalize()


def _customer(rng: random.Random) -> str:
    first = rng.choice(p.FIRST_NAMES) if rng.random() < 0.6 else _made_up(rng)
    last = rng.choice(p.LAST_NAMES) if rng.random() < 0.6 else _made_up(rng)
    return f"{first} {last}"


def _date(rng: random.Random) -> str:
    day, month, year = rng.randint(1, 28), rng.randint(1, 12), rng.randint(2018, 2031)
    name = p.MONTHS[month - 1]
    return rng.choice(
        (
            f"{year}-{month:02}-{day:02}",
            f"{day} {name} {year}",
            f"{day:02}.{month:02}.{year}",
            f"{day:02}/{month:02}/{year}",
            f"{name} {day}, {year}",
            f"{day:02}-{month:02}-{year}",
            f"{day}.{month}.{year % 100}",
            f"{day:02}/{month:02}/{year % 100}",
            f"{day} {name.upper()} {year}",
        )
    )


def _items(rng: random.Random, money: _Money) -> _Items:
    names: list[str] = []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        name = p.item(rng)
        if name not in names:
            names.append(name)
    style = rng.choice((str, str, str.capitalize, str.title))
    amounts = [float(p.price(rng).split()[0]) for _ in names]
    return tuple((style(name), money(amount), amount) for name, amount in zip(names, amounts, strict=True))


def _pair(label: str, value: str, stacked: bool = False, role: Role = "text") -> list[Row]:
    """A label and its value on one row; on two if wanted, or where one is too short."""
    if not label:
        return [Row(value, role=role)]
    if stacked or len(label) + len(value) + 1 > WIDEST:
        return [Row(label, role="small"), Row(value, role=role)]
    return [Row(label, value, role)]


def _number_and_date(
    rng: random.Random, facts: dict[str, str], numbers: tuple[str, ...], dates: tuple[str, ...], stacked: float = 0.15
) -> list[Row]:
    """Order number and date, in either order, beside or above each other."""
    ending = rng.choice(("", "", ":"))
    stack = rng.random() < stacked
    number, date = rng.choice(numbers), rng.choice(dates)
    blocks: list[list[Row]] = []
    if order := facts.get("order"):
        label = number + ending if number[-1] not in ".#" else number
        if rng.random() < 0.1:
            blocks.append([Row(f"{rng.choice(('#', 'Order #', 'No. ', 'Ref '))}{order}")])
        else:
            blocks.append(_pair(label, order, stack))
    if day := facts.get("date"):
        clock = f"{rng.randint(8, 20):02}:{rng.randint(0, 59):02}"
        if rng.random() < 0.1:
            blocks.append([Row(day, clock)])
        else:
            blocks.append(_pair(date + ending if date else "", day, stack and rng.random() < 0.5))
    if rng.random() < 0.35:
        blocks.reverse()
    if len(blocks) == 2 and rng.random() < 0.12:
        return [Row(facts["order"], facts["date"])]
    return [row for block in blocks for row in block]


def _sums(rng: random.Random, facts: dict[str, str], items: _Items, money: _Money) -> tuple[list[Row], list[Row]]:
    """The rows up to the total, and those after it that look like it; none where the total is missing."""
    if rng.random() < 0.06:
        return [], []
    amount = sum(price for _, _, price in items)
    before: list[Row] = []
    draw = rng.random()
    if draw < 0.2:
        extra = rng.choice((2.95, 3.9, 4.5, 4.99, 5.0, 6.9))
        before = [Row(rng.choice(("Shipping", "Delivery", "Postage", "Service")), money(extra))]
        if rng.random() < 0.5:
            before.insert(0, Row(rng.choice(("Subtotal", "Items", "Net")), money(amount)))
        amount += extra
    elif draw < 0.3:
        before = [Row(rng.choice(("Tax", "VAT", "Incl. tax")), money(amount * rng.choice((0.07, 0.1, 0.2))))]
    facts["total"] = money(amount)
    label = rng.choice(_TOTAL)
    if facts["total"][0].isdigit() and facts["total"][-1].isdigit() and rng.random() < 0.3:
        label = rng.choice(("Total EUR", "TOTAL EUR", "Sum EUR", "Total USD"))
    rows = [*before, *_pair(label + rng.choice(("", "", ":")), facts["total"], role=rng.choice(("text", "strong")))]
    if rng.random() < 0.12:
        paid = amount + rng.choice((0, 1, 5, 10))
        return rows, [Row(rng.choice(("Cash", "Card", "Paid")), money(paid))]
    return rows, []


def _bought(rng: random.Random, items: _Items) -> list[Row]:
    below = rng.random() < 0.08  # each price below its item
    return [row for name, price, _ in items for row in ([Row(name), Row(price)] if below else _pair(name, price))]


def _fitted(needed: list[Row], wanted: list[tuple[int, Row]]) -> list[Row]:
    """The rows with as many of the wanted ones, each put in at its place from the end, as there is room for."""
    rows = list(needed)
    for place, row in sorted(wanted, key=lambda pair: -pair[0]):
        if sum(bool(one.text) for one in rows) < MOST or not row.text:
            rows.insert(place if place >= 0 else len(rows) + 1 + place, row)
    return rows


def _receipt(rng: random.Random, facts: dict[str, str], items: _Items, money: _Money) -> list[Row]:
    head = [Row(facts["shop"], role="head")]
    middle = _number_and_date(rng, facts, _TILL, _DATE)
    until, after = _sums(rng, facts, items, money)
    rule, bought = Row(role="rule"), _bought(rng, items)
    body = [*bought, rule, *until, *after, rule, *middle] if rng.random() < 0.2 else []
    body = body or [*middle, rule, *bought, rule, *until, *after]
    wanted: list[tuple[int, Row]] = []
    if rng.random() < 0.3:
        wanted.append((1, Row(f"{rng.randint(1, 199)} {rng.choice(p.STREETS)}", role="small")))
    if rng.random() < 0.15:
        wanted.append((1, Row(rng.choice((f"Tel {rng.randint(10**6, 10**8)}", f"Till {rng.randint(1, 9)}")))))
    if rng.random() < 0.12:
        wanted.append((0, Row(rng.choice(("RECEIPT", "Sales receipt", "CASH RECEIPT")), role="small")))
    if rng.random() < 0.5:
        wanted.append((-1, Row(rng.choice(_THANKS), role="small")))
    if rng.random() < 0.3:
        wanted.append((-1, Row(role="bars")))
    return _fitted([*head, rule, *body], wanted)


def _invoice(rng: random.Random, facts: dict[str, str], items: _Items, money: _Money) -> list[Row]:
    title = Row(rng.choice(("INVOICE", "Invoice", "Bill", "TAX INVOICE")), role="head")
    shop = Row(facts["shop"], role=rng.choice(("text", "strong")))
    head = [title, shop] if rng.random() < 0.6 else [Row(facts["shop"], role="head"), Row(title.left, role="strong")]
    middle = _number_and_date(rng, facts, _BILL, _DATE)
    until, after = _sums(rng, facts, items, money)
    rule, bought = Row(role="rule"), _bought(rng, items)
    rows = [*head, rule, *middle]
    if len(head + middle + bought + until + after) < MOST and rng.random() < 0.75:
        facts["customer"] = _customer(rng)
        named = _pair(rng.choice(_TO), facts["customer"])
        rows = [*rows, *named] if rng.random() < 0.6 else [*head, rule, *named, *middle]
    wanted = []
    if rng.random() < 0.3:
        wanted.append((len(rows) + 1, Row(rng.choice(("Item", "Product", "Goods")), rng.choice(("Price", "Amount")))))
    if rng.random() < 0.2:
        wanted.append((-1, Row(rng.choice(("Due in 14 days", "Pay within 30 days", "Thank you!")), role="small")))
    return _fitted([*rows, rule, *bought, rule, *until, *after], wanted)


def _screen(rng: random.Random, facts: dict[str, str], items: _Items, money: _Money) -> list[Row]:
    told = rng.choice(
        ("Order placed", "Your order", "Order confirmed", "Thanks!", "On its way", "Delivered", "Details")
    )
    head = [Row(facts["shop"], role="band"), Row(told, role="strong")]
    middle = _number_and_date(rng, facts, _ORDER, _BOUGHT, 0.3)
    until, after = _sums(rng, facts, items, money)
    rule, bought = Row(role="rule"), _bought(rng, items)
    rows = [*head, rule, *middle, rule, *bought, rule, *until, *after]
    if rng.random() < 0.2:
        rows = [*head, rule, *bought, *until, *after, rule, *middle]
    if sum(bool(row.text) for row in rows) < MOST - 1 and rng.random() < 0.25:
        facts["customer"] = _customer(rng)
        rows[2:2] = _pair(rng.choice(("Hello", "Hi", "For", "Deliver to", "Customer")), facts["customer"])
    wanted = [(-1, Row(rng.choice(_BUTTONS), role="button"))] if rng.random() < 0.5 else []
    return _fitted(rows, wanted)


def _label(rng: random.Random, facts: dict[str, str], items: _Items, money: _Money) -> list[Row]:
    facts |= {"customer": _customer(rng), "carrier": rng.choice(p.CARRIERS)}
    if rng.random() < 0.25:
        facts["carrier"] = f"{_made_up(rng)} {rng.choice(('Parcel', 'Post', 'Express', 'Logistics'))}"
    rule = Row(role="rule")
    to = [
        Row(rng.choice(_TO[:5]), role="small"),
        Row(facts["customer"]),
        Row(f"{rng.randint(1, 199)} {rng.choice(p.STREETS)}"),
        Row(f"{rng.randint(1000, 99999)} {rng.choice(p.CITIES)}"),
    ]
    middle = _number_and_date(rng, facts, _ORDER[:9], ("Date", "Shipped", "Sent", "Posted", ""), 0)
    sender = [Row("From", facts["shop"])] if len(facts["shop"]) < 21 and rng.random() < 0.4 else []
    if not sender:
        facts.pop("shop")
    due: list[Row] = []
    if rng.random() < 0.6:
        facts["total"] = money(float(p.price(rng).split()[0]))
        due = _pair(rng.choice(("Total", "To pay", "Value", "COD", "Amount due", "Sum")), facts["total"])
    code: list[Row] = []
    if rng.random() < 0.9:
        facts["tracking"] = tracking_number(rng)
        code = [Row(role="bars"), *_pair(rng.choice(_TRACKING), facts["tracking"])]
    blocks = [to, middle + due] if rng.random() < 0.7 else [middle + due, to]
    body = [row for block in blocks for row in (*block, rule)]
    return [Row(facts["carrier"], role="band"), *sender, *body, *(code or [Row(role="bars")])]


_FORMS: dict[Kind, Callable[[random.Random, dict[str, str], _Items, _Money], list[Row]]] = {
    "receipt": _receipt,
    "invoice": _invoice,
    "screen": _screen,
    "label": _label,
}


def _upper(facts: dict[str, str], items: _Items, rows: list[Row]) -> tuple[dict[str, str], _Items, list[Row]]:
    return (
        {name: value.upper() for name, value in facts.items()},
        tuple((name.upper(), price, amount) for name, price, amount in items),
        [Row(row.left.upper(), row.right.upper(), row.role) for row in rows],
    )
