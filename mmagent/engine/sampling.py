"""From logits to the next token. It knows one row of numbers, no tokens' meaning."""

from __future__ import annotations

import torch


class Sampler:
    """Chooses tokens; one instance draws one reproducible sequence.

    Args:
        temperature: 0 is greedy.
        top_p: Keep the most probable tokens that together reach this probability (nucleus, arXiv 1904.09751).
        top_k: Keep that many most probable tokens; 0 is no limit.
        seed: Makes the draws repeatable on any device.
    """

    def __init__(
        self, *, temperature: float = 0.0, top_p: float = 1.0, top_k: int = 0, seed: int | None = None
    ) -> None:
        self.temperature, self.top_p, self.top_k = temperature, top_p, top_k
        self._generator = torch.Generator()  # on the CPU: the same draws whatever the device
        if seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(seed)

    def sample(self, logits: torch.Tensor) -> int:
        """The next token out of logits ``[V]``; those of -inf are never drawn."""
        if self.temperature <= 0:
            return int(logits.argmax())
        scores = logits.float().cpu() / self.temperature  # [V]
        if 0 < self.top_k < scores.numel():
            kth = torch.topk(scores, self.top_k).values[-1]
            scores = scores.masked_fill(scores < kth, -torch.inf)
        probabilities = torch.softmax(scores, dim=-1)
        if self.top_p < 1:
            probabilities = _nucleus(probabilities, self.top_p)
        return int(torch.multinomial(probabilities, 1, generator=self._generator))


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    ordered, order = probabilities.sort(descending=True)
    before = ordered.cumsum(dim=-1) - ordered  # probability of all that is more probable
    return probabilities.masked_fill(torch.zeros_like(order, dtype=torch.bool).scatter(0, order, before >= top_p), 0)
