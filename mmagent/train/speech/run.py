"""Training a network of Whisper's shape: what it begins with and what is saved. It knows no sound.

Steps, checks and resuming are `mmagent.train.trainer`'s.
"""

from __future__ import annotations

import random
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mmagent.engine import checkpoint
from mmagent.errors import ModelError
from mmagent.speech.engines.convert import byte_letters, whisper_options, whisper_tokenizer
from mmagent.speech.engines.tokens import Tokens, tokens_of_tokenizer
from mmagent.speech.engines.transformers import check_architecture, read_model
from mmagent.speech.engines.words import STEP
from mmagent.train.network import find, vocabulary
from mmagent.train.recipe import Ears, Recipe
from mmagent.train.speech import words
from mmagent.train.speech.encode import SpeechEncoder
from mmagent.train.speech.lesson import SpeechLesson
from mmagent.train.trainer import Run, Watch

SPECIAL = (
    "endoftext", "startoftranscript", "translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps",
)  # fmt: skip
"""In their order in the vocabulary; the times follow."""
_LOUDER, _PLACES = 5.0, 0.05
"""Factors of the first convolutions and of the encoder's places, beside the usual beginning."""


def train_speech(
    recipe: Recipe, out: Path, *, resume: bool = True, watch: Watch | None = None, workers: int = 1
) -> Path:
    """Train a speech model into ``out/model``; arguments, result and errors are those of `mmagent.train.train`."""
    return SpeechRun(recipe, out, watch or Watch(), workers, resume=resume).go()


class SpeechRun(Run):
    """A run in which a network learns to write down what it hears."""

    def begin(self) -> tuple[Any, Any]:
        """The network and its tokenizer at step 0."""
        network, tokenizer = self._built() if self.recipe.start is None else self._taken(self.recipe.start)
        network.set_attn_implementation("eager")  # on CPUs backwards several times faster than torch's own
        return network, tokenizer

    def _built(self) -> tuple[Any, Any]:
        ears = self.recipe.ears
        assert ears is not None
        torch.manual_seed(self.recipe.seed)
        made_by = [self.recipe.seed, ears.vocab_size, ears.vocabulary_samples, ears.seconds]
        self.watch.said("learning the vocabulary")
        tokenizer = vocabulary(self.out, made_by, lambda: build_tokenizer(ears, self.recipe.seed))
        return build(ears, tokenizer), tokenizer

    def _taken(self, start: str) -> tuple[Any, Any]:
        from transformers import AutoTokenizer

        ears = self.recipe.ears
        assert ears is not None
        folder = find(start, self.out.parent)
        check_architecture(checkpoint.read_config(folder), folder)
        network = read_model(folder, torch.float32)
        if round(network.config.max_source_positions * STEP, 2) != ears.seconds:
            raise ModelError(f"{folder} hears windows of another length than ears.seconds; give them alike")
        return network, AutoTokenizer.from_pretrained(folder)

    def make_encoder(self) -> Any:
        """What makes tensors of speech."""
        ears = self.recipe.ears
        assert ears is not None
        config = self.network.config
        return SpeechEncoder(tokens_of(self.tokenizer), config.num_mel_bins, ears.seconds, config.max_target_positions)

    def make_lesson(self) -> Any:
        """The network and its losses."""
        return SpeechLesson(self.network, self.recipe.losses)

    def write_processor(self, folder: Path) -> None:
        """The tokenizer, and how features are made."""
        from transformers import WhisperFeatureExtractor

        config = self.network.config
        self.tokenizer.save_pretrained(folder)
        seconds = round(config.max_source_positions * STEP)
        WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=seconds).save_pretrained(folder)


def tokens_of(tokenizer: Any) -> Tokens:
    """The vocabulary of a ``WhisperTokenizer`` that knows one language."""
    return tokens_of_tokenizer(tokenizer.backend_tokenizer, multilingual=False, suppressed=())


def build_tokenizer(ears: Ears, seed: int) -> Any:
    """Bytes, and what is often said: learnt from the texts alone; digits stay single."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=ears.vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = islice(words.texts(random.Random(seed)), ears.vocabulary_samples)
    spelled = words.SPELLED
    learner.train_from_iterator((spelled.sub(" ", text) for text in texts), trainer)
    letters = {letter: byte for byte, letter in byte_letters().items()}
    ranks = {bytes(letters[letter] for letter in token): rank for token, rank in learner.get_vocab().items()}
    times = [f"<|{step * STEP:.2f}|>" for step in range(round(ears.seconds / STEP) + 1)]
    return whisper_tokenizer(ranks, [*(f"<|{name}|>" for name in SPECIAL), *times])


def build(ears: Ears, tokenizer: Any) -> Any:
    """A network with random weights."""
    from transformers import GenerationConfig, WhisperConfig, WhisperForConditionalGeneration

    special = {f"<|{name}|>": tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in SPECIAL}
    end = special["<|endoftext|>"]
    common = {
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": special["<|startoftranscript|>"],
    }
    values: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "num_mel_bins": ears.mels,
        "d_model": ears.width,
        "encoder_layers": ears.encoder_layers,
        "decoder_layers": ears.decoder_layers,
        "encoder_attention_heads": ears.heads,
        "decoder_attention_heads": ears.heads,
        "encoder_ffn_dim": 4 * ears.width,
        "decoder_ffn_dim": 4 * ears.width,
        "max_source_positions": round(ears.seconds / STEP),
        "max_target_positions": ears.context,
    }
    config = WhisperConfig(**values, **common)
    network: Any = WhisperForConditionalGeneration(config)
    with torch.no_grad():  # else the places drown what is heard there for hundreds of steps
        for layer in (network.model.encoder.conv1, network.model.encoder.conv2):
            layer.weight.mul_(_LOUDER)
        network.model.encoder.embed_positions.weight.mul_(_PLACES)
    options = whisper_options(special, (), multilingual=False)
    network.generation_config = GenerationConfig(**common, **options, max_length=ears.context)
    return network
