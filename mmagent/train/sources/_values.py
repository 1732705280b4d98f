"""Values that people give to tools, and how they say them. It knows words and dice, no tools."""

from __future__ import annotations

import random
import string
from datetime import date, timedelta
from typing import Any

from mmagent.train.sources._names import word_lists

FIRST = ("Mara", "Jonas", "Aiko", "Pedro", "Lena", "Tarek", "Ines", "Oskar", "Priya", "Hugo", "Zoe", "Marek",
         "Nadia", "Elio", "Wren", "Ruth", "Caleb", "Yusuf", "Freya", "Ming", "Anna",
         "David", "Sofia", "Liam", "Emma")  # fmt: skip
LAST = ("Lindt", "Okafor", "Tanaka", "Silva", "Brandt", "Haddad", "Costa", "Nyberg", "Rao", "Martin", "Weiss",
        "Novak", "Petrov", "Moreau", "Chen", "Baker", "Quinn", "Diaz", "Holm", "Iyer")  # fmt: skip
PLACES = ("Paris", "New York", "Lagos", "Kyoto", "Vienna", "San Diego", "Oslo", "Lima", "Chicago", "Porto", "Hamburg",
          "Nairobi", "Toronto", "Los Angeles", "Seoul", "Austin", "Bergen", "Dublin", "Perth", "Quito", "Riga",
          "San Jose", "Boston", "Geneva", "Mumbai", "Leeds", "Atlanta", "Turin", "Sofia", "Phoenix")  # fmt: skip
STATES = ("open", "confirmed", "pending", "done", "on hold", "closed", "active", "late")
SMALL = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
          "December")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_SYLLABLES = ("ka", "lo", "mi", "ren", "dor", "tas", "vel", "qui", "bro", "shan", "pel", "ux", "gri", "zen", "fo",
              "nar", "thi", "wam", "jo", "el", "ist", "our", "am", "dex", "po")  # fmt: skip


class Values:
    """Draws values of a kind as ``(value, said)``: what the call has, and how the user says it.

    Args:
        rng: The dice.
        today: What ``tomorrow`` is counted from; None lets nobody say it.
    """

    def __init__(self, rng: random.Random, today: date | None = None) -> None:
        self._rng, self._today = rng, today

    def draw(self, kind: str, options: list[str] | None = None) -> tuple[Any, str]:
        """A value of one of the kinds of ``[labels]``, ``state``, or one of ``options``."""
        if options:
            value = self._rng.choice(options)
            return value, value
        said: tuple[Any, str] = getattr(self, f"_{kind}")()
        return said

    def nonsense(self) -> str:
        """A word that nobody knows."""
        return "".join(self._rng.choice(_SYLLABLES) for _ in range(self._rng.randint(2, 3)))

    def _same(self, value: str) -> tuple[str, str]:
        return value, value

    def _state(self) -> tuple[str, str]:
        return self._same(self._rng.choice(STATES))

    def _person(self) -> tuple[str, str]:
        if self._rng.random() < 0.25:
            return self._same(f"{self.nonsense().capitalize()} {self.nonsense().capitalize()}")
        return self._same(f"{self._rng.choice(FIRST)} {self._rng.choice(LAST)}")

    def _place(self) -> tuple[str, str]:
        return self._same(self.nonsense().capitalize() if self._rng.random() < 0.35 else self._rng.choice(PLACES))

    def _code(self) -> tuple[str, str]:
        rng = self._rng
        letters = "".join(rng.choices(string.ascii_uppercase, k=rng.randint(1, 3)))
        digits = "".join(rng.choices(string.digits, k=rng.randint(3, 6)))
        value = rng.choice((f"{letters}-{digits}", f"{letters}{digits}", digits, f"#{digits}", f"{digits}{letters}"))
        return self._same(value)

    def _date(self) -> tuple[str, str]:
        rng = self._rng
        if self._today is None:
            day = date(2024, 1, 1) + timedelta(rng.randrange(1500))
            month = MONTHS[day.month - 1]
            written = (day.isoformat(), day.isoformat(), f"{day.day} {month} {day.year}")
            return day.isoformat(), rng.choice((*written, f"{month} {day.day}, {day.year}"))
        ahead = rng.choice((0, 1, 1, rng.randint(2, 6), rng.randint(2, 6), rng.randint(7, 30)))
        day = self._today + timedelta(ahead)
        month, ending = MONTHS[day.month - 1], {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
        ending = "th" if 10 < day.day < 14 else ending
        spoken: tuple[str, ...] = (
            f"{month} {day.day}",
            f"the {day.day}{ending} of {month}",
            f"{month} {day.day}{ending}",
        )
        if ahead < 2:
            spoken = (*spoken, *(("today", "tomorrow")[ahead],) * 3)
        elif ahead < 7:
            weekday = DAYS[day.weekday()]
            spoken = (*spoken, weekday, f"this {weekday}", f"in {ahead} days")
        return day.isoformat(), rng.choice(spoken)

    def _clock(self) -> tuple[str, str]:
        hour, minute = self._rng.randrange(24), self._rng.choice((0, 0, 15, 30, 45))
        half, spoken = "am" if hour < 12 else "pm", hour % 12 or 12
        value = f"{hour:02}:{minute:02}"
        twelve = f"{spoken}:{minute:02} {half}" if minute else self._rng.choice((f"{spoken} {half}", f"{spoken}{half}"))
        return value, self._rng.choice((value, twelve, twelve))

    def _count(self) -> tuple[int, str]:
        value = self._rng.choice((self._rng.randint(1, 10), self._rng.randint(1, 10), self._rng.randint(11, 400)))
        return value, SMALL[value - 1] if value <= 10 and self._rng.random() < 0.5 else str(value)

    def _amount(self) -> tuple[float, str]:
        value = self._rng.randint(10, 9999) / self._rng.choice((2, 4, 10, 10))
        value = round(value, 2)
        return value, f"{value:g}"

    def _title(self) -> tuple[str, str]:
        rng, nouns = self._rng, list(word_lists()["nouns"])
        words = [rng.choice(nouns).replace("_", " ") if rng.random() < 0.6 else self.nonsense() for _ in range(2)]
        value = " ".join(words[: rng.randint(1, 2)])
        return value, rng.choice((f'"{value}"', f"'{value}'", f'"{value}"', value))

    def _mail(self) -> tuple[str, str]:
        host = f"{self.nonsense()}.{self._rng.choice(('com', 'org', 'net', 'io'))}"
        return self._same(f"{self._rng.choice(FIRST).lower()}.{self._rng.choice(LAST).lower()}@{host}")
