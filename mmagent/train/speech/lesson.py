"""What a network of Whisper's shape is asked of a batch, and how wrong it was. It knows one batch, no steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mmagent.train.packing import IGNORED
from mmagent.train.recipe import Losses
from mmagent.train.speech.encode import ALPHABET, PLACES, SOUNDS, HeardBatch

FLAT = 0.5
"""How much it counts that what is not known is not guessed, beside the text."""
_LEAST = 1e-3
"""Added to a share before its logarithm."""
_CLOSE = 10
"""Steps of 20 ms that a time may be off."""


@dataclass
class HeardAnswers:
    """What a pass over a batch came to; losses are not yet weighted."""

    text: torch.Tensor
    """Summed cross entropy of the tokens that count."""
    flat: torch.Tensor
    """Summed, of the even distribution, where nothing is to be known."""
    letters: torch.Tensor
    """Summed over rows, each the mean of its letters."""
    sounds: torch.Tensor
    """Summed cross entropy of the places whose sounds are known."""
    gaze: torch.Tensor
    """Summed over tokens, how little one head of each layer listens to where they are said (guided attention)."""
    told: float
    """Share of these, silence aside, that were told right; NaN where there were none."""
    wanted: torch.Tensor  # [M] the tokens that count
    got: torch.Tensor  # [M] the most likely token at each of them
    whole: list[bool]
    """Whether each row is right from its first token to its end; times may be a little off."""
    sure: float
    """The mean probability of the likeliest token where nothing is to be known; NaN where there is no such place."""


class SpeechLesson(nn.Module):
    """A network and its losses as one module."""

    marks = None

    def __init__(self, network: Any, losses: Losses) -> None:
        super().__init__()
        self.network, self.losses = network, losses
        self.sounds = nn.Linear(network.config.d_model, len(SOUNDS)) if losses.sounds else None
        self.letters = nn.Linear(network.config.d_model, len(ALPHABET) + 1) if losses.letters else None

    def forward(self, batch: HeardBatch) -> HeardAnswers:
        """One pass."""
        device = self.network.device
        features = batch.features.to(device)
        heard = self._hear(features)
        tokens, labels, flat = (each.to(device) for each in (batch.tokens, batch.labels, batch.flat))
        decoder = self.network.model.decoder
        looking = bool(self.losses.gaze)
        seen = decoder(input_ids=tokens, encoder_hidden_states=heard, use_cache=False, output_attentions=looking)
        states = seen.last_hidden_state
        gaze = gaze_of(seen.cross_attentions, batch.looks.to(device)) if looking else heard.new_zeros(())
        counted = labels != IGNORED
        logits = self.network.proj_out(states[counted]).float()
        text = F.cross_entropy(logits, labels[counted], reduction="sum")
        got = logits.argmax(1)
        right = counted.new_ones(labels.shape)
        right[counted] = self._agree(got, labels[counted])
        even, sure = text.new_zeros(()), float("nan")
        if flat.any():
            chances = self.network.proj_out(states[flat]).float().log_softmax(-1)
            even = -chances.mean(-1).sum()
            sure = float(chances.detach().amax(-1).exp().mean())
        letters, (sounds, told) = self._letters(heard, batch), self._sounds(heard, batch)
        return HeardAnswers(text, even, letters, sounds, gaze, told, labels[counted], got, right.all(1).tolist(), sure)

    def loss(self, answers: HeardAnswers, batch: HeardBatch, totals: Sequence[float], processes: int) -> torch.Tensor:
        """What a batch adds to the loss of its step, see `mmagent.train.lesson.Lesson.loss`."""
        _, counted, flat, rows, places, looks = (processes / max(1, total) for total in totals)
        loss = self.losses.text * (answers.text * counted + FLAT * answers.flat * flat)
        loss = loss + self.losses.letters * answers.letters * rows
        loss = loss + self.losses.sounds * answers.sounds * places
        return loss + self.losses.gaze * answers.gaze * looks

    def figures(self, answers: HeardAnswers) -> dict[str, float]:
        """What is told of a batch."""
        found: dict[str, float] = {}
        if len(answers.wanted):
            found["loss"] = answers.text.item() / len(answers.wanted)
        if self.letters is not None:
            found["letters"] = answers.letters.item() / max(1, len(answers.whole))
        if self.losses.gaze:
            found["gaze"] = answers.gaze.item() / max(1, len(answers.wanted))
        if math.isfinite(answers.told):
            found["sounds"] = answers.told
        if math.isfinite(answers.sure):
            found["sure of the unknown"] = answers.sure
        return found

    def right(self, answers: HeardAnswers, source: str, end: int) -> dict[str, list[float]]:
        """Shares that a check tells of: samples that are right to the end, by source."""
        figures = {"sure of the unknown": answers.sure, "sounds": answers.told}
        told = {name: [figure] for name, figure in figures.items() if math.isfinite(figure)}
        return {source: [float(whole) for whole in answers.whole], **told}

    def _hear(self, features: torch.Tensor) -> torch.Tensor:
        """The encoder on windows of any length; that of transformers takes whole ones."""
        encoder = self.network.model.encoder
        x = F.gelu(encoder.conv2(F.gelu(encoder.conv1(features)))).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            x = layer(x, None)
        heard: torch.Tensor = encoder.layer_norm(x)
        return heard

    def _agree(self, got: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        """Where tokens are the same, or times that are close."""
        first = int(self.network.generation_config.no_timestamps_token_id) + 1
        timed = (got >= first) & (wanted >= first)
        return (got == wanted) | (timed & ((got - wanted).abs() <= _CLOSE))

    def _sounds(self, heard: torch.Tensor, batch: HeardBatch) -> tuple[torch.Tensor, float]:
        wanted = batch.sounds.to(heard.device)
        known = wanted != IGNORED
        if self.sounds is None or not known.any():
            return heard.new_zeros((), dtype=torch.float32), float("nan")
        logits, names = self.sounds(heard[known]).float(), wanted[known]
        loss = F.cross_entropy(logits, names, reduction="sum")
        spoken = names > 0
        right = (logits.argmax(1) == names)[spoken]
        return loss, float(right.float().mean()) if len(right) else float("nan")

    def _letters(self, heard: torch.Tensor, batch: HeardBatch) -> torch.Tensor:
        rows = [row for row, letters in enumerate(batch.letters) if letters is not None]
        if self.letters is None or not rows:
            return heard.new_zeros((), dtype=torch.float32)
        chances = self.letters(heard[rows]).float().log_softmax(-1).transpose(0, 1)  # [places, rows, letters]
        wanted = [letters for letters in batch.letters if letters is not None]
        sizes = torch.tensor([len(letters) for letters in wanted])
        places = torch.full((len(rows),), chances.shape[0])
        losses = F.ctc_loss(
            chances, torch.cat(wanted).to(heard.device), places, sizes, reduction="none", zero_infinity=True
        )
        return (losses / sizes.clamp(min=1).to(losses.device)).sum()


def gaze_of(attended: Sequence[torch.Tensor], looks: torch.Tensor) -> torch.Tensor:
    """How little the first head of each layer listens to where tokens are said, summed over tokens.

    Args:
        attended: Of each layer, shares of the sound's places ``[B, heads, T, places]``.
        looks: Seconds between which tokens are said ``[B, T, 2]``; the second is 0 where that is not known.
    """
    known = looks[..., 1] > 0
    place = torch.arange(attended[0].shape[3], device=looks.device) / PLACES
    inside = (place >= looks[..., :1]) & (place <= looks[..., 1:])
    found = looks.new_zeros(())
    for layer in attended:
        share = (layer[:, 0].float() * inside).sum(-1)[known]
        found = found - (share + _LEAST).log().sum() / len(attended)
    return found
