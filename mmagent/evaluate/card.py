"""A model's card from what was measured: shape, training, data, figures and limits. It writes nothing by heart."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmagent.errors import ConfigurationError, InputError, NotFound
from mmagent.evaluate.nano import Measured, Report
from mmagent.evaluate.skills import Score
from mmagent.train.plot import RIGHT, read_metrics

LICENSES = {
    "nlvr": ("NLVR, development part: sentences and pictures (lil-lab/nlvr)", "CC-BY-4.0"),
    "sgd": ("Schema-Guided Dialogue: dialogues with service calls", "CC-BY-SA-4.0"),
    "intents": ("BANKING77 and CLINC150: customers' requests", "CC-BY-4.0 and CC-BY-3.0"),
    "xquad": ("XQuAD: passages and questions", "CC-BY-SA-4.0"),
    "rows": ("the user's own file", "the user's"),
    "clips": (
        "Free Spoken Digit Dataset without one speaker; letters and digits of moonshine's tests without their first "
        "takes",
        "CC-BY-SA-4.0; MIT",
    ),
    "unknown": (
        "BANKING77's sentences said by espeak-ng, and pieces of recordings of moonshine's and Leopard's tests, of "
        "which nothing is to be known",
        "CC-BY-4.0; MIT, Apache-2.0",
    ),
}
"""Of the sources that draw from somebody's data."""
GENERATED = frozenset(
    (
        "beyond", "charts", "digits", "documents", "drills", "lines", "noises", "products", "scenes", "shop",
        "toolsets", "voices",
    )
)  # fmt: skip
"""The sources that draw theirs from seeds; of any other nothing is recorded."""
CURVE = 6
"""Rows of a run's learning curve."""
WEIGHTS = (
    "The weights are given under Apache-2.0. They hold what training on these sources made of them and no copy of the "
    "sources, whose own licences go on to cover their texts and pictures; none of them is in this directory."
)
UNSTATED = "The licence of the weights is for those to state who trained them; nothing here states one."


def write_card(model_dir: Path, report: Report, runs: list[Path], *, limits: str = "") -> str:
    """The card of a model.

    Args:
        model_dir: The model's directory, as ``save_pretrained`` wrote it.
        report: What was measured of it.
        runs: The folders of the runs that made it, the first stage first; each has ``model/training.json``.
        limits: What it cannot do, in Markdown.

    Returns:
        Markdown with front matter.

    Raises:
        NotFound: A run, or the model's configuration, is not there.
        ConfigurationError: A file of theirs cannot be read.
    """
    stages = [_record(run) for run in runs]
    kind = _kind(model_dir)
    sections = [
        _front(stages),
        f"# {report.model}\n",
        f"{_ABOUT[kind]} This card is written by `mmagent eval {kind} --card` from what was measured.",
        _shape(model_dir),
        _training(stages),
        _data(stages),
        _results(report, kind),
        _curves(runs),
        f"## Limits\n\n{limits.strip() or 'None were written down; the bars that are not met say what to expect.'}",
    ]
    if report.format:
        spoken = f"Spoken to in the format `{report.format}` when it was measured{_trained_on(stages)}."
        sections.append(f"## Prompt format\n\n{spoken}")
    return "\n\n".join(section.strip() for section in sections if section.strip()) + "\n"


def check(model_dir: Path, runs: list[Path], limits: Path | None = None) -> str:
    """Read all that `write_card` will need, and return the text of ``limits``.

    Raises:
        InputError: A file is not there, or cannot be read.
    """
    try:
        for run in runs:
            _record(run)
        _shape(model_dir)
        _curves(runs)
        return limits.read_text(encoding="utf-8") if limits else ""
    except InputError:
        raise
    except (ConfigurationError, OSError, ValueError) as error:
        raise InputError(f"the card cannot be written: {error}") from error


def _front(stages: Sequence[dict[str, Any]]) -> str:
    license = "license: apache-2.0\n" if is_ours(stages) else ""
    heard = any(stage["recipe"].get("stage") == "speech" for stage in stages)
    task = "automatic-speech-recognition" if heard else "image-text-to-text"
    return f"---\n{license}library_name: mmagent\npipeline_tag: {task}\n---"


