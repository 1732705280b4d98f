"""From samples to tensors: ids, loss masks, pixels and what stands where, a batch at a time. It knows no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import torch

from mmagent.train.gaze import Printed, looks
from mmagent.train.marks import Targets
from mmagent.train.packing import IGNORED, Packed, Row, pack
from mmagent.train.sample import Sample, Shown


@dataclass
class Example:
    """An encoded sample."""

    row: Row
    pixels: list[np.ndarray]
    """Of each picture: ``[S, S, 3]`` uint8."""
    targets: list[Targets]
    captions: list[list[int]]
    """Ids of each picture's caption; empty where it has none."""
    source: str
    looks: list[tuple[int, int]] = field(default_factory=list)
    """From where in the row to look where, see `mmagent.train.gaze`."""

    @property
    def size(self) -> int:
        """What it counts of a step's tokens."""
        return len(self.row.ids)


@dataclass
class Batch:
    """Examples that are held in memory at once."""

    packed: Packed
    pixels: torch.Tensor  # [N, 3, S, S] uint8
    targets: list[Targets]  # N
    captioned: list[int]
    """Pictures that have a caption, each caption once."""
    captions: Packed | None
    """Their captions, in that order; None where there are none."""
    sources: list[str] = field(default_factory=list)
    looks: torch.Tensor = field(default_factory=lambda: torch.zeros(0, 2, dtype=torch.int64))  # [M, 2]
    """From where in the packed row to look where."""

    @property
    def counts(self) -> tuple[int, ...]:
        """Of what the losses are means: all tokens first, then what `Lesson.loss` takes."""
        return sum(self.packed.lengths), self.counted, self.marked, len(self.captioned), len(self.looks)

    @property
    def counted(self) -> int:
        """Tokens that the loss counts."""
        return int((self.packed.labels != IGNORED).sum())

    @property
    def marked(self) -> int:
        """Pictures of which it is known what stands where."""
        return sum(target.known for target in self.targets)


class Encoder:
    """Samples to examples, through the tokenizer's own chat template.

    Args:
        tokenizer: Has mmagent's special tokens and chat template.
        image_seq_length: Tokens of a picture.
        side: Pixels per side that pictures are squeezed to.
        grid: Patches per side of the vision tower.
    """

    def __init__(self, tokenizer: Any, image_seq_length: int, side: int, grid: int) -> None:
        self.tokenizer = tokenizer
        self.image, self.image_seq_length = tokenizer.convert_tokens_to_ids("<|image|>"), image_seq_length
        self.start = tokenizer.convert_tokens_to_ids("<|assistant|>")
        self.end = tokenizer.eos_token_id
        self.side, self.grid = side, grid

    def encode(self, sample: Sample, source: str = "") -> Example:
        """Ids, labels that are `IGNORED` outside the assistant's messages, and pixels."""
        written = self.tokenizer.apply_chat_template(
            sample.messages, tools=sample.tools, return_dict=False, sanitize_control_tokens=True
        )
        ids = [id for token in written for id in [token] * (self.image_seq_length if token == self.image else 1)]
        captions = [self._ids(shown.caption) if shown.caption else [] for shown in sample.pictures]
        row = Row(ids, self._labels(ids))
        return Example(
            row,
            [squeeze(shown, self.side) for shown in sample.pictures],
            [Targets(shown, self.grid) for shown in sample.pictures],
            captions,
            source,
            self._looks(row, sample.pictures),
        )

    def _looks(self, row: Row, pictures: Sequence[Shown]) -> list[tuple[int, int]]:
        if not any(shown.marks for shown in pictures):
            return []
        firsts = [place for place, token in enumerate(row.ids) if token == self.image][:: self.image_seq_length]
        printed = [Printed(shown, at, self.image_seq_length) for shown, at in zip(pictures, firsts, strict=True)]
        answered = [token if label != IGNORED else self.end for token, label in zip(row.ids, row.labels, strict=True)]
        pieces = self.tokenizer.batch_decode([[token] for token in answered], skip_special_tokens=True)
        return looks(row, pieces, printed)

    def arrange(self, examples: list[Example]) -> list[Example]:
        """In the order in which they are cut into batches."""
        return examples

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples as one batch."""
        return collate(examples, self.side)

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _labels(self, ids: Sequence[int]) -> list[int]:
        labels, inside = [], False
        for token in ids:
            labels.append(token if inside else IGNORED)
            inside = token == self.start or (inside and token != self.end)
        return labels


def squeeze(shown: Shown, side: int) -> np.ndarray:
    """A picture as the image processor sees it before normalisation: ``[S, S, 3]`` uint8, bicubic."""
    from PIL import Image

    return np.asarray(shown.image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to [-1, 1], as the image processor does it."""
    return pixels.float() / 127.5 - 1.0


def collate(examples: Sequence[Example], side: int) -> Batch:
    """Examples as one batch, their pictures of ``side`` pixels."""
    pixels = [torch.from_numpy(np.array(one)) for example in examples for one in example.pixels]
    starts = accumulate((len(example.row.ids) for example in examples), initial=0)
    seen = [(start + at, start + to) for start, one in zip(starts, examples, strict=False) for at, to in one.looks]
    captions: dict[tuple[int, ...], int] = {}
    for index, caption in enumerate(caption for example in examples for caption in example.captions):
        if caption:
            captions.setdefault(tuple(caption), index)  # two pictures of one caption would each be wrong for the other
    return Batch(
        pack([example.row for example in examples]),
        torch.stack(pixels).permute(0, 3, 1, 2) if pixels else torch.zeros(0, 3, side, side, dtype=torch.uint8),
        [target for example in examples for target in example.targets],
        list(captions.values()),
        pack([Row(list(ids), list(ids)) for ids in captions]) if captions else None,
        [example.source for example in examples],
        torch.tensor(seen, dtype=torch.int64).view(-1, 2),
    )
