"""A model held to what nano is held to: skills one by one, and a report. It knows skills, not what they ask."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmagent.chat.local import LocalModel
from mmagent.engine.load import model_name
from mmagent.errors import InputError, MissingExtra, MMAgentError, NotFound
from mmagent.evaluate.skills import SKILLS, Score, Told, skill

HASHED = (
    "*.safetensors", "config.json", "generation_config.json", "processor_config.json", "tokenizer.json",
    "chat_template.jinja",
)  # fmt: skip
"""The files that decide what a model says."""


@dataclass(frozen=True)
class Measured:
    """What came of one skill."""

    skill: str
    scores: tuple[Score, ...] = ()
    skipped: tuple[str, ...] = ()
    """Why it, or a part of it, was not measured."""
    seconds: float = 0.0
    failed: bool = False
    """Whether an error ended it; ``skipped`` says which."""


@dataclass(frozen=True)
class Report:
    """Everything that was measured of a model, and where."""

    model: str
    """The name of its directory."""
    hash: str
    """Of its weights, configuration, vocabulary and template, see `model_hash`."""
    format: str
    """Of the prompt format that it was spoken to in, see `mmagent.train.format`."""
    date: str
    versions: dict[str, str]
    machine: str
    seed: int
    count: int | None
    """Questions of each skill; None: each skill's own number."""
    measured: tuple[Measured, ...] = field(default=())

    @property
    def scores(self) -> list[Score]:
        """All of them, in order."""
        return [score for one in self.measured for score in one.scores]

    @property
    def met(self) -> bool:
        """Whether every bar that was measured is reached, there was one, and no skill failed."""
        barred = [score.met for score in self.scores if score.met is not None]
        return bool(barred) and all(barred) and not any(one.failed for one in self.measured)

    def json(self) -> str:
        """For programs."""
        whole = asdict(self) | {"met": self.met}
        for one, kept in zip(whole["measured"], self.measured, strict=True):
            for row, score in zip(one["scores"], kept.scores, strict=True):
                row |= {"share": score.share, "met": score.met}
        return json.dumps(whole, ensure_ascii=False, indent=1)


def read_report(path: Path) -> Report:
    """A report that was written as JSON.

    Raises:
        NotFound: There is no such file.
        InputError: It is no report.
    """
    if not path.is_file():
        raise NotFound(f"there is no report {path}; write one with: mmagent eval nano --out {path}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        del values["met"]
        measured = tuple(_measured(one) for one in values.pop("measured"))
        return Report(**values, measured=measured)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no report of mmagent eval nano: {error}; write it again") from error


def _measured(values: dict[str, Any]) -> Measured:
    rows = [{key: value for key, value in row.items() if key not in ("share", "met")} for row in values["scores"]]
    scores = tuple(Score(**row | {"wrong": tuple(row["wrong"])}) for row in rows)
    return Measured(values["skill"], scores, tuple(values["skipped"]), values["seconds"], values.get("failed", False))


def choose(wanted: Iterable[str]) -> list[str]:
    """Skills in the order of the report; all where none is named.

    Raises:
        InputError: There is none of a name; the message lists them.
    """
    asked = set(wanted)
    if unknown := sorted(asked - SKILLS.keys()):
        raise InputError(f"there is no skill {unknown[0]!r}; choose from: {', '.join(SKILLS)}")
    return [name for name in SKILLS if not asked or name in asked]


def evaluate(
    model: LocalModel,
    folder: Path,
    names: Iterable[str] = (),
    *,
    count: int | None = None,
    seed: int = 0,
    began: Callable[[str, int, int], None] = lambda name, index, total: None,
    told: Told = lambda line: None,
    done: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Measure skills one after the other; what a skill lacks, or fails at, is told and does not stop the others.

    Args:
        model: The model under test.
        folder: Its directory.
        names: Skills; none is all.
        count: Questions of each; None: as many as each asks.
        seed: Decides the questions.
        began: Is told the name of a skill, its place from 0 and how many there are.
        told: Is told a line of progress now and then.
        done: Is told what came of all skills so far, after each.

    Raises:
        InputError: There is no skill of a name.
        ModelError: The model cannot be used.
    """
    from mmagent.train.format import fingerprint

    chosen = choose(names)
    model.load()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    known = (model_name(folder), model_hash(folder), fingerprint(), now, versions(), machine())
    report = Report(*known, seed, count)
    for index, name in enumerate(chosen):
        began(name, index, len(chosen))
        came = _measure(name, model, count, seed, told)
        report = replace(report, measured=(*report.measured, came))
        done(report)
    return report


def _measure(name: str, model: LocalModel, count: int | None, seed: int, told: Told) -> Measured:
    return measure(name, lambda heard: skill(name)(model, count=count, seed=seed, told=heard), told)


def measure(name: str, work: Callable[[Told], list[Score]], told: Told) -> Measured:
    """One skill; skipped where its data or a library is not there, failed where an error ended it.

    Args:
        name: Of the skill.
        work: Measures; it tells a line now and then, of what it leaves out one that begins with ``skipped``.
        told: Is told these lines.
    """
    notes: list[str] = []

    def heard(line: str) -> None:
        if line.startswith("skipped"):
            notes.append(line.removeprefix("skipped").lstrip(": "))
        told(line)

    since = time.monotonic()
    try:
        scores = work(heard)
    except (NotFound, MissingExtra) as error:
        return Measured(name, skipped=(*notes, str(error)))
    except MMAgentError as error:
        why = f"{type(error).__name__}: {error}"
        return Measured(name, (), (*notes, why), round(time.monotonic() - since, 1), failed=True)
    if not scores and not notes:
        notes.append("it measured nothing")
    return Measured(name, tuple(scores), tuple(notes), round(time.monotonic() - since, 1))


def model_hash(folder: Path) -> str:
    """The first 16 digits of a sha256 over what decides a model's words; its card and records do not count."""
    total = hashlib.sha256()
    for path in sorted({path for pattern in HASHED for path in folder.glob(pattern)}):
        total.update(f"{path.name}\0".encode())
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of what has a say in the figures."""
    from importlib.metadata import PackageNotFoundError, version
    from platform import python_version

    found = {"python": python_version()}
    for package in ("mmagent", "torch", "transformers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> str:
    """What the model runs on, the same for all machines of a kind: ``2 CPU cores``, or the GPU's name."""
    import torch

    from mmagent.settings import settings

    if settings().device in ("auto", "cuda") and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{cores} CPU core{'s' if cores > 1 else ''}"
