"""Recipes: what ships can be loaded, and whatever is wrong in a file is named with what would be right."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import ConfigurationError
from mmagent.train.recipe import Recipe, load, names
from mmagent.train.sources import SOURCES
from tests.unit.train.toys import SHAPE, toy


@pytest.mark.parametrize("name", names())
def test_what_ships_can_be_loaded_and_its_sources_take_their_options(name: str) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.about
    for source in recipe.data:
        module, function = SOURCES[source.source].split(":")
        known = inspect.signature(getattr(import_module(module), function)).parameters
        assert source.options.keys() <= known.keys()


@pytest.mark.parametrize(
    ("changes", "place", "said"),
    [
        ({"step": 3}, "'step'", "did you mean 'steps'?"),
        ({"shape": SHAPE | {"widht": 64}}, "'shape.widht'", "did you mean 'width'?"),
        ({"shape": SHAPE | {"vision": {"image_size": 64}}}, "'shape.vision.image_size'", "did you mean 'image_side'?"),
        ({"data": [{"source": "digits", "wait": 2}]}, "'data.0.wait'", "from_step, options, pictures, source"),
        ({"losses": {"contrast": 1}}, "'losses.contrast'", "contrastive, gaze, letters, marks, marks_at, sounds, text"),
        ({"stage": "lora", "lora": {"r": 4}}, "'lora.r'", "alpha, dropout, rank, targets"),
    ],
)
def test_a_wrong_key_is_named_with_the_right_ones(changes: dict[str, Any], place: str, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        toy(**changes)
    assert f"there is no key {place}" in str(error.value)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, "steps: "),
        ({"shape": SHAPE | {"layers": "many"}}, "shape.layers: "),
        ({"train": ["eyes"]}, "train.0: "),
        ({"shape": None}, "give start"),
        ({"lora": {"rank": 4}}, "belong together"),
        ({"stage": "lora"}, "belong together"),
        ({"data": []}, "data: "),
        ({"steps": 0, "clip": 0}, "clip: "),
    ],
)
def test_a_wrong_value_is_named_with_its_place(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        toy(**changes)


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="tiny"):
        load("tinny")
    with pytest.raises(ConfigurationError, match=r"no recipe .*gone\.yaml.*tiny"):
        load("there/gone.yaml")


@pytest.mark.parametrize(("text", "said"), [("a: [", "is no YAML"), ("- 1", "has no fields"), ("", "has no fields")])
def test_a_file_that_is_no_recipe_says_so(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        load(str(path))


def test_fields_may_be_changed_from_outside() -> None:
    changed = load("tiny", steps=4, seed=None)
    assert changed.steps == 4
    assert changed == Recipe.model_validate(load("tiny").model_dump() | {"steps": 4})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": []}, "train: List should have at least 1 item"),
        ({"losses": {"text": 0}}, "nothing is asked"),
        ({"losses": {"contrastive": 1}, "shape": SHAPE | {"projection": None}}, "needs shape.projection"),
        ({"shape": SHAPE | {"heads": 5}}, "width 32 is no multiple of 2 * heads (10)"),
        ({"shape": SHAPE | {"key_value_heads": 3}}, "heads 4 is no multiple of key_value_heads 3"),
        ({"shape": SHAPE | {"vision": {"image_side": 33}}}, "vision.image_side must be a multiple of"),
        ({"seed": -1}, "seed: "),
        ({"matrix_lr": float("inf")}, "matrix_lr: "),
    ],
)
def test_values_that_fit_no_network_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        toy(**changes)
    assert said in str(error.value)


def test_a_mistyped_name_finds_the_recipe_and_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="did you mean 'tiny'"):
        load("tinny")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("")
    with pytest.raises(ConfigurationError, match=r"did you mean 'mine\.yaml'"):
        load("mine")
