from __future__ import annotations

from typing import Any

import pytest

from mmagent.engine.grammar.compiled import Compiled, CompiledGrammars
from mmagent.errors import GrammarError


class Matcher:
    """Counts its copies."""

    def __init__(self) -> None:
        self.copies = 0

    def deep_copy(self) -> Matcher:
        self.copies += 1
        return Matcher()


def made(size: int, log: list[int]) -> Any:
    def compile() -> Compiled:
        log.append(size)
        return Compiled(Matcher(), True, size)

    return compile


def test_equal_keys_compile_once_and_share_no_state() -> None:
    kept, log = CompiledGrammars(), list[int]()
    one, two = kept.get("a", made(1, log)), kept.get("a", made(1, log))
    assert log == [1]
    assert one.matcher is not two.matcher and two.calls


def test_the_longest_unused_goes_when_the_text_is_too_much() -> None:
    kept, log = CompiledGrammars(), list[int]()
    for key in ("a", "b", "a", "c"):
        kept.get(key, made(900_000, log))
    assert len(log) == 3
    kept.get("a", made(1, log))
    assert len(log) == 3  # used after b was
    kept.get("b", made(900_000, log))
    assert len(log) == 4


def test_one_that_is_too_large_alone_is_kept_until_the_next() -> None:
    kept, log = CompiledGrammars(), list[int]()
    for key in ("a", "a", "b", "a"):
        kept.get(key, made(10_000_000, log))
    assert len(log) == 3


def test_a_failure_is_not_kept() -> None:
    kept, log = CompiledGrammars(), list[int]()

    def fail() -> Compiled:
        raise GrammarError("no")

    with pytest.raises(GrammarError):
        kept.get("a", fail)
    assert kept.get("a", made(1, log)).size == 1
