"""From episodes to tensors: ids, loss masks and pixels, batch by batch, each a function of seed and step alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from mmagent.train.recipes import Recipe
from mmagent.train.shop.episodes import DRILLS, LONG_DRILLS, POLICY_DRILLS, Episode, caption_drill, shop_episode
from mmagent.train.shop.world import Picture

IGNORED = -100
"""The label of a position that does not count, as in torch's cross entropy."""

Names: TypeAlias = tuple[int, int, int]
"""What a picture shows, as indices into `KINDS`, colours and products; `IGNORED` where it has none."""
Row: TypeAlias = tuple[list[int], list[int], list[tuple[np.ndarray, Names]]]
"""Ids, labels and pictures of one episode."""
KINDS = ("receipt", "label", "product", "unrelated")


@dataclass
class Batch:
    """Rows of like length, padded on the right."""

    input_ids: torch.Tensor  # [B, L] int64
    labels: torch.Tensor  # [B, L] int64, IGNORED outside the assistant's words
    pixels: torch.Tensor  # [N, 3, S, S] uint8
    names: torch.Tensor  # [N, 3] int64, see `Names`


class PictureBook:
    """Pictures drawn once and reused: pixels by what a picture shows.

    Args:
        side: Pixels per side.
        path: Where drawn pictures are kept between runs (``.npz``, no pickle).
        per_kind: Pictures of each of receipt, label, unrelated, and of each product in each colour a fortieth of it.
    """

    def __init__(self, path: Path, side: int, per_kind: int, seed: int) -> None:
        self.side = side
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = draw_book(side, per_kind, seed)
            with path.with_suffix(".part").open("wb") as file:
                np.savez(file, allow_pickle=False, **drawn)
            path.with_suffix(".part").rename(path)
        with np.load(path, allow_pickle=False) as stored:
            self.pixels: dict[str, np.ndarray] = {key: stored[key] for key in stored.files}

    def pick(self, rng: random.Random, picture: Picture) -> np.ndarray:
        """Pixels ``[S, S, 3]`` uint8 of a picture of that kind."""
        shelf = self.pixels[shelf_of(picture)]
        pixels: np.ndarray = shelf[rng.randrange(len(shelf))]
        return pixels


def moved(rng: random.Random, pixels: np.ndarray, most: int = 8) -> np.ndarray:
    """The picture ``[S, S, 3]``, shifted by up to ``most`` pixels and, half of the time, mirrored."""
    if rng.random() < 0.5:
        pixels = pixels[:, ::-1]
    side, down, right = pixels.shape[0], rng.randint(0, 2 * most), rng.randint(0, 2 * most)
    padded = np.pad(pixels, ((most, most), (most, most), (0, 0)), mode="edge")
    return padded[down : down + side, right : right + side]


def names_of(picture: Picture) -> Names:
    """What a picture shows, as numbers."""
    from mmagent.train.draw.pictures import COLORS, PRODUCTS

    if picture.kind != "product":
        return KINDS.index(picture.kind), IGNORED, IGNORED
    shown = picture.fields
    return KINDS.index("product"), sorted(COLORS).index(shown["color"]), PRODUCTS.index(shown["product"])


def shelf_of(picture: Picture) -> str:
    """What pictures are told apart by."""
    if picture.kind == "product":
        return f"{picture.fields['color']} {picture.fields['product']}"
    return picture.kind


def draw_book(side: int, per_kind: int, seed: int) -> dict[str, np.ndarray]:
    """Draw all pictures, in as many processes as there are cores."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    from mmagent.train.draw.pictures import COLORS, PRODUCTS

    jobs = [
        (kind, side, 50, seed * 1000 + chunk)
        for kind in ("receipt", "label", "unrelated")
        for chunk in range(per_kind // 50)
    ]
    jobs += [(f"{color} {product}", side, per_kind // 40, seed) for color in COLORS for product in PRODUCTS]
    book: dict[str, list[np.ndarray]] = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for (shelf, *_), pixels in zip(jobs, pool.map(_draw, jobs, chunksize=4), strict=True):
            book.setdefault(shelf, []).append(pixels)
    return {shelf: np.concatenate(parts) for shelf, parts in book.items()}


def _draw(job: tuple[str, int, int, int]) -> np.ndarray:
    from mmagent.train.shop.cases import draw_picture

    shelf, side, count, seed = job
    rng = random.Random(f"{shelf} {seed}")
    images = (render(rng, draw_picture(rng, shelf)) for _ in range(count))
    return np.stack([squeeze(image, side) for image in images])


def render(rng: random.Random, picture: Picture) -> Any:
    """The pixels of a picture of the shop world, as a ``PIL.Image``."""
    from mmagent.train.draw import pictures

    if picture.kind == "receipt":
        return pictures.receipt(rng, **picture.fields)
    if picture.kind == "label":
        return pictures.parcel_label(rng, **picture.fields)
    if picture.kind == "product":
        return pictures.product_photo(rng, **picture.fields)
    return pictures.unrelated(rng)


def squeeze(image: Any, side: int) -> np.ndarray:
    """A picture as the image processor sees it before normalisation: ``[S, S, 3]`` uint8, bicubic."""
    from PIL import Image

    return np.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


class Encoder:
    """Episodes to ids and labels, through the tokenizer's own chat template."""

    def __init__(self, tokenizer: Any, image_seq_length: int) -> None:
        self.tokenizer = tokenizer
        self.image = "<|image|>" * image_seq_length
        self.start = tokenizer.convert_tokens_to_ids("<|assistant|>")
        self.end = tokenizer.eos_token_id

    def encode(self, episode: Episode) -> tuple[list[int], list[int]]:
        """Ids, and labels that are `IGNORED` outside the assistant's messages."""
        text = self.tokenizer.apply_chat_template(episode.messages, tools=episode.tools, tokenize=False)
        ids = self.tokenizer(text.replace("<|image|>", self.image), add_special_tokens=False)["input_ids"]
        labels, inside = [], False
        for token in ids:
            labels.append(token if inside else IGNORED)
            inside = token == self.start or (inside and token != self.end)
        return ids, labels


