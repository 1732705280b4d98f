"""Which engine a folder, a file or a hub id gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmagent import nano
from mmagent.errors import ConfigurationError, InputError, ModelError, NotFound
from mmagent.settings import settings
from mmagent.speech.engines import load
from mmagent.speech.engines.load import LITTLE, chosen, find_model, load_engine
from mmagent.speech.engines.transformers import TransformersEngine


def pick(folder: Path, *names: str, device: str = "auto", installed: bool = True) -> str:
    for name in names:
        (folder / name).touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(load, "find_spec", lambda name: object() if installed else None)
        return load._pick(folder, device)


def test_what_lies_there_decides(tmp_path: Path) -> None:
    for number, (names, wanted) in enumerate(
        {
            ("model.safetensors", "config.json"): "transformers",
            ("model.safetensors.index.json",): "transformers",
            ("model.bin",): "faster-whisper",
            ("tiny.pt",): "openai-whisper",
            (): "transformers",
        }.items()
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert pick(folder, *names) == wanted
    assert load._pick(tmp_path / "3/tiny.pt", "auto") == "openai-whisper"


def test_of_a_folder_with_several_the_quickest_that_runs_here_is_taken(tmp_path: Path) -> None:
    both = ("model.bin", "model.safetensors")
    assert pick(tmp_path, *both) == "faster-whisper"
    assert pick(tmp_path, *both, installed=False) == "transformers"
    assert pick(tmp_path, *both, device="cuda") == "transformers"


def test_a_folder_of_transformers_is_loaded_by_it(small: Path) -> None:
    assert isinstance(load_engine(small), TransformersEngine)
    assert isinstance(load_engine(str(small), engine="transformers"), TransformersEngine)


def test_a_hub_id_is_found_in_the_cache_and_never_fetched(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(NotFound, match="get it with: mmagent pull org/whisper"):
        load_engine("org/whisper")
    model, commit = tmp_path / "models--org--whisper", "0" * 40
    (model / "refs").mkdir(parents=True)
    (model / "refs/main").write_text(commit)
    (model / "snapshots").mkdir()
    (model / "snapshots" / commit).symlink_to(small, target_is_directory=True)
    engine: Any = load_engine("org/whisper")
    assert engine.languages == ("en", "de")


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no speech model"):
        load_engine(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match=r"has no config\.json, .*model\.safetensors"):
        load_engine(tmp_path)
    with pytest.raises(ConfigurationError, match=r"has 0 \(none\)"):
        load_engine(tmp_path, engine="openai-whisper")
    with pytest.raises(InputError, match="give one of: auto, transformers"):
        load_engine(tmp_path, engine="whisper")  # type: ignore[arg-type]


def test_of_several_files_one_has_to_be_given(tmp_path: Path) -> None:
    (tmp_path / "a.pt").touch()
    (tmp_path / "b.pt").touch()
    with pytest.raises(ConfigurationError, match=r"has 2 \(a\.pt, b\.pt\)"):
        load_engine(tmp_path)
    with pytest.raises(ConfigurationError, match="is a file, and transformers needs a folder"):
        load_engine(tmp_path / "a.pt", engine="transformers")


def test_nano_is_who_listens_where_nobody_else_is_set(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "speech").symlink_to(small, target_is_directory=True)
    monkeypatch.setattr(nano, "__path__", [str(tmp_path)])
    assert chosen() == "nano"
    assert [record.getMessage() for record in caplog.records] == [f"no speech model is set; {LITTLE}"]
    assert find_model("nano") == nano.speech_folder() == tmp_path / "speech"
    assert load_engine("nano").languages == ("en", "de")
    caplog.clear()
    monkeypatch.setenv("MMAGENT_SPEECH_MODEL", "org/whisper")
    settings.cache_clear()
    assert (chosen(), chosen("other")) == ("org/whisper", "other")
    assert not caplog.records


def test_an_installation_without_nano_says_what_to_do(no_nano: None) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^there is no speech model: .*; set MMAGENT_SPEECH_MODEL to a folder"
    ):
        chosen()
    for find in (find_model, load_engine):
        with pytest.raises(ModelError, match="mmagent train nano-speech"):
            find("nano")
