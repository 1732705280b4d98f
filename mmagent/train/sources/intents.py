"""Customers' requests, answered by the choice of a tool named after their intent. It knows BANKING77's and CLINC150's
files, no model.

The sets are Casanueva et al. 2020 (arXiv:2003.04807) and Larson et al. 2019 (arXiv:1909.02027).
"""

from __future__ import annotations

import csv
import json
import random
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.train.sample import Count, Draw, OnBadRow, Sample, Tool, assistant, result, system, user
from mmagent.train.shop.episodes import SYSTEM, signature
from mmagent.train.sources.toolsets import NO_TOOL

Requests: TypeAlias = dict[str, list[str]]
"""Intent → what people say who have it."""
OUT_OF_SCOPE = "oos"
"""CLINC150's name for requests that no intent fits."""


def intents(
    path: str = "../shared/data/intents_banking77/train.csv",
    clinc: str = "../shared/data/intents_clinc150/data_full.json",
    max_tools: Annotated[int, Field(ge=4, le=40)] = 8,
    max_requests: Count = 4,
    on_bad_row: OnBadRow = "stop",
) -> Draw:
    """Several requests in one conversation, with four to eight intents as tools without parameters.

    Args:
        path: BANKING77's table with the columns ``text`` and ``category``; empty leaves the set out.
        clinc: CLINC150's file, of which the ``train`` parts are taken; empty leaves the set out.
        max_tools: How many tools are offered at most, 4 or more.
        max_requests: How many requests a conversation has at most.
        on_bad_row: What to do with a row that is no request with its intent.

    Raises:
        NotFound: A file is not there.
        InputError: A row is no request with its intent.
        ConfigurationError: An option has no meaning.
    """
    if on_bad_row not in ("stop", "skip"):
        raise ConfigurationError(f"intents: on_bad_row is {on_bad_row!r}; set it to 'stop' or 'skip'")
    if not (path or clinc) or max_tools < 4 or max_requests < 1:
        raise ConfigurationError("intents: nothing to draw; give path or clinc, max_tools >= 4 and max_requests >= 1")
    sets: list[tuple[Requests, list[str]]] = []
    if path:
        sets.append((banking(path, on_bad_row), []))
    if clinc:
        known = clinc_part(clinc, "train", on_bad_row=on_bad_row)
        unknown = clinc_part(clinc, "oos_train", "clinc", on_bad_row)
        sets.append((known, unknown.get(OUT_OF_SCOPE, [])))

    def draw(rng: random.Random) -> Sample:
        requests, strange = rng.choice(sets)
        case = "camel" if rng.random() < 0.15 else "snake"
        offered = rng.sample(sorted(requests), rng.randint(4, max_tools))
        messages = [system(SYSTEM)]
        for number in range(rng.randint(2, max(2, max_requests))):
            if strange and rng.random() < 0.2:
                messages += [user(rng.choice(strange)), assistant(NO_TOOL)]
                continue
            intent = rng.choice(offered)
            name = tool_name(intent, case)
            messages += [user(rng.choice(requests[intent])), assistant("", (name, {}))]
            if number < max_requests - 1:
                messages += [result(name, "ok"), assistant("Done.")]
        return Sample(messages, offer(offered, case))

    return draw


def offer(names: Iterable[str], case: str = "snake") -> list[Tool]:
    """Intents as tools without parameters."""
    return [signature(tool_name(name, case), {}) for name in names]


def tool_name(intent: str, case: str = "snake") -> str:
    """An intent's name as a tool's: ``Refund_not_showing_up`` as ``refund_not_showing_up``."""
    name = re.sub(r"\W+", "_", intent).strip("_").lower()
    first, *rest = name.split("_")
    return name if case == "snake" else first + "".join(word.capitalize() for word in rest)


def banking(path: str, on_bad_row: str = "stop") -> Requests:
    """BANKING77's requests by intent.

    Raises:
        NotFound: The file is not there.
        InputError: A row has no text or no category (unless ``on_bad_row`` is ``skip``).
    """
    requests: Requests = {}
    with _there(path, "path").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for row in rows:
            text, intent = row.get("text"), row.get("category")
            if text and intent:
                requests.setdefault(intent, []).append(" ".join(text.split()))
            elif on_bad_row != "skip":
                place = f"{path} line {rows.line_num}"
                raise InputError(f"intents: {place} has no text or no category; mend it or set on_bad_row to 'skip'")
    return _some(requests, path)


def clinc_part(path: str, part: str, option: str = "clinc", on_bad_row: str = "stop") -> Requests:
    """The requests of a part of CLINC150 (``train``, ``test``, ``oos_test`` ...) by intent.

    Raises:
        NotFound: The file is not there.
        InputError: The file is no JSON with that part, or a row is no request with its intent.
    """
    file = _there(path, option)
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))[part]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"intents: {path} is no JSON with a list {part!r} ({error!r}); name another file") from error
    requests: Requests = {}
    for number, row in enumerate(rows, 1):
        if isinstance(row, list) and len(row) == 2 and all(isinstance(value, str) and value for value in row):
            requests.setdefault(row[1], []).append(row[0])
        elif on_bad_row != "skip":
            raise InputError(
                f"intents: {path} row {number} of {part} is no pair of texts; mend it or set on_bad_row to 'skip'"
            )
    return _some(requests, path)


def _some(requests: Requests, path: str) -> Requests:
    if not requests:
        raise InputError(f"intents: {path} has no request; name another file")
    return requests


def _there(path: str, option: str) -> Path:
    if not (file := Path(path)).is_file():
        raise NotFound(f"intents: there is no file {path}; name one with the option {option}")
    return file
