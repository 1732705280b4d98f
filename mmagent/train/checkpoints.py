"""Checkpoints of a run as numbered folders, each whole or not there. It knows files and accelerate's state, no data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from mmagent.errors import ConfigurationError, StoreError

KEPT = 2
"""The newest; older ones go."""
_STATE = "run.json"


class Checkpoints:
    """The checkpoints in a folder.

    Args:
        folder: Holds one folder for each, named by its step.
        made_by: What a checkpoint must agree with to be taken up.
    """

    def __init__(self, folder: Path, made_by: dict[str, Any]) -> None:
        self.folder, self.made_by = folder, made_by

    def steps(self) -> list[int]:
        """Of those that are whole, the newest last."""
        if not self.folder.is_dir():
            return []
        return sorted(int(path.name) for path in self.folder.iterdir() if path.name.isdigit())

    def save(self, accelerator: Any, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint of all processes; what was written before stays until it is whole.

        Raises:
            StoreError: The disk is full, or cannot be written.
        """
        part = self.folder / f"{step}.part"
        with self.writing(part):
            if accelerator.is_main_process:
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir(parents=True)
            accelerator.wait_for_everyone()
            accelerator.save_state(str(part), safe_serialization=True)
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                self._finish(part, step, state)
        accelerator.wait_for_everyone()

    @contextmanager
    def writing(self, part: Path) -> Iterator[None]:
        """Take away what was written to a folder that cannot be finished.

        Raises:
            StoreError: The disk is full, or cannot be written.
        """
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, RuntimeError) and "write" not in str(error).lower():  # torch's writer on a full disk
                raise
            raise self._unwritable(part, error) from error

    def _finish(self, part: Path, step: int, state: dict[str, Any]) -> None:
        (part / _STATE).write_text(json.dumps({"made_by": self.made_by, **state}), encoding="utf-8")
        for path in part.rglob("*"):
            if path.is_file():
                _sync(path)
        target = self.folder / str(step)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
        _sync(self.folder)
        for old in self.steps()[:-KEPT]:
            shutil.rmtree(self.folder / str(old), ignore_errors=True)

    def load(self, accelerator: Any) -> tuple[int, dict[str, Any]]:
        """Take up the newest; returns the step to go on from, 0 where there is none, and what was saved with it.

        Raises:
            ConfigurationError: It is of another recipe.
        """
        steps = self.steps()
        if not steps:
            return 0, {}
        newest = self.folder / str(steps[-1])
        state: dict[str, Any] = json.loads((newest / _STATE).read_text(encoding="utf-8"))
        if state["made_by"] != self.made_by:
            differ = sorted(key for key in self.made_by if state["made_by"].get(key) != self.made_by[key])
            raise ConfigurationError(
                f"{newest} is of a run that differs in {', '.join(differ)}; choose another folder with --out, or start "
                "afresh with --fresh"
            )
        accelerator.load_state(str(newest))
        return steps[-1], state

    def _unwritable(self, part: Path, error: Exception) -> StoreError:
        last = self.steps()
        kept = f"the checkpoint of step {last[-1]} is whole" if last else "no checkpoint was written yet"
        return StoreError(
            f"{part} cannot be written ({error}); {kept}; make room on the disk, and run the "
            "same command again to go on"
        )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
