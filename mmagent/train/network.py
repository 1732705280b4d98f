"""The network and tokenizer that a run begins with: built, loaded, or grown from other weights. It trains nothing."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer, LlamaConfig

from mmagent.errors import ConfigurationError, ModelError
from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration, StemVisionConfig
from mmagent.model.tokenizer import train_tokenizer
from mmagent.train.folder import remove, replace
from mmagent.train.optimize import PARTS
from mmagent.train.recipe import Part, Recipe, Shape
from mmagent.train.stream import Mixture

Told = Callable[[str], None]


def prepare(recipe: Recipe, out: Path, told: Told) -> tuple[MMAgentForConditionalGeneration, Any]:
    """The network and the tokenizer at step 0.

    Args:
        recipe: Says what they are.
        out: The run's folder, in which its vocabulary is kept once it is learnt: weights mean nothing with another.
            Beside it lie other recipes' runs, each in a folder of its name.
        told: Is told what takes time.

    Raises:
        ConfigurationError: What the recipe starts from is not there, or a part does not fit.
    """
    torch.manual_seed(recipe.seed)
    network, tokenizer = _whole(recipe, out, told)
    for part, place in recipe.parts.items():
        if part != "marks":
            take_part(network, part, find(place, out.parent))
    return network, tokenizer


def _whole(recipe: Recipe, out: Path, told: Told) -> tuple[MMAgentForConditionalGeneration, Any]:
    if recipe.start is None:
        assert recipe.shape is not None
        tokenizer = _vocabulary(recipe, recipe.shape, out, told)
        return build(recipe.shape, tokenizer), tokenizer
    folder = find(recipe.start, out.parent)
    told(f"starting from {folder}")
    old, old_tokenizer = _read(folder), AutoTokenizer.from_pretrained(folder)
    if recipe.shape is None:
        return old, old_tokenizer
    same_words = recipe.shape.vocab_size == len(old_tokenizer)
    tokenizer = old_tokenizer if same_words else _vocabulary(recipe, recipe.shape, out, told)
    made = build(recipe.shape, tokenizer)
    take_over(made, old)
    if not same_words:
        take_over_words(made, tokenizer, old, old_tokenizer)
    return made, tokenizer


def _read(folder: Path) -> MMAgentForConditionalGeneration:
    if not is_ours(folder):
        raise ConfigurationError(
            f"{folder} holds a network of another family; the stage lora adapts those, the others train mmagent's own"
        )
    try:
        return MMAgentForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    except Exception as error:  # transformers and safetensors raise anything on files that do not fit
        raise ModelError(
            f"the model in {folder} cannot be loaded; is it whole? take it from its source again"
        ) from error


def _vocabulary(recipe: Recipe, shape: Shape, out: Path, told: Told) -> Any:
    data = recipe.model_dump(mode="json")["data"]
    made_by = [recipe.seed, shape.vocab_size, shape.vocabulary_samples, data]
    return vocabulary(out, made_by, lambda: build_tokenizer(recipe, shape, told))


def vocabulary(out: Path, made_by: Sequence[Any], learn: Callable[[], Any]) -> Any:
    """The vocabulary of a run, learnt at its first start, and again where what it is learnt from has changed.

    Args:
        out: The run's folder.
        made_by: What it is learnt from.
        learn: Gives the tokenizer.
    """
    kept, part = out / "tokenizer", out / "tokenizer.part"
    record = kept / "made_by.json"
    if not record.is_file() or record.read_text(encoding="utf-8") != json.dumps(made_by):
        remove(part)
        learn().save_pretrained(part)
        (part / record.name).write_text(json.dumps(made_by), encoding="utf-8")
        replace(part, kept)
    return AutoTokenizer.from_pretrained(kept)


def find(start: str, runs: Path) -> Path:
    """The directory of the weights that a recipe starts from.

    Raises:
        ConfigurationError: There is none.
    """
    if start == "nano":
        from mmagent.nano import folder

        return folder()
    for candidate in (runs / start / "model", Path(start)):
        if (candidate / "config.json").is_file():
            return candidate
    raise ConfigurationError(
        f"there is no model to start from in {runs / start / 'model'} or {start}; train that recipe first, or give "
        "the directory of a model with --start"
    )


def build_tokenizer(recipe: Recipe, shape: Shape, told: Told) -> Any:
    """Learn the vocabulary from samples of the recipe's own data."""
    from mmagent.testing.tiny import byte_tokenizer

    told("learning the vocabulary")
    bytewise, mixture = byte_tokenizer(), Mixture(recipe)
    rng = random.Random(f"{recipe.seed} vocabulary")

    def texts() -> Iterator[str]:
        for _ in range(shape.vocabulary_samples):
            _, sample = mixture.draw(rng, rng.randrange(recipe.steps))
            yield bytewise.apply_chat_template(sample.messages, tools=sample.tools, tokenize=False)
            yield from (shown.caption for shown in sample.pictures)

    return train_tokenizer(texts(), shape.vocab_size)


