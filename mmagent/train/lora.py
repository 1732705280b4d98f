"""Adapters on a decoder that stays as it is: ours, or any that transformers has the code for. It knows what is
saved and which weights learn; steps, checks and resuming are `mmagent.train.trainer`'s.
"""

from __future__ import annotations

import multiprocessing
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmagent.engine import load as engine
from mmagent.engine.hub import HUB_ID
from mmagent.errors import ConfigurationError
from mmagent.evaluate.nano import model_hash
from mmagent.train.encode import Encoder
from mmagent.train.folder import replace
from mmagent.train.foreign import ForeignLesson, TemplateEncoder
from mmagent.train.lesson import Lesson
from mmagent.train.network import find, is_ours
from mmagent.train.recipe import Recipe
from mmagent.train.trainer import Run, Watch

LARGE = 300_000_000
"""Parameters from which activations are computed twice rather than kept."""
_STATE = "model.safetensors"
"""Where accelerate keeps a module's weights in a checkpoint."""


def train_lora(
    recipe: Recipe,
    out: Path,
    *,
    resume: bool = True,
    watch: Watch | None = None,
    workers: int = 1,
    merge: bool = True,
    recompute: bool | None = None,
) -> Path:
    """Train adapters into ``out/adapter``, and the model with them merged into ``out/model``.

    Args:
        recipe: Of the stage ``lora``; it starts from ``nano``, another recipe's run, a directory, or a hub id.
        out: The run's own folder.
        resume: Go on from the newest checkpoint there; checkpoints hold the adapters alone.
        watch: Is told how it goes.
        workers: Processes that make batches ahead; 0 makes them in this one.
        merge: Whether to save the merged model, too.
        recompute: Whether to compute activations again rather than keep them, which takes a third more time and far
            less memory (gradient checkpointing); None does so for large networks.

    Returns:
        The directory of the merged model, which ``--model`` takes, or of the adapter.

    Raises:
        ConfigurationError: The recipe does not fit the folder or the model, or peft is not installed.
        NotFound: The model is not on this machine.
        ModelError: The model's files are damaged, or the loss is not a number.
        StoreError: A checkpoint cannot be written; the last one is kept.
    """
    _check(recipe)
    made = LoraRun(recipe, out, watch or Watch(), workers, resume=resume, merge=merge, recompute=recompute)
    return made.go()


