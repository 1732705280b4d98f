"""The generation loop: prefill what is new, then mask, sample, accept, one token at a time. It knows one sequence of
tokens and the caches, no text, messages or tools.

    prompt ─ keys ─► PrefixCache ──► forward(rest) ─► logits ─► grammar.mask ─► sampler ─► token ─┐
                     FeatureCache ─►      ▲                                                       │
                                          └───── token + the tokens the grammar forces ◄──────────┘
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from threading import Event
from typing import TYPE_CHECKING, Any, Literal

import torch

from mmagent.engine.cache import PrefixCache
from mmagent.engine.features import (
    FeatureCache,
    Features,
    as_encoder_outputs,
    encode_picture,
    supports_features,
    token_count,
)
from mmagent.engine.prompt import Prompt, keep_tokens
from mmagent.errors import ContextOverflow, ModelError
from mmagent.events import Usage

if TYPE_CHECKING:
    from transformers import DynamicCache

    from mmagent.engine.grammar import Grammar
    from mmagent.engine.load import Loaded
    from mmagent.engine.sampling import Sampler


@dataclass
class _Sequence:
    tokens: list[int]
    keys: list[Hashable]
    past: DynamicCache
    inputs: dict[str, Any]
    """What the first pass takes beside token ids."""


class Decoder:
    """Runs one loaded network, one sequence at a time, and remembers what it computed.

    Networks whose positions or masks depend on their pictures (Qwen-VL, Gemma 3 ...), and those whose cache cannot be
    cropped (sliding windows, state spaces), run each prompt from its beginning; all others reuse features and prefixes.

    Args:
        loaded: The network.
        prefix_cache_bytes: Of keys and values kept after a sequence.
        feature_cache_bytes: Of picture features kept.
    """

    def __init__(self, loaded: Loaded, *, prefix_cache_bytes: int, feature_cache_bytes: int) -> None:
        self.loaded = loaded
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self.features = FeatureCache(feature_cache_bytes)
        self.reuses = _can_crop(loaded) and (loaded.processor is None or supports_features(loaded.model))
        self._keeps_logits = "logits_to_keep" in inspect.signature(loaded.model.forward).parameters

    def restore(self, prompt: Prompt) -> Prompt:
        """The prompt with earlier answers in it spelt by the very tokens that were generated."""
        if not self.reuses:
            return prompt
        ids = keep_tokens(prompt.ids, self.prefixes.sequences(), self.loaded.vocabulary.spell)
        return Prompt(ids, prompt.pictures, prompt.inputs)

    def generate(
        self, prompt: Prompt, *, grammar: Grammar, sampler: Sampler, max_tokens: int, cancelled: Event | None = None
    ) -> Generation:
        """Answer a prompt; nothing runs before the result is iterated over.

        Raises:
            ContextOverflow: The prompt leaves no room for an answer.
        """
        room = self.loaded.context_length - len(prompt.ids)
        if room <= 0:
            raise ContextOverflow(
                f"the prompt has {len(prompt.ids)} tokens and {self.loaded.name} takes {self.loaded.context_length}; "
                "shorten the conversation or the tools' output, or use a model with a longer context"
            )
        return Generation(self, prompt, grammar, sampler, min(max_tokens, room), cancelled or Event())

    def open(self, prompt: Prompt) -> _Sequence:
        """A sequence with as many keys and values as are known."""
        from transformers import DynamicCache

        if not self.reuses:
            inputs = {name: value for name, value in prompt.inputs.items() if name != "input_ids"}
            past = DynamicCache(config=self.loaded.model.config)
            return _Sequence(list(prompt.ids), list(prompt.ids), past, inputs)
        keys, pictures = self._keys(prompt)
        known, reused = self.prefixes.take(keys)
        past = known or DynamicCache(config=self.loaded.model.config)
        new = [features for start, features in pictures if start >= reused]
        inputs = {"mm_encoder_outputs": as_encoder_outputs(new)} if new else {}
        return _Sequence(list(prompt.ids), keys, past, inputs)

    @torch.no_grad()
    def forward(self, tokens: list[int], past: DynamicCache, inputs: dict[str, Any]) -> torch.Tensor:
        """Run the network on tokens that follow those of ``past``; logits ``[V]`` of the last."""
        device = self.loaded.device
        moved = {name: value.to(device) if torch.is_tensor(value) else value for name, value in inputs.items()}
        if "pixel_values" in moved:
            moved["pixel_values"] = moved["pixel_values"].to(self.loaded.dtype)
        if self._keeps_logits:
            moved["logits_to_keep"] = 1
        ids = torch.tensor([tokens], device=device)  # [1, L]
        logits: torch.Tensor = self.loaded.model(input_ids=ids, past_key_values=past, use_cache=True, **moved).logits
        return logits[0, -1]

    def _keys(self, prompt: Prompt) -> tuple[list[Hashable], list[tuple[int, Features]]]:
        """The prompt's token keys, and where each picture starts."""
        keys: list[Hashable] = list(prompt.ids)
        starts: list[tuple[int, Features]] = []
        if prompt.pictures:
            placeholder = self.loaded.model.config.image_token_id
            places = [index for index, token in enumerate(prompt.ids) if token == placeholder]
            for picture in prompt.pictures:
                features = self._encode(picture.key, picture.image)
                mine, places = places[: token_count(features)], places[token_count(features) :]
                if not mine:
                    raise ModelError(f"the prompt of {self.loaded.name} has too few places for its pictures")
                starts.append((mine[0], features))
                for index in mine:
                    keys[index] = picture.key
        return keys, starts

    def _encode(self, key: str, image: Any) -> Features:
        features = self.features.get(key)
        if features is None:
            features = encode_picture(self.loaded, image)
            self.features.put(key, features)
        return features


