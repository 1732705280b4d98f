"""Draws docs/terminal-*.svg: the terminal app with nano in the example shop, driven by keys.

python docs/draw_terminal.py
"""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.pilot import Pilot

ROOT = Path(__file__).parents[1]
SIZE = (100, 32)
POLICY = """
rules:
  - ask: lookup_order
    why: orders are private
"""


def draw(app: object, name: str) -> None:
    """Keep the screen as a picture that loads nothing from anywhere."""
    svg = app.export_screenshot(title="mmagent")  # type: ignore[attr-defined]
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code, monospace", "monospace")
    (ROOT / "docs" / f"terminal-{name}.svg").write_text(svg, encoding="utf-8")


async def until(pilot: Pilot[None], holds: Callable[[], bool]) -> None:
    """Wait for the app."""
    for _ in range(600):
        if holds():
            return
        await pilot.pause(0.1)
    raise TimeoutError


async def main() -> None:
    """Ask about the receipt, allow a call, open the source, find the conversation again."""
    from mmagent.cli.assemble import Choices
    from mmagent.cli.tui import build
    from mmagent.tui.items import Answer
    from mmagent.tui.views import CitationView

    policy = Path(os.environ["MMAGENT_DATA_DIR"]) / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    shop = ROOT / "examples" / "shop"
    choices = Choices(tools=(shop / "tools.py",), knowledge=shop / "policies", policy=policy)
    app = build([shop / "receipt.png"], choices)
    async with app.run_test(size=SIZE) as pilot:
        draw(app, "begin")
        await until(pilot, lambda: app.agent is not None)
        await pilot.press(*"Can I still return the lamp?")
        await until(pilot, lambda: bool(app.composer.staged))
        await pilot.press("enter")
        await until(pilot, lambda: app.approval.asking and app.approval.has_focus)
        await pilot.pause(0.7)
        draw(app, "approve")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.story.items[-1], Answer) and not app.turns.running)
        await pilot.press("ctrl+end")
        await pilot.pause(0.5)
        draw(app, "answer")
        app.query(CitationView).last().action_open()
        await pilot.pause(1.5)
        draw(app, "source")
        await pilot.press("escape", "ctrl+l")
        await pilot.pause(1.0)
        draw(app, "sessions")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"MMAGENT_DATA_DIR": home, "MMAGENT_CONFIG_DIR": home}
        asyncio.run(main())
