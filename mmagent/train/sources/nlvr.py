"""Sentences that are true or false of a picture of three boxes: NLVR's own and generated ones. It knows no network.

NLVR: Suhr et al., "A Corpus of Natural Language for Visual Reasoning", ACL 2017; github.com/lil-lab/nlvr (CC-BY-4.0).
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from mmagent.errors import InputError, NotFound
from mmagent.train.draw.blocks import BOX, NAMES, draw_boxes, item_marks
from mmagent.train.sample import Count, Draw, Message, OnBadRow, Sample, Share, Shown, assistant, user
from mmagent.train.sources.claim_forms import claim_that_is
from mmagent.train.sources.claims import Boxes, Item, color_of

ASK = ("True or false?", "True or false?", "Is that true?")
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
"""Of the boxes, in each of an example's six pictures; a test compares them with the files."""


def nlvr(path: str | None = None, real: Share = 0.35, questions: Count = 5, on_bad_row: OnBadRow = "stop") -> Draw:
    """Pictures of three boxes, with sentences that are true or false of them.

    Args:
        path: NLVR's folder, with ``dev.json`` and ``images``; None draws everything.
        real: With ``path``, the share of samples that are about a real picture and begin with a real sentence.
        questions: Sentences on each picture.
        on_bad_row: ``stop`` at rows that cannot be read, or ``skip`` them.

    Raises:
        NotFound: There is no such folder.
        InputError: A row cannot be read.
    """
    rows = read(Path(path), on_bad_row) if path else []

    def draw(rng: random.Random) -> Sample:
        if rows and rng.random() < real:
            row = rng.choice(rows)
            picture = rng.randrange(len(ORDERS))
            with Image.open(row["files"][picture]) as file:
                image = file.convert("RGB")
            boxes = [row["structured_rep"][index] for index in ORDERS[picture]]
            claims = [(str(row["sentence"]).strip(), row["label"] == "true")]
            return _sample(rng, boxes, Shown(image, item_marks(boxes), caption(boxes)), claims, questions)
        boxes = (
            [list(box) for box in rng.choice(rows)["structured_rep"]] if rows and rng.random() < 0.4 else invent(rng)
        )
        rng.shuffle(boxes)
        image, marks = draw_boxes(boxes)
        return _sample(rng, boxes, Shown(image, marks, caption(boxes)), [], questions)

    return draw


def _sample(rng: random.Random, boxes: Boxes, shown: Shown, claims: list[tuple[str, bool]], questions: int) -> Sample:
    while len(claims) < questions:
        wanted = rng.random() < 0.5
        claims.append((claim_that_is(rng, boxes, wanted), wanted))
    rounds = [(text, str(truth).lower()) for text, truth in claims]
    if rng.random() < 0.3:
        rounds.append(("Describe the boxes.", described(boxes)))
    rng.shuffle(rounds)
    messages: list[Message] = []
    for number, (text, answer) in enumerate(rounds):
        asked = text if text.startswith("Describe") else f"{text} {rng.choice(ASK)}"
        messages += [user(asked, images=number == 0), assistant(answer)]
    return Sample(messages, [], [shown])


def described(boxes: Boxes) -> str:
    """Each box's items, a tower from its base, other items from left to right."""
    return "; ".join(
        ", ".join(f"{color_of(item)} {item['type']}" for item in sorted(box, key=_order)) or "nothing" for box in boxes
    )


def _order(item: Item) -> tuple[int, int]:
    return int(item["x_loc"]), -int(item["y_loc"])


def caption(boxes: Boxes) -> str:
    """A sentence that tells this picture from others."""
    return f"three boxes: {described(boxes)}"


def invent(rng: random.Random) -> list[list[Item]]:
    """Three boxes of towers, or of scattered items, as NLVR has them."""
    if rng.random() < 0.6:
        return [[_item(rng, "square", 20, 40, 80 - 21 * level) for level in range(rng.randint(1, 4))] for _ in range(3)]
    return [_scattered(rng, rng.randint(1, 7)) for _ in range(3)]


def _scattered(rng: random.Random, count: int) -> list[Item]:
    items: list[Item] = []
    for _ in range(80):
        if len(items) == count:
            break
        size = rng.choice((10, 20, 30))
        x, y = (_place(rng, size) for _ in range(2))
        apart = [max(abs(x - i["x_loc"] + (size - i["size"]) / 2), abs(y - i["y_loc"] + (size - i["size"]) / 2))
                 >= (size + i["size"]) / 2 + 1 for i in items]  # fmt: skip
        if all(apart):
            items.append(_item(rng, rng.choice(("circle", "square", "triangle")), size, x, y))
    return items


def _place(rng: random.Random, size: int) -> int:
    """As in the files, a fifth of the items touch the right, a fifth the bottom, few the left or the top."""
    draw = rng.random()
    return BOX - size if draw < 0.2 else 0 if draw < 0.22 else rng.randint(1, BOX - size - 1)


def _item(rng: random.Random, shape: str, size: int, x: int, y: int) -> Item:
    return {"type": shape, "color": rng.choice(tuple(NAMES)), "size": size, "x_loc": x, "y_loc": y}


def read(folder: Path, on_bad_row: str = "stop") -> list[dict[str, Any]]:
    """The rows of NLVR's ``SPLIT.json``, each with the files of its pictures.

    Raises:
        NotFound: The folder has no such file.
        InputError: A row cannot be read, and they are not to be skipped.
    """
    files = sorted(folder.glob("*.json"))
    if not files:
        raise NotFound(f"{folder} has no NLVR in it (SPLIT.json, images/); check path, or leave it out")
    split, rows = files[0].stem, []
    for number, line in enumerate(files[0].read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            stem = folder / "images" / str(row["directory"]) / f"{split}-{row['identifier']}"
            row["files"] = [f"{stem}-{index}.png" for index in range(len(ORDERS))]
            _must_be_boxes(row["structured_rep"])
        except (ValueError, KeyError, TypeError) as error:
            if on_bad_row == "skip":
                continue
            raise InputError(
                f"{files[0]}, line {number} cannot be read: {error!r}; mend it, or set on_bad_row: skip"
            ) from error
        rows.append(row)
    return rows


def _must_be_boxes(boxes: Sequence[Sequence[Item]]) -> None:
    if len(boxes) != 3:
        raise ValueError(f"{len(boxes)} boxes, not three")
    for box in boxes:
        for item in box:
            item["color"] = {name.lower(): name for name in NAMES}[item["color"].lower()]
