"""Token after token, by the rules of Whisper: times in pairs that never fall. It knows logits and tokens, no sound.

The rules are those of the released Whisper: the first token is a time of at most a second; a time that ends words is
followed by one or by the end; and where all times together are more likely than any word, a time comes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmagent.speech.engines.base import Answer, Prompt
from mmagent.speech.engines.tokens import FIRST_WITHIN, Tokens

if TYPE_CHECKING:
    from mmagent.speech.engines.network import Network

_NEVER = float("-inf")


@dataclass
class _Row:
    """What the network says to a window."""

    no_speech: float
    tokens: list[int] = field(default_factory=list)
    logprob: float = 0.0
    """Of all tokens and the end."""
    ended: bool = False


@torch.inference_mode()
def decode(network: Network, heard: Tensor, tokens: Tokens, prompt: Prompt) -> list[Answer]:
    """Decode windows, all in one batch; those that have ended leave it.

    Args:
        network: The network.
        heard: What the encoder made of the windows ``[B, places, width]``.
        tokens: The vocabulary.
        prompt: What comes before, and how to go on: greedy, or drawn, the same each time.
    """
    state = network.start(heard, len(prompt.tokens) + prompt.most)
    given = torch.tensor([prompt.tokens] * len(heard), device=heard.device)
    first = network.step(state, given, [prompt.start, len(prompt.tokens) - 1])
    silent = first[:, 0].softmax(-1)[:, tokens.no_speech or 0].tolist()
    rows = [_Row(chance if tokens.no_speech is not None else 0.0) for chance in silent]
    going, chooser, logits = rows, _Chooser(tokens, prompt.ask.temperature, heard.device), first[:, 1]
    for count in range(1, prompt.most + 1):
        chosen = chooser.choose(logits, going)
        left = [index for index, row in enumerate(going) if not row.ended]
        if not left or count == prompt.most:
            break
        if len(left) <= len(going) // 2:  # until then an ended row costs less than copying the others
            kept = torch.tensor(left, device=heard.device)
            state, chosen, going = state.keep(kept), chosen[kept], [going[index] for index in left]
        logits = network.step(state, chosen[:, None], [0])[:, 0]
    return [Answer(row.tokens, row.logprob / (len(row.tokens) + 1), row.no_speech) for row in rows]


class _Chooser:
    """Chooses the next token of each row."""

    def __init__(self, tokens: Tokens, temperature: float, device: torch.device) -> None:
        self._tokens, self._temperature = tokens, temperature
        self._suppressed = torch.tensor(tokens.suppressed, device=device)
        self._random = torch.Generator(device).manual_seed(0) if temperature > 0 else None

    def choose(self, logits: Tensor, rows: list[_Row]) -> Tensor:
        """Append to each row that goes on; ``[B, vocabulary]``, changed, to ``[B]``."""
        times = self._tokens.first_time
        logits[:, self._suppressed] = _NEVER
        for scores, row in zip(logits, rows, strict=True):
            self._forbid(scores, row.tokens)
        words, moments = logits[:, :times], logits[:, times:]
        forced = moments.logsumexp(1) > words.amax(1)  # all times together are more likely than any word
        words.masked_fill_(forced[:, None], _NEVER)
        if self._random is None:
            chosen = logits.argmax(1)
        else:
            chances = torch.softmax(logits / self._temperature, 1)
            chosen = torch.multinomial(chances, 1, generator=self._random)[:, 0]
        gains = logits.gather(1, chosen[:, None])[:, 0] - logits.logsumexp(1)
        for row, token, gain in zip(rows, chosen.tolist(), gains.tolist(), strict=True):
            if not row.ended:
                row.logprob += gain
                row.ended = token == self._tokens.end
                row.tokens += [] if row.ended else [token]
        return chosen

    def _forbid(self, scores: Tensor, said: list[int]) -> None:
        """Take away what may not follow."""
        times = self._tokens.first_time
        if not said:
            scores[:times] = _NEVER
            scores[times + FIRST_WITHIN + 1 :] = _NEVER
            return
        ends = said[-1] >= times
        begins = ends and (len(said) < 2 or said[-2] >= times)
        if begins:
            scores[times:] = _NEVER
        elif ends:
            scores[: self._tokens.end] = _NEVER
        if latest := next((token for token in reversed(said) if token >= times), None):
            scores[times : latest + (0 if ends and not begins else 1)] = _NEVER
