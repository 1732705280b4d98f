"""``mmagent doctor``: what is installed, what is used, and what is broken. It looks and tries, and changes nothing."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from mmagent import paths
from mmagent.cli.outcome import FAILED
from mmagent.cli.printable import printable
from mmagent.errors import MMAgentError, StoreError, StoreLocked


@dataclass(frozen=True)
class Finding:
    """What one check came to."""

    name: str
    status: Literal["ok", "absent", "broken"]
    """``absent`` is an extra that is not installed, which is fine."""
    detail: str


def examine(*, as_json: bool = False) -> int:
    """Print every finding; the exit code is 1 if something that is needed is broken."""
    findings = []
    for finding in check_all():
        findings.append(finding)
        if not as_json:
            print(f"{finding.status:7} {finding.name:12} {printable(' '.join(finding.detail.split()))}", flush=True)
    broken = [finding.name for finding in findings if finding.status == "broken"]
    if as_json:
        print(json.dumps({"ok": not broken, "findings": [asdict(finding) for finding in findings]}, ensure_ascii=False))
    else:
        print(f"broken: {', '.join(broken)}" if broken else "everything that is needed works")
    return FAILED if broken else 0


def check_all() -> Iterator[Finding]:
    """Every finding, as soon as it is known."""
    for name, check in CHECKS.items():
        try:
            yield Finding(name, "ok", check())
        except MMAgentError as error:
            yield Finding(name, "broken", str(error))
        except Exception as error:  # whatever is wrong with an installation is what is asked for
            yield Finding(name, "broken", f"{type(error).__name__}: {error}")
    yield from extras()


def extras() -> Iterator[Finding]:
    """For each optional extra, whether it is installed, or how to install it."""
    needs: dict[str, list[str]] = {}
    for requirement in metadata.requires("mmagent") or ():
        if marker := re.search(r"extra == ['\"](\w+)['\"]", requirement):
            needs.setdefault(marker.group(1), []).append(re.split(r"[^\w.-]", requirement)[0])
    for extra, packages in needs.items():
        if extra == "dev":
            continue
        try:
            yield Finding(extra, "ok", ", ".join(f"{package} {metadata.version(package)}" for package in packages))
        except metadata.PackageNotFoundError:
            yield Finding(extra, "absent", f"pip install 'mmagent[{extra}]'")


def _python() -> str:
    return f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"


def _mmagent() -> str:
    import mmagent

    return f"{mmagent.__version__} in {Path(mmagent.__path__[0])}"


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _transformers() -> str:
    import transformers

    return str(transformers.__version__)


def _settings() -> str:
    from mmagent.settings import settings

    changed = sorted(settings().model_fields_set)
    return ", ".join(f"{settings().variable(field)}={getattr(settings(), field)}" for field in changed) or "defaults"


def _device() -> str:
    from mmagent.engine.decoder.native import native_dtypes
    from mmagent.engine.load import pick_decoder_dtype, pick_device, pick_dtype
    from mmagent.settings import settings

    device, wanted = pick_device(settings().device), settings().dtype
    number = pick_dtype(wanted, device, lambda: 0)
    kernels = ", ".join(native_dtypes()) or "none here, so decoders run in torch"
    decoders = pick_decoder_dtype(wanted, device, number)
    return f"{device}, {str(number).removeprefix('torch.')}, decoders {decoders}; CPU kernels: {kernels}"


def _nano() -> str:
    from mmagent.chat.local import LocalModel

    model = LocalModel("nano")
    model.load()
    takes = "text and pictures" if model.capabilities.images else "text"
    return f"loads; takes {takes}, {model.capabilities.context_length:,} tokens"


def _model() -> str:
    from mmagent.chat import factory

    model = factory.load_model()
    return f"{model.name}, {'sees pictures' if model.capabilities.images else 'sees no pictures'}"


def _models() -> str:
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        found = sorted(repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model")
    except CacheNotFound:
        found = []
    return ", ".join(("nano", *found)) + ("" if found else "; none downloaded")


def _ocr() -> str:
    from PIL import Image, ImageDraw, ImageFont

    from mmagent.media.ocr import recognise

    picture = Image.new("RGB", (480, 120), "white")
    ImageDraw.Draw(picture).text((30, 30), "ORDER 4821", "black", ImageFont.load_default(size=48))
    text = " ".join(line["text"] for line in recognise(picture))
    if "4821" not in text:
        raise StoreError(f"it read {text!r} where ORDER 4821 is written; install it again: pip install -U rapidocr")
    return f"rapidocr {metadata.version('rapidocr')} reads"


def _speech() -> str:
    from mmagent.settings import settings
    from mmagent.speech.engines.load import LITTLE, NANO, load_engine

    name = settings().speech_model or NANO
    engine = load_engine(name, settings().device)
    languages = f"{len(engine.languages)} languages" if engine.languages else "one language"
    what = f"{name} on {engine.name}, {languages}, windows of {engine.seconds:g} s"
    return f"{what}; {LITTLE}" if name == NANO else what


def _embedder() -> str:
    from mmagent.knowledge import MiniLM

    (vector,) = MiniLM().embed(["Can I return the lamp?"])
    return f"all-MiniLM-L6-v2, {len(vector)} dimensions"


def _data() -> str:
    folder = paths.data_dir()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise StoreError(f"{there} cannot be written to; set MMAGENT_DATA_DIR to a folder that can")
    return f"{folder}, {shutil.disk_usage(there).free / 2**30:.1f} GiB free"


def _sessions() -> str:
    file = paths.sessions_path()
    if not file.exists():
        return "none yet"
    with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
        try:
            (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.DatabaseError as error:
            found = str(error)
    if found != "ok":
        raise StoreError(f"{file} is damaged ({found}); move it away, or put a copy in its place")
    from mmagent.session import Session

    return f"{len(Session.names())} in {file}"


def _knowledge() -> str:
    from mmagent.knowledge import Knowledge

    folders = sorted(path.parent for path in paths.knowledge_dir().glob("*/manifest.sqlite3"))
    in_use = 0
    for folder in folders:
        try:
            with Knowledge(folder) as store:
                problems = store.verify()
        except StoreLocked:
            in_use += 1
            continue
        if problems:
            raise StoreError(f"{folder}: {problems[0]}; remove the folder, and it is made again when it is used")
    busy = f", {in_use} of them in use now" if in_use else ""
    return f"{len(folders)} stores in {paths.knowledge_dir()}{busy}" if folders else "none yet"


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "mmagent": _mmagent,
    "torch": _torch,
    "transformers": _transformers,
    "settings": _settings,
    "device": _device,
    "nano": _nano,
    "model": _model,
    "models at hand": _models,
    "speech": _speech,
    "ocr": _ocr,
    "embedder": _embedder,
    "data": _data,
    "sessions": _sessions,
    "knowledge": _knowledge,
}
"""Each gives what there is to say, or raises what is wrong."""
