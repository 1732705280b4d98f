"""The shop task through the real agent, with a score for each kind of case. It knows the bar, not what is right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from mmagent.chat.local import LocalModel
from mmagent.chat.protocol import ChatModel
from mmagent.errors import NotFound
from mmagent.evaluate.shop import Outcome, evaluate
from mmagent.evaluate.skills import Score, Told

BAR = 0.90
COUNT = 1000
SHOWN = 12
"""Of what went wrong, how many a score tells."""
TOOLS = Path(__file__).parents[3] / "examples" / "shop" / "tools.py"


def shop(model: LocalModel, *, count: int | None = None, seed: int = 0, told: Told = lambda _: None) -> list[Score]:
    """Unseen cases in unseen wordings, two in five with tools beside that nothing needs.

    Raises:
        NotFound: The example shop is not beside the package.
    """
    outcomes = play(model, COUNT if count is None else count, seed, told)
    total = Counter(outcome.group for outcome in outcomes)
    right = Counter(outcome.group for outcome in outcomes if not outcome.wrong)
    scores = [Score("shop task", right.total(), len(outcomes), BAR, wrong=wrong_of(outcomes))]
    for group in sorted(total):
        wrong = wrong_of([outcome for outcome in outcomes if outcome.group == group])
        scores.append(Score(f"shop task: {group}", right[group], total[group], wrong=wrong))
    return scores


def play(model: ChatModel, count: int, seed: int, told: Told) -> list[Outcome]:
    """The outcomes of ``count`` cases; ``told`` hears of every fiftieth.

    Raises:
        NotFound: The example shop is not beside the package.
    """
    if not TOOLS.is_file():
        raise NotFound(f"there is no {TOOLS}, whose tools the shop task calls; run it from a copy of the repository")
    done: list[Outcome] = []

    def progress(outcome: Outcome) -> None:
        done.append(outcome)
        if len(done) % 50 == 0:
            told(f"shop task: {sum(not one.wrong for one in done)} of {len(done)} right")

    return evaluate(model, TOOLS, count=count, seed=seed, progress=progress)


def wrong_of(outcomes: list[Outcome]) -> tuple[str, ...]:
    """Some of what went wrong, a line each."""
    return tuple(f"{one.kind} ({one.seed}): {one.wrong}" for one in outcomes if one.wrong)[:SHOWN]