def build(shape: Shape, tokenizer: Any) -> MMAgentForConditionalGeneration:
    """A network of that shape with random weights."""
    seen = shape.vision
    vision = StemVisionConfig(
        hidden_size=seen.width,
        intermediate_size=3 * seen.width,
        num_hidden_layers=seen.layers,
        num_attention_heads=seen.heads,
        image_size=seen.image_side,
        stem_channels=seen.stem_channels,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        max_position_embeddings=shape.context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = MMAgentConfig(
        vision_config=vision,
        text_config=text,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
        connector="gated_cross_attention" if shape.fusion == "cross_attention" else "pixel_shuffle_mlp",
        fusion=shape.fusion,
        downsample=shape.downsample,
        projection_dim=shape.projection,
    )
    return MMAgentForConditionalGeneration(config)


@torch.no_grad()
def take_over(made: MMAgentForConditionalGeneration, old: MMAgentForConditionalGeneration) -> None:
    """Take weights over where names and sizes agree; added layers of the decoder begin as doing nothing.

    A decoder that got deeper keeps its old layers spread evenly, and what a new layer adds is zero at first.
    """
    before, after = old.config.text_config.num_hidden_layers, made.config.text_config.num_hidden_layers
    place = {index: round(index * (after - 1) / max(1, before - 1)) for index in range(before)}
    weights = dict(made.named_parameters())
    for name, weight in old.named_parameters():
        target = weights.get(_moved(name, place))
        if target is not None and target.shape == weight.shape and "embed_tokens" not in name:
            target.copy_(weight)
    for index in set(range(after)) - set(place.values()):
        for part in ("self_attn.o_proj", "mlp.down_proj"):
            weights[f"language_model.model.layers.{index}.{part}.weight"].zero_()


@torch.no_grad()
def take_part(made: MMAgentForConditionalGeneration, part: Part, folder: Path) -> None:
    """Take one part's weights from another model.

    Raises:
        ConfigurationError: That model has no such part, or one of other sizes.
        ModelError: It cannot be loaded.
    """
    prefixes = tuple(prefix.removeprefix("network.") for prefix in PARTS[part] if prefix.startswith("network."))
    other = dict(_read(folder).named_parameters())
    for name, weight in made.named_parameters():
        if not name.startswith(prefixes):
            continue
        if name not in other or other[name].shape != weight.shape:
            has = f"has it in {tuple(other[name].shape)}, not {tuple(weight.shape)}" if name in other else "has none"
            raise ConfigurationError(f"the part {part} cannot be taken from {folder}: of {name} it {has}")
        weight.copy_(other[name])


def _moved(name: str, place: dict[int, int]) -> str:
    before, mark, rest = name.partition("language_model.model.layers.")
    if not mark:
        return name
    index, _, part = rest.partition(".")
    return f"{before}{mark}{place[int(index)]}.{part}"


@torch.no_grad()
def take_over_words(
    made: MMAgentForConditionalGeneration, tokenizer: Any, old: MMAgentForConditionalGeneration, old_tokenizer: Any
) -> None:
    """Embed each word of the new vocabulary as the mean of the pieces that the old one makes of it."""
    new, before = made.get_input_embeddings().weight, old.get_input_embeddings().weight
    assert isinstance(new, torch.Tensor) and isinstance(before, torch.Tensor)
    if new.shape[1] != before.shape[1]:
        return
    known = old_tokenizer.get_vocab()
    for token, index in tokenizer.get_vocab().items():
        pieces = [known[token]] if token in known else old_tokenizer.encode(
            tokenizer.convert_tokens_to_string([token]), add_special_tokens=False
        )  # fmt: skip
        if pieces:
            new[index] = before[pieces].mean(0)


def is_ours(folder: Path) -> bool:
    """Whether a model's directory holds a network of mmagent's own."""
    try:
        return isinstance(AutoConfig.from_pretrained(folder), MMAgentConfig)
    except Exception as error:  # transformers raises anything on a configuration that is damaged
        raise ConfigurationError(f"{folder} holds no model that can be read: its config.json is damaged") from error
