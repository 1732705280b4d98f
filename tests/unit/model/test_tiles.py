"""Large pictures in tiles: exact counts before anything runs, and every pixel at its place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

SIDES = st.one_of(st.integers(1, 4), st.integers(1, 120), st.integers(500, 3000))


@pytest.fixture(scope="module")
def made(make: Any) -> Any:
    return {tiles: make(tiles=tiles) for tiles in (1, 2, 6)}


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.tuples(SIDES, SIDES).filter(lambda s: s[0] * s[1] < 300_000), min_size=1, max_size=3))
@pytest.mark.parametrize("tiles", [1, 2, 6])
def test_counts_told_before_are_those_of_the_processor(made: Any, tiles: int, sizes: list[tuple[int, int]]) -> None:
    model, processor = made[tiles]
    pictures = [Image.new("RGB", (width, height), "red") for height, width in sizes]
    batch = processor(text="<|image|>,", images=pictures[:1], return_tensors="pt")
    if len(pictures) > 1:
        batch = processor(text="<|image|>" * len(pictures), images=pictures, return_tensors="pt")
    told = processor._get_num_multimodal_tokens(image_sizes=sizes)
    placeholders = int((batch["input_ids"] == model.config.image_token_id).sum())
    assert sum(told.num_image_tokens) == placeholders == len(batch["pixel_values"]) * model.config.image_seq_length
    assert sum(told.num_image_patches) == len(batch["pixel_values"])
    assert all(count == 1 or 3 <= count <= tiles + 1 for count in told.num_image_patches)


def test_tiles_stand_row_by_row_and_the_whole_comes_last(made: Any) -> None:
    _, processor = made[6]
    picture = np.zeros((64, 96, 3), np.uint8)  # 2 rows of 3 tiles of 32 pixels
    for index in range(6):
        row, column = divmod(index, 3)
        picture[32 * row : 32 * row + 32, 32 * column : 32 * column + 32] = 40 * index
    pixels = processor(text="<|image|>", images=[Image.fromarray(picture)], return_tensors="pt")["pixel_values"]
    middles = (pixels[:6, 0, 16, 16] + 1) * 127.5
    assert middles.round().tolist() == [0, 40, 80, 120, 160, 200]
    assert pixels[6].mean().item() == pytest.approx(pixels[:6].mean().item(), abs=0.02)


def test_one_tile_is_the_picture_as_before(made: Any) -> None:
    _, processor = made[1]
    _, tiling = made[6]
    square = Image.effect_mandelbrot((20, 20), (-2, -1, 1, 1), 50).convert("RGB")  # too small to be cut
    small = tiling(text="<|image|>", images=[square], return_tensors="pt")
    whole = processor(text="<|image|>", images=[square], return_tensors="pt")
    assert list(whole) == ["input_ids", "attention_mask", "pixel_values"] == list(small)
    assert torch.equal(small["input_ids"], whole["input_ids"])
    assert torch.allclose(small["pixel_values"], whole["pixel_values"], atol=0.02)


@torch.no_grad()
def test_what_only_a_tile_can_show_reaches_the_network(made: Any) -> None:
    model, processor = made[6]
    plain, dotted = (Image.new("RGB", (192, 128), "white") for _ in range(2))
    dotted.putpixel((100, 70), (0, 0, 0))
    before, after = (
        model(**processor(text="<|image|>?", images=[picture], return_tensors="pt")).logits[0, -1]
        for picture in (plain, dotted)
    )
    assert (before - after).abs().max() > 1e-6
