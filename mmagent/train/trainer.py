"""The training run: prepare, step, check, save, resume. It knows batches and losses, not what they are about.

Processes, devices and precision are accelerate's: ``accelerate launch -m mmagent train RECIPE`` runs on many.
"""

from __future__ import annotations

import json
import logging
import math
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from mmagent.errors import ConfigurationError, MMAgentError, ModelError
from mmagent.evaluate.nano import machine
from mmagent.model.processor import build_processor
from mmagent.train.checkpoints import Checkpoints
from mmagent.train.encode import Batch, Encoder
from mmagent.train.folder import MARKS, claim, clear, replace
from mmagent.train.format import fingerprint
from mmagent.train.lesson import Lesson
from mmagent.train.network import find, prepare
from mmagent.train.optimize import Average, freeze, optimizers, schedule
from mmagent.train.packing import register
from mmagent.train.plot import lines
from mmagent.train.recipe import Recipe
from mmagent.train.stream import Mixture, Stream

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
    return Run(recipe, out, watch or Watch(), workers, resume=resume).go()


class Run:
    """The state of a run between steps."""

    def __init__(self, recipe: Recipe, out: Path, watch: Watch, workers: int, *, resume: bool = True) -> None:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        self.recipe, self.out, self.watch, self.workers, self.resume = recipe, out, watch, workers, resume
        self.accelerator = _accelerator(recipe)
        claim(out)
        self.checkpoints = Checkpoints(out / "checkpoints", self.made_by())
        if resume:
            self.checkpoints.agree()
        self.mixture = Mixture(recipe)  # what is wrong with its sources is said before anything takes time
        with self.accelerator.main_process_first():  # it learns the vocabulary, the others read it
            self.network, self.tokenizer = self.begin()
        self.encoder = self.make_encoder()
        lesson = self.make_lesson()
        made = optimizers(lesson, recipe)
        self.lesson, *self.optimizers = self.accelerator.prepare(lesson, *made)
        self.peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.average = Average(self.bare, recipe.ema) if recipe.ema else None
        self.tokens = 0
        self.running: dict[str, float] = {}

    @property
    def bare(self) -> Lesson:
        """The lesson without what wraps it for many processes."""
        lesson: Lesson = self.accelerator.unwrap_model(self.lesson)
        return lesson

    def made_by(self) -> dict[str, Any]:
        """What a checkpoint must agree with, defaults left out; how often is looked and saved may change."""
        free = {"about", "steps", "check_every", "check_samples", "save_every", "on_bad_row"}
        fields = self.recipe.model_dump(mode="json", exclude_defaults=True)
        return {key: value for key, value in fields.items() if key not in free}

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
        if lesson.marks and (place := self.recipe.parts.get("marks")):
            lesson.marks.take(find(place, self.out.parent).with_name(MARKS))
        freeze(lesson, self.recipe.train)
        return lesson

    def go(self) -> Path:
        """Train to the end and save the model.

        Raises:
            ConfigurationError: It is further already than it is to go.
        """
        if self.accelerator.is_main_process and not self.resume:
            clear(self.out)
        self.accelerator.wait_for_everyone()
        first, state = self.checkpoints.load(self.accelerator, self.average)
        self.tokens, self.running = state.get("tokens", 0), state.get("running", {})
        if first > self.recipe.steps:
            raise ConfigurationError(
                f"{self.out} is at step {first} already, of {self.recipe.steps}; give more steps, or start afresh with "
                "--fresh"
            )
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
        stream = Stream(recipe, self.encoder, accelerator.process_index, accelerator.num_processes, self.mixture)
        ahead: dict[str, Any] = {"num_workers": self.workers, "prefetch_factor": 3} if self.workers else {}
        left = torch.utils.data.Subset(stream, range(first, recipe.steps))
        apart = torch.Generator()  # the loader's own dice, so that those of dropout go on as they were saved
        loader: Any = torch.utils.data.DataLoader(left, batch_size=None, generator=apart, **ahead)
        since, learnt = time.monotonic(), self.tokens
        for step, batches in enumerate(loader, first):
            if isinstance(batches, MMAgentError):
                raise batches
            self.follow(self.step(step, batches))
            if (step + 1) % LOG_EVERY == 0 or step + 1 == recipe.steps:
                speed = (self.tokens - learnt) / (time.monotonic() - since)
                since, learnt = time.monotonic(), self.tokens
                rate = schedule(step, recipe)
                self.log(step + 1, self.running | {"rate": rate, "tokens_per_second": speed}, self.watch.stepped)
            if (step + 1) % recipe.check_every == 0:
                self.log(step + 1, self.check(), self.watch.checked)
            if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
                self._must_be_numbers(step)
                state = {"tokens": self.tokens, "running": self.running}
                self.checkpoints.save(accelerator, step + 1, state, self.average)
                self.save_model()

    def step(self, step: int, batches: list[Batch]) -> dict[str, float]:
        """One optimizer step; returns its losses and shares.

        Raises:
            ModelError: The loss is not a number; no weight was changed.
        """
        accelerator = self.accelerator
        mine = torch.tensor([batch.counts for batch in batches], device=accelerator.device).sum(0)
        totals = accelerator.reduce(mine, "sum").tolist()
        figures: dict[str, list[float]] = defaultdict(list)
        for index, batch in enumerate(batches):
            last = index + 1 == len(batches)
            with accelerator.no_sync(self.lesson) if not last else accelerator.autocast():
                with accelerator.autocast():
                    answers, many = self.lesson(batch), accelerator.num_processes
                    loss = self.bare.loss(answers, batch, totals, many)
                    if many > 1:  # each process must use every weight, or they wait for each other
                        loss = loss + 0.0 * sum(p.sum() for p in self.bare.parameters() if p.requires_grad)
                self._must_be_a_number(loss.item(), f"loss of step {step}, batch {index}", [batch])
                accelerator.backward(loss)
            for name, value in self.bare.figures(answers).items():
                figures[name].append(value)
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
        self.tokens += int(totals[0])
        means = {name: sum(values) / len(values) for name, values in figures.items() if values}
        return means | {"gradient": norm}

    def _must_be_a_number(self, value: float, what: str, batches: list[Batch]) -> None:
        if not math.isfinite(value):
            drawn = ", ".join(sorted({name for batch in batches for name in batch.sources}))
            raise self._diverged(f"the {what} (samples of {drawn}) is not a number")

    def _must_be_numbers(self, step: int) -> None:
        """No checkpoint is good whose weights are not."""
        for name, weight in self.bare.named_parameters():
            if not weight.isfinite().all():
                raise self._diverged(f"{name} after step {step} is not all numbers")

    def _diverged(self, what: str) -> ModelError:
        steps = self.checkpoints.steps()
        kept = "no checkpoint was written yet; lower matrix_lr and other_lr"
        if steps:
            kept = (
                f"the checkpoint of step {steps[-1]} is kept; go on from its model in another folder with lower rates: "
                f"--start {self.out / 'model'} --out ... --set matrix_lr=... --set other_lr=..."
            )
        return ModelError(f"{what}; {kept}, or look at the samples with: mmagent train preview")

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
        stream = Stream(self.recipe, self.encoder, mixture=self.mixture)
        right: dict[str, list[float]] = defaultdict(list)
        self.bare.eval()
        with self._averaged(), torch.no_grad(), self.accelerator.autocast():
            for _ in range(self.recipe.check_samples):
                example = stream.example(rng, self.recipe.steps - 1)
                answers = self.bare(self.encoder.collate([example]))
                for name, shares in self.bare.right(answers, example.source, self.encoder.end).items():
                    right[name] += shares
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
        path, part = self.out / "metrics.jsonl", self.out / "metrics.part"
        if path.exists():
            with self.checkpoints.writing(part):
                kept = [line for line in lines(path) if line["step"] <= step]
                part.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
                part.replace(path)

    def log(self, step: int, figures: dict[str, float], tell: Callable[[Progress], None]) -> None:
        """A line of ``metrics.jsonl``, and word to whoever watches."""
        if not self.accelerator.is_main_process:
            return
        rounded = {name: float(f"{value:.4g}") for name, value in figures.items()}
        with self.checkpoints.writing(), (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "tokens": self.tokens, **rounded}) + "\n")
        tell(Progress(step, self.recipe.steps, self.tokens, rounded))

    def save_model(self) -> None:
        """Write the model as it is: the average of the weights where there is one, in bfloat16, in shards of 15 MB."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            part, network = self.out / "model.part", self.network
            with self.checkpoints.writing(part):
                with self._averaged():
                    tied = set(network.all_tied_weights_keys)
                    whole = {name: t for name, t in network.state_dict().items() if name not in tied}
                    state = {name: t.detach().to("cpu", torch.bfloat16) for name, t in whole.items()}
                    dtype, network.config.dtype = network.config.dtype, torch.bfloat16
                    network.save_pretrained(part, state_dict=state, max_shard_size="15MB")
                    network.config.dtype = dtype
                    if self.bare.marks:
                        save_file(self.bare.marks.state_dict(), part / MARKS)
                self.write_processor(part)
                self.write_record(part)
                if self.bare.marks:
                    (part / MARKS).replace(self.out / MARKS)  # beside the model: it is no part of it
                replace(part, self.out / "model")
        self.accelerator.wait_for_everyone()

    def write_processor(self, folder: Path) -> None:
        """Write down beside a model how its inputs are made."""
        build_processor(self.tokenizer, self.network.config).save_pretrained(folder)

    def write_record(self, folder: Path) -> None:
        """Write down beside a model what made it."""
        record = {"recipe": self.recipe.model_dump(mode="json"), "tokens": self.tokens}
        record |= {"format": fingerprint(), "machine": machine()}
        (folder / "training.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, DistributedType
    except ImportError as error:
        raise ConfigurationError("training needs accelerate; install it with: pip install 'mmagent[train]'") from error
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)  # it tells of tied weights at each checkpoint
    if AcceleratorState._shared_state:  # of a run before in this process, whose precision may have been another
        AcceleratorState._reset_state()
    has_device = torch.cuda.is_available() or torch.backends.mps.is_available()
    made = Accelerator(mixed_precision="bf16" if recipe.precision == "bf16" else "no", cpu=not has_device)
    if made.distributed_type not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
        raise ConfigurationError(
            f"training cannot be spread by {made.distributed_type.value}: Muon and the average of the weights need "
            "whole matrices; launch it with --multi_gpu, which keeps the network on each device"
        )
    return made
