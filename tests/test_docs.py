"""Every code block of the README and the docs runs as it stands there.

Python blocks of a page run in order and share their names. Of a shell block, the lines that begin with ``mmagent`` run.
A block whose fence says ``skip`` (```` ```python skip ````) is not run; blocks in other languages are only read.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The blocks of a page that are to be run."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in FENCE.finditer(text):
        language, *flags = match["info"].split() or [""]
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        if "skip" not in flags:
            found.append(Block(language, code, text.count("\n", 0, match.start()) + 1))
    return found


def script(page: Path) -> str:
    """The page's Python as one program with the page's line numbers, so that a traceback points at the page."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language in ("python", "py"):
            lines += [""] * (block.line - len(lines))
            lines += block.code.splitlines()
    return "\n".join(lines)


def commands(page: Path) -> list[str]:
    """The ``mmagent`` commands of the page's shell blocks, continued lines joined."""
    shell = [block.code for block in blocks(page) if block.language in ("bash", "console", "sh", "shell")]
    lines = [line.strip().removeprefix("$ ") for code in shell for line in code.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.split()[:1] == ["mmagent"]]


def needs_nano(text: str) -> list[pytest.MarkDecorator]:
    """Blocks that make an agent, ask a question or listen use the models that ship."""
    asks = re.search(r"\bAgent\(|\bload_model\(|\bLocalModel\(|^mmagent (run|chat|doctor)", text, re.MULTILINE)
    hears = re.search(r"ranscriber\(\)|^mmagent (transcribe|voice|doctor|run .*\.wav)", text, re.MULTILINE)
    return [pytest.mark.nano] * bool(asks) + [pytest.mark.nano("speech")] * bool(hears)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the examples in it, as a reader who cloned the project has it."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def cases(make: object) -> list[object]:
    found = []
    for page in PAGES:
        for text in make(page):  # type: ignore[operator]
            name = f"{page.relative_to(ROOT)}:{text}" if make is commands else str(page.relative_to(ROOT))
            found.append(pytest.param(page, text, id=name, marks=needs_nano(text)))
    return found


@pytest.mark.parametrize(("page", "code"), cases(lambda page: [script(page)] if script(page).strip() else []))
def test_python(page: Path, code: str, place: Path) -> None:
    path = place / f"page_{page.stem}.py"
    path.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, path], cwd=place, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{page}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize(("page", "command"), cases(commands))
def test_command(page: Path, command: str, place: Path) -> None:
    words = [sys.executable, "-m", *shlex.split(command, comments=True)]
    done = subprocess.run(words, cwd=place, input="", capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{page}: {command}\n{done.stdout}{done.stderr}"


def test_the_pages_that_are_linked_are_there() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_what_a_reader_of_this_file_relies_on(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n\n```python\na = 1\n```\n\n- x\n\n  ```python\n  b = a\n  ```\n\n```python skip\n1 / 0\n```\n"
        '\n```bash\nmake demo\n$ mmagent run "hi" \\\n  --quiet\n```\n\n```text\nmmagent no\n```\n'
    )
    assert script(page).splitlines()[3] == "a = 1"
    assert [line for line in script(page).splitlines() if line] == ["a = 1", "b = a"]
    assert [shlex.split(line) for line in commands(page)] == [["mmagent", "run", "hi", "--quiet"]]
