"""The example that teaches nano a new trade runs as it stands, in its small form, and its data is sound."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mmagent.train.sources import make_source

EXAMPLES = Path(__file__).parents[2] / "examples"
SHOP = EXAMPLES / "your_shop"


@pytest.mark.nano
def test_the_example_trains_and_asks(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "train_on_your_shop.py"), "--quick", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "right before: " in done.stdout
    assert (tmp_path / "run" / "model" / "config.json").is_file()


def test_all_its_rows_can_be_read_and_offer_the_tools_of_the_file() -> None:
    draw: Any = make_source("rows", {"path": str(SHOP / "dialogues.jsonl"), "tools": str(SHOP / "tools.py")})
    assert len(draw) == 60
    names = [tool["function"]["name"] for tool in draw(random.Random(0)).tools]
    assert names == ["reserve_book", "renew_loan", "opening_hours"]


def test_no_question_that_is_held_out_is_trained_on() -> None:
    asked = [
        {m["content"] for line in (SHOP / name).read_text().splitlines() for m in json.loads(line)["messages"]
         if m["role"] == "user"}
        for name in ("dialogues.jsonl", "held_out.jsonl")
    ]  # fmt: skip
    assert not asked[0] & asked[1]
