"""``mmagent transcribe``: files, folders and stdin into text and subtitles; one bad file never stops the rest."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmagent.cli import transcribe as command
from mmagent.cli.main import main
from mmagent.media.sound import RATE, wav
from mmagent.speech import Transcriber
from mmagent.speech.write import read_json
from mmagent.testing import LoudVad, ScriptedEngine


def recording(words: int = 1) -> bytes:
    tone = (0.2 * np.sin(np.arange(RATE) / 10)).astype(np.float32)
    return wav(np.concatenate([tone, np.zeros(5 * RATE, np.float32)] * words or [np.zeros(RATE, np.float32)]))


class Loaded:
    """Stands for the speech model; what it is loaded with is kept."""

    def __init__(self) -> None:
        self.engine = ScriptedEngine("Hello <b>.")
        self.options: dict[str, Any] = {}

    def __call__(self, model: str | None = None, device: str = "auto", **options: Any) -> Transcriber:
        self.options = {"model": model, "device": device, **options}
        return Transcriber(self.engine, vad=LoudVad, batch=1, **options)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Loaded:
    stands = Loaded()
    monkeypatch.setattr("mmagent.speech.transcribe.load_transcriber", stands)
    return stands


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["transcribe", *map(str, arguments)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    folder = tmp_path / "calls"
    (folder / "may").mkdir(parents=True)
    (folder / "one.wav").write_bytes(recording())
    (folder / "may" / "two.wav").write_bytes(recording(2))
    (folder / "may" / "notes.txt").write_text("no recording")
    (folder / ".hidden.wav").write_bytes(recording())
    return folder


def test_a_file_to_stdout(calls: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls / "may" / "two.wav") == 0
    assert capsys.readouterr().out == "Hello <b>.\nHello <b>.\n"
    assert run(calls / "one.wav", "--format", "vtt") == 0
    assert capsys.readouterr().out.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.1")
    assert run(calls / "one.wav", "--format", "json") == 0
    assert read_json(capsys.readouterr().out).text == "Hello <b>."


def test_options_reach_the_transcriber(calls: Path, loaded: Loaded) -> None:
    options = ["--language", "de", "--translate", "--words", "--prompt", "lamps", "--hot-word", "ACME-1"]
    assert run(calls / "one.wav", *options, "--hot-word", "Luxo", "--model", "m", "--device", "cpu") == 0
    assert loaded.options == {
        "model": "m",
        "device": "cpu",
        "language": "de",
        "task": "translate",
        "words": True,
        "speakers": None,
        "prompt": "lamps",
        "hot_words": ["ACME-1", "Luxo"],
    }
    (_, ask), *_ = loaded.engine.heard
    assert ask.language == "de" and ask.prompt == "lamps ACME-1, Luxo"


def test_folders_into_a_folder(calls: Path, loaded: Loaded, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(calls, "--format", "srt", "--out", out) == 0
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == ["may/two.srt", "one.srt"]
    assert (out / "one.srt").read_text().startswith("1\n00:00:00,000 --> ")


def test_several_files_to_stdout(calls: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("==")] == [
        f"== {calls / 'one.wav'}",
        f"== {calls / 'may' / 'two.wav'}",
    ]
    assert run(calls, "--format", "json") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [Path(json.loads(line)["file"]).name for line in lines] == ["one.wav", "two.wav"]
    assert [len(read_json(line).segments) for line in lines] == [1, 2]
    assert run(calls, "--format", "srt") == 2
    assert "say where to with --out DIR" in capsys.readouterr().err


def test_names_that_would_meet_are_written_whole(calls: Path, loaded: Loaded, tmp_path: Path) -> None:
    (calls / "one.flac").write_bytes(recording())
    out = tmp_path / "out"
    assert run(calls / "one.wav", calls / "one.flac", "--out", out) == 0
    assert sorted(path.name for path in out.iterdir()) == ["one.flac.txt", "one.wav.txt"]
    (calls / "may" / "one.wav").write_bytes(recording())
    assert run(calls / "one.wav", calls / "may" / "one.wav", "--out", out) == 2


def test_a_bad_file_never_stops_the_rest(
    calls: Path, loaded: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (calls / "bad.wav").write_bytes(recording()[:30])
    out = tmp_path / "out"
    assert run(calls / "nowhere.wav", calls, "--out", out) == 1
    errors = capsys.readouterr().err
    assert "2 of 4 recordings could not be transcribed" in errors
    assert "nowhere.wav: there is no file" in errors and "bad.wav is a damaged" in errors
    assert "Traceback" not in errors
    assert sorted(path.name for path in out.rglob("*.txt")) == ["one.txt", "two.txt"]
    assert not list(out.rglob("*.part"))


def test_one_file_that_cannot_be_read_is_one_line(
    calls: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(calls / "may" / "notes.txt") == 2
    assert capsys.readouterr().err.startswith("error: notes.txt has no sound")
    (calls / "empty").mkdir()
    assert run(calls / "empty") == 2
    assert "there are no recordings in" in capsys.readouterr().err


def test_nobody_speaks(tmp_path: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "quiet.wav").write_bytes(recording(0))
    assert run(tmp_path / "quiet.wav") == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "quiet.wav: nobody speaks in it" in captured.err


def test_stdin(loaded: Loaded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(recording())))
    assert run("-") == 0
    assert capsys.readouterr().out == "Hello <b>.\n"


def test_ctrl_c_keeps_what_is_done(
    calls: Path, loaded: Loaded, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = iter(["first", "second"])

    def interrupted(window: Any, ask: Any) -> str:
        if (text := next(said, None)) is None:
            raise KeyboardInterrupt
        return text

    loaded.engine = ScriptedEngine(interrupted)
    out = tmp_path / "out"
    assert run(calls, "--out", out) == 130
    assert (out / "one.txt").read_text() == "first\n"
    assert (out / "may" / "two.txt.part").read_text() == "second\n"
    assert "is in" in capsys.readouterr().err


def test_words_obey_no_terminal(calls: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    loaded.engine = ScriptedEngine("red \x1b[31m alert")
    assert run(calls / "one.wav") == 0
    assert capsys.readouterr().out == "red \\x1b[31m alert\n"


def test_a_folder_for_files_that_is_a_file(calls: Path, loaded: Loaded, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(calls / "one.wav", "--out", calls / "one.wav") == 2
    assert "is a file; give a folder" in capsys.readouterr().err


def test_a_pipe_in_a_folder_is_not_waited_for(calls: Path) -> None:
    import os

    os.mkfifo(calls / "pipe.wav")
    assert [path.name for path, _ in command._recordings(calls)] == ["one.wav", "two.wav"]
