from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmagent.engine import Loaded
from mmagent.engine.load import load, pick_device, pick_dtype
from mmagent.errors import ConfigurationError, MMAgentError, ModelError, NotFound

CPU = torch.device("cpu")


@pytest.fixture
def copy(tiny_path: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_path, tmp_path / "copy"))


def test_a_directory_loads_with_all_that_belongs_to_it(loaded: Loaded) -> None:
    assert (loaded.name, loaded.context_length, loaded.device.type, loaded.dtype) == (
        "tiny",
        4096,
        "cpu",
        torch.float32,
    )
    assert not loaded.model.training
    assert loaded.processor.tokenizer is loaded.tokenizer
    assert loaded.vocabulary is loaded.vocabulary
    assert loaded.vocabulary.ends == (loaded.tokenizer.eos_token_id,)


def test_loading_says_nothing(tiny_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(tiny_path, "cpu")
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_a_text_only_checkpoint_loads_too(tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    from mmagent.testing.tiny import byte_tokenizer

    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    tokenizer.save_pretrained(tmp_path / "llama")
    loaded = load(tmp_path / "llama", "cpu", "bfloat16")
    assert loaded.processor is None
    assert (loaded.name, loaded.context_length, loaded.model.dtype) == ("llama", 128, torch.bfloat16)


def no_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def cut_weights(path: Path) -> None:
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])


def noise(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"\x00\xff" * 900)


def half_the_weights(path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    kept = dict(list(weights.items())[: len(weights) // 2])
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})


def pickled_weights(path: Path) -> None:
    no_weights(path)
    torch.save({}, path / "pytorch_model.bin")


def no_config(path: Path) -> None:
    (path / "config.json").unlink()


def broken_config(path: Path) -> None:
    (path / "config.json").write_text("{")


def unknown_kind(path: Path) -> None:
    (path / "config.json").write_text(json.dumps({"model_type": "nobody_knows"}))


def no_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (no_weights, ModelError, "model.safetensors"),
        (cut_weights, ModelError, "damaged .* copy or download them again"),
        (noise, ModelError, "damaged"),
        (half_the_weights, ModelError, "incomplete: \\d+ are not there"),
        (pickled_weights, ModelError, "safetensors"),
        (no_config, NotFound, "no config.json; give a directory that save_pretrained wrote"),
        (broken_config, ModelError, "cannot be loaded"),
        (unknown_kind, ModelError, "nobody_knows"),
        (no_tokenizer, ModelError, "cannot be loaded"),
    ],
)
def test_what_is_damaged_is_refused_in_one_line(
    copy: Path, damage: object, error: type[MMAgentError], message: str
) -> None:
    damage(copy)  # type: ignore[operator]
    with pytest.raises(error, match=message) as raised:
        load(copy, "cpu")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["nobody/nothing", "nothing-at-all", "./no/such/folder", "/no/such/folder", "a b"])
def test_what_is_not_there_is_not_found(name: str) -> None:
    with pytest.raises(NotFound, match="give a directory") as raised:
        load(name)
    assert "\n" not in str(raised.value)


def test_a_file_is_no_model(tiny_path: Path) -> None:
    with pytest.raises(NotFound, match="give a directory"):
        load(tiny_path / "config.json")


def test_devices_are_chosen_or_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, chosen in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert pick_device("auto").type == chosen
        assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigurationError, match="no device cuda here; set MMAGENT_DEVICE to auto or: cpu"):
        pick_device("cuda")


def test_dtypes_are_what_the_device_does_best(monkeypatch: pytest.MonkeyPatch) -> None:
    for capable, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda capable=capable: capable)
        assert pick_dtype("auto", torch.device("cuda"), lambda: 1) == dtype
    assert pick_dtype("auto", torch.device("mps"), lambda: 1) == torch.float16
    assert pick_dtype("bfloat16", CPU, lambda: 1) == torch.bfloat16
    for instructions, parameters, dtype in (
        (True, 2_000_000_000, torch.bfloat16), (True, 10**6, torch.float32), (False, 2_000_000_000, torch.float32)
    ):  # fmt: skip
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=instructions: there)
        assert pick_dtype("auto", CPU, lambda count=parameters: count) == dtype
