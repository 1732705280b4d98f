"""The examples run as they stand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

SHOP = Path(__file__).parents[2] / "examples" / "shop"


def test_the_pictures_of_the_shop_are_drawn_again_as_they_are(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns("*.png")))
    subprocess.run([sys.executable, str(folder / "draw.py")], check=True, env=dict(os.environ))
    for path in SHOP.glob("*.png"):
        with Image.open(path) as ours, Image.open(folder / path.name) as drawn:
            assert ours.size == drawn.size, path.name


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_voice_note_of_the_shop_is_said_again(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(SHOP, tmp_path / "shop", ignore=shutil.ignore_patterns("*.wav")))
    subprocess.run([sys.executable, str(folder / "say.py")], check=True, env=dict(os.environ))
    ours, said = ((place / "voice_note.wav").stat().st_size for place in (SHOP, folder))
    assert abs(ours - said) < 0.1 * ours
