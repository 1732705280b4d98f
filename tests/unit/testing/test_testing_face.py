"""What users import from mmagent.testing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import mmagent.testing


def test_the_names_are_sorted_and_there() -> None:
    assert list(mmagent.testing.__all__) == sorted(mmagent.testing.__all__)
    assert all(getattr(mmagent.testing, name) is not None for name in mmagent.testing.__all__)


def test_every_name_is_documented() -> None:
    page = Path(__file__).parents[3] / "docs" / "testing.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in mmagent.testing.__all__ if f"`{name}" not in text] == []


def test_neither_pytest_nor_anything_heavy_comes_with_the_doubles() -> None:
    code = (
        "import sys\n"
        "from mmagent.testing import FaultyJournal, KillAt, ReplayModel, ScriptedModel, no_network, record\n"
        "heavy = ('pytest', 'torch', 'transformers', 'langchain_core', 'chromadb', 'numpy', 'PIL', 'opentelemetry')\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tiny_model_is_made_once_and_is_real() -> None:
    from mmagent.testing import tiny_vlm

    folder = tiny_vlm()
    assert tiny_vlm() == folder
    assert (folder / "config.json").is_file()
    assert (folder / "model.safetensors").is_file()
