"""What a network is asked of a batch, and how wrong it was. It knows one batch, no steps and no optimizer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from mmagent.errors import ConfigurationError
from mmagent.model import MMAgentForConditionalGeneration
from mmagent.model.stem import Stem
from mmagent.train.encode import Batch, normalise
from mmagent.train.gaze import Gaze, watched
from mmagent.train.marks import MarksHead
from mmagent.train.packing import IGNORED, Packed
from mmagent.train.recipe import Losses


@dataclass
class Answers:
    """What a pass over a batch came to; losses are sums or means as said, not yet weighted."""

    text: torch.Tensor
    """Summed cross entropy of the tokens that count."""
    contrastive: torch.Tensor
    marks: torch.Tensor
    gaze: torch.Tensor
    wanted: torch.Tensor  # [M] the tokens that count
    got: torch.Tensor  # [M] the most likely token at each of them
    characters: dict[str, float]
    """Share of the characters that were told right, by level; NaN where there were none."""
    matched: float
    """Share of pictures whose own caption fitted best; NaN where there were none."""
    looked: float
    """Share of looks at the right place; NaN where there were none."""


class Lesson(nn.Module):
    """A network and its losses as one module, so that whatever wraps a module for many processes wraps both."""

    def __init__(self, network: MMAgentForConditionalGeneration, losses: Losses) -> None:
        super().__init__()
        self.network = network
        self.losses = losses
        self.marks: MarksHead | None = None
        self._fine: torch.Tensor | None = None
        if losses.gaze and network.fusion is not None:
            raise ConfigurationError("losses.gaze needs fusion early, where pictures are tokens of the decoder")
        if losses.marks:
            levels = self._levels()
            self.marks = MarksHead(levels["patches"][1], levels)

    def forward(self, batch: Batch) -> Answers:
        """One pass; the head of words only where it counts."""
        device = self.network.device
        nothing = torch.zeros((), device=device)
        patches = tokens = None
        if len(batch.pixels):
            patches = self.network.vision_tower(normalise(batch.pixels.to(device)))  # [N, P, D_vision]
            if self.losses.text or self._asks("tokens"):
                tokens = self.network.connector(patches)  # [N, T, D_text]
        text, wanted, got = nothing, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
        gaze = self._gaze(batch)
        if self.losses.text and batch.counted:
            text, wanted, got = self._words(batch.packed, patches, tokens, gaze)
        contrastive, matched = nothing, float("nan")
        if self.losses.contrastive and patches is not None and batch.captions is not None:
            contrastive, matched = self._pairs(batch, patches)
        marks, characters = nothing, dict[str, float]()
        if self.marks is not None and patches is not None:
            features = {"stem": self._fine, "patches": patches, "tokens": tokens}
            marks, characters = self.marks({name: features[name] for name in self.marks.shapes}, batch.targets)
            self._fine = None
        looked = (nothing, float("nan")) if gaze is None else (gaze.loss, gaze.right)
        return Answers(text, contrastive, marks, looked[0], wanted, got, characters, matched, looked[1])

    def loss(self, answers: Answers, batch: Batch, totals: Sequence[float], processes: int) -> torch.Tensor:
        """What a batch adds to the loss of its step, which does not depend on how a step is cut into batches.

        Args:
            answers: To the batch.
            batch: Its own counts.
            totals: The counts of all batches of the step, of all processes.
            processes: How many there are; their gradients are averaged.
        """
        _, counted, marked, captioned, looked = (processes / max(1, total) for total in totals)
        loss = self.losses.text * answers.text * counted
        loss = loss + self.losses.contrastive * answers.contrastive * len(batch.captioned) * captioned
        loss = loss + self.losses.marks * answers.marks * batch.marked * marked
        return loss + self.losses.gaze * answers.gaze * len(batch.looks) * looked

    def figures(self, answers: Answers) -> dict[str, float]:
        """What is told of a batch: losses and shares, by name."""
        found: dict[str, float] = {}
        if len(answers.wanted):
            found["loss"] = answers.text.item() / len(answers.wanted)
        if self.losses.contrastive and math.isfinite(answers.matched):
            found |= {"contrastive": answers.contrastive.item(), "matched": answers.matched}
        if math.isfinite(answers.looked):
            found |= {"gaze": answers.gaze.item(), "looked": answers.looked}
        if self.losses.marks and any(map(math.isfinite, answers.characters.values())):
            shares = {f"characters {level}": share for level, share in answers.characters.items()}
            found |= {"marks": answers.marks.item(), **shares}
        return found

    def right(self, answers: Answers, source: str, end: int) -> dict[str, list[float]]:
        """Shares that a check tells of: the assistant's messages that are right token for token under the source."""
        shares = {f"characters {level}": share for level, share in answers.characters.items()}
        told = {name: [share] for name, share in (shares | {"looked": answers.looked}).items() if math.isfinite(share)}
        return {source: _messages_right(answers, end), **told}

    def _gaze(self, batch: Batch) -> Gaze | None:
        if not (self.losses.gaze and len(batch.looks)):
            return None
        return Gaze(batch.looks.to(self.network.device), watched(self.network.config.text_config.num_hidden_layers))

    def _asks(self, level: str) -> bool:
        return self.marks is not None and level in self.marks.shapes

    def _levels(self) -> dict[str, tuple[int, int]]:
        """Widths and sides of the features that characters are asked of.

        Raises:
            ConfigurationError: Tokens are asked for them that are no grid over the picture.
        """
        network, wanted = self.network, self.losses.marks_at
        vision = network.config.vision_config
        grid = int(vision.image_size) // int(vision.patch_size)
        levels = {"patches": (int(vision.hidden_size), grid)}
        if "stem" in wanted and self._watch_stem():
            levels["stem"] = (int(vision.stem_channels[-1]), 2 * grid)
        if "tokens" in wanted:
            side = math.isqrt(network.config.image_seq_length)
            if network.fusion is not None or side**2 != network.config.image_seq_length or grid % side:
                raise ConfigurationError(
                    "losses.marks_at has tokens, but this network's are no grid over the picture; take it out"
                )
            levels["tokens"] = (int(network.config.text_config.hidden_size), side)
        return levels

    def _watch_stem(self) -> bool:
        """Keep what the vision tower's stem makes on the way; whether there is a stem."""
        stem = getattr(getattr(self.network.vision_tower.encoder, "embeddings", None), "patch_embedding", None)
        if not isinstance(stem, Stem):
            return False

        def keep(_: nn.Module, __: Any, made: torch.Tensor) -> None:
            self._fine = made.flatten(2).transpose(1, 2)  # [N, P_fine, D_fine]

        stem.fine.register_forward_hook(keep)
        return True

    def _words(
        self, packed: Packed, patches: torch.Tensor | None, tokens: torch.Tensor | None, gaze: Gaze | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        network = self.network
        if network.fusion is not None:
            return self._words_beside(packed, patches, tokens)
        ids, labels = packed.input_ids.to(network.device), packed.labels[:, 1:].to(network.device)
        embedded = network.get_input_embeddings()(ids)  # embedded here, for the head is needed only where it counts
        if tokens is not None:
            mask = (ids == network.config.image_token_id).unsqueeze(-1)
            embedded = embedded.masked_scatter(mask, tokens.to(embedded.dtype))
        hidden = self._decode(packed, inputs_embeds=embedded, gaze=gaze)[:, :-1]
        counted = labels != IGNORED
        return _told(network.get_output_embeddings()(hidden[counted]), labels[counted])

    def _words_beside(
        self, packed: Packed, patches: torch.Tensor | None, tokens: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `_words`, a row for each sample: what stands beside a row is seen by all of it."""
        network = self.network
        ids, labels = packed.unpack(int(network.config.text_config.pad_token_id))
        outputs = None if patches is None or tokens is None else {"image": _encoded(patches, tokens)}
        made = network(input_ids=ids.to(network.device), mm_encoder_outputs=outputs, use_cache=False)
        wanted = labels[:, 1:].to(network.device)
        counted = wanted != IGNORED
        return _told(made.logits[:, :-1][counted], wanted[counted])

    def _decode(self, packed: Packed, **given: Any) -> torch.Tensor:
        decoder = self.network.get_decoder()
        places = packed.position_ids.to(self.network.device)
        made = decoder(**given, position_ids=places, use_cache=False, lengths=packed.lengths)
        hidden: torch.Tensor = made.last_hidden_state  # [1, T, D]
        return hidden

    def _pairs(self, batch: Batch, patches: torch.Tensor) -> tuple[torch.Tensor, float]:
        head = self.network.contrastive
        assert head is not None and batch.captions is not None
        hidden = self._decode(batch.captions, input_ids=batch.captions.input_ids.to(patches.device))[0]
        each = nn.utils.rnn.pad_sequence(hidden.split(batch.captions.lengths), batch_first=True)  # [N, L, D]
        mask = torch.arange(each.shape[1], device=each.device) < torch.tensor(
            batch.captions.lengths, device=each.device
        ).unsqueeze(1)
        texts = head.embed_texts(each, mask).float()
        images = head.embed_images(patches[batch.captioned]).float()
        best = (images @ texts.T).argmax(1)
        matched = (best == torch.arange(len(best), device=best.device)).float().mean()
        return head.loss(images, texts), float(matched)


def _told(logits: torch.Tensor, wanted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The summed loss of logits ``[M, V]``, what was wanted ``[M]``, and what was most likely ``[M]``."""
    return F.cross_entropy(logits.float(), wanted, reduction="sum"), wanted, logits.argmax(-1)


def _encoded(patches: torch.Tensor, tokens: torch.Tensor) -> Any:
    from transformers.modeling_outputs import BaseModelOutputWithPooling

    return BaseModelOutputWithPooling(last_hidden_state=patches, pooler_output=tokens)


def _messages_right(answers: Answers, end: int) -> list[float]:
    ends = (answers.wanted == end).nonzero().flatten().tolist()
    spans = zip([0, *(place + 1 for place in ends)], (place + 1 for place in ends), strict=False)
    return [float((answers.wanted[a:b] == answers.got[a:b]).all()) for a, b in spans]
