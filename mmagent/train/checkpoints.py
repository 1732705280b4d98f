"""Checkpoints of a run as numbered folders, each whole or not there. It knows files and accelerate's state, no data."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mmagent.errors import ConfigurationError, MMAgentError, StoreError
from mmagent.train.folder import remove
from mmagent.train.optimize import Average

KEPT = 2
"""The newest; older ones go."""
_WRITING = re.compile("write|writing|inline_container|unexpected pos", re.IGNORECASE)
_STATE, _AVERAGE = "run.json", "average.safetensors"


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

    def save(self, accelerator: Any, step: int, state: dict[str, Any], average: Average | None = None) -> None:
        """Write a checkpoint of all processes; what was written before stays until it is whole.

        Args:
            accelerator: Has the module, optimizers and dice.
            step: Steps taken.
            state: What else is kept, as JSON.
            average: Of the weights, where there is one.

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
                if average:
                    state = state | {"averaged": average.count}
                    save_file(average.weights, part / _AVERAGE)
                self._finish(part, step, state)
        accelerator.wait_for_everyone()

    @contextmanager
    def writing(self, part: Path | None = None) -> Iterator[None]:
        """Say plainly that the disk is full, and take away what was written to a file or folder until then.

        Raises:
            StoreError: The disk is full, or cannot be written.
        """
        try:
            yield
        except (OSError, RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and not _WRITING.search(str(error)):  # torch's writer on a full disk
                raise
            if part:
                remove(part)
            raise self._unwritable(part or self.folder.parent, error) from error

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

    def agree(self) -> dict[str, Any] | None:
        """What was saved with the newest; None where there is none.

        Raises:
            ConfigurationError: It is of another recipe.
            StoreError: It is damaged.
        """
        steps = self.steps()
        if not steps:
            return None
        newest = self.folder / str(steps[-1])
        try:
            state: dict[str, Any] = json.loads((newest / _STATE).read_text(encoding="utf-8"))
            made_by = dict(state["made_by"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise self._damaged(newest) from error
        if made_by != self.made_by:
            differ = sorted(k for k in made_by | self.made_by if made_by.get(k) != self.made_by.get(k))
            raise ConfigurationError(
                f"{newest} is of a run that differs in {', '.join(differ)}; choose another folder with --out, or start "
                "afresh with --fresh"
            )
        return state

    def load(self, accelerator: Any, average: Average | None = None) -> tuple[int, dict[str, Any]]:
        """Take up the newest; returns the step to go on from, 0 where there is none, and what was saved with it.

        Raises:
            ConfigurationError: It is of another recipe.
            StoreError: It is damaged.
        """
        state = self.agree()
        if state is None:
            return 0, {}
        step = self.steps()[-1]
        newest = self.folder / str(step)
        try:
            accelerator.load_state(str(newest))
            if average:
                average.load(int(state["averaged"]), load_file(newest / _AVERAGE))
        except MMAgentError:
            raise
        except Exception as error:  # torch's, accelerate's and safetensors' on files that were changed or cut off
            raise self._damaged(newest) from error
        return step, state

    def _damaged(self, newest: Path) -> StoreError:
        before = self.steps()[:-1]
        where = f"to go on from step {before[-1]}" if before else "to begin anew"
        return StoreError(f"the checkpoint {newest} is damaged; remove that folder {where}")

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
