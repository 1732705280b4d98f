"""Who may import whom, where import-linter does not look: built-in tools, prompts, tests and heavy modules."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("mmagent", "tools", "prompts") for path in (ROOT / folder).rglob("*.py"))
TOOLS = sorted(path for path in (ROOT / "tools").glob("*.py") if path.name != "__init__.py")
PUBLIC = {
    "mmagent": {"Image", "MMAgentError", "Quoted", "ToolContext", "ToolError", "ToolResult", "tool"},
    "mmagent.agent.hearing": {"find", "lines"},
    "mmagent.media.ocr": {"recognise", "rows_of"},
}


def imports(tree: ast.AST) -> Iterator[tuple[str, frozenset[str]]]:
    """Modules that are imported anywhere, with the names taken from them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, frozenset()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ".", frozenset(alias.name for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TOOLS, ids=name_of)
def test_a_built_in_tool_reads_like_a_users_own(path: Path) -> None:
    ours = [(module, names) for module, names in imports(parsed(path)) if module.split(".")[0] == "mmagent"]
    assert ours
    for module, names in ours:
        assert names <= PUBLIC[module]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_the_top_level_folders(path: Path) -> None:
    tops = {module.split(".")[0] for module, _ in imports(parsed(path))}
    assert not tops & {"tools", "prompts", "tests", "examples", "benchmarks"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_every_module_opens_with_what_it_is_for(path: Path) -> None:
    tree = parsed(path)
    if tree.body:
        assert ast.get_docstring(tree)


@pytest.mark.parametrize("path", [path for path in SOURCES if "train" not in path.parts], ids=name_of)
def test_files_are_short_enough_to_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_only_interfaces_print() -> None:
    printing = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in printing if not name.startswith("mmagent/cli/")} == set()


def test_nothing_runs_data_as_code() -> None:
    forbidden = {"pickle", "cPickle", "dill", "marshal", "shelve"}
    for path in SOURCES:
        tree = parsed(path)
        assert not {module.split(".")[0] for module, _ in imports(tree)} & forbidden, name_of(path)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), name_of(path)
            if isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "shell"):
                assert isinstance(node.value, ast.Constant) and node.value.value is False, name_of(path)


def test_the_layers_hold() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
