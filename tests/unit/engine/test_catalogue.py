from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmagent.engine import catalogue
from mmagent.engine.catalogue import best, describe, fit_of, installed, modalities
from mmagent.engine.memory import Machine
from mmagent.paths import data_dir

GIB = 1 << 30
TEXT = {"model_type": "llama", "vocab_size": 9, "max_position_embeddings": 2048}
VISION = {"model_type": "smolvlm", "text_config": TEXT, "vision_config": {"model_type": "smolvlm_vision"}}


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, and 16 GiB of memory."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(catalogue, "this_machine", lambda device: Machine("cpu", 16 * GIB, False))


def make(folder: Path, config: dict[str, object], parameters: int, *, template: bool = True) -> Path:
    """A model whose weights are a hole in a file: as large as said, and nothing on disk."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    if template:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    entry = {"dtype": "BF16", "shape": [parameters], "data_offsets": [0, parameters * 2]}
    header = json.dumps({"weight": entry, "__metadata__": {"format": "pt"}}).encode()
    with (folder / "model.safetensors").open("wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        stream.truncate(8 + len(header) + parameters * 2)
    return folder


def own(name: str, config: dict[str, object], parameters: int, **options: bool) -> str:
    return str(make(data_dir() / "models" / name, config, parameters, **options))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TEXT, ("text",)),
        (VISION, ("text", "image")),
        (VISION | {"video_token_id": 7}, ("text", "image", "video")),
        (VISION | {"audio_config": {}}, ("text", "image", "audio")),
        (TEXT | {"audio_config": None}, ("text",)),
        ({"model_type": "whisper", "vocab_size": 9, "num_mel_bins": 80}, ("audio",)),
        ({"model_type": "vit", "patch_size": 16}, ("image",)),
    ],
)
def test_modalities_are_told_by_the_parts(config: dict[str, object], expected: tuple[str, ...]) -> None:
    assert modalities(config) == expected


def test_modalities_of_real_configurations() -> None:
    from transformers import Gemma3Config, LlamaConfig, LlavaConfig, Qwen2_5_VLConfig, SmolVLMConfig, WhisperConfig

    for config, expected in (
        (LlamaConfig(), {"text"}),
        (LlavaConfig(), {"text", "image"}),
        (SmolVLMConfig(), {"text", "image"}),
        (Gemma3Config(), {"text", "image"}),
        (Qwen2_5_VLConfig(), {"text", "image", "video"}),
        (WhisperConfig(), {"audio"}),
    ):
        assert set(modalities(json.loads(config.to_json_string(use_diff=False)))) == expected, config.model_type


def test_an_entry_says_what_is_in_the_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "model", VISION, 32 * 10**8)
    entry = describe("mine", folder, Machine("cpu", 16 * GIB, False))
    assert (entry.parameters, entry.context, entry.fit, entry.chats) == (32 * 10**8, 2048, "tight", True)
    assert entry.needed == 128 * 10**8 + catalogue.WORKING_MEMORY
    assert describe("mine", folder, Machine("cuda", 16 * GIB, False)).fit == "fits"
    assert describe("mine", folder, Machine("cpu", 8 * GIB, False)).fit == "too large"


@pytest.mark.parametrize(
    ("weights", "expected"), [(0, "fits"), (7 * GIB, "fits"), (8 * GIB, "tight"), (10 * GIB, "tight")]
)
def test_a_fit_leaves_room(weights: int, expected: str) -> None:
    assert fit_of(weights, 10 * GIB) == expected
    assert fit_of(weights + 1, weights) == "too large"


def test_auto_is_the_largest_that_sees_and_fits() -> None:
    assert best() is None
    small = own("small", TEXT, 10**8)
    assert best_name() == small
    own("large", TEXT, 10**9)
    seeing = own("seeing", VISION, 10**8)
    assert best_name() == seeing
    larger = own("larger", VISION, 2 * 10**8)
    assert best_name() == larger
    own("tight", VISION, 35 * 10**8)
    own("mute", VISION, 10**9, template=False)
    own("strange", VISION | {"model_type": "theirs"}, 10**9)
    (Path(own("broken", VISION, 10**9)) / "model.safetensors").write_bytes(b"")
    assert best_name() == larger
    assert {Path(entry.name).name: entry.fit for entry in installed()}["broken"] == "unusable"


def best_name() -> str | None:
    entry = best()
    return entry and entry.name