def is_ours(stages: Sequence[dict[str, Any]]) -> bool:
    """Whether every stage was of a recipe that ships, on generated or recorded data and no user's."""
    from mmagent.train.recipe import names

    known = (GENERATED | LICENSES.keys()) - {"rows"}
    ours = {name for name in names() if name not in ("lora", "your-shop")}
    return bool(stages) and all(
        stage["recipe"].get("name") in ours and {one["source"] for one in stage["recipe"].get("data", [])} <= known
        for stage in stages
    )


def _shape(folder: Path) -> str:
    config = _json(folder / "config.json", "the directory of a model")
    rows = [
        *(_ears(config) if _kind(folder) == "speech" else _tower(config)),
        ("in all", f"{parameters(folder) / 1e6:.1f}M parameters, {size(folder) / 1e6:.1f} MB"),
    ]
    return "## What it is\n\n| part | shape |\n|---|---|\n" + "\n".join(f"| {part} | {shape} |" for part, shape in rows)


def _kind(folder: Path) -> str:
    """What measures a model: the second word of ``mmagent eval``."""
    kind = _json(folder / "config.json", "the directory of a model").get("model_type")
    return "speech" if kind == "whisper" else "nano"


def _ears(config: dict[str, Any]) -> list[tuple[str, str]]:
    width, mels, places = config.get("d_model"), config.get("num_mel_bins"), config.get("max_source_positions", 0)
    heads = config.get("encoder_attention_heads")
    words, context = config.get("vocab_size", 0), config.get("max_target_positions")
    return [
        ("encoder", f"Whisper; windows of {places / 50:g} s, {mels} mel bands, {config.get('encoder_layers')} layers "
         f"× {width}, {heads} heads"),
        ("decoder", f"{config.get('decoder_layers')} layers × {width}, {words:,} tokens of vocabulary with its times, "
         f"context {context}"),
    ]  # fmt: skip


def _tower(config: dict[str, Any]) -> list[tuple[str, str]]:
    vision, text = config.get("vision_config", {}), config.get("text_config", {})
    rows = []
    if side := vision.get("image_size"):
        patch, layers, width = vision.get("patch_size", 16), vision.get("num_hidden_layers"), vision.get("hidden_size")
        kind = "convolutions, then a ViT" if vision.get("stem_channels") else "ViT"
        patches = (side // patch) ** 2
        rows.append(("vision tower", f"{kind}; {side} × {side} pixels, patch {patch}, {layers} layers × {width}"))
        tokens = patches // config.get("downsample", 1) ** 2
        rows.append(("connector", f"`{config.get('connector', '?')}`, {patches} patches → {tokens} tokens"))
    if layers := text.get("num_hidden_layers"):
        heads, pairs = text.get("num_attention_heads"), text.get("num_key_value_heads")
        shape = f"{layers} layers × {text.get('hidden_size')}, {heads} heads ({pairs} for keys and values)"
        context, words = text.get("max_position_embeddings", 0), text.get("vocab_size", 0)
        rows.append(("decoder", f"Llama; {shape}, {words:,} tokens of vocabulary, context {context:,}"))
    return rows


def parameters(folder: Path) -> int:
    """How many numbers the weights hold, by the files' own headers; shared ones are saved once."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "np") as file:
            total += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    return total


def size(folder: Path) -> int:
    """Bytes of the weights on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


_LEARNS = {"lora": "adapters", "speech": "all of it"}
"""What learns at stages where the recipe does not say so."""


def _training(stages: Sequence[dict[str, Any]]) -> str:
    if not stages:
        return ""
    head = "| stage | recipe | steps | tokens | learns | machine |\n|---|---|---|---|---|---|\n"
    rows = []
    for stage in stages:
        recipe = stage["recipe"]
        learns = _LEARNS.get(recipe["stage"]) or ", ".join(recipe.get("train", []))
        machine = stage.get("machine", "not recorded")
        rows.append(
            f"| {recipe['stage']} | `{recipe['name']}` | {recipe['steps']:,} | {stage['tokens'] / 1e6:.1f}M | {learns} "
            f"| {machine} |"
        )
    total = sum(stage["tokens"] for stage in stages)
    seeds = sorted({stage["recipe"].get("seed", 0) for stage in stages})
    heard = f" (places of 20 ms: {total / 180_000:.1f} hours)" if stages[-1]["recipe"]["stage"] == "speech" else ""
    words = f"{total / 1e6:.1f} million tokens{heard} in all, seed {', '.join(map(str, seeds))}."
    return f"## Training\n\n{head}" + "\n".join(rows) + f"\n\n{words}"


def _data(stages: Sequence[dict[str, Any]]) -> str:
    used = {source["source"] for stage in stages for source in stage["recipe"].get("data", [])}
    generated = sorted(used & GENERATED)
    rows = (
        [f"| {', '.join(f'`{name}`' for name in generated)} | generated from seeds | Apache-2.0 |"] if generated else []
    )
    rows += [f"| `{name}` | {what} | {license} |" for name, (what, license) in LICENSES.items() if name in used]
    rows += [f"| `{name}` | not recorded | not recorded |" for name in sorted(used - GENERATED - LICENSES.keys())]
    if not rows:
        return ""
    return (
        "## Data\n\n| source | what | licence |\n|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\n{WEIGHTS if is_ours(stages) else UNSTATED}"
    )


def _results(report: Report, kind: str) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in report.versions.items())
    count = f", {report.count} questions of each skill at most" if report.count else ""
    head = (
        f"## Measured\n\n`mmagent eval {kind}`, {report.date[:10]}, {report.machine}, seed {report.seed}{count}; "
        f"{versions}; weights `{report.hash}`. What is asked is on seeds and files that training never saw.\n\n"
        "| what | right | share | bar | |\n|---|---|---|---|---|\n"
    )
    rows = [_row(score) for one in report.measured for score in one.scores]
    skipped = [_skipped(one) for one in report.measured if one.skipped]
    return head + "\n".join(rows) + ("\n\n" + "\n".join(skipped) if skipped else "")


