"""Questions answered from passages that a search returned, quoted word for word. It knows XQuAD's files, no index.

The set is Artetxe et al. 2019 (arXiv:1910.11856): 36 articles with questions in the form of SQuAD, in 12 languages.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mmagent.errors import InputError, NotFound
from mmagent.train.sample import Count, Draw, Message, Sample, Share, assistant, result, system, user
from mmagent.train.shop.episodes import SYSTEM, TOOLS

HELD_OUT = 8
"""How many articles at the end of the file are kept for evaluation."""
NOT_SAID = "The documents do not say."
"""What is said where no passage has the answer."""
_SEARCH = "search_knowledge"
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[^a-z\s])|(?<=[。！？।])\s*")
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "what which who whom whose when where why how many much did does do is are was were be been the a an of in on "
        "at to for by with from and or that this it its as has had have long kind type name",
    )
)
"""Words that no search needs."""


@dataclass(frozen=True)
class Question:
    """A question, and where its paragraph answers it."""

    text: str
    answer: str
    start: int
    """Where the answer begins, in characters of the paragraph."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph of an article, with its questions."""

    title: str
    text: str
    questions: tuple[Question, ...]


def xquad(
    path: str = "../shared/data/text_xquad",
    language: str = "en",
    held_out: bool = False,
    unanswerable: Share = 0.25,
    sentences: Count = 2,
) -> Draw:
    """A search, passages, and answers that quote them with their mark; further questions on the same passages follow.

    Args:
        path: The folder with ``xquad.LANGUAGE.json``.
        language: Of passages and questions: en, de, es, zh ...
        held_out: Whether to draw from the last `HELD_OUT` articles, rather than from all but these.
        unanswerable: Share of questions for which no passage is there.
        sentences: How long a passage is, in sentences.

    Raises:
        NotFound: There is no file of that language in the folder.
        InputError: The file is not in the form of SQuAD.
    """
    articles = read_articles(path, language)
    articles = articles[-HELD_OUT:] if held_out else articles[:-HELD_OUT]
    paragraphs = [paragraph for article in articles for paragraph in article if paragraph.questions]
    if len(paragraphs) < 2:
        raise InputError(
            f"xquad: {path} has too few articles in {language!r}; name another folder with the option path"
        )

    def draw(rng: random.Random) -> Sample:
        paragraph, *others = rng.sample(paragraphs, rng.randint(2, 3))
        asked = list(rng.sample(paragraph.questions, min(6, len(paragraph.questions))))
        passage = window(rng, paragraph.text, asked[0], sentences)
        shown = [(other.title, window(rng, other.text, rng.choice(other.questions), sentences)) for other in others]
        if rng.random() < unanswerable:
            passage = ""
        else:
            shown[0] = paragraph.title, passage
        rng.shuffle(shown)
        begins = paragraph.text.find(passage)
        rest = [q for q in asked[1:] if begins <= q.start and q.start + len(q.answer) <= begins + len(passage)]
        return Sample(_dialogue([asked[0], *rest[:3]], shown, passage), _tools(rng))

    return draw


def read_articles(path: str, language: str) -> list[list[Paragraph]]:
    """The paragraphs of each article.

    Raises:
        NotFound: There is no file of that language in the folder.
        InputError: The file is not in the form of SQuAD.
    """
    file = Path(path) / f"xquad.{language}.json"
    if not file.is_file():
        raise NotFound(f"xquad: there is no file {file}; set the options path and language to one that is there")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))["data"]
        return [[_paragraph(article, part) for part in article["paragraphs"]] for article in data]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise InputError(f"xquad: {file} is not in the form of SQuAD ({error!r}); name another folder") from error


def window(rng: random.Random, text: str, question: Question, sentences: int) -> str:
    """The sentence that answers a question, with those around it, cut at sentences."""
    edges = [0, *(match.end() for match in _SENTENCE.finditer(text)), len(text)]
    spans = list(pairwise(edges))
    end = question.start + len(question.answer)
    first = next(i for i, (_, stop) in enumerate(spans) if stop > question.start)
    last = next(i for i, (_, stop) in enumerate(spans) if stop >= end)
    for _ in range(max(0, sentences - (last - first + 1))):
        if first > 0 and (last == len(spans) - 1 or rng.random() < 0.5):
            first -= 1
        elif last < len(spans) - 1:
            last += 1
    return text[spans[first][0] : spans[last][1]].strip()


def query(question: str) -> str:
    """The words of a question that a search needs."""
    words = [word for word in re.findall(r"[^\s?¿？]+", question) if word.lower() not in _EMPTY]
    return " ".join(words[:6]) or question


def _paragraph(article: dict[str, Any], part: dict[str, Any]) -> Paragraph:
    text = part["context"]
    questions = [
        Question(qa["question"].strip(), answer["text"].rstrip(" .,;") or answer["text"], answer["answer_start"])
        for qa in part["qas"]
        for answer in qa["answers"][:1]
        if answer["text"] and text.startswith(answer["text"], answer["answer_start"])
    ]
    title = article.get("title") or " ".join(text.split()[:3]).strip(",.")
    return Paragraph(title.replace("_", " "), text, tuple(questions))


def _dialogue(asked: list[Question], shown: list[tuple[str, str]], passage: str) -> list[Message]:
    """The first question with its search, then the others without one."""
    first, *rest = asked
    passages = "\n".join(f"[{number}] {title}\n{text}" for number, (title, text) in enumerate(shown, 1))
    mark = next((f"[{number}]" for number, (_, text) in enumerate(shown, 1) if text == passage), "")
    messages = [system(SYSTEM), user(first.text), assistant("", (_SEARCH, {"query": query(first.text)}))]
    messages += [result(_SEARCH, passages), assistant(f"{first.answer} {mark}" if mark else NOT_SAID)]
    for question in rest if mark else ():
        messages += [user(question.text), assistant(f"{question.answer} {mark}")]
    return messages


def _tools(rng: random.Random) -> list[dict[str, Any]]:
    """The search with none to three others."""
    search = next(tool for tool in TOOLS if tool["function"]["name"] == _SEARCH)
    others = [tool for tool in TOOLS if tool is not search]
    tools = [search, *rng.sample(others, rng.randint(0, 3))]
    rng.shuffle(tools)
    return tools
