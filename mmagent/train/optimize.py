"""How weights change: which optimizer takes which, how fast, and their average. It knows parameters, no data."""

from __future__ import annotations

import math

import torch

from mmagent.train.recipe import Part, Recipe

PARTS: dict[Part, tuple[str, ...]] = {
    "vision": ("network.vision_tower.", "marks."),
    "connector": ("network.connector.", "network.fusion."),
    "decoder": ("network.language_model.",),
    "contrastive": ("network.contrastive.",),
}
"""Beginnings of the names of each part's parameters in a `mmagent.train.lesson.Lesson`."""


def freeze(module: torch.nn.Module, parts: list[Part]) -> None:
    """Let only some parts learn."""
    learning = tuple(prefix for part in parts for prefix in PARTS[part])
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name.startswith(learning))


def optimizers(module: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers (K. Jordan, 2024) and AdamW for the rest, or AdamW for all."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and not any(
                part in name for part in ("embed", "lm_head", "marks.", "letters.", "sounds.")
            )
            (matrices if inside else others).append(parameter)
    made: list[torch.optim.Optimizer] = []
    if matrices and recipe.optimizer == "muon":
        made.append(
            torch.optim.Muon(
                matrices, lr=recipe.matrix_lr, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    elif matrices:
        made.append(torch.optim.AdamW(matrices, recipe.matrix_lr, (0.9, 0.95), weight_decay=recipe.weight_decay))
    if others:
        made.append(torch.optim.AdamW(others, recipe.other_lr, (0.9, 0.95), weight_decay=0.0))
    return made


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at a step: up in a line, down in half a cosine."""
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.last_lr + (1 - recipe.last_lr) * (1 + math.cos(math.pi * min(1.0, done))) / 2


class Average:
    """The exponential average of a module's weights, young at first: it forgets its beginning as fast as it can."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.count = 0
        self.weights = {n: p.detach().clone() for n, p in module.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        """After each step."""
        self.count += 1
        keep = min(self.decay, self.count / (self.count + 10))
        for name, parameter in module.named_parameters():
            if name in self.weights:
                self.weights[name].lerp_(parameter.detach().to(self.weights[name].device), 1 - keep)

    @torch.no_grad()
    def swap(self, module: torch.nn.Module) -> None:
        """Exchange the module's weights with their average; a second call exchanges them back."""
        for name, parameter in module.named_parameters():
            if name in self.weights:
                kept = parameter.detach().clone()
                parameter.copy_(self.weights[name])
                self.weights[name] = kept

    @torch.no_grad()
    def load(self, count: int, weights: dict[str, torch.Tensor]) -> None:
        """Take up an average that was kept, where these weights are.

        Raises:
            KeyError: It is of other weights.
        """
        self.count = count
        for name, weight in self.weights.items():
            weight.copy_(weights[name])
