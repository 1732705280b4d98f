"""Draws docs/demo.svg: runs the demo in a terminal of its own and draws what it printed.

python docs/draw_demo.py
"""

from __future__ import annotations

import io
import os
import pty
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
COMMAND = (
    'mmagent run "Can I still return the lamp?" -a examples/shop/receipt.png '
    "--tools examples/shop/tools.py --knowledge examples/shop/policies"
)
WIDTH = 100


def main() -> None:
    """Run and draw."""
    os.chdir(ROOT)
    said = bytearray()

    def keep(terminal: int) -> bytes:
        data = os.read(terminal, 4096)
        said.extend(data)
        return data

    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"MMAGENT_DATA_DIR": home, "COLUMNS": str(WIDTH), "TERM": "xterm-256color"}
        pty.spawn([sys.executable, "-m", *shlex.split(COMMAND)], keep)
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi(said.decode().replace("\r\n", "\n")))
    console.save_svg(str(ROOT / "docs" / "demo.svg"), title="mmagent")


if __name__ == "__main__":
    main()
