"""What customers say, as it is spoken and as it is written down. It knows no sound.

Written, a number is digits, what is spelled has no spaces, and an order number of one or two letters and then digits
has a dash between them, whether one was said or not.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_NAMES = (
    "eh", "bee", "see", "dee", "ee", "ef", "gee", "aitch", "eye", "jay", "kay", "ell", "em", "en", "oh", "pee",
    "cue", "are", "ess", "tee", "you", "vee", "double-you", "ex", "why", "zee",
)  # fmt: skip
LETTERS = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", _NAMES, strict=True))
"""The names of letters, spelled so that voices say them as such."""
ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = (
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
)  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
_TH = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth"}
_TH |= {"twelve": "twelfth"}
THINGS = (
    "lamp", "kettle", "toaster", "jacket", "backpack", "headphones", "keyboard", "mouse", "monitor", "camera",
    "speaker", "phone", "tablet", "charger", "chair", "table", "desk", "sofa", "mattress", "blender", "mixer",
    "coffee machine", "vacuum cleaner", "fan", "heater", "blanket", "pillow", "shirt", "shoes", "boots", "watch",
    "bicycle", "helmet", "tent", "umbrella", "book", "mug", "knife", "pan", "router",
)  # fmt: skip
_COINS = {"€": ("euros", "cents"), "$": ("dollars", "cents"), "£": ("pounds", "pence")}
SPELLED = re.compile(r"\S*[0-9]\S*|\b[A-Z]{2,}\b")
"""What is written letter by letter."""
_DASHED = re.compile(r"([A-Z]{1,2})([0-9]{3,8})")
_PLAIN = "ABCDEFGHJKLMNPQRSTUVWXYZ"
"""Letters of codes; O would be heard as 0."""


@dataclass(frozen=True)
class Said:
    """Words as a voice is to say them, and as they are written."""

    spoken: str
    written: str

    def __add__(self, other: Said) -> Said:
        return Said(f"{self.spoken} {other.spoken}", f"{self.written} {other.written}")


def spelled(characters: str, rng: random.Random) -> Said:
    """Letters and digits, one by one; sometimes a zero is an oh, and twice the same digit is double."""
    names: list[str] = []
    digits = characters.isdigit()
    oh, doubled = digits and rng.random() < 0.2, digits and rng.random() < 0.15
    place = 0
    while place < len(characters):
        character = characters[place]
        name = LETTERS.get(character) or ("oh" if character == "0" and oh else ONES[int(character)])
        if character == "Z" and rng.random() < 0.5:
            name = "zed"
        if doubled and characters[place : place + 2] == 2 * character:
            name, place = f"double {name}", place + 1
        names.append(name)
        place += 1
        if place < len(characters) and rng.random() < 0.12:
            names.append(",")
    written = characters
    if (match := _DASHED.fullmatch(characters)) is not None:
        written = f"{match[1]}-{match[2]}"
        if rng.random() < 0.25:
            names.insert(1 if len(match[1]) == 1 else len(names) - len(match[2]), "dash")
    return Said(" ".join(names).replace(" ,", ","), written)


def order_number(rng: random.Random) -> str:
    """One or two letters and four to six digits; mostly one and five, as in the shop."""
    shape = rng.choices(((1, 5), (1, 4), (1, 6), (2, 4), (2, 5), (2, 6)), (6, 2, 2, 2, 2, 1))[0]
    return "".join(rng.choices(_PLAIN, k=shape[0]) + rng.choices("0123456789", k=shape[1]))


def code(rng: random.Random) -> str:
    """Letters and digits in no order, four to eight."""
    while True:
        made = "".join(rng.choice(_PLAIN if rng.random() < 0.5 else "0123456789") for _ in range(rng.randint(4, 8)))
        if not made.isdigit() and not made.isalpha() and not _DASHED.fullmatch(made):
            return made


def cardinal(number: int) -> str:
    """A number below 10,000 in words."""
    if number < 20:
        return ONES[number]
    if number < 100:
        return TENS[number // 10] + (f" {ONES[number % 10]}" if number % 10 else "")
    if number < 1000:
        return f"{ONES[number // 100]} hundred" + (f" and {cardinal(number % 100)}" if number % 100 else "")
    return f"{cardinal(number // 1000)} thousand" + (f" {cardinal(number % 1000)}" if number % 1000 else "")


def ordinal(number: int) -> str:
    """The day of a month in words."""
    *head, last = cardinal(number).split()
    return " ".join([*head, _TH.get(last) or (f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th")])


def amount(rng: random.Random) -> Said:
    """A price."""
    sign = rng.choice("€€$£")
    coin, small = _COINS[sign]
    whole = rng.choice((rng.randint(1, 99), rng.randint(2, 99), rng.randint(100, 999)))
    coin = coin.removesuffix("s") if whole == 1 else coin
    if rng.random() < 0.3:
        return Said(f"{cardinal(whole)} {coin}", f"{sign}{whole}")
    part = rng.choice((99, 95, 50, 90, rng.randint(1, 99)))
    least = f"oh {cardinal(part)}" if part < 10 else cardinal(part)
    spoken = rng.choice((f"{coin} {least}", f"{coin} and {cardinal(part)} {small}"))
    return Said(f"{cardinal(whole)} {spoken}", f"{sign}{whole}.{part:02}")


def date(rng: random.Random) -> Said:
    """A day, sometimes with its year."""
    month, day = rng.choice(MONTHS), rng.randint(1, 31)
    spoken, written = rng.choice(
        (
            (f"the {ordinal(day)} of {month}", f"{day} {month}"),
            (f"{ordinal(day)} {month}", f"{day} {month}"),
            (f"{month} {ordinal(day)}", f"{month} {day}"),
        )
    )
    if rng.random() < 0.25:
        year = rng.randint(20, 29)
        return Said(f"{spoken}, twenty {cardinal(year)}", f"{written} 20{year}")
    return Said(spoken, written)


def count(rng: random.Random) -> Said:
    """How many."""
    number = rng.choice((rng.randint(1, 12), rng.randint(1, 99)))
    return Said(cardinal(number), str(number))


def thing(rng: random.Random) -> Said:
    """Something that is sold."""
    name = rng.choice(THINGS)
    return Said(name, name)


_SLOTS: dict[str, Callable[[random.Random], Said]] = {
    "order": lambda rng: spelled(order_number(rng), rng),
    "code": lambda rng: spelled(code(rng), rng),
    "digits": lambda rng: spelled("".join(rng.choices("0123456789", k=rng.randint(4, 9))), rng),
    "amount": amount,
    "date": date,
    "count": count,
    "thing": thing,
}


@lru_cache(maxsize=2)
def _lines(name: str) -> tuple[str, ...]:
    return tuple(files("mmagent.train.speech").joinpath(name).read_text(encoding="utf-8").split("\n")[:-1])


def phrases() -> tuple[str, ...]:
    """Sentences that are said as they stand."""
    return _lines("phrases.txt")


def phrase(rng: random.Random) -> Said:
    """One of `phrases`."""
    text = rng.choice(phrases())
    return Said(text, text)


def sentence(rng: random.Random) -> Said:
    """A sentence with numbers, dates or things in it."""
    spoken = written = ""
    for part in re.split(r"(\{\w+\})", rng.choice(_lines("templates.txt"))):
        said = _SLOTS[part[1:-1]](rng) if part.startswith("{") else Said(part, part)
        spoken, written = spoken + said.spoken, written + said.written
    return Said(spoken, written)


def spelled_order(rng: random.Random) -> Said:
    """An order number alone, or another code or number."""
    return rng.choices((_SLOTS["order"], _SLOTS["code"], _SLOTS["digits"]), (5, 2, 3))[0](rng)


def single(rng: random.Random) -> Said:
    """One letter or digit."""
    return spelled(rng.choice(rng.choice(("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"))), rng)


def short(rng: random.Random) -> Said:
    """Two to four letters and digits."""
    letters, digits = rng.choice(((_PLAIN, ""), ("", "0123456789"), (_PLAIN, "0123456789")))
    return spelled("".join(rng.choices(letters + digits, k=rng.randint(2, 4))), rng)


def alone(rng: random.Random) -> Said:
    """An amount, a date or a number alone."""
    return rng.choice((amount, date, count, thing))(rng)


KINDS: dict[str, tuple[Callable[[random.Random], Said], float]] = {
    "phrase": (phrase, 0.32),
    "sentence": (sentence, 0.28),
    "order": (spelled_order, 0.26),
    "single": (single, 0.12),
    "short": (short, 0.05),
    "alone": (alone, 0.09),
}
"""What is said, and how often."""


def draw(rng: random.Random, kinds: Sequence[str] = tuple(KINDS)) -> Said:
    """Something that a customer says.

    Args:
        rng: The dice.
        kinds: Of `KINDS`, those that it may be.
    """
    makers, weights = zip(*(KINDS[kind] for kind in kinds), strict=True)
    return rng.choices(makers, weights)[0](rng)  # type: ignore[no-any-return]


def texts(rng: random.Random) -> Iterator[str]:
    """Written words without end, each as it follows others."""
    while True:
        yield f" {draw(rng).written}"
