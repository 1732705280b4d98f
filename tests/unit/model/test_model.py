"""The network does what it says, checked against transformers' own modules."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmagent.errors import ConfigurationError
from mmagent.model import MMAgentForConditionalGeneration, build_connector
from mmagent.model.connectors import pixel_shuffle
from mmagent.testing import tiny_vlm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(folder: Path) -> MMAgentForConditionalGeneration:
    return AutoModelForImageTextToText.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def processor(folder: Path):
    return AutoProcessor.from_pretrained(folder)


def inputs(processor, text: str, *colors: str):
    pictures = [Image.new("RGB", (40, 60), color) for color in colors]
    return processor(text="<|image|>" * len(colors) + text, images=pictures or None, return_tensors="pt")


def test_auto_classes_give_back_what_was_saved(folder: Path, model, tmp_path: Path) -> None:
    assert type(model) is MMAgentForConditionalGeneration
    model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert again.language_model.lm_head.weight is again.get_input_embeddings().weight, "tied weights stay tied"


def test_without_pictures_it_is_the_decoder(model, processor) -> None:
    batch = inputs(processor, "hello there")
    with torch.no_grad():
        ours = model(**batch).logits
        theirs = model.language_model(input_ids=batch["input_ids"]).logits
    assert torch.equal(ours, theirs)


def test_the_picture_decides(model, processor) -> None:
    with torch.no_grad():
        red, blue = (model(**inputs(processor, "what?", color)).logits[0, -1] for color in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-6


def test_features_made_once_serve_as_well_as_pixels(model, processor) -> None:
    batch = inputs(processor, "two pictures", "red", "green")
    with torch.no_grad():
        features = model.get_image_features(batch["pixel_values"])
        direct = model(**batch).logits
        reused = model(input_ids=batch["input_ids"], mm_encoder_outputs={"image": features}).logits
    assert features.pooler_output.shape == (2, model.config.image_seq_length, model.config.text_config.hidden_size)
    assert torch.allclose(direct, reused, atol=1e-6)


def test_a_padded_row_equals_the_row_alone(model, processor) -> None:
    long, short = inputs(processor, "a longer text with a picture", "red"), inputs(processor, "short", "blue")
    width = long["input_ids"].shape[1]
    pad = width - short["input_ids"].shape[1]
    ids = torch.cat([long["input_ids"], torch.nn.functional.pad(short["input_ids"], (0, pad))])
    mask = torch.cat([long["attention_mask"], torch.nn.functional.pad(short["attention_mask"], (0, pad))])
    pixels = torch.cat([long["pixel_values"], short["pixel_values"]])
    with torch.no_grad():
        together = model(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits[1, : width - pad]
        alone = model(**short).logits[0]
    assert torch.allclose(together, alone, atol=1e-5)


def test_cached_steps_equal_one_pass(model, processor) -> None:
    batch = inputs(processor, "step by step", "red")
    cut = batch["input_ids"].shape[1] - 4
    with torch.no_grad():
        whole = model(**batch).logits[0, -4:]
        first = model(input_ids=batch["input_ids"][:, :cut], pixel_values=batch["pixel_values"], use_cache=True)
        rest = model(input_ids=batch["input_ids"][:, cut:], past_key_values=first.past_key_values).logits[0]
    assert torch.allclose(whole, rest, atol=1e-5)


def test_generate_of_transformers_works(model, processor) -> None:
    batch = inputs(processor, "go on", "red")
    ids = model.generate(**batch, max_new_tokens=3, do_sample=False, eos_token_id=-1)
    assert ids.shape[1] == batch["input_ids"].shape[1] + 3


def test_too_few_placeholders_are_refused_in_words(model, processor) -> None:
    batch = inputs(processor, "one", "red")
    with pytest.raises(ValueError, match="4 picture tokens but the pictures make 8"):
        model(input_ids=batch["input_ids"], pixel_values=batch["pixel_values"].repeat(2, 1, 1, 1))


def test_the_loss_counts_labelled_positions_only(model, processor) -> None:
    batch = inputs(processor, "count me")
    labels = batch["input_ids"].clone()
    labels[:, :-2] = -100
    with torch.no_grad():
        result = model(input_ids=batch["input_ids"], labels=labels)
    expected = torch.nn.functional.cross_entropy(result.logits[0, -3:-1], batch["input_ids"][0, -2:])
    assert torch.allclose(result.loss, expected, atol=1e-5)


def test_pixel_shuffle_folds_neighbours() -> None:
    grid = torch.arange(16.0).view(1, 16, 1)  # patches of a 4 x 4 picture, numbered row by row
    folded = pixel_shuffle(grid, 2)
    assert folded[0].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    with pytest.raises(ConfigurationError, match="change downsample"):
        pixel_shuffle(grid, 3)


def test_an_unknown_connector_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="pixel_shuffle_mlp"):
        build_connector("teleport", 8, 8, 2)


def test_digits_are_tokens_of_their_own() -> None:
    from mmagent.model.tokenizer import train_tokenizer

    tokenizer = train_tokenizer(["order 12345 of 12345"] * 50, 300)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("order 12345")["input_ids"])
    assert pieces[-5:] == list("12345")
    text = 'Ünïcödé € 漢字 \n\t {"a": 1}'
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_template_shows_tools_compactly_and_pictures_first(processor) -> None:
    schema = {
        "type": "object",
        "properties": {"order_id": {"type": "string", "x-quoted": True}, "fast": {"type": "boolean"}},
        "required": ["order_id"],
    }
    tools = [{"type": "function", "function": {"name": "find", "description": "Find it.", "parameters": schema}}]
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "Where?"}, {"type": "image"}]},
    ]
    text = processor.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
    assert text == (
        "<|system|>Be short.\nfind(order_id: quoted, fast?: bool)<|end|><|user|><|image|>Where?<|end|><|assistant|>"
    )
