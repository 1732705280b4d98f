from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mmagent.engine import Loaded, checkpoint
from mmagent.engine.load import load, model_name, pick_device, pick_dtype
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


def shards(path: Path) -> dict[str, str]:
    """Put the weights into two files and an index, as large models have them."""
    from safetensors.torch import load_file, save_file

    weights = load_file(path / "model.safetensors")
    no_weights(path)
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[:9], "model-00002-of-00002.safetensors": names[9:]}
    for file, part in halves.items():
        save_file({name: weights[name] for name in part}, path / file, metadata={"format": "pt"})
    index = {name: file for file, part in halves.items() for name in part}
    write_index(path, index)
    return index


def write_index(path: Path, names: object) -> None:
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))


def no_second_shard(path: Path) -> None:
    shards(path)
    (path / "model-00002-of-00002.safetensors").unlink()


def cut_shard(path: Path) -> None:
    shards(path)
    file = path / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def long_weights(path: Path) -> None:
    with (path / "model.safetensors").open("ab") as stream:
        stream.write(b"more")


def wrong_offsets(path: Path) -> None:
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**62, 4], "data_offsets": [0, 16]}}).encode()
    (path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


def indexed(*names: object) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        shards(path)
        write_index(path, {f"weight{number}": name for number, name in enumerate(names)})

    return damage


def configured(where: str = "", **values: object) -> Callable[[Path], None]:
    """Change the configuration, or the part of it that is called ``where``."""

    def damage(path: Path) -> None:
        config = json.loads((path / "config.json").read_text())
        (config[where] if where else config).update(values)
        (path / "config.json").write_text(json.dumps(config))

    return damage


def nested_config(path: Path) -> None:
    (path / "config.json").write_text("[" * 200_000)


def adapter(path: Path) -> None:
    (path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "org/other"}))


def remote_code(path: Path) -> None:
    configured(model_type="theirs", auto_map={"AutoConfig": "modeling.TheirConfig"})(path)
    (path / "modeling.py").write_text("raise SystemExit('remote code ran')")


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
        (cut_weights, ModelError, "model.safetensors are damaged .* copy or download them again"),
        (long_weights, ModelError, "model.safetensors are damaged .*bytes and should have"),
        (wrong_offsets, ModelError, "damaged .*another size than its shape"),
        (no_second_shard, ModelError, "incomplete: model-00002-of-00002.safetensors, which .*index.json names, is not"),
        (cut_shard, ModelError, "model-00002-of-00002.safetensors are damaged"),
        (indexed("../other/model.safetensors"), ModelError, "no safetensors file of the folder itself"),
        (indexed("/etc/model.safetensors"), ModelError, "no safetensors file of the folder itself"),
        (indexed("pytorch_model.bin"), ModelError, "no safetensors file of the folder itself"),
        (indexed(1), ModelError, "no weight_map"),
        (indexed(), ModelError, "no weight_map"),
        (noise, ModelError, "damaged"),
        (half_the_weights, ModelError, "incomplete: \\d+ are not there"),
        (pickled_weights, ModelError, "pytorch_model.bin only, a pickle, which can run any code.*as safetensors"),
        (no_config, NotFound, "no config.json; give a directory that save_pretrained wrote"),
        (broken_config, ModelError, "cannot be loaded"),
        (unknown_kind, ModelError, "nobody_knows"),
        (no_tokenizer, ModelError, "cannot be loaded"),
        (nested_config, ModelError, "config.json cannot be loaded: it is no JSON"),
        (adapter, ModelError, "merge the adapter"),
        (remote_code, ModelError, "kind theirs, which needs Python code .* never run"),
        (configured(transformers_weights="../x.safetensors"), ModelError, "names weights of its own"),
        (configured(_attn_implementation="org/kernel"), ModelError, "'org/kernel', compiled code of the hub"),
        (configured("text_config", vocab_size=10**12), ModelError, "vocab_size = 1000000000000, which no network has"),
        (configured("text_config", vocab_size=2**30), ModelError, "do not belong together"),
        (configured("text_config", num_hidden_layers=10**12), ModelError, "num_hidden_layers = 10+, which no"),
        (configured("text_config", num_hidden_layers=9_999), ModelError, "47 tensors for 9999 layers"),
        (configured("text_config", num_hidden_layers=-1), ModelError, "negative number of layers"),
        (configured("vision_config", image_size=2**20), ModelError, "do not belong together"),
        (configured("vision_config", patch_size=0), ModelError, "cannot be loaded"),
        (configured(num_labels=10**6), ModelError, "num_labels = 1000000, which no network has"),
        (configured("text_config", hidden_size=64), ModelError, r"is \[\d+, \d+\] and should be \[64, \d+\]"),
        (configured(text_config=7), ModelError, "cannot be loaded"),
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


def test_weights_in_shards_load(copy: Path) -> None:
    shards(copy)
    assert load(copy, "cpu").context_length == 4096


def test_hostile_sizes_take_no_memory(copy: Path) -> None:
    """The process may take 2 GB beyond what it has; what the configurations ask for is far more."""
    code = (
        "import resource, sys\n"
        "from mmagent.engine.load import load\n"
        "from mmagent.errors import ModelError\n"
        "import mmagent.model, transformers.models.siglip.modeling_siglip, transformers.models.llama.modeling_llama\n"
        "limit = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + 2 * 10**9\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "try: load(sys.argv[1], 'cpu')\n"
        "except ModelError as error: print(error)\n"
    )
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much address space a process has")
    for damage in (configured("text_config", vocab_size=2**30), configured("vision_config", image_size=2**20)):
        damage(copy)
        done = subprocess.run([sys.executable, "-c", code, copy], capture_output=True, text=True, check=True)
        assert "do not belong together" in done.stdout
        configured("text_config", vocab_size=265)(copy)


def test_what_is_larger_than_the_memory_is_refused_first(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = checkpoint.read_weights(copy).parameters
    monkeypatch.setattr("mmagent.engine.load.available_memory", lambda: parameters * 3)
    monkeypatch.setattr("mmagent.engine.load._read_network", lambda *rest: pytest.fail("it was loaded"))
    with pytest.raises(
        ModelError, match=r"needs .* of memory as float32 .* are free; set MMAGENT_DTYPE=bfloat16, close"
    ):
        load(copy, "cpu", "float32")
    monkeypatch.setattr("mmagent.engine.load.available_memory", lambda: parameters)
    with pytest.raises(ModelError, match=r"as bfloat16 .* are free; close other programs, or choose a smaller"):
        load(copy, "cpu", "bfloat16")


def test_headers_say_what_transformers_counts(tiny_path: Path, loaded: Loaded) -> None:
    weights = checkpoint.read_weights(tiny_path)
    assert weights.parameters == loaded.model.num_parameters()
    assert weights.bytes_as("float32") == sum(each.numel() * 4 for each in loaded.model.parameters())
    assert weights.size == (tiny_path / "model.safetensors").stat().st_size
    assert weights.shapes == {name: tuple(tensor.shape) for name, tensor in saved(tiny_path).items()}


def saved(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path / "model.safetensors")


def test_the_model_of_a_run_is_called_by_the_run(tmp_path: Path) -> None:
    (tmp_path / "my-shop" / "model").mkdir(parents=True)
    assert model_name(tmp_path / "my-shop" / "model") == model_name(tmp_path / "my-shop") == "my-shop"
    assert model_name("org/name") == "org/name"


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
