"""The engines of other packages: what is refused before, or without, the package."""

from __future__ import annotations

import pickle
import struct
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import torch

from mmagent.errors import ConfigurationError, MissingExtra, ModelError, NotFound
from mmagent.speech.engines import faster, original
from mmagent.speech.engines.faster import FasterWhisperEngine
from mmagent.speech.engines.original import OpenAIWhisperEngine, read_checkpoint


def model_bin(kind: str = "WhisperSpec", **shapes: tuple[int, ...]) -> bytes:
    """As CTranslate2 writes it, with a byte for each tensor."""

    def string(text: str) -> bytes:
        return struct.pack("<H", len(text) + 1) + text.encode() + b"\0"

    made = struct.pack("<I", 6) + string(kind) + struct.pack("<II", 3, len(shapes))
    for name, shape in shapes.items():
        made += string(name) + struct.pack(f"<B{len(shape)}I", len(shape), *shape) + struct.pack("<BI", 0, 1) + b"x"
    return made


@pytest.fixture
def folder(tmp_path: Path, small: Path) -> Path:
    (tmp_path / "model.bin").write_bytes(
        model_bin(**{"encoder/position_encodings/encodings": (750, 8), "decoder/embeddings/weight": (1779, 8)})
    )
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocabulary.json").write_text("[]")
    (tmp_path / "tokenizer.json").write_bytes((small / "tokenizer.json").read_bytes())
    return tmp_path


def test_a_folder_without_tokenizer_is_refused_and_none_is_fetched(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigurationError, match=r"has no tokenizer\.json; copy what lacks"):
        FasterWhisperEngine(folder)


def test_another_network_of_ctranslate2_is_refused_by_name(folder: Path) -> None:
    (folder / "model.bin").write_bytes(model_bin("TransformerSpec"))
    with pytest.raises(ConfigurationError, match="holds a TransformerSpec"):
        FasterWhisperEngine(folder)


@pytest.mark.parametrize("data", [b"", b"\x06\0\0\0", b"\x06\0\0\0\xff\xff", model_bin(a=(1,))[:-9], b"\xff" * 4000])
def test_damaged_files_are_an_error_in_our_words(folder: Path, data: bytes) -> None:
    (folder / "model.bin").write_bytes(data)
    with pytest.raises(ModelError, match=r"model\.bin is damaged"):
        FasterWhisperEngine(folder)


def test_without_the_package_the_install_command_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mmagent\[fast\]'"):
        FasterWhisperEngine(folder)


def test_what_a_file_says_is_known_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faster, "find_spec", lambda name: object())
    engine = FasterWhisperEngine(folder)
    assert engine.seconds == 15.0
    assert engine.languages == ()


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (trace,))

    file = tmp_path / "evil.pt"
    for save in (lambda: torch.save(Evil(), file), lambda: file.write_bytes(pickle.dumps(Evil()))):
        save()
        with pytest.raises(ModelError, match="cannot be loaded"):
            read_checkpoint(file)
    assert not trace.exists()


def test_a_file_of_something_else_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(ConfigurationError, match=r"holds 'state_dict', 'epoch' \.\.\. and no Whisper"):
        read_checkpoint(tmp_path / "other.pt")


def test_there_has_to_be_a_file_and_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(original, "distribution", missing)
    with pytest.raises(NotFound, match="there is no file"):
        OpenAIWhisperEngine(tmp_path / "a.pt")
    torch.save({"dims": {}, "model_state_dict": {}}, tmp_path / "a.pt")
    with pytest.raises(MissingExtra, match=r"pip install 'mmagent\[whisper\]'"):
        OpenAIWhisperEngine(tmp_path / "a.pt")
