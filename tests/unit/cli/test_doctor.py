"""The doctor finds what is broken, says what to do, and breaks nothing itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mmagent import paths
from mmagent.cli import doctor
from mmagent.session import Session
from mmagent.settings import settings

CHEAP = ("python", "mmagent", "settings", "data", "sessions", "knowledge")


@pytest.fixture(autouse=True)
def cheap_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "CHECKS", {name: doctor.CHECKS[name] for name in CHEAP})


def broken() -> dict[str, str]:
    return {finding.name: finding.detail for finding in doctor.check_all() if finding.status == "broken"}


def test_a_fresh_machine_is_healthy_and_stays_untouched(own_home: Path) -> None:
    assert broken() == {}
    assert list(own_home.iterdir()) == []


def test_it_counts_sessions() -> None:
    Session.open("anna").append(_message())
    (finding,) = [finding for finding in doctor.check_all() if finding.name == "sessions"]
    assert finding.detail.startswith("1 in ")


def test_a_damaged_journal_is_found() -> None:
    paths.sessions_path().parent.mkdir(parents=True)
    paths.sessions_path().write_bytes(b"not a database" * 100)
    assert "is damaged" in broken()["sessions"]


def test_a_damaged_knowledge_store_is_found() -> None:
    folder = paths.knowledge_dir() / "policies"
    folder.mkdir(parents=True)
    (folder / "manifest.sqlite3").write_bytes(b"not a database" * 100)
    assert "knowledge" in broken()


def test_a_data_folder_that_is_a_file_is_found(own_home: Path) -> None:
    paths.data_dir().write_text("")
    assert "MMAGENT_DATA_DIR" in broken()["data"]


def test_a_wrong_setting_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAGENT_MAX_STEPS", "many")
    settings.cache_clear()
    assert "MMAGENT_MAX_STEPS is set to 'many'" in broken()["settings"]


def test_who_listens_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_nano: None) -> None:
    from mmagent.testing.whisper import save_whisper

    monkeypatch.setattr(doctor, "CHECKS", {"speech": doctor._speech})
    assert "nano cannot hear in this installation" in broken()["speech"]
    save_whisper(tmp_path / "nano" / "speech")
    (found,) = (one for one in doctor.check_all() if one.name == "speech")
    assert found.detail.startswith("nano on transformers, 2 languages, windows of 30 s; nano hears a little: ")
    monkeypatch.setenv("MMAGENT_SPEECH_MODEL", str(tmp_path / "nano" / "speech"))
    settings.cache_clear()
    (found,) = (one for one in doctor.check_all() if one.name == "speech")
    assert found.detail.endswith("speech on transformers, 2 languages, windows of 30 s")


def test_an_extra_that_is_not_installed_comes_with_its_command() -> None:
    found = {finding.name: finding for finding in doctor.extras()}
    assert {"fast", "whisper", "mic", "mcp", "serve", "postgres", "ray", "train", "draw"} <= set(found)
    assert "dev" not in found
    for name, finding in found.items():
        assert finding.status == "ok" or finding.detail == f"pip install 'mmagent[{name}]'"


def test_the_exit_code_and_json_say_whether_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.examine(as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    paths.data_dir().write_text("")
    assert doctor.examine() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("broken: data")


def _message():  # type: ignore[no-untyped-def]
    from mmagent.content import Message, text

    return Message(role="user", content=(text("hello"),))
