"""What a rule says of an argument: patterns with three answers. It knows values; it knows no tool, rule or model.

A pattern says yes, no, or None: it cannot tell. None is for values that are not what the pattern speaks of, and for
strings that would match only by a disguise: other letter case, look-alike or invisible characters, ``..`` in a path, a
second address beside the first. Whoever asks takes None the careful way.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from mmagent.errors import ConfigurationError

_LONGEST = 10_000
"""Characters of a string that patterns look at; of a longer one they cannot tell."""
_INVISIBLE = r"\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb"
_INVISIBLE += r"\U000e0000-\U000e01ef"
_UNPRINTED = rf"\x00-\x1f\x7f-\x9f\u2028\u2029{_INVISIBLE}"
_HIDDEN = re.compile(f"[{_INVISIBLE}]")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")
_CLIMBS = r"(?!.*(?:^|[/\\])\.\.(?:[/\\]|$))(?!.*%(?:2[eEfF]|5[cC]))"
"""A path with ``..`` in it, plain or in percent signs, leads elsewhere than it seems to."""


class Pattern(ABC):
    """A question about one value."""

    @abstractmethod
    def test(self, value: Any) -> bool | None:
        """Whether it is so; None: that cannot be told of this value."""

    @abstractmethod
    def __str__(self) -> str:
        """In words, to stand after "is"."""


PatternLike: TypeAlias = "Pattern | str | int | float | Decimal | None"
"""A pattern; a string is a glob, a number or a boolean that value, None nothing: null, or an empty list."""


@dataclass(frozen=True)
class _Text(Pattern):
    """Strings, by two expressions: one that must match for a yes, one that must not for a no."""

    source: str
    exact: re.Pattern[str] = field(repr=False)
    address: re.Pattern[str] = field(repr=False)
    """`exact` for an email address, where the case of ASCII letters does not count."""
    wide: re.Pattern[str] = field(repr=False)

    def test(self, value: Any) -> bool | None:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > _LONGEST:
            return None
        clean = plain(value)
        expression = self.address if _ADDRESS.fullmatch(value) else self.exact
        answers = {bool(expression.fullmatch(value)), *(bool(self.wide.fullmatch(one)) for one in (value, clean))}
        if answers == {False}:
            return False
        return True if answers == {True} and value == clean else None

    def __str__(self) -> str:
        return f"like {self.source!r}"


@dataclass(frozen=True)
class _Anything(Pattern):
    def test(self, value: Any) -> bool | None:
        return None if value is None else True

    def __str__(self) -> str:
        return "something"


@dataclass(frozen=True)
class _Nothing(Pattern):
    def test(self, value: Any) -> bool | None:
        return value is None

    def __str__(self) -> str:
        return "nothing"


@dataclass(frozen=True)
class _Equals(Pattern):
    value: int | float | Decimal

    def test(self, value: Any) -> bool | None:
        if isinstance(self.value, bool):
            return value is self.value if isinstance(value, bool) else None
        number = _number(plain(value) if isinstance(value, str) else value)
        if number is None:
            return False if isinstance(value, str) else None
        return number == _number(self.value)

    def __str__(self) -> str:
        return str(self.value)


@dataclass(frozen=True)
class _Range(Pattern):
    words: str
    low: Decimal | None
    high: Decimal | None
    inclusive: bool

    def test(self, value: Any) -> bool | None:
        number = _number(value)
        if number is None:
            return None
        if self.inclusive and number in (self.low, self.high):
            return True
        return (self.low is None or number > self.low) and (self.high is None or number < self.high)

    def __str__(self) -> str:
        return self.words


@dataclass(frozen=True)
class _OneOf(Pattern):
    patterns: tuple[Pattern, ...]

    def test(self, value: Any) -> bool | None:
        answers = {pattern.test(value) for pattern in self.patterns}
        return True if True in answers else None if None in answers else False

    def __str__(self) -> str:
        return " or ".join(map(str, self.patterns))


@dataclass(frozen=True)
class _Not(Pattern):
    pattern: Pattern

    def test(self, value: Any) -> bool | None:
        answer = self.pattern.test(value)
        return None if answer is None else not answer

    def __str__(self) -> str:
        return f"not {self.pattern}"


def one_of(*patterns: PatternLike) -> Pattern:
    """Any of these: ``one_of("*@shop.example", "*@corp.example")``, ``one_of(10, 20)``, ``one_of("A*", None)``."""
    if not patterns:
        raise ConfigurationError("one_of() and none_of() need at least one pattern")
    return _OneOf(tuple(map(as_pattern, patterns)))


def none_of(*patterns: PatternLike) -> Pattern:
    """None of these: ``deny("send_*", args={"to": none_of("*@shop.example")})``."""
    return _Not(one_of(*patterns))


def matching(expression: str) -> Pattern:
    """A regular expression that the whole string matches."""
    try:
        exact, wide = re.compile(expression), re.compile(expression, re.IGNORECASE)
        return _Text(expression, exact, re.compile(expression, re.IGNORECASE | re.ASCII), wide)
    except (re.error, TypeError, ValueError) as error:
        raise ConfigurationError(f"{expression!r} is no regular expression ({error}); correct it") from error


def not_matching(expression: str) -> Pattern:
    """A regular expression that the whole string does not match."""
    return _Not(matching(expression))


def over(number: float | Decimal) -> Pattern:
    """A number greater than this one."""
    return _Range(f"over {number}", _bound(number), None, inclusive=False)


def under(number: float | Decimal) -> Pattern:
    """A number less than this one."""
    return _Range(f"under {number}", None, _bound(number), inclusive=False)


def between(low: float | Decimal, high: float | Decimal) -> Pattern:
    """A number from ``low`` to ``high``, both included."""
    return _Range(f"between {low} and {high}", _bound(low), _bound(high), inclusive=True)


def as_pattern(value: PatternLike) -> Pattern:
    """What a value means as a pattern.

    Raises:
        ConfigurationError: It means nothing.
    """
    if isinstance(value, Pattern):
        return value
    if value is None:
        return _Nothing()
    if isinstance(value, str):
        return glob(value)
    if isinstance(value, bool) or _number(value) is not None:
        return _Equals(value)
    raise ConfigurationError(f"{value!r} is no pattern; give a string, a number, True, False, None, or over(100) ...")


def glob(source: str) -> Pattern:
    """A string in which ``?`` stands for one character and ``*`` for any.

    For a yes, ``*`` stands for no line breaks and nothing invisible; in a pattern with ``@``, for what one address may
    have there; in one with ``/``, for one step of the path, ``**`` for several. For a no, the string must not match
    even where ``*`` may be anything.
    """
    if not source.strip("*"):
        return _Anything() if source else _Text(source, *[re.compile("")] * 3)
    if "@" in source:
        one = rf"[^\s@,;:<>()\[\]\"'\\/{_UNPRINTED}]"
    elif "/" in source:
        one = rf"[^/\\?#@{_UNPRINTED}]"
    else:
        one = f"[^{_UNPRINTED}]"
    several = f"[^{_UNPRINTED}]" if "/" in source else one
    narrow = (_CLIMBS if "/" in source else "") + _translate(source, one, several)
    return _Text(
        source,
        re.compile(narrow, re.DOTALL),
        re.compile(narrow, re.DOTALL | re.IGNORECASE | re.ASCII),
        re.compile(_translate(source, ".", "."), re.DOTALL | re.IGNORECASE),
    )


def examine(pattern: Pattern, values: Sequence[Any]) -> tuple[bool, bool]:
    """Whether the pattern surely holds of all the values, and whether it may hold of any. Of no values: of null."""
    answers = [pattern.test(value) for value in values or [None]]
    return all(answer is True for answer in answers), any(answer is not False for answer in answers)


def plain(value: str) -> str:
    """A string in Unicode's NFKC form, in which look-alike forms of a character are one, without invisible ones."""
    return value if value.isascii() else _HIDDEN.sub("", unicodedata.normalize("NFKC", value))


def _translate(source: str, one: str, several: str) -> str:
    """A glob as a regular expression. All runs but the last take the first place that fits, so no string takes long."""
    literal, *rest = re.split(r"(\*+|\?)", source)
    expression = re.escape(literal)
    for index in range(0, len(rest), 2):
        wildcard, literal = rest[index], re.escape(rest[index + 1])
        run = several if len(wildcard) > 1 else one
        if wildcard == "?":
            expression += one + literal
        else:
            expression += f"(?>{run}*?{literal})" if "*" in "".join(rest[index + 2 :]) else f"{run}*{literal}"
    return expression


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str) or len(str(value)) > 100:
        return None
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _bound(value: Any) -> Decimal:
    number = None if isinstance(value, str) else _number(value)
    if number is None:
        raise ConfigurationError(f"over, under and between need a number, not {value!r}")
    return number
