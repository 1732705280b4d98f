"""The engine on transformers: our decoder against theirs, batches, languages, words, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mmagent.errors import ConfigurationError, InputError, ModelError
from mmagent.speech.engines import Ask
from mmagent.speech.engines.transformers import TransformersEngine
from mmagent.testing.whisper import save_whisper
from tests.unit.speech.engines.checkpoints import noise

ASK = Ask("en", max_tokens=24)


@pytest.fixture(scope="module")
def engine(small: Path) -> TransformersEngine:
    return TransformersEngine(small, "cpu", "float32")


@pytest.fixture
def copied(small: Path, tmp_path: Path) -> Callable[..., Path]:
    """The folder without some files, or with other values in a JSON file."""

    def copy(*without: str, **changes: dict[str, object]) -> Path:
        folder = Path(shutil.copytree(small, tmp_path / "copy"))
        for name in without:
            (folder / name).unlink()
        for name, values in changes.items():
            file = folder / f"{name}.json"
            file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | values), "utf-8")
        return folder

    return copy


def test_our_decoder_gives_the_logits_of_transformers(small: Path, engine: TransformersEngine) -> None:
    import torch

    from mmagent.speech.engines.mel import log_mel
    from mmagent.speech.engines.network import Network
    from mmagent.speech.engines.transformers import read_model

    model = read_model(small).eval()
    network = Network(model)
    features = torch.from_numpy(log_mel([noise(3), noise(30, 1)], 80, 30.0))
    tokens = torch.randint(0, 256, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        wanted = model(features, decoder_input_ids=tokens).logits
    state = network.start(network.encode(features), 12)
    parts = [network.step(state, tokens[:, :5], range(5))]
    parts += [network.step(state, tokens[:, place : place + 1], [0]) for place in range(5, 12)]
    torch.testing.assert_close(torch.cat(parts, 1), wanted, rtol=1e-4, atol=1e-3)


def test_it_says_what_transformers_itself_says(small: Path, engine: TransformersEngine) -> None:
    from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

    model = WhisperForConditionalGeneration.from_pretrained(small).eval()
    for seed in range(3):
        heard = WhisperFeatureExtractor()(noise(30, seed), sampling_rate=16000, return_tensors="pt").input_features
        wanted = model.generate(
            heard, language="en", task="transcribe", return_timestamps=True, num_beams=1, do_sample=False,
            max_new_tokens=24, suppress_tokens=list(engine.tokens.suppressed), return_dict_in_generate=True,
            force_unique_generate_call=True,
        ).sequences[0].tolist()  # fmt: skip
        (found,) = engine.decode([noise(30, seed)], ASK)
        said = [token for token in wanted[len(engine.tokens.head(ASK)) :] if token != engine.tokens.end]
        assert list(found.tokens) == said


def test_a_batch_gives_each_window_what_it_gets_alone(engine: TransformersEngine) -> None:
    windows = [noise(seconds, seed) for seed, seconds in enumerate((30, 1, 7.5, 0.2, 30, 12, 3, 30, 2, 5))]
    other = TransformersEngine(engine.where, "cpu", "float32")
    for window, found in zip(windows, engine.decode(windows, ASK), strict=True):
        (alone,) = other.decode([window], ASK)
        assert alone.tokens == found.tokens
        assert alone.logprob == pytest.approx(found.logprob, abs=1e-4)
        assert alone.no_speech == pytest.approx(found.no_speech, abs=1e-4)


def test_words_are_those_of_the_text_in_order_within_the_window(engine: TransformersEngine) -> None:
    for found in engine.decode([noise(4), noise(30)], Ask("en", words=True, max_tokens=60)):
        words = [word for piece in found.pieces for word in piece.words]
        assert "".join(word.text for word in words) == "".join("".join(piece.text.split()) for piece in found.pieces)
        assert all(0 <= word.t0 <= word.t1 <= 30 and 0 <= word.probability <= 1 for word in words)
        assert all(one.t0 <= other.t0 for one, other in pairwise(words))


def test_languages_are_told_with_chances(engine: TransformersEngine) -> None:
    assert engine.languages == ("en", "de")
    for chances in engine.detect([noise(5), noise(30)]):
        assert list(chances) == ["en", "de"]
        assert sum(chances.values()) == pytest.approx(1.0, abs=1e-5)


def test_a_window_whose_language_was_found_is_not_encoded_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, heard = TransformersEngine(small, "cpu", "float32"), list[int]()
    encode = engine._encode
    monkeypatch.setattr(engine, "_encode", lambda windows: heard.append(len(windows)) or encode(windows))
    engine.detect([noise(5)])
    engine.decode([noise(5), noise(6)], ASK)
    engine.decode([noise(6)], Ask("en", temperature=0.4, max_tokens=4))
    assert heard == [1, 1]


def test_bfloat16_is_as_good_as_the_same(small: Path, engine: TransformersEngine) -> None:
    (narrow,) = TransformersEngine(small, "cpu", "bfloat16").decode([noise(30)], ASK)
    (wide,) = engine.decode([noise(30)], ASK)
    assert narrow.tokens[0] >= engine.tokens.first_time
    assert narrow.no_speech == pytest.approx(wide.no_speech, abs=0.05)


def test_the_fingerprint_differs_where_words_may(small: Path, copied: Callable[..., Path]) -> None:
    known = TransformersEngine(small).fingerprint
    assert known == TransformersEngine(small).fingerprint
    assert known != TransformersEngine(small, dtype="float32").fingerprint
    assert known != TransformersEngine(copied(generation_config={"suppress_tokens": []})).fingerprint


def test_all_that_lacks_is_named_before_anything_is_loaded(copied: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"no generation_config\.json, no tokenizer\.json or vocab\.json"):
        TransformersEngine(copied("generation_config.json", "tokenizer.json"))


def test_another_architecture_is_refused_by_name(copied: Callable[..., Path]) -> None:
    with pytest.raises(ConfigurationError, match=r"kind llama \(LlamaForCausalLM\) and no Whisper"):
        TransformersEngine(copied(config={"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))


def test_a_network_without_some_weights_is_refused(copied: Callable[..., Path]) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied()
    weights = load_file(folder / "model.safetensors")
    del weights["model.decoder.layers.0.fc1.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"incomplete: 1 are not there"):
        TransformersEngine(folder, "cpu").decode([noise(1)], ASK)


@pytest.mark.parametrize("size", [0, 100, 30_000])
def test_damaged_weights_are_an_error_in_our_words(copied: Callable[..., Path], size: int) -> None:
    folder = copied()
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"damaged|incomplete|cannot be loaded|cut off"):
        TransformersEngine(folder, "cpu").decode([noise(1)], ASK)


def test_one_for_english_only_has_no_languages(tmp_path: Path, copied: Callable[..., Path]) -> None:
    engine = TransformersEngine(copied(generation_config={"is_multilingual": False}), "cpu", "float32")
    assert engine.languages == ()
    assert not engine.translates
    assert engine.decode([noise(2)], Ask(max_tokens=6))[0].tokens
    with pytest.raises(InputError, match="one language only"):
        engine.detect([noise(2)])


def test_a_decoder_that_was_cut_does_not_translate(tmp_path: Path) -> None:
    engine = TransformersEngine(save_whisper(tmp_path / "cut", encoder_layers=4, decoder_layers=1))
    assert not engine.translates


def test_windows_may_be_shorter_than_thirty_seconds(tmp_path: Path) -> None:
    engine = TransformersEngine(save_whisper(tmp_path / "brief", max_source_positions=250), "cpu", "float32")
    assert engine.seconds == 5.0
    assert engine.decode([noise(5)], ASK)[0].tokens


def test_prompt_and_answer_fit_in_the_context(tmp_path: Path) -> None:
    engine = TransformersEngine(save_whisper(tmp_path / "tight", max_target_positions=32), "cpu", "float32")
    (found,) = engine.decode([noise(30)], Ask("en", prompt="x" * 400))
    assert len(found.tokens) <= 32


def test_nothing_to_decode_gives_nothing(engine: TransformersEngine) -> None:
    assert engine.decode([], ASK) == []
    assert engine.decode([np.zeros(1600, np.float32)], ASK)[0].no_speech >= 0
