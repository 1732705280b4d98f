"""The training run: build, step, check, save, resume. It knows batches and a network, not what they are about."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from transformers.utils import logging as transformers_logging

from mmagent.errors import ConfigurationError, ModelError
from mmagent.model import MMAgentConfig, MMAgentForConditionalGeneration
from mmagent.model.processor import build_processor
from mmagent.model.tokenizer import train_tokenizer
from mmagent.train.data import IGNORED, KINDS, Batch, Encoder, PictureBook, Stream, collate, names_of, normalise
from mmagent.train.draw.pictures import COLORS, PRODUCTS
from mmagent.train.recipes import Recipe
from mmagent.train.shop.episodes import DRILLS, shop_episode

CHECK_EVERY, SAVE_EVERY = 200, 100
"""Steps."""
NAMING_WEIGHT = 0.3
"""Of `Naming` beside the loss of the words."""


def build_tokenizer(recipe: Recipe, seed: int) -> Any:
    """Learn the vocabulary from episodes of the recipe's own kind."""
    from mmagent.testing.tiny import byte_tokenizer

    bytewise = byte_tokenizer()
    rng = random.Random(f"{seed} tokenizer")

    def texts() -> Any:
        for _ in range(recipe.tokenizer_episodes):
            episode = shop_episode(rng) if rng.random() < 0.8 else rng.choice(DRILLS)(rng)
            yield bytewise.apply_chat_template(episode.messages, tools=episode.tools, tokenize=False)

    return train_tokenizer(texts(), recipe.vocab_size)


