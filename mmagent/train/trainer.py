"""The training run: prepare, step, check, save, resume. It knows batches and losses, not what they are about.

Processes, devices and precision are accelerate's: ``accelerate launch -m mmagent train RECIPE`` runs on many.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mmagent.errors import ConfigurationError, ModelError
from mmagent.evaluate.nano import machine
from mmagent.model.processor import build_processor
from mmagent.train.checkpoints import Checkpoints
from mmagent.train.encode import Batch, Encoder
from mmagent.train.format import fingerprint
from mmagent.train.lesson import Answers, Lesson
from mmagent.train.network import prepare
from mmagent.train.optimize import Average, freeze, optimizers, schedule
from mmagent.train.packing import register
from mmagent.train.recipe import Recipe
from mmagent.train.stream import Stream

LOG_EVERY = 10
"""Steps."""
FORGET = 0.9
"""Share of the running loss that a step keeps."""


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int
    steps: int
    tokens: int
    """Learnt from so far, over all processes."""
    figures: dict[str, float]
    """Losses and shares of the last steps, and learning rate and speed; after a check its shares, by source."""


class Watch:
    """Is told how a run goes; all methods may be left as they are."""

    def said(self, line: str) -> None:
        """Something that takes time begins, or is worth a line."""

    def stepped(self, progress: Progress) -> None:
        """Some steps were taken."""

    def checked(self, progress: Progress) -> None:
        """The network was checked on fresh samples."""


def train(recipe: Recipe, out: Path, *, resume: bool = True, watch: Watch | None = None, workers: int = 1) -> Path:
    """Train ``recipe`` into ``out/model``; ``checkpoints/`` and ``metrics.jsonl`` lie beside it.

    Args:
        recipe: What to train.
        out: The run's own folder.
        resume: Go on from the newest checkpoint there.
        watch: Is told how it goes.
        workers: Processes that make batches ahead; 0 makes them in this one.

    Returns:
        The directory of the model, as ``save_pretrained`` writes it.

    Raises:
        ConfigurationError: The recipe does not fit the folder, or starts from what is not there.
        ModelError: The loss is not a number; the last good checkpoint is kept.
        StoreError: A checkpoint cannot be written; the last one is kept.
    """
    if not resume and os.environ.get("RANK", "0") == "0":
        clear(out)
    return Run(recipe, out, watch or Watch(), workers).go(resume=resume)


def clear(out: Path) -> None:
    """Remove what an earlier run left that a later one would go on with; its model stays until the new one is there."""
    for name in ("checkpoints", "tokenizer"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "metrics.jsonl").unlink(missing_ok=True)


class Run:
    """The state of a run between steps."""

    def __init__(self, recipe: Recipe, out: Path, watch: Watch, workers: int) -> None:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.recipe, self.out, self.watch, self.workers = recipe, out, watch, workers
        self.accelerator = _accelerator(recipe)
        out.mkdir(parents=True, exist_ok=True)
        with self.accelerator.main_process_first():  # it learns the vocabulary, the others read it
            self.network, self.tokenizer = self.begin()
        self.encoder = self.make_encoder()
        lesson = self.make_lesson()
        made = optimizers(lesson, recipe)
        self.lesson, *self.optimizers = self.accelerator.prepare(lesson, *made)
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.average = Average(self.bare, recipe.ema) if recipe.ema else None
        if self.average:
            self.accelerator.register_for_checkpointing(self.average)
        self.checkpoints = Checkpoints(out / "checkpoints", _made_by(recipe))
        self.tokens = 0
        self.running: dict[str, float] = {}

    @property
    def bare(self) -> Lesson:
        """The lesson without what wraps it for many processes."""
        lesson: Lesson = self.accelerator.unwrap_model(self.lesson)
        return lesson

    def begin(self) -> tuple[Any, Any]:
        """The network and the tokenizer at step 0."""
        network, tokenizer = prepare(self.recipe, self.out, self.watch.said)
        network.set_attn_implementation({"text_config": register(), "vision_config": "sdpa"})
        return network, tokenizer

    def make_encoder(self) -> Encoder:
        """What makes tensors of samples for the network."""
        config = self.network.config
        side = int(config.vision_config.image_size)
        return Encoder(self.tokenizer, config.image_seq_length, side, side // int(config.vision_config.patch_size))

    def make_lesson(self) -> Lesson:
        """The network and its losses; what does not learn requires no gradient."""
        lesson = Lesson(self.network, self.recipe.losses)
        freeze(lesson, self.recipe.train)
        return lesson

    def go(self, *, resume: bool) -> Path:
        """Train to the end and save the model."""
        first = 0
        if resume:
            first, state = self.checkpoints.load(self.accelerator)
            self.tokens, self.running = state.get("tokens", 0), state.get("running", {})
        if self.accelerator.is_main_process:
            self._forget_after(first)
        size = sum(p.numel() for p in self.network.parameters())
        self.watch.said(f"training {size / 1e6:.1f}M parameters from step {first} to {self.recipe.steps}")
        self.steps(first)
        if first >= self.recipe.steps:  # it was stopped between its last checkpoint and the model
            self.save_model()
        return self.out / "model"

    def steps(self, first: int) -> None:
        """All steps from ``first``."""
        recipe, accelerator = self.recipe, self.accelerator
        stream = Stream(recipe, self.encoder, accelerator.process_index, accelerator.num_processes)
        ahead: dict[str, Any] = {"num_workers": self.workers, "prefetch_factor": 3} if self.workers else {}
        left = torch.utils.data.Subset(stream, range(first, recipe.steps))
        loader: Any = torch.utils.data.DataLoader(left, batch_size=None, **ahead)
        since, learnt = time.monotonic(), self.tokens
        for step, batches in enumerate(loader, first):
            self.follow(self.step(step, batches))
            if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.steps:
                speed = (self.tokens - learnt) / (time.monotonic() - since)
                since, learnt = time.monotonic(), self.tokens
                rate = schedule(step, recipe)
                self.log(step + 1, self.running | {"rate": rate, "tokens_per_second": speed}, self.watch.stepped)
            if (step + 1) % recipe.check_every == 0:
                self.log(step + 1, self.check(), self.watch.checked)
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                self.checkpoints.save(accelerator, step + 1, {"tokens": self.tokens, "running": self.running})
                self.save_model()

    def step(self, step: int, batches: list[Batch]) -> dict[str, float]:
        """One optimizer step; returns its losses and shares.

        Raises:
            ModelError: The loss is not a number; no weight was changed.
        """
        accelerator, losses = self.accelerator, self.recipe.losses
        mine = [(batch.counted, sum(batch.packed.lengths), batch.marked) for batch in batches]
        summed = torch.tensor(mine, device=accelerator.device).sum(0)
        counted, tokens, marked = accelerator.reduce(summed, "sum").tolist()
        figures: dict[str, list[float]] = defaultdict(list)
        for index, batch in enumerate(batches):
            last = index + 1 == len(batches)
            with accelerator.no_sync(self.lesson) if not last else accelerator.autocast():
                with accelerator.autocast():
                    answers = self.lesson(batch)
                    loss = losses.text * answers.text * accelerator.num_processes / max(1, counted)
                    share = (
                        batch.marked * accelerator.num_processes / max(1, marked)
                    )  # so that it does not matter how a step is cut into batches
                    loss = loss + losses.contrastive * answers.contrastive / len(batches)
                    loss = loss + losses.marks * answers.marks * share
                    if accelerator.num_processes > 1:  # each process must use every weight, or they wait for each other
                        loss = loss + 0.0 * sum(p.sum() for p in self.bare.parameters() if p.requires_grad)
                self._must_be_a_number(loss.item(), f"loss of step {step}, batch {index}", [batch])
                accelerator.backward(loss)
            _note(figures, answers, losses)
        norm = float(accelerator.clip_grad_norm_(self.lesson.parameters(), self.recipe.clip))
        self._must_be_a_number(norm, f"gradient of step {step}", batches)
        rate = schedule(step, self.recipe)
        for optimizer, peaks in zip(self.optimizers, self.peaks, strict=True):
            for group, peak in zip(optimizer.param_groups, peaks, strict=True):
                group["lr"] = peak * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.bare)
        self.tokens += int(tokens)
        means = {name: sum(values) / len(values) for name, values in figures.items() if values}
        return means | {"gradient": norm}

    def _must_be_a_number(self, value: float, what: str, batches: list[Batch]) -> None:
        if math.isfinite(value):
            return
        steps = self.checkpoints.steps()
        kept = f"the checkpoint of step {steps[-1]} is kept" if steps else "no checkpoint was written yet"
        drawn = ", ".join(sorted({name for batch in batches for name in batch.sources}))
        raise ModelError(
            f"the {what} (samples of {drawn}) is not a number; {kept}; lower matrix_lr and other_lr, or look at these "
            "samples with: mmagent train preview"
        )

    def follow(self, figures: dict[str, float]) -> None:
        """Keep running means."""
        for name, value in figures.items():
            if math.isfinite(value):
                before = self.running.get(name, value)
                self.running[name] = FORGET * before + (1 - FORGET) * value

    def check(self) -> dict[str, float]:
        """Share of the assistant's messages that are right token for token given the text before, by source.

        On fresh samples: the same at every check, none of which training draws.
        """
        rng = random.Random(f"{self.recipe.seed} check")
        stream = Stream(self.recipe, self.encoder)
        right: dict[str, list[float]] = defaultdict(list)
        self.bare.eval()
        with self._averaged(), torch.no_grad(), self.accelerator.autocast():
            for _ in range(self.recipe.check_samples):
                example = stream.example(rng, self.recipe.steps - 1)
                answers = self.bare(self.encoder.collate([example]))
                right[example.source] += _messages_right(answers, self.encoder.end)
                for name, value in (("characters", answers.characters),):
                    if math.isfinite(value):
                        right[name].append(value)
        self.bare.train()
        return {f"right {name}": sum(values) / len(values) for name, values in sorted(right.items()) if values}

    def _averaged(self) -> Any:
        from contextlib import contextmanager

        @contextmanager
        def swapped() -> Any:
            if self.average:
                self.average.swap(self.bare)
            try:
                yield
            finally:
                if self.average:
                    self.average.swap(self.bare)

        return swapped()

    def _forget_after(self, step: int) -> None:
        """Leave in ``metrics.jsonl`` what was logged up to a step: what comes after it is logged again."""
        path = self.out / "metrics.jsonl"
        kept = [line for line in _lines(path) if line["step"] <= step]
        if path.exists():
            part = self.out / "metrics.part"
            part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            part.replace(path)

    def log(self, step: int, figures: dict[str, float], tell: Callable[[Progress], None]) -> None:
        """A line of ``metrics.jsonl``, and word to whoever watches."""
        if not self.accelerator.is_main_process:
            return
        rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "tokens": self.tokens, **rounded}) + "\n")
        tell(Progress(step, self.recipe.steps, self.tokens, rounded))

    def save_model(self) -> None:
        """Write the model as it is: the average of the weights where there is one, in bfloat16, in shards of 15 MB."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            part, folder = self.out / "model.part", self.out / "model"
            with self._averaged():
                state = {n: t.detach().to("cpu", torch.bfloat16) for n, t in self.network.state_dict().items()}
                dtype, self.network.config.dtype = self.network.config.dtype, torch.bfloat16
                self.network.save_pretrained(part, state_dict=state, max_shard_size="15MB")
                self.network.config.dtype = dtype
            build_processor(self.tokenizer, self.network.config).save_pretrained(part)
            record = {"recipe": self.recipe.model_dump(mode="json"), "tokens": self.tokens}
            record |= {"format": fingerprint(), "machine": machine()}
            (part / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
            old = self.out / "model.old"
            if folder.exists():
                shutil.rmtree(old, ignore_errors=True)
                folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
        self.accelerator.wait_for_everyone()


def _lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, but for one that was cut off."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _note(figures: dict[str, list[float]], answers: Answers, losses: Any) -> None:
    if len(answers.wanted):
        figures["loss"].append(answers.text.item() / len(answers.wanted))
    if losses.contrastive and math.isfinite(answers.matched):
        figures["contrastive"].append(answers.contrastive.item())
        figures["matched"].append(answers.matched)
    if losses.marks and math.isfinite(answers.characters):
        figures["marks"].append(answers.marks.item())
        figures["characters"].append(answers.characters)


def _messages_right(answers: Answers, end: int) -> list[float]:
    ends = (answers.wanted == end).nonzero().flatten().tolist()
    spans = zip([0, *(place + 1 for place in ends)], (place + 1 for place in ends), strict=False)
    return [float((answers.wanted[a:b] == answers.got[a:b]).all()) for a, b in spans]


def _made_by(recipe: Recipe) -> dict[str, Any]:
    """What a checkpoint must agree with; how often is looked and saved may change."""
    free = {"about", "steps", "check_every", "check_samples", "save_every", "on_bad_row"}
    return {key: value for key, value in recipe.model_dump(mode="json").items() if key not in free}


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise ConfigurationError("training needs accelerate; install it with: pip install 'mmagent[train]'") from error
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it tells of tied weights at each checkpoint
    if AcceleratorState._shared_state:  # of a run before in this process, whose precision may have been another
        AcceleratorState._reset_state()
    has_device = torch.cuda.is_available() or torch.backends.mps.is_available()
    return Accelerator(mixed_precision="bf16" if recipe.precision == "bf16" else "no", cpu=not has_device)
