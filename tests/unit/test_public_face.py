"""The names that users import, and nothing that they did not ask for."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

import mmagent

FACE = [
    "Agent",
    "Audio",
    "Capabilities",
    "ChatModel",
    "Citation",
    "Document",
    "Event",
    "Image",
    "Knowledge",
    "LangChainModel",
    "LocalModel",
    "MMAgentError",
    "Message",
    "Quoted",
    "Result",
    "Session",
    "Settings",
    "Tool",
    "ToolContext",
    "ToolError",
    "ToolResult",
    "Usage",
    "Video",
    "__version__",
    "as_langchain",
    "errors",
    "load_model",
    "tool",
]
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


def test_the_face_is_pinned_and_sorted() -> None:
    assert mmagent.__all__ == FACE == sorted(FACE)


@pytest.mark.parametrize("name", FACE)
def test_every_name_is_there(name: str) -> None:
    assert getattr(mmagent, name) is not None
    assert name in dir(mmagent)


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