def build_model(recipe: Recipe, tokenizer: Any) -> MMAgentForConditionalGeneration:
    """A network of the recipe's shape with random weights."""
    from transformers import LlamaConfig, SiglipVisionConfig

    config = MMAgentConfig(
        vision_config=SiglipVisionConfig(
            hidden_size=recipe.vision_width,
            intermediate_size=4 * recipe.vision_width,
            num_hidden_layers=recipe.vision_layers,
            num_attention_heads=4,
            image_size=recipe.image_side,
            patch_size=recipe.patch,
            vision_use_head=False,
        ),
        text_config=LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.key_value_heads,
            max_position_embeddings=recipe.context,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    model = MMAgentForConditionalGeneration(config)
    model.set_attn_implementation(
        "eager"
    )  # on CPU, rows of a few hundred tokens: 1.4 times faster than sdpa, backward included
    return model


def optimizers(model: torch.nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside layers, AdamW for embeddings, norms and biases (K. Jordan, 2024)."""
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and not any(part in name for part in ("embed", "lm_head"))
        (matrices if inside else others).append(parameter)
    muon = torch.optim.Muon(matrices, lr=recipe.muon_lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=recipe.adam_lr, betas=(0.9, 0.95), weight_decay=0.0)]


def schedule(step: int, recipe: Recipe) -> float:
    """Share of the peak learning rate at a step."""
    steps, shares = zip(*recipe.schedule, strict=True)
    return float(np.interp((step + 1) * steps[-1] / recipe.steps, steps, shares))


@dataclass
class Pass:
    """What a forward pass over a batch came to."""

    loss: torch.Tensor
    """Summed cross entropy of the labels that count."""
    wanted: torch.Tensor  # [M] the labels that count
    got: torch.Tensor  # [M] the most likely token at each of them
    seen: torch.Tensor | None  # [N, D_vision] the pictures, as the vision tower sees them


def run(model: MMAgentForConditionalGeneration, batch: Batch) -> Pass:
    """One forward pass, the head only where it counts."""
    seen = None
    embeddings = model.get_input_embeddings()(batch.input_ids)
    if len(batch.pixels):
        encoded = model.get_image_features(normalise(batch.pixels))
        assert encoded.last_hidden_state is not None and encoded.pooler_output is not None
        seen, features = encoded.last_hidden_state.mean(1), encoded.pooler_output
        mask = (batch.input_ids == model.config.image_token_id).unsqueeze(-1)
        embeddings = embeddings.masked_scatter(mask, features.to(embeddings.dtype))
    hidden = model.get_decoder()(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, :-1]
    labels = batch.labels[:, 1:]
    counted = labels != IGNORED
    logits = model.get_output_embeddings()(hidden[counted])  # [M, V]
    loss = F.cross_entropy(logits.float(), labels[counted], reduction="sum")
    return Pass(loss, labels[counted], logits.argmax(-1), seen)


class Naming(torch.nn.Module):
    """Names kind, colour and product of pictures from the vision tower alone: a help in training, not saved.

    The words of an answer tell the vision tower little about what it should tell apart; this tells it directly.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.parts = (len(KINDS), len(COLORS), len(PRODUCTS))
        self.head = torch.nn.Linear(width, sum(self.parts))

    def forward(self, seen: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
        """Summed cross entropy of ``names`` ``[N, 3]`` given pictures ``[N, D_vision]``."""
        total = torch.zeros(())
        for part, logits in enumerate(self.head(seen).float().split(self.parts, dim=-1)):
            total = total + F.cross_entropy(logits, names[:, part], reduction="sum", ignore_index=IGNORED)
        return total


@torch.no_grad()
def check(
    model: MMAgentForConditionalGeneration, encoder: Encoder, book: PictureBook, seed: int, cases: int = 64
) -> dict[str, float]:
    """Share of fresh cases, and of their assistant messages, right token for token given the text before."""
    rng = random.Random(f"{seed} check")
    messages = right_messages = right_cases = 0
    for _ in range(cases):
        episode = shop_episode(rng)
        ids, labels = encoder.encode(episode)
        pictures = [(book.pick(rng, picture), names_of(picture)) for picture in episode.pictures]
        made = run(model, collate([(ids, labels, pictures)], 0, book.side)[0])
        wanted, got = made.wanted, made.got
        ends = (wanted == encoder.end).nonzero().flatten().tolist()
        spans = zip([0, *[end + 1 for end in ends]], [end + 1 for end in ends], strict=False)
        right = [bool((wanted[a:b] == got[a:b]).all()) for a, b in spans]
        messages, right_messages, right_cases = (
            messages + len(right),
            right_messages + sum(right),
            right_cases + all(right),
        )
    return {"messages_right": right_messages / messages, "cases_right": right_cases / cases}


def train(recipe: Recipe, out: Path, *, seed: int, resume: bool, progress: Callable[[str], None]) -> Path:
    """Train ``recipe`` into ``out/model``; checkpoints and ``metrics.jsonl`` lie beside it.

    Raises:
        ModelError: The loss is not a number; the last good checkpoint is kept.
    """
    transformers_logging.disable_progress_bar()
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    progress("learning the vocabulary")
    tokenizer = build_tokenizer(recipe, seed)
    model = build_model(recipe, tokenizer)
    encoder = Encoder(tokenizer, model.config.image_seq_length)
    progress("drawing pictures")
    book = PictureBook(
        out / f"pictures-{recipe.image_side}-{recipe.pictures_per_kind}-{seed}.npz",
        recipe.image_side,
        recipe.pictures_per_kind,
        seed,
    )
    state = _Run(recipe, model, encoder, book, out, seed)
    first = state.load() if resume else 0
    size = sum(p.numel() for p in model.parameters())
    progress(f"training {size / 1e6:.1f}M parameters from step {first} to {recipe.steps}")
    state.steps(first, progress)
    model.bfloat16().save_pretrained(out / "model", max_shard_size="15MB")
    build_processor(tokenizer, model.config).save_pretrained(out / "model")
    return out / "model"


class _Run:
    """The state of a run between steps."""

    def __init__(
        self,
        recipe: Recipe,
        model: MMAgentForConditionalGeneration,
        encoder: Encoder,
        book: PictureBook,
        out: Path,
        seed: int,
    ) -> None:
        self.recipe, self.model, self.encoder, self.book, self.out, self.seed = recipe, model, encoder, book, out, seed
        self.naming = Naming(recipe.vision_width)
        self.optimizers = [*optimizers(model, recipe), torch.optim.AdamW(self.naming.parameters(), lr=recipe.adam_lr)]
        self.peaks = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]
        self.tokens = 0

    def steps(self, first: int, progress: Callable[[str], None]) -> None:
        """Run all steps from ``first``."""
        r = self.recipe
        stream = Stream(r, self.encoder, self.book, self.seed)
        remaining = torch.utils.data.Subset(stream, range(first, r.steps))
        loader = torch.utils.data.DataLoader(remaining, batch_size=None, num_workers=1, prefetch_factor=4)
        started, done, smooth = time.monotonic(), self.tokens, 0.0
        for step, batches in enumerate(loader, first):
            loss = self.step(step, batches)
            smooth = loss if not smooth else 0.95 * smooth + 0.05 * loss
            if (step + 1) % 20 == 0:
                speed = (self.tokens - done) / (time.monotonic() - started)
                self.log(
                    progress, step=step + 1, loss=round(smooth, 4), tokens=self.tokens, tokens_per_second=round(speed)
                )
            if (step + 1) % CHECK_EVERY == 0:
                self.model.train(False)
                figures = check(self.model, self.encoder, self.book, self.seed)
                self.model.train()
                self.log(progress, step=step + 1, **{k: round(v, 3) for k, v in figures.items()})
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == r.steps:
                self.save(step + 1)

    def step(self, step: int, batches: list[Batch]) -> float:
        """One optimizer step; returns the mean loss per counted token."""
        counted = sum(int((b.labels[:, 1:] != IGNORED).sum()) for b in batches)
        shown = sum(len(b.pixels) for b in batches)
        total = 0.0
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                made = run(self.model, batch)
                loss = made.loss / counted
                if made.seen is not None and step >= self.recipe.naming_from:
                    loss = loss + NAMING_WEIGHT * self.naming(made.seen, batch.names) / shown
            loss.backward()
            total += made.loss.item()
            self.tokens += int(batch.input_ids.ne(0).sum())
        if total != total:
            raise ModelError(
                f"the loss of step {step} is not a number; lower the learning rate and resume from the last checkpoint"
            )
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, self.peaks, strict=True):
            group["lr"] = peak * schedule(step, self.recipe)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return total / counted

    def log(self, progress: Callable[[str], None], **figures: Any) -> None:
        """A line for the reader and one for ``metrics.jsonl``."""
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(figures) + "\n")
        progress("  ".join(f"{key} {value}" for key, value in figures.items()))

    def save(self, step: int) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.out / "checkpoint.part"
        state = {
            "step": step,
            "made_by": self.made_by(),
            "tokens": self.tokens,
            "model": self.model.state_dict(),
            "naming": self.naming.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
        }
        torch.save(state, part)
        part.replace(self.out / "checkpoint.pt")

    def made_by(self) -> dict[str, Any]:
        """What a checkpoint must agree with to be taken up; the number of steps may change."""
        return {**asdict(replace(self.recipe, steps=0)), "seed": self.seed}

    def load(self) -> int:
        """Take up the checkpoint, if there is one; returns the step to go on from."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return 0
        state = torch.load(path, weights_only=True)
        if state["made_by"] != self.made_by():
            raise ConfigurationError(f"{path} is of another recipe or seed; choose another folder, or start afresh")
        self.model.load_state_dict(state["model"])
        self.naming.load_state_dict(state["naming"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.tokens = state["tokens"]
        return int(state["step"])
