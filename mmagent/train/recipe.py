"""What a training run is, as a YAML file. It knows fields and their limits, not how a run goes.

A recipe, its seed and the weights that it starts from give the same weights again on one kind of machine.
"""

from __future__ import annotations

import difflib
import os
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmagent.errors import ConfigurationError

Stage = Literal["contrastive", "align", "instruct", "lora", "speech"]
Part = Literal["vision", "connector", "decoder", "contrastive"]
MAX_FILE = 1 << 20
"""Bytes of a recipe."""


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Vision(_Fields):
    """The vision tower, see `mmagent.model.stem`."""

    image_side: int = Field(default=384, ge=16, le=2048)
    """Pixels per side that a picture is squeezed to."""
    stem_channels: list[Annotated[int, Field(gt=0, multiple_of=8)]] = Field(default=[32, 64, 128], min_length=1)
    """Of each convolution but the last; each halves the sides, so a patch has 2 to the power of their number + 1."""
    width: int = Field(default=192, ge=8, multiple_of=8)
    layers: int = Field(default=3, ge=1)
    heads: int = Field(default=3, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Vision:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class Shape(_Fields):
    """A network that is built with random weights."""

    vocab_size: int = Field(default=4096, ge=300)
    vocabulary_samples: int = Field(default=6000, ge=1)
    """Samples of the recipe's data that the vocabulary is learnt from."""
    width: int = Field(default=256, ge=16)
    layers: int = Field(default=8, ge=1)
    heads: int = Field(default=4, ge=1)
    key_value_heads: int = Field(default=2, ge=1)
    feed_forward: int = Field(default=640, ge=16)
    context: int = Field(default=4096, ge=64)
    """Tokens; positions beyond what training shows are reached by RoPE alone."""
    vision: Vision = Vision()
    downsample: int = Field(default=2, ge=1)
    """Patches per side that become one token of the decoder."""
    fusion: Literal["early", "cross_attention", "late"] = "early"
    projection: int | None = Field(default=128, ge=8)
    """Width of the contrastive embeddings; none for a network without contrastive head."""

    @model_validator(mode="after")
    def _fits(self) -> Shape:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is no multiple of 2 * heads ({2 * self.heads})")
        if self.heads % self.key_value_heads:
            raise ValueError(f"heads {self.heads} is no multiple of key_value_heads {self.key_value_heads}; set both")
        token = 2 ** (len(self.vision.stem_channels) + 1) * self.downsample
        if self.vision.image_side % token:
            raise ValueError(f"vision.image_side must be a multiple of {token}, the pixels of a token a side")
        return self


class Ears(_Fields):
    """A network of Whisper's shape that is built with random weights."""

    vocab_size: int = Field(default=600, ge=300, le=50_000)
    """Without special tokens and times."""
    vocabulary_samples: int = Field(default=20_000, ge=1)
    """Texts that the vocabulary is learnt from."""
    width: int = Field(default=192, ge=16)
    heads: int = Field(default=3, ge=1)
    encoder_layers: int = Field(default=4, ge=1)
    decoder_layers: int = Field(default=2, ge=1)
    seconds: float = Field(default=10.0, ge=2, le=30)
    """Of a window."""
    context: int = Field(default=128, ge=32, le=448)
    """Tokens, prompt and answer together."""
    mels: int = Field(default=80, ge=16, le=128)

    @model_validator(mode="after")
    def _fits(self) -> Ears:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is no multiple of heads {self.heads}")
        return self


class Source(_Fields):
    """A share of the data."""

    source: str
    """A name in `mmagent.train.sources.SOURCES`."""
    weight: float = Field(default=1.0, gt=0)
    """Its share of the samples, beside the others' weights."""
    options: dict[str, Any] = {}
    pictures: bool | None = None
    """Only samples with pictures, or only those without; both by default."""
    from_step: int = Field(default=0, ge=0)
    until_step: int | None = Field(default=None, ge=1)


class Losses(_Fields):
    """What is asked of the network, and how much each counts."""

    text: float = Field(default=1.0, ge=0)
    """Cross entropy of the assistant's words."""
    contrastive: float = Field(default=0.0, ge=0)
    """Of pictures and their captions, over the pictures of a batch."""
    marks: float = Field(default=0.0, ge=0)
    """Characters and things at their places, told by the vision tower through a head that is not saved."""
    sounds: float = Field(default=0.0, ge=0)
    """Which sound of speech is when, told by the ears alone through a head that is not saved."""
    letters: float = Field(default=0.0, ge=0)
    """What is said, letter by letter, told by the ears alone (CTC, Graves et al. 2006) through a head that is not
    saved."""
    gaze: float = Field(default=0.0, ge=0)
    """Where the decoder looks for what it reads, see `mmagent.train.gaze`."""
    marks_at: list[Literal["stem", "patches", "tokens"]] = ["stem", "patches"]
    """Where characters are asked for: in the tower's stem, its patches, and the tokens that the decoder sees."""


class Lora(_Fields):
    """Low-rank adapters (arXiv 2106.09685) on the decoder's matrices."""

    rank: int = Field(default=16, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = "all-linear"


class Recipe(_Fields):
    """Everything that decides what a run makes."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Of the run's folder, too: letters, digits, dots, dashes and underscores."""
    about: str = ""
    stage: Stage
    start: str | None = None
    """A model's directory, ``nano``, or the name of a recipe whose run lies beside this one's; None builds `shape`."""
    shape: Shape | None = None
    """With `start`: what the network becomes; its weights are taken over where names and sizes agree."""
    ears: Ears | None = None
    """With the stage ``speech``, in the place of `shape`."""
    parts: dict[Part | Literal["marks"], str] = {}
    """Parts that are taken from other models' directories or recipes: a vision tower trained elsewhere, say.

    ``marks`` is the head that asks what stands where, of another recipe's run.
    """
    data: list[Source] = Field(min_length=1)
    train: list[Part] = Field(default=["vision", "connector", "decoder", "contrastive"], min_length=1)
    """Parts that learn; the others stay as they are."""
    losses: Losses = Losses()
    lora: Lora | None = None

    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: int = Field(ge=1)
    tokens_per_step: int = Field(default=8192, ge=64)
    """Tokens of one optimizer step at most, over all processes."""
    tokens_per_batch: int = Field(default=4096, ge=64)
    """Tokens that are held in memory at once, about; the gradients of a step's batches are added up."""
    max_tokens: int = Field(default=2048, ge=16)
    """Longer samples are left out, and counted."""

    optimizer: Literal["muon", "adamw"] = "muon"
    """Muon for matrices inside layers and AdamW for the rest, or AdamW for all."""
    matrix_lr: float = Field(default=6e-3, gt=0)
    other_lr: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    warmup: int = Field(default=50, ge=0)
    """Steps."""
    last_lr: float = Field(default=0.05, ge=0, le=1)
    """Share of the peak at the end of the cosine."""
    clip: float = Field(default=1.0, gt=0)
    ema: float = Field(default=0.0, ge=0, lt=1)
    """Decay of the average of the weights that is saved as the model; 0 saves the last weights."""
    precision: Literal["bf16", "fp32"] = "bf16"

    check_every: int = Field(default=200, ge=1)
    check_samples: int = Field(default=48, ge=1)
    save_every: int = Field(default=100, ge=1)
    on_bad_row: Literal["stop", "skip"] = "stop"
    """What becomes of rows of data files that cannot be read."""

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.start is None and self.shape is None and self.ears is None:
            raise ValueError("give start (weights to go on from) or shape (a network to build); for speech, ears")
        if (self.stage == "speech") != (self.ears is not None):
            raise ValueError("the stage speech and the field ears belong together")
        if (self.stage == "lora") != (self.lora is not None):
            raise ValueError("the stage lora and the field lora belong together")
        if not (self.losses.text or self.losses.contrastive or self.losses.marks):
            raise ValueError("nothing is asked: all weights of losses are 0")
        if self.losses.gaze and not self.losses.text:
            raise ValueError("losses.gaze is asked of the words of answers; it needs losses.text")
        if self.losses.contrastive and self.shape and self.shape.projection is None:
            raise ValueError("losses.contrastive needs shape.projection, the width of the embeddings")
        return self


def names() -> list[str]:
    """The recipes that ship."""
    found = (entry.name for entry in files("mmagent.train.recipes").iterdir())
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def load(name_or_path: str, **changes: Any) -> Recipe:
    """The recipe of that name, or in that file.

    Args:
        name_or_path: One of `names`, or the path of a YAML file.
        changes: Fields that differ from the file's; None leaves a field as it is.

    Raises:
        ConfigurationError: There is none, or a field is wrong; the message names the right ones.
    """
    if name_or_path.endswith((".yaml", ".yml")) or os.sep in name_or_path:
        path = Path(name_or_path)
        if not path.is_file():
            raise ConfigurationError(f"there is no recipe {path}; check the path, or name one of: {', '.join(names())}")
        if path.stat().st_size > MAX_FILE:
            raise ConfigurationError(f"{path} is larger than {MAX_FILE >> 20} MiB; a recipe is a short YAML file")
        text = path.read_text(encoding="utf-8", errors="replace")
    elif name_or_path in names():
        text = files("mmagent.train.recipes").joinpath(f"{name_or_path}.yaml").read_text(encoding="utf-8")
    else:
        near = f"{name_or_path}.yaml" if Path(f"{name_or_path}.yaml").is_file() else None
        near = near or next(iter(difflib.get_close_matches(name_or_path, names(), 1)), None)
        hint = f"did you mean {near!r}? " if near else ""
        raise ConfigurationError(
            f"there is no recipe {name_or_path!r}; {hint}choose one of: {', '.join(names())}, or give the path of a "
            "YAML file"
        )
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigurationError(f"{name_or_path} is no YAML: {error}") from error
    if not isinstance(values, dict):
        raise ConfigurationError(f"{name_or_path} has no fields; docs/train.md shows a recipe")
    return parse(values | {key: value for key, value in changes.items() if value is not None}, name_or_path)


def parse(values: dict[str, Any], where: str = "the recipe") -> Recipe:
    """A recipe from its fields.

    Raises:
        ConfigurationError: A field is wrong; the message names the right ones.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: " + "; ".join(map(_said, error.errors()))) from error


def _said(error: Any) -> str:
    place = ".".join(map(str, error["loc"])) or "it"
    if error["type"] != "extra_forbidden":
        return f"{place}: {error['msg'].removeprefix('Value error, ')}"
    *parents, key = error["loc"]
    known = sorted(_fields_at(parents))
    near = difflib.get_close_matches(str(key), known, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no key {place!r}; {hint}the keys are: {', '.join(known)}"


def _fields_at(parents: list[Any]) -> list[str]:
    """The keys that are right at a place of a recipe."""
    model: type[BaseModel] = Recipe
    inner: dict[str, type[BaseModel]] = {
        "shape": Shape,
        "vision": Vision,
        "ears": Ears,
        "data": Source,
        "losses": Losses,
        "lora": Lora,
    }
    for name in parents:
        model = inner.get(name, model) if isinstance(name, str) else model
    return list(model.model_fields)
