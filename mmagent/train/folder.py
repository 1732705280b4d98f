"""The folder of a run: what may lie in it, and what of it may go. It knows names of files, no weights and no steps."""

from __future__ import annotations

import shutil
from pathlib import Path

from mmagent.errors import ConfigurationError

PARTS = ("model.part", "adapter.part", "tokenizer.part", "metrics.part", "curves.svg.part")
"""What is being written, and is nothing until it has its own name."""
MARKS = "marks.safetensors"
"""The head that asks what stands where: no part of the model, but a later stage may go on with it."""
NAMES = {
    MARKS,
    *PARTS,
    "model",
    "model.old",
    "adapter",
    "adapter.old",
    "checkpoints",
    "tokenizer",
    "metrics.jsonl",
    "curves.svg",
}


def claim(out: Path) -> None:
    """Make the folder; it must be a run's, or empty: what a run replaces there is removed.

    Raises:
        ConfigurationError: Something else lies in it, or it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in out.iterdir())
    except OSError as error:
        raise ConfigurationError(
            f"{out} cannot be a run's folder ({error.strerror}); choose another one with --out"
        ) from error
    if others := [name for name in found if name not in NAMES]:
        raise ConfigurationError(f"{out} has {others[0]} in it, which is no run's; choose another folder with --out")
    for name, kept in (("model", "config.json"), ("adapter", "adapter_config.json"), ("tokenizer", "tokenizer.json")):
        if (out / name).exists() and not (out / name / kept).is_file():
            raise ConfigurationError(f"{out / name} is of no run: it has no {kept}; choose another folder with --out")


def clear(out: Path) -> None:
    """Remove what a run would go on with; its model stays until the new one is there."""
    shutil.rmtree(out / "checkpoints", ignore_errors=True)
    (out / "metrics.jsonl").unlink(missing_ok=True)


def tidy(out: Path) -> None:
    """Remove what was not written to its end."""
    for part in (*(out / name for name in PARTS), *(out / "checkpoints").glob("[0-9]*.part")):
        remove(part)


def remove(path: Path) -> None:
    """Remove a file or a folder, where there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def replace(part: Path, whole: Path) -> None:
    """Give a folder its own name; the one that had it before goes when the new one is there."""
    old = whole.with_name(whole.name + ".old")
    remove(old)
    if whole.exists():
        whole.rename(old)
    part.rename(whole)
    remove(old)
