"""Every fusion: the same whether rows are padded, steps cached or beams kept, and the bare decoder before it learns."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    OPTConfig,
    PreTrainedConfig,
    Qwen3Config,
)

from mmagent.errors import ConfigurationError
from mmagent.model.fusion import NEVER, to_rows

GPT2 = GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=300, embd_pdrop=0, attn_pdrop=0, resid_pdrop=0)
SMALL: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 12,
}  # fmt: skip
DECODERS: dict[str, PreTrainedConfig | None] = {
    "llama": None,
    "gpt2": GPT2,
    "qwen3": Qwen3Config(**SMALL),
    "gemma2": Gemma2Config(**SMALL, query_pre_attn_scalar=12),
    "opt": OPTConfig(vocab_size=300, hidden_size=48, ffn_dim=96, num_hidden_layers=2, num_attention_heads=4,
                     word_embed_proj_dim=48),
    "bloom": BloomConfig(vocab_size=300, hidden_size=48, n_layer=2, n_head=4),
}  # fmt: skip
"""Positions learned, rotary and none; residuals, norms and heads of different kinds."""

SHAPES: dict[str, dict[str, Any]] = {
    "early": {},
    "early perceiver": {"connector": "perceiver"},
    "cross": {"fusion": "cross_attention"},
    "cross raw": {"fusion": "cross_attention", "connector": "gated_cross_attention"},
    "cross every second": {"fusion": "cross_attention", "connector": "perceiver", "cross_attention_every": 2},
    "late": {"fusion": "late"},
    "tiles": {"tiles": 3},
    "cross tiles": {"fusion": "cross_attention", "tiles": 3},
    "learned positions": {"fusion": "late", "text_config": GPT2},
    "all at once": {"fusion": "cross_attention", "hears": True, "projection_dim": 8, "tiles": 2},
}
BESIDE = ["cross", "cross raw", "cross every second", "late"]
ROWS = [("a longer text @ with a picture", ["red"]), ("@@ two", ["green", "blue"]), ("no picture", [])]


def batch_of(processor: Any, *rows: tuple[str, list[str]], side: str = "right") -> dict[str, torch.Tensor]:
    """Rows of text and pictures, padded; an @ is where a picture stands."""
    pictures = [Image.new("RGB", (60, 20), color) for _, colors in rows for color in colors]
    processor.tokenizer.padding_side = side
    texts = [text.replace("@", "<|image|>") for text, _ in rows]
    return dict(processor(text=texts, images=pictures or None, padding=True, return_tensors="pt"))


@pytest.fixture(params=SHAPES)
def made(request: pytest.FixtureRequest, make: Any) -> Any:
    return make(**SHAPES[request.param])


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_its_rows_alone(made: Any, side: str) -> None:
    model, processor = made
    batch = batch_of(processor, *ROWS, side=side)
    together = model(**batch).logits
    for row, mask, logits in zip(ROWS, batch["attention_mask"].bool(), together, strict=True):
        assert torch.allclose(logits[mask], model(**batch_of(processor, row)).logits[0], atol=1e-5)


@torch.no_grad()
def test_cached_steps_equal_one_pass(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, ("step @ by step", ["red"]))
    whole = model(**batch).logits[0]
    ids, past = batch["input_ids"], None
    first = ids.shape[1] - 4
    result = model(input_ids=ids[:, :first], pixel_values=batch["pixel_values"], use_cache=True)
    for index in range(first, ids.shape[1]):
        assert torch.allclose(result.logits[0, -1], whole[index - 1], atol=1e-5)
        past = result.past_key_values
        result = model(input_ids=ids[:, index : index + 1], past_key_values=past)


@torch.no_grad()
def test_a_picture_may_come_in_a_later_turn_and_a_turn_may_be_taken_back(made: Any) -> None:
    model, processor = made
    one, other, last = ("first @ turn", ["red"]), (" then @", ["blue"]), (" or something longer @", ["green"])
    first = batch_of(processor, one)
    past = model(**first).past_key_values
    size = past.get_seq_length()
    for turn in (other, last):
        ids = batch_of(processor, turn)
        got = model(input_ids=ids["input_ids"], pixel_values=ids["pixel_values"], past_key_values=past).logits
        whole = batch_of(processor, (one[0] + turn[0], one[1] + turn[1]))
        assert torch.allclose(got[0], model(**whole).logits[0, size:], atol=1e-5)
        past.crop(size - past.get_seq_length())


@torch.no_grad()
def test_the_picture_decides_from_where_it_stands(made: Any) -> None:
    model, processor = made
    red, blue = (batch_of(processor, ("before @ after", [color])) for color in ("red", "blue"))
    place = (red["input_ids"] == model.config.image_token_id).nonzero()[0, 1]
    difference = (model(**red).logits - model(**blue).logits)[0].abs().amax(-1)
    assert difference[:place].max() == 0
    assert difference[place:].min() > 1e-6


def test_generate_of_transformers_gives_the_greedy_steps(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, *ROWS, side="left")
    got = model.generate(**batch, max_new_tokens=4, do_sample=False, eos_token_id=-1)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    for _ in range(4):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask, pixel_values=batch["pixel_values"]).logits
        ids = torch.cat((ids, logits[:, -1:].argmax(-1)), dim=1)
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
    assert torch.equal(got, ids)


def test_beams_keep_their_pictures(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, *ROWS, side="left")
    settings: dict[str, Any] = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "eos_token_id": -1}
    got = model.generate(**batch, **settings)[:, batch["input_ids"].shape[1] :]
    for row, answer in zip(ROWS, got, strict=True):
        alone = batch_of(processor, row)
        expected = model.generate(**alone, **settings, use_cache=False)[0, alone["input_ids"].shape[1] :]
        assert torch.equal(answer, expected)


def test_save_and_load_give_the_same_network_and_inputs(made: Any, tmp_path: Path) -> None:
    model, processor = made
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reads = AutoModelForImageTextToText.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    for field in (
        "fusion",
        "connector",
        "tiles",
        "latents",
        "projection_dim",
        "audio_token_id",
        "cross_attention_every",
    ):
        assert getattr(again.config, field) == getattr(model.config, field)
    batch, other = batch_of(processor, ROWS[1]), batch_of(reads, ROWS[1])
    assert batch.keys() == other.keys() and all(torch.equal(batch[name], other[name]) for name in batch)
    with torch.no_grad():
        assert torch.equal(again(**batch).logits, model(**other).logits)
    assert list(again.state_dict()) == list(model.state_dict())


def test_gradients_reach_tower_and_connector(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, *ROWS)
    model(**batch, labels=batch["input_ids"]).loss.backward()
    for part in (model.connector, model.vision_tower.encoder.embeddings.patch_embedding, model.fusion):
        for parameter in part.parameters() if part is not None else ():
            assert parameter.grad is not None and parameter.grad.abs().max() > 0
    model.zero_grad()


def test_gradient_checkpointing_changes_no_gradient(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, *ROWS)
    gradients = []
    for checkpointing in (False, True):
        twin = copy.deepcopy(model).train()
        if checkpointing:
            twin.activation_checkpointing_enable()
        twin(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
        gradients.append({name: p.grad for name, p in twin.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.allclose(gradients[0][name], gradients[1][name], atol=1e-6) for name in gradients[0])


@torch.no_grad()
@pytest.mark.parametrize("shape", BESIDE)
@pytest.mark.parametrize("decoder", DECODERS)
def test_before_it_learns_the_logits_are_the_bare_decoders_bit_for_bit(make: Any, shape: str, decoder: str) -> None:
    model, processor = make(**SHAPES[shape], text_config=DECODERS[decoder])
    open_gates = batch_of(processor, *ROWS)
    bare = {name: open_gates[name] for name in ("input_ids", "attention_mask")}
    assert (model(**open_gates).logits - model(**bare).logits).abs().max() > 1e-5
    for name, parameter in model.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    expected = model.language_model(**bare, position_ids=(bare["attention_mask"].cumsum(-1) - 1).clamp(min=0)).logits
    assert torch.equal(model(**open_gates).logits, expected)


@torch.no_grad()
@pytest.mark.parametrize("shape", BESIDE)
def test_a_fresh_network_has_closed_gates_also_when_only_its_decoder_was_trained(
    make: Any, shape: str, tmp_path: Path
) -> None:
    model, processor = make(**SHAPES[shape])
    fresh = type(model)(model.config).eval()
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("fusion")}
    model.save_pretrained(tmp_path, state_dict=weights)
    loaded = type(model).from_pretrained(tmp_path).eval()
    batch = batch_of(processor, ROWS[0])
    for network in (fresh, loaded):
        assert torch.equal(network(**batch).logits, network(input_ids=batch["input_ids"]).logits)


@torch.no_grad()
@pytest.mark.parametrize("shape", BESIDE)
@pytest.mark.parametrize("kept", [1, 3, torch.tensor([0, 5])])
def test_logits_to_keep_keeps_the_same_logits(make: Any, shape: str, kept: Any) -> None:
    model, processor = make(**SHAPES[shape])
    batch = batch_of(processor, ROWS[0])
    whole = model(**batch).logits
    expected = whole[:, kept] if isinstance(kept, torch.Tensor) else whole[:, -kept:]
    assert torch.allclose(model(**batch, logits_to_keep=kept).logits, expected, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("shape", BESIDE)
def test_a_copy_looks_through_its_own_layers(make: Any, shape: str) -> None:
    model, processor = make(**SHAPES[shape])
    twin, batch = copy.deepcopy(model), batch_of(processor, ROWS[0])
    before = model(**batch).logits
    for name, parameter in twin.named_parameters():
        if name.endswith("gate"):
            parameter.zero_()
    assert torch.equal(model(**batch).logits, before)
    assert torch.equal(twin(**batch).logits, twin(input_ids=batch["input_ids"]).logits)


def test_features_go_to_their_rows_in_order() -> None:
    features = torch.arange(1.0, 4.0).view(3, 1, 1)
    mask = torch.tensor([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]]).bool()
    by_row, places = to_rows(features, mask)
    assert by_row.flatten(1).tolist() == [[1, 0], [0, 0], [2, 3]]
    assert places.tolist() == [[1, NEVER], [NEVER, NEVER], [0, 3]]


@torch.no_grad()
@pytest.mark.parametrize("shape", BESIDE)
def test_a_cache_of_somebody_else_is_refused_not_read_blindly(make: Any, shape: str) -> None:
    model, processor = make(**SHAPES[shape])
    ids = batch_of(processor, ("hello", []))["input_ids"]
    past = model.language_model(input_ids=ids).past_key_values
    with pytest.raises(ValueError, match="go on with the cache that forward returned"):
        model(input_ids=ids, past_key_values=past)


def test_wrong_counts_are_refused_in_words(made: Any) -> None:
    model, processor = made
    batch = batch_of(processor, ROWS[0])
    more = {**batch, "pixel_values": batch["pixel_values"].repeat(2, 1, 1, 1)}
    with pytest.raises(ValueError, match="picture tokens but the pictures make"):
        model(**more)
    with pytest.raises(ValueError, match="pictures need input_ids"):
        model(inputs_embeds=torch.zeros(1, 9, 48), pixel_values=batch["pixel_values"])
    features = model.get_image_features(batch["pixel_values"])
    with pytest.raises(ValueError, match="image came raw and in mm_encoder_outputs"):
        model(**batch, mm_encoder_outputs={"image": features})
    with pytest.raises(ValueError, match="number of"):
        processor(text="<|image|><|image|>", images=[Image.new("RGB", (9, 9))])


def test_a_decoder_too_shallow_for_its_gated_layers_is_refused(make: Any) -> None:
    with pytest.raises(ConfigurationError, match="the decoder has only 2 layers"):
        make(fusion="cross_attention", cross_attention_every=3)
