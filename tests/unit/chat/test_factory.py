from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mmagent.nano
from mmagent.chat import load_model
from mmagent.errors import ConfigurationError, ModelError, NotFound
from mmagent.settings import settings


class FakeLocalModel:
    def __init__(self, path_or_id: str | Path, **options: Any) -> None:
        self.path_or_id = path_or_id


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Settings of the test's own, a stand-in for the local model, and nano's files in a folder of the test's."""
    local = ModuleType("mmagent.chat.local")
    local.LocalModel = FakeLocalModel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mmagent.chat.local", local)
    monkeypatch.delenv("MMAGENT_MODEL", raising=False)
    monkeypatch.delenv("MMAGENT_OFFLINE", raising=False)
    (tmp_path / "nano").mkdir()
    (tmp_path / "nano" / "config.json").write_text("{}")
    monkeypatch.setattr(mmagent.nano, "__path__", [str(tmp_path / "nano")])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    settings.cache_clear()
    yield
    settings.cache_clear()


def source_of(name: str | None) -> str | Path:
    model = load_model(name)
    assert isinstance(model, FakeLocalModel)
    return model.path_or_id


def test_nano_is_the_packaged_folder(tmp_path: Path) -> None:
    assert source_of("nano") == tmp_path / "nano"


def test_an_installation_without_weights_says_so(tmp_path: Path) -> None:
    (tmp_path / "nano" / "config.json").unlink()
    with pytest.raises(ModelError, match="nano is not in this installation"):
        load_model("nano")


@pytest.mark.parametrize("name", [None, "auto"])
def test_auto_is_nano_and_says_so(name: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "mmagent"):
        assert source_of(name) == tmp_path / "nano"
    assert [record.message for record in caplog.records] == [
        "model: nano, which ships with mmagent; MMAGENT_MODEL chooses another, mmagent pull gets one"
    ]


def test_auto_is_the_best_that_is_here(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A model that a download left in the hub's cache."""
    from mmagent.testing import tiny_vlm

    snapshot = tmp_path / "hub" / "models--org--tiny" / "snapshots" / ("a" * 40)
    tiny_vlm(snapshot)
    (tmp_path / "hub" / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "hub" / "models--org--tiny" / "refs" / "main").write_text("a" * 40)
    with caplog.at_level(logging.INFO, "mmagent"):
        assert source_of("auto") == "org/tiny"
    assert caplog.records[-1].message == (
        "model: org/tiny, the best on this machine that fits it; MMAGENT_MODEL chooses another"
    )
    assert source_of("org/tiny") == "org/tiny"
    (snapshot / "model.safetensors").unlink()
    assert source_of("auto") == tmp_path / "nano"


def test_auto_is_the_configured_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MMAGENT_MODEL", str(tmp_path))
    with caplog.at_level(logging.INFO, "mmagent"):
        assert source_of(None) == tmp_path
    assert caplog.records[0].message == f"model: {tmp_path}, from MMAGENT_MODEL"


def test_a_folder_is_local(tmp_path: Path) -> None:
    assert source_of(str(tmp_path)) == tmp_path


def test_a_provider_string_is_langchain() -> None:
    pytest.importorskip("langchain_openai")
    from mmagent.chat import LangChainModel

    model = load_model_with_key("openai:gpt-5")
    assert isinstance(model, LangChainModel)
    assert model.name == "openai:gpt-5"


def load_model_with_key(name: str) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "not-a-key")
        return load_model(name)


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="nowhere:model cannot be set up"):
        load_model("nowhere:model")


def test_a_hub_id_needs_to_be_cached_while_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        NotFound, match=r"mmagent-tests/no-such-model is not on this machine.*mmagent pull mmagent-tests/no-such-model"
    ):
        load_model("mmagent-tests/no-such-model")
    monkeypatch.setenv("MMAGENT_OFFLINE", "false")
    settings.cache_clear()
    assert source_of("mmagent-tests/no-such-model") == "mmagent-tests/no-such-model"


@pytest.mark.parametrize("name", ["nonsense", "", "a/b/c"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(
        NotFound, match=r"there is no model .*; a model is nano, a folder .*, a hub id .*provider:model"
    ):
        load_model(name)


@pytest.mark.parametrize("name", ["/no/such/folder", "./missing", "~/missing"])
def test_a_missing_folder_is_called_one(name: str) -> None:
    with pytest.raises(NotFound, match="there is no folder"):
        load_model(name)


def test_nothing_heavy_is_imported_for_a_local_name() -> None:
    code = (
        "import sys, mmagent.chat\n"
        "from mmagent.chat import ScriptedModel, load_model\n"
        "from mmagent.errors import NotFound\n"
        "try: load_model('nonsense')\n"
        "except NotFound: pass\n"
        "heavy = {'torch', 'transformers', 'langchain', 'langchain_core', 'PIL', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