def _row(score: Score) -> str:
    right = f"{score.right:g} of {score.total:,}" if score.total else f"{score.right:g} {score.unit}"
    share = f"{score.share:.1%}" if score.total else ""
    bar = "" if score.bar is None else f"{score.bar:.0%}" if score.total else f"≤ {score.bar:g} {score.unit}"
    name = f"{score.name} ({score.note})" if score.note else score.name
    return f"| {name} | {right} | {share} | {bar} | {_MET[score.met]} |"


_ABOUT = {
    "nano": "A vision-language model for two CPU cores: it looks at a picture, plans, calls tools and answers from "
    "what they return.",
    "speech": "A speech model of Whisper's shape for CPUs. It knows single letters and digits, spelled order numbers, "
    "dates, prices and some hundred support phrases in English; of anything else it is to be unsure, so that "
    "mmagent's pipeline leaves it out.",
}
_MET = {True: "met", False: "**NOT met**", None: ""}


def _skipped(one: Measured) -> str:
    return f"{'Failed' if one.failed else 'Not measured'}, {one.skill}: {'; '.join(one.skipped)}."


def _curves(runs: Sequence[Path]) -> str:
    tables = [table for run in runs if (table := _curve(run))]
    if not tables:
        return ""
    why = "Share of messages right token for token, given the text before, on fresh samples."
    return f"## Learning curve\n\n{why}\n\n" + "\n\n".join(tables)


def _curve(run: Path) -> str:
    """Some of a run's checks, evenly spread, the last one always."""
    checks = [line for line in read_metrics(run) if any(key.startswith(RIGHT) for key in line)]
    if not checks:
        return ""
    every = max(1, math.ceil(len(checks) / CURVE))
    kept = checks[::-1][::every][::-1]
    keys = sorted({key for line in kept for key in line if key.startswith(RIGHT)})
    head = f"| {run.resolve().name}: tokens | " + " | ".join(key.removeprefix(RIGHT) for key in keys) + " |"
    rows = [
        f"| {line['tokens'] / 1e6:.1f}M | "
        + " | ".join(f"{line[key]:.0%}" if key in line else "" for key in keys)
        + " |"
        for line in kept
    ]
    return "\n".join([head, "|---" * (len(keys) + 1) + "|", *rows])


def _trained_on(stages: Sequence[dict[str, Any]]) -> str:
    known = stages[-1].get("format") if stages else None
    return f", trained on `{known}`" if known else ""


def _record(run: Path) -> dict[str, Any]:
    record = _json(run / "model" / "training.json", "the folder of a run that has saved a model")
    if not {"recipe", "tokens"} <= record.keys():
        raise ConfigurationError(f"{run / 'model' / 'training.json'} has no recipe and tokens; train again")
    return record


def _json(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise NotFound(f"there is no {path}; give {what}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be read: {error}; write it again") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} is no JSON object; write it again")
    return found
