"""Cases of the shop world as training samples, their pictures drawn. It knows no tokens and no trainer."""

from __future__ import annotations

from mmagent.errors import ConfigurationError
from mmagent.train.sample import Draw
from mmagent.train.shop.episodes import shop_episode


def shop(distractors: float = 0.4, longer: float = 0.5) -> Draw:
    """Conversations of a shop with its customers, with every tool call and result.

    Args:
        distractors: The share that is offered one to five tools that nothing needs, from 0 to 1.
        longer: The share that goes on with one or two questions on other things, from 0 to 1.

    Raises:
        ConfigurationError: One of them is no share.
    """
    for name, share in (("distractors", distractors), ("longer", longer)):
        if not 0 <= share <= 1:
            raise ConfigurationError(f"{name} is {share}, and a share is meant; give one from 0 to 1")
    return lambda rng: shop_episode(rng, distractors, longer)
