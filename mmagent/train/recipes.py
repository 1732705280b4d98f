"""Recipes: everything that decides what a training run makes. A recipe and its seed give the same weights."""

from __future__ import annotations

from dataclasses import dataclass

from mmagent.errors import ConfigurationError


@dataclass(frozen=True)
class Recipe:
    """A model's shape and how it is trained."""

    name: str
    vocab_size: int = 2048
    hidden_size: int = 256
    layers: int = 6
    heads: int = 4
    key_value_heads: int = 2
    intermediate_size: int = 640
    context: int = 4096
    """Tokens; positions beyond what training shows are reached by RoPE alone."""
    image_side: int = 128
    patch: int = 16
    vision_width: int = 128
    vision_layers: int = 4
    steps: int = 1600
    tokens_per_step: int = 8192
    align_steps: int = 200
    """First steps that are mostly picture captions."""
    drills: float = 0.3
    """Share of episodes that are drills, before `long_drills_from`."""
    long_drills_from: int = 700
    """Step from which on half of the episodes are drills, and drills copy tens of tokens."""
    naming_from: int = 1250
    """Step from which on drills are captions and policies in most cases, and the vision tower names pictures."""
    muon_lr: float = 6e-3
    adam_lr: float = 3e-3
    schedule: tuple[tuple[int, float], ...] = ((0, 0.0), (60, 1.0), (875, 1.0), (1250, 0.0), (1251, 0.73), (1600, 0.0))
    """Steps, and the share of the peak learning rate there; linear between them, stretched to the number of steps."""
    pictures_per_kind: int = 1200
    tokenizer_episodes: int = 6000


RECIPES = {
    "shop-v0": Recipe("shop-v0"),
    "shop-tiny": Recipe(
        "shop-tiny",
        vocab_size=1024,
        hidden_size=96,
        layers=2,
        intermediate_size=192,
        vision_width=48,
        vision_layers=1,
        image_side=64,
        steps=20,
        tokens_per_step=2048,
        align_steps=5,
        long_drills_from=8,
        naming_from=12,
        schedule=((0, 0.0), (5, 1.0), (20, 0.0)),
        pictures_per_kind=50,
        tokenizer_episodes=200,
    ),
}
"""``shop-v0`` is what ships as nano; ``shop-tiny`` runs the same code in a minute."""


def recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigurationError: There is none; the message lists those there are.
    """
    if name not in RECIPES:
        raise ConfigurationError(f"there is no recipe {name!r}; choose one of: {', '.join(sorted(RECIPES))}")
    return RECIPES[name]
