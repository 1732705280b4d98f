"""The names that users import, and nothing that they did not ask for."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import statistics
import subprocess
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

import mmagent

PINNED = Path(__file__).with_name("public_face.txt")
"""Every public name with its signature and the first line of its docstring. Write it anew, once a change is meant, with
``python tests/unit/test_public_face.py``."""
PARTS = ("mmagent", "mmagent.testing")
HEAVY = {
    "PIL",
    "chromadb",
    "langchain",
    "langchain_core",
    "numpy",
    "pydantic",
    "rapidocr",
    "rich",
    "textual",
    "torch",
    "transformers",
}
COMMAND = "import sys; sys.argv = ['mmagent', {}]\nfrom mmagent.cli.main import main\nmain()"
COMMANDS = {
    "import mmagent": "import mmagent",
    "mmagent --help": COMMAND.format("'--help'"),
    "mmagent run --help": COMMAND.format("'run', '--help'"),
}


def face() -> str:
    """What users can rely on, as text."""
    lines = []
    for part in PARTS:
        module = importlib.import_module(part)
        for name in module.__all__:
            if name != "__version__":
                lines += described(f"{part}.{name}", getattr(module, name))
    return "\n".join(lines) + "\n"


def described(name: str, thing: Any) -> list[str]:
    """A name and, of a class of ours, its public members."""
    if inspect.ismodule(thing):
        own = [one for one in vars(thing).values() if inspect.isclass(one) and one.__module__ == thing.__name__]
        return [line for one in own for line in described(f"{name}.{one.__name__}", one)]
    lines = [f"{name}{signature(thing)}: {first_line(thing)}"]
    if inspect.isclass(thing) and thing.__module__.startswith("mmagent") and not issubclass(thing, Exception):
        for key, member in vars(thing).items():
            if key.startswith("_") or key in ("model_config", "model_post_init"):
                continue
            if isinstance(member, property | cached_property):
                lines.append(f"    .{key}: {first_line(member)}")
            elif callable(member) or isinstance(member, classmethod | staticmethod):
                function = getattr(member, "__func__", member)
                lines.append(f"    .{key}{signature(function)}: {first_line(function)}")
    return lines


def signature(thing: Any) -> str:
    try:
        return re.sub(r" at 0x[0-9a-f]+", "", str(inspect.signature(thing))) if callable(thing) else ""
    except (TypeError, ValueError):
        return ""


def first_line(thing: Any) -> str:
    told = callable(thing) or isinstance(thing, property | cached_property)
    return (inspect.getdoc(thing) or "").split("\n")[0] if told else ""


@pytest.mark.parametrize("part", PARTS)
def test_every_name_is_there_and_sorted(part: str) -> None:
    module = importlib.import_module(part)
    assert module.__all__ == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)


def test_the_face_is_pinned() -> None:
    assert face().splitlines() == PINNED.read_text(encoding="utf-8").splitlines()


def test_every_public_name_says_what_it_is() -> None:
    values = ("mmagent.Event: ", "mmagent.testing.FAMILIES: ")
    assert [line for line in face().splitlines() if line.endswith(": ") and line not in values] == []


def test_a_wrong_name_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'mmagent' has no attribute 'Agnet'"):
        mmagent.Agnet  # noqa: B018


def test_the_version_is_that_of_the_project() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{mmagent.__version__}"' in pyproject
    assert re.fullmatch(r"\d+\.\d+\.\d+", mmagent.__version__)


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_pays_for_what_was_not_used(command: str) -> None:
    report = "import json, sys\nprint('LOADED ' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    code = f"try:\n    exec({COMMANDS[command]!r})\nexcept SystemExit:\n    pass\n{report}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.rsplit("LOADED ", 1)[1]))
    typers_own = {"pydantic"} if command == "mmagent run --help" else set()  # typer checks option types with it
    assert not loaded & (HEAVY - typers_own)


@pytest.mark.parametrize(("command", "bar"), [("import mmagent", 0.1), ("mmagent --help", 0.35)])
def test_it_starts_quickly(command: str, bar: float) -> None:
    """Seconds beyond Python's own start. The bar is tenfold what it takes, so that a busy machine passes."""

    def seconds(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return time.perf_counter() - began

    taken = statistics.median(seconds(COMMANDS[command]) for _ in range(3)) - seconds("pass")
    assert taken < bar * 10


if __name__ == "__main__":
    PINNED.write_text(face(), encoding="utf-8")
