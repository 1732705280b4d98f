"""The wheel has everything, under one name; so has the editable installation."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]
FOLDERS = ("mmagent", "tools", "prompts")
INSTALLED_NAMES = {"tools": "mmagent/tools", "prompts": "mmagent/prompts"}

pytestmark = pytest.mark.xdist_group("wheel")  # one worker builds it

PROBE = """
import importlib.util, json, pkgutil, sys
import mmagent, mmagent.tools, mmagent.prompts
names = mmagent.prompts.names()
print(json.dumps({
    "file": mmagent.__file__,
    "version": mmagent.__version__,
    "leaks": [name for name in ("tools", "prompts", "tests", "examples") if importlib.util.find_spec(name)],
    "tools": sorted(mmagent.tools.BUILTIN),
    "modules": sorted(module.name for module in pkgutil.iter_modules(mmagent.tools.__path__)),
    "prompts": {name: len(mmagent.prompts._source(name, None)[1]) for name in names},
}))
"""


def sources() -> Iterator[Path]:
    """Every file of the packages."""
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts:
                yield path


def installed_name(path: Path) -> str:
    top, *rest = path.relative_to(ROOT).parts
    return "/".join([INSTALLED_NAMES.get(top, top), *rest])


def probe(python: Path, where: Path) -> dict[str, object]:
    """What an installation holds, seen from a folder that is not the tree."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", PROBE], cwd=where, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "tree")
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder / "tree"]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the wheel, and the dependencies of this one."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel]
    subprocess.run(command, capture_output=True, check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(str(Path(pytest.__file__).parents[1]) + "\n")
    return python


def test_every_package_on_disk_is_listed() -> None:
    on_disk = {installed_name(path.parent).replace("/", ".") for path in sources() if path.name == "__init__.py"}
    assert set(PACKAGES) == on_disk


def test_the_wheel_has_every_file_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (top_level,) = [name for name in archive.namelist() if name.endswith("top_level.txt")]
        assert archive.read(top_level).split() == [b"mmagent"]
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
    assert names == {installed_name(path) for path in sources()}


def test_the_installed_wheel_works_away_from_the_tree(python: Path, tmp_path: Path) -> None:
    found = probe(python, tmp_path)
    assert str(found["file"]).startswith(str(python.parents[1]))
    assert found["version"] == PROJECT["project"]["version"]
    assert found["leaks"] == []
    assert found["prompts"]
    assert set(found["modules"]) >= set(found["tools"]) > {"read_text"}  # type: ignore[call-overload]


def test_the_command_of_the_wheel_works(python: Path, tmp_path: Path) -> None:
    command = python.with_name("mmagent")
    done = subprocess.run([command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"mmagent {PROJECT['project']['version']}\n"


def test_the_editable_installation_is_the_same(tmp_path: Path) -> None:
    origin = metadata.distribution("mmagent").read_text("direct_url.json") or "{}"
    if not json.loads(origin).get("dir_info", {}).get("editable"):
        pytest.skip("mmagent is not installed with pip install -e here")
    found = probe(Path(sys.executable), tmp_path)
    assert str(found["file"]).startswith(str(ROOT))
    assert found["leaks"] == []
    assert found["prompts"]


def imported(path: Path) -> set[str]:
    """Top-level modules that a file imports anywhere and that are neither Python's nor ours."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"mmagent"}


def normal(requirement: str) -> str:
    """The name of a requirement: lower case, hyphens, no version."""
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def test_what_is_imported_is_declared() -> None:
    project = PROJECT["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines]
    declared = {normal(line) for line in project["dependencies"] + extras} | {"pydantic-core", "triton"}
    # pydantic pins the one; the other comes with CUDA builds of torch, and is looked for before it is used
    homes = {"whisper": ["openai-whisper"]} | metadata.packages_distributions()
    missing = {
        (installed_name(path), module)
        for path in sources()
        if path.suffix == ".py"
        for module in imported(path)
        if not {normal(home) for home in homes.get(module, [module])} & declared
    }
    assert missing == set()


def test_the_lock_pins_every_dependency() -> None:
    lock = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lock)
    wanted = PROJECT["project"]["dependencies"] + PROJECT["project"]["optional-dependencies"]["dev"]
    assert {normal(line) for line in wanted} <= {normal(line) for line in lock}
