"""What a recipe's data looks like before it is trained on: one picture, and a line for each source."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

from mmagent.errors import ConfigurationError
from mmagent.testing.tiny import byte_tokenizer, tiny_vlm
from mmagent.train.encode import Encoder
from mmagent.train.preview import BOX, COUNTED, Drawn, _squeezed, contact_sheet, make_encoder, preview, runs_of, wrapped
from mmagent.train.recipe import Recipe, parse
from mmagent.train.sample import Mark, Sample, Shown, assistant, user

RECIPE = {
    "name": "toy", "stage": "instruct", "steps": 10,
    "shape": {"vocab_size": 300, "vocabulary_samples": 20, "vision": {"image_side": 64, "stem_channels": [8, 8]}},
    "data": [
        {"source": "products", "weight": 3},
        {"source": "drills", "weight": 1, "from_step": 5},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return parse(RECIPE)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(byte_tokenizer(), 4, 32, 4)


def sample() -> Sample:
    picture = Image.new("RGB", (200, 100), "white")
    shown = Shown(picture, (Mark("red box", (100, 50, 150, 90)), Mark("A", (10, 10, 30, 40))))
    return Sample([user("What?", images=1), assistant("A box."), user("Sure?"), assistant("Yes.")], [], [shown])


def test_a_picture_and_a_table(recipe: Recipe, tmp_path: Path) -> None:
    said: list[str] = []
    made = preview(recipe, tmp_path / "sub" / "p.png", count=3, runs=tmp_path, told=said.append)
    with Image.open(tmp_path / "sub" / "p.png") as picture:
        assert picture.width > 1000
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24) or ()}
        assert COUNTED in colors, "words that the loss counts stand out"
        assert BOX in colors, "marks are shown"
    head, *rows = made.table().splitlines()
    assert head.split()[:4] == ["source", "share", "tokens", "counted"]
    assert [row.split()[:2] for row in rows] == [["products", "75%"], ["drills", "25%"]]
    assert [row.split()[-2] for row in rows] == ["1.0", "0.0"], "pictures a sample"
    assert "no model of mmagent's own is there for toy" in said[0]
    assert made.pictured == 3


def test_the_same_seed_shows_the_same_samples(recipe: Recipe, tmp_path: Path) -> None:
    def texts(seed: int) -> list[object]:
        made = preview(recipe, tmp_path / "p.png", count=2, seed=seed, runs=tmp_path)
        return [one.sample.messages for one in made.drawn["drills"]]

    first = texts(1)
    assert first == texts(1)
    assert first != texts(2)


def test_tokens_are_counted_by_the_runs_own_vocabulary(tmp_path: Path) -> None:
    tiny_vlm(tmp_path / "before" / "model")
    recipe = parse(RECIPE | {"shape": None, "start": "before"})
    said: list[str] = []
    encoder = make_encoder(recipe, tmp_path, said.append)
    assert (encoder.side, encoder.grid, len(encoder.tokenizer)) == (32, 4, len(byte_tokenizer()))
    assert not said


def test_what_counts_is_told_from_what_does_not(encoder: Encoder) -> None:
    example = encoder.encode(sample())
    runs = runs_of(example, encoder.tokenizer)
    assert [text for text, counts in runs if counts] == ["A box.<|end|>", "Yes.<|end|>"]
    assert "".join(text for text, _ in runs).count("<|image|>") == 1, "a picture is one mark, however many tokens it is"


def test_lines_fit_and_nothing_is_lost(encoder: Encoder) -> None:
    runs = runs_of(encoder.encode(sample()), encoder.tokenizer)
    lines = wrapped(runs, 9)
    assert max(sum(len(text) for text, _ in line) for line in lines) <= 9
    assert "".join(text for line in lines for text, _ in line) == "".join(text for text, _ in runs)


def test_marks_move_with_a_squeezed_picture() -> None:
    shown = sample().pictures[0]
    seen = _squeezed(shown, 32)
    assert seen.width == seen.height
    side = seen.width
    assert seen.getpixel((side // 2, int(0.7 * side))) == BOX, "the left edge of a box at half of the width"


def test_long_conversations_lose_their_middle(encoder: Encoder) -> None:
    long = Sample([user("\n".join(f"line {i}" for i in range(200))), assistant("end")])
    sheet = contact_sheet([Drawn("x", long, encoder.encode(long), 0.0)], encoder)
    assert sheet.height < 900


def test_a_picture_that_cannot_be_written(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="--out"):
        preview(recipe, tmp_path / "file" / "p.png", count=1, runs=tmp_path)


def test_random_is_left_alone(recipe: Recipe, tmp_path: Path) -> None:
    random.seed(1)
    state = random.getstate()
    preview(recipe, tmp_path / "p.png", count=1, runs=tmp_path)
    assert random.getstate() == state
