"""The retrieval benchmarks' own arithmetic."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ingest_kills import Folder, Words
from benchmarks.retrieval import Bars, missed, word_recall, words
from benchmarks.retrieval_speed import Given, clustered, times


def test_words_are_counted_without_markup() -> None:
    text = "# Title\n\n<!-- image -->\n\n| a\\_b | **A** |\n[link](http://x.example/a) &amp; <b>c</b> 1,200"
    assert words(text) == {"title": 1, "a": 2, "b": 1, "link": 1, "c": 1, "1": 1, "200": 1}


def test_word_recall_counts_each_word_as_often_as_it_is_wanted() -> None:
    assert word_recall("a b", "a a b c") == 1 / 2
    assert word_recall("b a a", "a b") == 1
    assert word_recall("a", "<!-- image -->") is None


def test_missed_bars() -> None:
    bars: Bars = {"a": (1.0, ">= 1"), "b": (0.9, ">= 1"), "c": (5.1, "<= 5"), "d": (5.0, "<= 5")}
    assert missed(bars) == ["b", "c"]


def test_vectors_are_seeded_and_of_length_1() -> None:
    made = clustered(20, 1)
    assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-6)
    assert np.array_equal(made, clustered(20, 1))
    assert not np.array_equal(made, clustered(20, 2))


def test_given_vectors_are_found_under_any_title() -> None:
    vectors = clustered(2, 1)
    given = Given(["one", "two"], vectors)
    assert np.array_equal(given.embed(["7\ntwo", "one"]), vectors[::-1])
    with pytest.raises(KeyError):
        given.embed(["three"])


def test_every_task_is_timed_in_every_round() -> None:
    seen: list[int] = []
    held = times({"a": seen.append}, 5)
    assert seen[-5:] == [0, 1, 2, 3, 4]
    assert set(held["a"]) == {"p50", "p95"}


def test_a_folder_changes_and_knows_its_words(tmp_path: Path) -> None:
    folder = Folder(tmp_path, random.Random(0))
    for number in range(40):
        folder.write(f"{number}.md")
    before = dict(folder.words)
    folder.change()
    there = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.md")}
    assert there == set(folder.words)
    assert len(folder.words) == 40
    assert set(before) - set(folder.words) and set(folder.words) - set(before)
    assert any(before[name] != word for name, word in folder.words.items() if name in before)
    assert all(word in (tmp_path / name).read_text() for name, word in folder.words.items())


def test_words_tell_documents_apart() -> None:
    names = [f"w{number}" for number in range(300)]
    vectors = Words().embed([f"this is part 1 of {name} rest rest" for name in names])
    asked = Words().embed(names)
    assert list((asked @ vectors.T).argmax(1)) == list(range(300))
