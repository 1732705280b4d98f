"""A model's card says what was measured, what was not, and where the data is from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.evaluate.card import GENERATED, LICENSES, check, parameters, write_card
from mmagent.evaluate.nano import Measured, Report, model_hash, read_report
from mmagent.evaluate.skills import Score
from mmagent.testing.tiny import tiny_vlm
from mmagent.train.sources import SOURCES


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vlm(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def report() -> Report:
    measured = (
        Measured("shop", (Score("shop task", 93, 100, 0.9), Score("shop task: returns", 40, 50)), (), 12.0),
        Measured("nlvr", (Score("nlvr", 60, 100, 0.7, wrong=("a | b | c",)),), (), 3.0),
        Measured("bfcl", (), ("there is no file x.json",), 0.0),
        Measured("speed", (Score("first token with a receipt", 0.42, 0, 1.0, "s"),), (), 9.0),
    )
    known = ("nano", "0123456789abcdef", "feedfacefeedface", "2026-11-22T10:00:00+00:00")
    return Report(*known, {"torch": "2.13"}, "2 CPU cores", 7, 100, measured)


def run_of(folder: Path, **record: Any) -> Path:
    recipe = {"name": folder.name, "stage": "instruct", "steps": 1200, "seed": 0, "train": ["decoder"]}
    recipe["data"] = [{"source": "sgd"}, {"source": "drills"}]
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "training.json").write_text(json.dumps({"recipe": recipe, "tokens": 9_800_000} | record))
    lines = [{"step": s, "tokens": s * 8000, "right sgd": s / 2000, "loss": 1.0} for s in range(100, 1300, 100)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_card_of_everything(model: Path, report: Report, tmp_path: Path) -> None:
    words = run_of(tmp_path / "nano-words")
    last = run_of(tmp_path / "nano", machine="2 CPU cores", format="feedfacefeedface")
    card = write_card(model, report, [words, last], limits="It cannot sing.")
    assert card.startswith(
        "---\nlicense: apache-2.0\nlibrary_name: mmagent\npipeline_tag: image-text-to-text\n---\n\n# nano\n"
    )
    for line in (
        "| shop task | 93 of 100 | 93.0% | 90% | met |",
        "| nlvr | 60 of 100 | 60.0% | 70% | **NOT met** |",
        "| shop task: returns | 40 of 50 | 80.0% |  |  |",
        "| first token with a receipt | 0.42 s |  | ≤ 1 s | met |",
        "Not measured, bfcl: there is no file x.json.",
        "| instruct | `nano-words` | 1,200 | 9.8M | decoder | not recorded |",
        "| instruct | `nano` | 1,200 | 9.8M | decoder | 2 CPU cores |",
        "| `sgd` | Schema-Guided Dialogue: dialogues with service calls | CC-BY-SA-4.0 |",
        "| `drills` | generated from seeds | Apache-2.0 |",
        "| 9.6M | 60% |",
        "It cannot sing.",
    ):
        assert line in card.splitlines(), card
    assert card.index("`nano-words` |") < card.index("`nano` |"), "stages stand in order"
    assert "XQuAD" not in card, "only what was used"
    assert "19.6 million tokens in all" in card
    assert "feedfacefeedface` when it was measured, trained on `feedfacefeedface`" in card
    assert "weights `0123456789abcdef`" in card


def test_the_card_of_a_speech_model_says_what_it_is(report: Report, tmp_path: Path) -> None:
    folder = tmp_path / "ears"
    folder.mkdir()
    shape = {"model_type": "whisper", "d_model": 192, "num_mel_bins": 80, "max_source_positions": 500}
    shape |= {"encoder_layers": 4, "decoder_layers": 2, "encoder_attention_heads": 3, "vocab_size": 1109}
    (folder / "config.json").write_text(json.dumps(shape | {"max_target_positions": 128}))
    recipe = {
        "name": "nano-speech",
        "stage": "speech",
        "steps": 4000,
        "data": [{"source": "clips"}, {"source": "voices"}],
    }
    card = write_card(folder, replace(report, format=""), [run_of(tmp_path / "nano-speech", recipe=recipe)])
    assert "pipeline_tag: automatic-speech-recognition" in card and "`mmagent eval speech`" in card
    assert "| encoder | Whisper; windows of 10 s, 80 mel bands, 4 layers × 192, 3 heads |" in card
    assert (
        "| `clips` | Free Spoken Digit Dataset" in card and "| `voices` | generated from seeds | Apache-2.0 |" in card
    )
    assert "| all of it |" in card and "9.8 million tokens (places of 20 ms: 54.4 hours) in all" in card
    assert "Prompt format" not in card and "license: apache-2.0" in card


def test_the_shape_is_read_from_the_files(model: Path, report: Report) -> None:
    card = write_card(model, report, [])
    assert "32 × 32 pixels, patch 8, 1 layers × 32" in card
    assert "16 patches → 4 tokens" in card
    assert "2 layers × 48, 4 heads (2 for keys and values)" in card
    assert f"{parameters(model) / 1e6:.1f}M parameters" in card
    assert "## Training" not in card


def test_every_source_is_recorded_and_has_its_licence() -> None:
    assert GENERATED | LICENSES.keys() == SOURCES.keys()
    assert not GENERATED & LICENSES.keys()
    licenses = {name: license for name, (_, license) in LICENSES.items()}
    assert licenses["nlvr"] == "CC-BY-4.0"
    assert licenses["sgd"] == licenses["xquad"] == "CC-BY-SA-4.0"
    assert licenses["intents"] == "CC-BY-4.0 and CC-BY-3.0", "BANKING77 and CLINC150, in this order"


@pytest.mark.parametrize(
    ("name", "source", "row"),
    [
        ("nano", "rows", "| `rows` | the user's own file | the user's |"),
        ("nano", "theirs", "| `theirs` | not recorded | not recorded |"),
        ("somebodys", "shop", "| `shop` | generated from seeds | Apache-2.0 |"),
        ("your-shop", "shop", "| `shop` | generated from seeds | Apache-2.0 |"),
    ],
)
def test_no_licence_is_stated_for_what_others_trained(
    model: Path, report: Report, tmp_path: Path, name: str, source: str, row: str
) -> None:
    recipe = {"name": name, "stage": "instruct", "steps": 1, "data": [{"source": source}]}
    card = write_card(model, report, [run_of(tmp_path / "own", recipe=recipe)])
    assert row in card.splitlines()
    assert "license:" not in card and "given under Apache-2.0" not in card


def test_what_a_card_needs_is_checked_before(model: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.md"
    with pytest.raises(InputError, match="folder of a run"):
        check(model, [tmp_path])
    run = run_of(tmp_path / "a")
    with pytest.raises(InputError, match="cannot be written"):
        check(model, [run], limits)
    limits.write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="cannot be written"):
        check(model, [run], limits)
    limits.write_text("Small.")
    assert check(model, [run], limits) == "Small."
    (run / "model" / "training.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        check(model, [run])


def test_notes_and_failures_stand_in_the_card(model: Path, report: Report) -> None:
    measured = (
        Measured("nlvr", (Score("NLVR test", 6, 10, 0.7, note="always saying 'true' would get 52.0%"),)),
        Measured("pairs", (), ("ModelError: broken",), failed=True),
    )
    card = write_card(model, replace(report, measured=measured), [])
    assert "| NLVR test (always saying 'true' would get 52.0%) | 6 of 10 | 60.0% | 70% | **NOT met** |" in card
    assert "Failed, pairs: ModelError: broken." in card


def test_runs_that_are_no_runs(model: Path, report: Report, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="folder of a run"):
        write_card(model, report, [tmp_path])
    run = run_of(tmp_path / "a")
    (run / "model" / "training.json").write_text("{")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        write_card(model, report, [run])
    with pytest.raises(NotFound, match="directory of a model"):
        write_card(tmp_path, report, [])


def test_a_report_can_be_read_again(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(report.json())
    assert read_report(path) == report
    values = json.loads(report.json())
    assert values["met"] is False
    assert values["measured"][0]["scores"][0] | {"share": 0.93, "met": True} == values["measured"][0]["scores"][0]
    path.write_text("[]")
    with pytest.raises(InputError, match="no report"):
        read_report(path)
    with pytest.raises(NotFound):
        read_report(tmp_path / "none.json")


def test_the_hash_is_of_what_decides_the_words(model: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(model, tmp_path / "copy")
    before = model_hash(model)
    (copy / "MODEL_CARD.md").write_text("# Card")
    assert model_hash(copy) == before
    for name in ("model.safetensors", "generation_config.json", "processor_config.json"):
        with (copy / name).open("ab") as file:
            file.write(b" ")
        assert model_hash(copy) != before
        before = model_hash(copy)
