"""What a run begins with: grown networks say what they said before, parts and words come from where they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.errors import ConfigurationError
from mmagent.model import MMAgentForConditionalGeneration
from mmagent.model.processor import build_processor
from mmagent.testing.tiny import byte_tokenizer
from mmagent.train.network import build, find, is_ours, prepare, take_over, take_over_words
from mmagent.train.recipe import Shape
from tests.unit.train.toys import SHAPE, toy

BYTES = len(byte_tokenizer())


def make(seed: int = 0, **changes: Any) -> MMAgentForConditionalGeneration:
    torch.manual_seed(seed)
    return build(Shape.model_validate(SHAPE | changes), byte_tokenizer())


def logits(network: MMAgentForConditionalGeneration) -> torch.Tensor:
    torch.manual_seed(1)
    image = network.config.image_token_id
    ids = torch.tensor([[2, 1, 3, *[image] * network.config.image_seq_length, 40, 50, 60, 4, 70]])
    with torch.no_grad():
        made: torch.Tensor = network.eval()(input_ids=ids, pixel_values=torch.randn(1, 3, 32, 32)).logits
    return made


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs with the model of one, ``before``."""
    folder = tmp_path_factory.mktemp("runs")
    network = make(7)
    network.save_pretrained(folder / "before" / "model")
    build_processor(byte_tokenizer(), network.config).save_pretrained(folder / "before" / "model")
    return folder


@pytest.mark.parametrize("layers", [3, 4, 5, 8])
def test_a_deeper_decoder_says_exactly_what_it_said(layers: int) -> None:
    old, made = make(0), make(1, layers=layers)
    assert not torch.equal(logits(old), logits(made))
    take_over(made, old)
    take_over_words(made, byte_tokenizer(), old, byte_tokenizer())
    assert torch.equal(logits(old), logits(made))


def test_added_layers_can_learn() -> None:
    old, made = make(0), make(1, layers=4)
    take_over(made, old)
    ids = torch.tensor([[2, 1, 3, 40, 50, 4, 70]])
    made(input_ids=ids, labels=ids).loss.backward()
    for index in range(4):
        assert made.get_parameter(f"language_model.model.layers.{index}.mlp.down_proj.weight").grad.any()


def test_a_wider_decoder_keeps_the_tower() -> None:
    old, made = make(0), make(1, width=48)
    take_over(made, old)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(old.vision_tower(pixels), made.vision_tower(pixels))


def test_new_words_are_the_mean_of_the_old_ones() -> None:
    recipe = toy()
    old = make(0)
    from mmagent.train.network import build_tokenizer

    assert recipe.shape is not None
    tokenizer = build_tokenizer(recipe, recipe.shape, lambda _: None)
    made = build(recipe.shape, tokenizer)
    take_over_words(made, tokenizer, old, byte_tokenizer())
    word = next(token for token in tokenizer.get_vocab() if token.isalpha() and token.isascii() and len(token) > 2)
    pieces = byte_tokenizer()(word, add_special_tokens=False)["input_ids"]
    before, after = old.get_input_embeddings().weight, made.get_input_embeddings().weight
    torch.testing.assert_close(after[tokenizer.get_vocab()[word]], before[pieces].mean(0))
    assert torch.equal(after[tokenizer.eos_token_id], before[byte_tokenizer().eos_token_id])


def test_a_run_goes_on_from_another_and_grows(runs: Path, tmp_path: Path) -> None:
    recipe = toy(start="before", shape=SHAPE | {"layers": 4, "vocab_size": 300})
    before = MMAgentForConditionalGeneration.from_pretrained(runs / "before" / "model")
    plain, tokenizer = prepare(toy(start="before", shape=None), runs / "toy", lambda _: None)
    assert torch.equal(logits(plain), logits(before))
    assert len(tokenizer) == BYTES
    network, tokenizer = prepare(recipe, runs / "grown", lambda _: None)
    assert network.config.text_config.num_hidden_layers == 4
    assert len(tokenizer) == network.config.text_config.vocab_size == 300


def test_parts_come_from_other_models(runs: Path) -> None:
    network, _ = prepare(toy(parts={"vision": "before"}), runs / "toy", lambda _: None)
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(network.vision_tower(pixels), make(7).vision_tower(pixels))
    wider = SHAPE | {"vision": {**SHAPE["vision"], "width": 32}}
    with pytest.raises(ConfigurationError, match=r"the part vision cannot be taken from .* it has it in .*24.*, not"):
        prepare(toy(parts={"vision": "before"}, shape=wider), runs / "toy", lambda _: None)


def test_what_is_not_there_says_where_it_was_looked_for(runs: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no model to start from in .*gone.*train that recipe first"):
        find("gone", runs)
    assert find("before", runs) == runs / "before" / "model"
    assert find(str(runs / "before" / "model"), Path("/nowhere")) == runs / "before" / "model"
    assert is_ours(runs / "before" / "model")


def test_the_same_seed_gives_the_same_network_and_words(tmp_path: Path) -> None:
    one, words = prepare(toy(), tmp_path / "one", lambda _: None)
    other, same_words = prepare(toy(), tmp_path / "other", lambda _: None)
    assert words.get_vocab() == same_words.get_vocab()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_run_keeps_its_words_when_it_gets_longer(tmp_path: Path) -> None:
    _, words = prepare(toy(), tmp_path / "one", lambda _: None)
    _, later = prepare(toy(steps=1000), tmp_path / "one", lambda _: None)
    assert words.get_vocab() == later.get_vocab()