class LoraRun(Run):
    """A run in which adapters learn and nothing else does."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        watch: Watch,
        workers: int,
        *,
        resume: bool,
        merge: bool,
        recompute: bool | None,
    ) -> None:
        assert recipe.start is not None
        self.folder = _folder(recipe.start, out.parent)
        self.ours = is_ours(self.folder)
        self.merge, self.recompute = merge, recompute
        if not self.ours and multiprocessing.get_start_method() != "fork":
            workers = 0  # processors of other families cannot be sent to another process
        super().__init__(recipe, out, watch, workers, resume=resume)
        self.accelerator.register_save_state_pre_hook(self._keep_adapters)
        self.accelerator.register_load_state_pre_hook(self._load_adapters)

    def begin(self) -> tuple[Any, Any]:
        """The network, with adapters that do nothing yet, and its tokenizer."""
        if self.ours:
            network, tokenizer = super().begin()
        else:
            torch.manual_seed(self.recipe.seed)
            self.watch.said(f"starting from {self.folder}")
            dtype = "bfloat16" if self.recipe.precision == "bf16" else "float32"
            self.loaded = engine.load(self.folder, "cpu", dtype)
            network, tokenizer = self.loaded.model, self.loaded.tokenizer
        self.adapted = add_adapters(network, self.recipe)
        size = sum(parameter.numel() for parameter in network.parameters())
        if self.recompute or (self.recompute is None and size > LARGE):
            network.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        return network.train(), tokenizer

    def make_encoder(self) -> Encoder:
        """Through the model's own template, where it is not ours."""
        return super().make_encoder() if self.ours else TemplateEncoder(self.loaded)

    def make_lesson(self) -> Lesson:
        """The network and its loss; adapters alone require gradients."""
        return (Lesson if self.ours else ForeignLesson)(self.network, self.recipe.losses)

    def made_by(self) -> dict[str, Any]:
        """Adapters fit the weights that they were learnt on alone."""
        return super().made_by() | {"weights": model_hash(self.folder)}

    def go(self) -> Path:
        """Train to the end and save the adapters and, where that is wanted, the merged model."""
        super().go()
        return self.save_merged() if self.merge else self.out / "adapter"

    def save_model(self) -> None:
        """Write the adapters: the average of their weights where there is one."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            part = self.out / "adapter.part"
            with self.checkpoints.writing(part):
                with self._averaged():
                    self.adapted.save_pretrained(part, save_embedding_layers=False)
                replace(part, self.out / "adapter")
        self.accelerator.wait_for_everyone()

    def save_merged(self) -> Path:
        """Write the model with the adapters merged into it; the run is over then."""
        self.watch.said("merging the adapters into the model")
        if self.average:  # for good: what is merged cannot be exchanged any more
            self.average.swap(self.bare)
            self.average = None
        self.adapted.merge_and_unload()
        folder = self.out / "model"
        if self.ours:
            super().save_model()
        elif self.accelerator.is_main_process:
            part = self.out / "model.part"
            with self.checkpoints.writing(part):
                self.network.save_pretrained(part)
                copy_companions(self.folder, part)
                self.write_record(part)
                replace(part, folder)
        self.accelerator.wait_for_everyone()
        return folder

    def _keep_adapters(self, models: list[nn.Module], weights: list[dict[str, torch.Tensor]], folder: str) -> None:
        """Leave only what learns in a checkpoint; the rest is where the run started from."""
        learns = {name for name, parameter in self.bare.named_parameters() if parameter.requires_grad}
        for each in weights:
            for name in [name for name in each if name not in learns]:
                del each[name]

    def _load_adapters(self, models: list[nn.Module], folder: str) -> None:
        from safetensors.torch import load_file

        while models:  # what is left here would be loaded as a whole
            module, kept = self.accelerator.unwrap_model(models.pop()), load_file(Path(folder) / _STATE)
            if kept.keys() != {name for name, parameter in module.named_parameters() if parameter.requires_grad}:
                raise KeyError("adapters of other matrices")
            module.load_state_dict(kept, strict=False)


def add_adapters(network: Any, recipe: Recipe) -> Any:
    """Put adapters on a decoder's matrices, in place; nothing else requires gradients then.

    Returns:
        The network as peft knows it, which saves and merges adapters.

    Raises:
        ConfigurationError: The decoder has no matrices of the names that the recipe gives.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise ConfigurationError("adapters need peft; install it with: pip install 'mmagent[train]'") from error
    assert recipe.lora is not None
    lora, decoder = recipe.lora, network.get_decoder()
    prefix = next(name for name, module in network.named_modules() if module is decoder)
    there = sorted({name.rpartition(".")[2] for name, module in decoder.named_modules() if _is_matrix(module)})
    targets = there if lora.targets == "all-linear" else lora.targets
    if wrong := [name for name in targets if name not in there]:
        raise ConfigurationError(
            f"lora.targets: the decoder has no matrix {wrong[0]!r}; choose some of: {', '.join(there)}, or all-linear"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]  # peft multiplies with it
        lora_dropout=lora.dropout,
        target_modules=rf"{re.escape(prefix)}\.(.*\.)?({'|'.join(map(re.escape, targets))})",
    )
    adapted = get_peft_model(network, config)
    if recipe.start and HUB_ID.fullmatch(recipe.start) and not Path(recipe.start).exists():
        adapted.peft_config["default"].base_model_name_or_path = recipe.start  # not the folder of this machine's cache
    return adapted


def copy_companions(source: Path, target: Path) -> None:
    """Copy what belongs to a model and is neither weights nor configuration: tokenizer, processor, template."""
    own = {"config.json", "generation_config.json", "training.json"}
    for path in sorted(source.iterdir()):
        fits = path.suffix in (".json", ".jinja", ".model", ".spm", ".txt")
        if fits and path.is_file() and path.name not in own and not path.name.endswith(".index.json"):
            shutil.copyfile(path, target / path.name)


def _is_matrix(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D)


def _folder(start: str, runs: Path) -> Path:
    """The directory of the model that a recipe starts from."""
    try:
        return find(start, runs)
    except ConfigurationError:
        if not HUB_ID.fullmatch(start):
            raise
        return engine.find_folder(start)


def _check(recipe: Recipe) -> None:
    """Refuse what makes no sense for adapters."""
    wrong = {
        "stage": recipe.stage != "lora",
        "start": recipe.start is None,
        "shape": recipe.shape is not None,
        "parts": bool(recipe.parts),
        "losses.contrastive": bool(recipe.losses.contrastive),
        "losses.marks": bool(recipe.losses.marks),
        "losses.gaze": bool(recipe.losses.gaze),
    }
    for name, is_wrong in wrong.items():
        if is_wrong:
            raise ConfigurationError(
                f"{name}: adapters are trained at the stage lora, from weights (start) that keep their shape, on text "
                "alone; correct the recipe, or choose another stage"
            )
