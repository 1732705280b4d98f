"""What nano is held to, skill by skill, on seeds and files that training never saw. Each is a function of a model.

To add one: write ``mmagent/evaluate/skills/NAME.py`` with a function as `Skill` says, and name it here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol

from mmagent.chat.local import LocalModel

SKILLS: dict[str, str] = {
    "scenes": "mmagent.evaluate.skills.scenes:scenes",
    "nlvr": "mmagent.evaluate.skills.nlvr:nlvr",
    "reading": "mmagent.evaluate.skills.reading:reading",
    "shop": "mmagent.evaluate.skills.shop:shop",
    "sgd": "mmagent.evaluate.skills.sgd:sgd",
    "grounding": "mmagent.evaluate.skills.grounding:grounding",
    "beyond": "mmagent.evaluate.skills.beyond:beyond",
    "pairs": "mmagent.evaluate.skills.pairs:pairs",
    "bfcl": "mmagent.evaluate.skills.bfcl:bfcl",
    "when2call": "mmagent.evaluate.skills.when2call:when2call",
    "intents": "mmagent.evaluate.skills.intents:intents",
    "speed": "mmagent.evaluate.skills.speed:speed",
}
"""Name of a skill → where the function is that measures it; in the order of the report."""


@dataclass(frozen=True)
class Score:
    """How much of one thing was right."""

    name: str
    """What was asked, as the report says it: ``scenes: count``."""
    right: float
    """How many were right; of a figure that is no share, the figure."""
    total: int
    """Of how many; 0 where the figure is no share."""
    bar: float | None = None
    """The share (or figure) that is wanted; None where it is only reported."""
    unit: str = ""
    """Of a figure that is no share: ``s``."""
    wrong: tuple[str, ...] = field(default=(), compare=False)
    """Some of what went wrong, a line each: question, answer, what was wanted."""
    note: str = field(default="", compare=False)
    """What else must be known to read the figure."""

    @property
    def share(self) -> float:
        """From 0 to 1; the figure itself where it is no share."""
        return self.right / self.total if self.total else self.right

    @property
    def met(self) -> bool | None:
        """Whether the bar is reached; None where there is none. A figure with a unit must not be above it."""
        if self.bar is None:
            return None
        return self.share <= self.bar if self.unit else self.share >= self.bar


Told = Callable[[str], None]
"""Is told a line of progress now and then."""


class Skill(Protocol):
    """Measures a model. ``count`` limits the questions; None is the skill's own number."""

    def __call__(self, model: LocalModel, *, count: int | None, seed: int, told: Told) -> list[Score]: ...


def skill(name: str) -> Skill:
    """The skill of that name; `SKILLS` lists them."""
    module, function = SKILLS[name].split(":")
    found: Skill = getattr(import_module(module), function)
    return found
