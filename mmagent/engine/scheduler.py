"""Answers that are made side by side: they join and leave a running batch. It knows rows, caches and whose turn it is,
no grammar and no text.

There is no thread of its own: whoever waits for a token drives one pass for all, while the others wait for theirs.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Condition, Event
from typing import TYPE_CHECKING, Any

from mmagent.engine.cache import Kept, KeyMaker, Keys, PrefixCache, common_prefix
from mmagent.engine.decoder.network import Insets, Part, open_network
from mmagent.engine.features import FeatureCache, Features, depends_on_company, encode_picture, place_features
from mmagent.engine.generation import Generation
from mmagent.engine.prompt import Picture, Prompt, keep_tokens
from mmagent.errors import ContextOverflow, ModelError

if TYPE_CHECKING:
    from mmagent.engine.decoder.network import Network
    from mmagent.engine.grammar import Grammar
    from mmagent.engine.load import Loaded
    from mmagent.engine.sampling import Sampler

_SHARED = 64
"""Tokens in common with a row that is still being prefilled, from which waiting for it pays."""


class Engine:
    """Runs one loaded network and remembers what it computed. Safe for threads.

    Args:
        loaded: The network.
        network: How its decoder is run; by default the fastest way there is for it here.
        release: Let the loaded module's own decoder weights go once the network has its copy.
        prefix_cache_bytes: Of keys and values kept after a sequence.
        feature_cache_bytes: Of picture features kept.
        max_rows: Answers that are made at once; others wait.
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        network: Network | None = None,
        release: bool = False,
        prefix_cache_bytes: int,
        feature_cache_bytes: int,
        max_rows: int = 8,
    ) -> None:
        self.loaded = loaded
        self.network: Any = network or open_network(loaded, release=release)
        self.prefixes = PrefixCache(prefix_cache_bytes)
        self.features = FeatureCache(feature_cache_bytes)
        self.max_rows = max_rows
        self._keys = KeyMaker()
        self._queue: list[Generation] = []
        self._running: list[Generation] = []
        self._company = depends_on_company(loaded.model)
        self._condition = Condition()
        self._driving = False
        self._leaving = 0

    def restore(self, prompt: Prompt) -> Prompt:
        """The prompt with earlier answers in it spelt by the very tokens that were generated."""
        if not self.network.reuses:
            return prompt
        ids = keep_tokens(prompt.ids, self.prefixes.sequences(), self.loaded.vocabulary.spell)
        return Prompt(ids, prompt.pictures, prompt.inputs)

    def generate(
        self, prompt: Prompt, *, grammar: Grammar, sampler: Sampler, max_tokens: int, cancelled: Event | None = None
    ) -> Generation:
        """Answer a prompt; nothing runs before the result is iterated over.

        Raises:
            ContextOverflow: The prompt leaves no room for an answer.
            ModelError: The prompt is empty, or has tokens that the network does not know.
        """
        size = self.loaded.model.get_input_embeddings().num_embeddings
        if not prompt.ids:
            raise ModelError("the prompt is empty; give at least one message")
        if not 0 <= min(prompt.ids) <= max(prompt.ids) < size:
            raise ModelError(
                f"the prompt has token {max(prompt.ids)} and {self.loaded.name} knows {size}; "
                "the checkpoint's tokenizer does not fit its network"
            )
        room = self.loaded.context_length - len(prompt.ids)
        if room <= 0:
            raise ContextOverflow(
                f"the prompt has {len(prompt.ids)} tokens and {self.loaded.name} takes {self.loaded.context_length}; "
                "shorten the conversation or the tools' output, or use a model with a longer context"
            )
        return Generation(self, prompt, grammar, sampler, min(max_tokens, room), cancelled or Event())

    def join(self, generation: Generation) -> None:
        """Queue an answer, once."""
        with self._condition:
            if generation not in self._queue and generation not in self._running:
                self._queue.append(generation)

    def drive(self, waiting: Generation) -> None:
        """Run one pass, or wait for the one that another thread runs, until ``waiting`` has something or none runs."""
        with self._turn(waiting) as mine:
            if mine:
                self._step()

    def leave(self, generation: Generation) -> None:
        """Let an answer go, finished or not; what it computed is kept."""
        with self._turn():
            if generation in self._queue:
                self._queue.remove(generation)
            if generation in self._running:
                self._finish(generation)

    @contextmanager
    def _turn(self, waiting: Generation | None = None) -> Iterator[bool]:
        """The right to touch rows and caches; False where ``waiting`` need not wait any more."""
        with self._condition:
            self._leaving += waiting is None  # who leaves goes first, else drivers would take turns for ever
            try:
                while (self._driving or (waiting and self._leaving)) and (waiting is None or waiting.waiting):
                    self._condition.wait()
            finally:
                self._leaving -= waiting is None
            if waiting is not None and not waiting.waiting:
                yield False
                return
            self._driving = True
        try:
            yield True
        finally:
            with self._condition:
                self._driving = False
                self._condition.notify_all()

    def _step(self) -> None:
        """One pass for all that run."""
        for generation in [*self._running, *self._queue]:
            if generation.cancelled.is_set():
                generation.ended = True
        self._admit()
        self._pass(self._plan())
        for generation in [one for one in self._running if one.ended]:
            self._finish(generation)

    def _admit(self) -> None:
        """Start what waits, while there are rows for it."""
        for generation in list(self._queue):
            if not generation.ended and len(self._running) < self.max_rows:
                self._begin(generation)
            if generation.ended and generation in self._queue:
                self._queue.remove(generation)

    def _start(self, generation: Generation) -> None:
        prompt = generation.prompt
        if not self.network.reuses:
            keys, insets = self._keys.keys(prompt.ids, ()), None
            row, length = self.network.row(prompt.inputs), 0
        else:
            keys, spans, insets = self._place(prompt)
            if self._soon(keys):
                return  # another row is computing what this one begins with
            row, length = self.prefixes.take(keys, [one.kept for one in self._running], spans)
            row = row or self.network.row()
        self._queue.remove(generation)
        self._running.append(generation)
        row.length = length
        generation.start(row, keys, insets)

    def _place(self, prompt: Prompt) -> tuple[Keys, list[range], Insets | None]:
        alone = len(prompt.pictures) == 1 or not self._company
        features = [self._encode(picture, alone) for picture in prompt.pictures]
        spans, insets = place_features(self.loaded, prompt.ids, features, whole_pictures=self.network.whole_pictures)
        names = [f"{picture.key} {alone}" for picture in prompt.pictures]
        return self._keys.keys(prompt.ids, zip(names, spans, strict=True)), spans, insets

    def _encode(self, picture: Picture, alone: bool) -> Features:
        key = f"{picture.key} {alone}"
        features = self.features.get(key)
        if features is None:
            features = encode_picture(self.loaded, picture.image, alone=alone)
            self.features.put(key, features)
        return features

    def _soon(self, keys: Keys) -> bool:
        """Whether a running row is about to compute a long beginning of ``keys``."""
        for kept in (one.kept for one in self._running):
            common = common_prefix(kept.keys, keys)
            if common >= _SHARED and kept.row.length < common:
                return True
        return False

    def _plan(self) -> list[tuple[Generation, Part]]:
        """What each row runs in the next pass: whoever needs few tokens first, the rest of the room to the others.

        Guesses get what all that is needed leaves; who finds no room goes first the next time.
        """
        room = self.network.chunk
        spare = room - sum(generation.pending for generation in self._running)
        todo = []
        for generation in sorted(self._running, key=lambda one: one.pending):
            part = generation.part(room, max(spare, 0)) if room > 0 else None
            if part is not None:
                todo.append((generation, part))
                room -= len(part.tokens)
                spare -= max(part.wanted - 1, 0)
        served = [generation for generation, _ in todo]
        self._running.sort(key=lambda one: one in served)
        return todo

    def _pass(self, todo: Sequence[tuple[Generation, Part]]) -> None:
        """Run what was planned, together where the network can."""
        for group in [todo] if self.network.batches else [[one] for one in todo]:
            if group:
                self._run(group)

    def _run(self, todo: Sequence[tuple[Generation, Part]]) -> None:
        before = [part.row.length for _, part in todo]
        try:
            logits = self.network.run([part for _, part in todo])
        except BaseException as error:
            for (_, part), length in zip(todo, before, strict=True):
                part.row.length = length  # what was run has lost its logits
            if not isinstance(error, Exception):
                raise
            self._failed(todo, error)
            return
        for (generation, _), its in zip(todo, logits, strict=True):
            try:
                generation.take(its)
            except Exception as error:  # half of it may be done, so it cannot be done again
                generation.fail(self._no_memory(generation, error) if _out_of_memory(error) else error)

    def _failed(self, todo: Sequence[tuple[Generation, Part]], error: Exception) -> None:
        """Out of memory, first the caches are given up, then the longest answer; else who is to blame is looked for."""
        if _out_of_memory(error):
            if not self._give_up_caches():
                largest = max((generation for generation, _ in todo), key=lambda one: len(one.tokens))
                largest.fail(self._no_memory(largest, error))
        elif len(todo) == 1:
            todo[0][0].fail(error)
        else:
            for one in todo:
                self._run([one])

    def _begin(self, generation: Generation) -> None:
        """Start an answer; an error ends that one only."""
        try:
            self._start(generation)
        except Exception as error:
            if not _out_of_memory(error):
                generation.fail(error)
            elif generation.retried or not self._give_up_caches():
                generation.fail(self._no_memory(generation, error))
            generation.retried = True

    def _give_up_caches(self) -> bool:
        """Forget what is only kept for later; False where there is nothing of it."""
        held = self.prefixes.size + self.features.size
        self.prefixes.clear()
        self.features.clear()
        gc.collect()
        return held > 0

    def _no_memory(self, generation: Generation, cause: Exception) -> ModelError:
        error = ModelError(
            f"{self.loaded.name} ran out of memory at {len(generation.tokens)} tokens; "
            "shorten the conversation, or use a smaller model"
        )
        error.__cause__ = cause
        return error

    def _finish(self, generation: Generation) -> None:
        """Take an answer out, and keep its row for others if it can be trusted."""
        self._running.remove(generation)
        generation.ended = True
        if self.network.reuses and generation.error is None:
            kept: Kept = generation.kept
            with suppress(MemoryError, RuntimeError):  # keeping it is no duty
                kept.row = kept.row.detached()
                self.prefixes.put(kept)
        generation.row = None


def _out_of_memory(error: BaseException) -> bool:
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words