class Stream(torch.utils.data.Dataset[list[Batch]]):
    """Optimizer steps as items: item ``n`` is the list of batches of step ``n``.

    A step is a function of recipe, seed and its number, so a run that was interrupted goes on as it was.
    """

    def __init__(self, recipe: Recipe, encoder: Encoder, book: PictureBook, seed: int) -> None:
        self.recipe, self.encoder, self.book, self.seed = recipe, encoder, book, seed

    def __len__(self) -> int:
        return self.recipe.steps

    def __getitem__(self, step: int) -> list[Batch]:
        rng = random.Random(f"{self.seed} {step}")
        rows: list[Row] = []
        total = 0
        while total < self.recipe.tokens_per_step:
            episode = self.draw(rng, step)
            ids, labels = self.encoder.encode(episode)
            pictures = [(self.book.pick(rng, picture), names_of(picture)) for picture in episode.pictures]
            if step >= self.recipe.naming_from:
                pictures = [(moved(rng, pixels), names) for pixels, names in pictures]
            rows.append((ids, labels, pictures))
            total += len(ids)
        return collate(rows, self.encoder.tokenizer.pad_token_id, self.book.side)

    def draw(self, rng: random.Random, step: int) -> Episode:
        """One episode: captions in most cases while aligning, then cases with drills between them."""
        long, naming = step >= self.recipe.long_drills_from, step >= self.recipe.naming_from
        drills = 0.5 if long else self.recipe.drills
        draw = rng.random()
        if step < self.recipe.align_steps and draw < 0.7:
            draw = 0.0
        elif draw >= drills:
            return shop_episode(rng)
        if draw < (0.5 if naming else 0.2) * drills:
            return caption_drill(rng, draw_any_picture(rng))
        return rng.choice(POLICY_DRILLS if naming else LONG_DRILLS if long else DRILLS)(rng)


def draw_any_picture(rng: random.Random) -> Picture:
    """A picture of any kind, products in most cases."""
    from mmagent.train.draw.pictures import COLORS, PRODUCTS

    kind = rng.choices(("receipt", "label", "unrelated", "product"), (1, 1, 2, 3))[0]
    if kind == "product":
        return Picture("product", fields={"product": rng.choice(PRODUCTS), "color": rng.choice(sorted(COLORS))})
    return Picture(kind)  # type: ignore[arg-type]


def collate(rows: Sequence[Row], pad: int, side: int, most: int = 2048) -> list[Batch]:
    """Rows of like length together, at most ``most`` padded tokens a batch."""
    batches: list[Batch] = []
    group: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row[0])):
        if group and len(row[0]) * (len(group) + 1) > most:
            batches.append(_pad(group, pad, side))
            group = []
        group.append(row)
    return [*batches, _pad(group, pad, side)]


def _pad(rows: Sequence[Row], pad: int, side: int) -> Batch:
    width = max(len(ids) for ids, _, _ in rows)
    input_ids = torch.full((len(rows), width), pad)
    labels = torch.full((len(rows), width), IGNORED)
    for index, (ids, wanted, _) in enumerate(rows):
        input_ids[index, : len(ids)] = torch.tensor(ids)
        labels[index, : len(ids)] = torch.tensor(wanted)
    shown = [picture for _, _, pictures in rows for picture in pictures]
    pixels = [torch.from_numpy(np.array(p)) for p, _ in shown]
    names = torch.tensor([names for _, names in shown], dtype=torch.int64).reshape(-1, 3)
    stacked = torch.stack(pixels).permute(0, 3, 1, 2) if pixels else torch.zeros(0, 3, side, side, dtype=torch.uint8)
    return Batch(input_ids, labels, stacked, names)


def normalise(pixels: torch.Tensor) -> torch.Tensor:
    """uint8 to [-1, 1], as the image processor does it."""
    return pixels.float() / 127.5 - 1.0