class Generation:
    """One answer: iterate over it for its tokens, the end token included. Closing the iterator ends it."""

    stop: Literal["end", "length", "cancelled"] = "cancelled"
    """Why it ended."""

    def __init__(
        self, decoder: Decoder, prompt: Prompt, grammar: Grammar, sampler: Sampler, limit: int, cancelled: Event
    ) -> None:
        self._decoder, self._prompt, self._grammar, self._sampler = decoder, prompt, grammar, sampler
        self._limit, self._cancelled = limit, cancelled
        self._cached = self._completion = self._forced = 0

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            prompt_tokens=len(self._prompt.ids),
            cached_tokens=self._cached,
            completion_tokens=self._completion,
            forced_tokens=self._forced,
        )

    def __iter__(self) -> Iterator[int]:
        sequence = self._decoder.open(self._prompt)
        self._cached = sequence.past.get_seq_length()
        intact = False
        try:
            yield from self._decode(sequence)
            intact = True
        except GeneratorExit:
            intact = True
            raise
        finally:
            if intact and self._decoder.reuses:  # a pass that failed leaves layers of different lengths
                self._decoder.prefixes.put(sequence.tokens, sequence.keys, sequence.past)

    def _decode(self, sequence: _Sequence) -> Iterator[int]:
        grammar, ends = self._grammar, self._decoder.loaded.vocabulary.ends
        logits = None if self._decoder.reuses else self._run(sequence)  # processor inputs fit the prompt alone
        while not self._cancelled.is_set():
            for token in self._ahead():
                self._forced += 1
                yield self._append(sequence, token)
            if self.stop == "end":
                return
            if self._completion >= self._limit:
                self.stop = "length"
                return
            if sequence.past.get_seq_length() < len(sequence.tokens) or logits is None:
                logits = self._run(sequence)
            token = self._sampler.sample(grammar.mask(logits))
            if token in ends:
                self.stop = "end"
            else:
                grammar.accept(token)
            yield self._append(sequence, token)
            if self.stop == "end":
                return

    def _ahead(self) -> list[int]:
        """What the grammar leaves no choice about, within the limit."""
        room = self._limit - self._completion
        tokens = self._grammar.forced()
        if self._grammar.done and len(tokens) < room:
            self.stop = "end"
            tokens = [*tokens, self._decoder.loaded.vocabulary.ends[0]]
        return tokens[:room]

    def _append(self, sequence: _Sequence, token: int) -> int:
        sequence.tokens.append(token)
        sequence.keys.append(token)
        self._completion += 1
        return token

    def _run(self, sequence: _Sequence) -> torch.Tensor:
        inputs, sequence.inputs = sequence.inputs, {}
        new = sequence.tokens[sequence.past.get_seq_length() :]
        return self._decoder.forward(new, sequence.past, inputs)


def _can_crop(loaded: Loaded) -> bool:
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=loaded.model.config).layers)
