"""Cases of the shop world as training samples, their pictures drawn. It knows no tokens and no trainer."""

from __future__ import annotations

from mmagent.train.sample import Draw, Share
from mmagent.train.shop.episodes import shop_episode


def shop(distractors: Share = 0.4, longer: Share = 0.5) -> Draw:
    """Conversations of a shop with its customers, with every tool call and result.

    Args:
        distractors: The share that is offered one to five tools that nothing needs, from 0 to 1.
        longer: The share that goes on with one or two questions on other things, from 0 to 1.
    """
    return lambda rng: shop_episode(rng, distractors, longer)
