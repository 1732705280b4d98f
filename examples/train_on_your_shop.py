"""Teach nano the tools of a small library from sixty dialogues, and ask it before and after what it never saw.

Run it with --quick to see that it works, without to train; put your own tools.py, dialogues.jsonl and held_out.jsonl
into a folder and name it with --data.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from mmagent import Agent, MMAgentError
from mmagent.events import ToolCalled
from mmagent.train import Progress, Watch, load, train

HERE = Path(__file__).parent / "your_shop"


class Told(Watch):
    """Says how the run goes."""

    def said(self, line: str) -> None:
        print(line)

    def stepped(self, progress: Progress) -> None:
        loss, speed = progress.figures["loss"], progress.figures["tokens_per_second"]
        print(f"step {progress.step} of {progress.steps}: loss {loss:.2f}, {speed:.0f} tokens/s")


def is_right(model: str, tools: Path, messages: list[dict[str, Any]]) -> bool:
    """Whether an agent calls what the dialogue calls, and says at the end what is said there."""
    agent = Agent(model, [str(tools)], builtins=False)
    wanted = [call["function"] for message in messages for call in message.get("tool_calls", ())]
    called: list[tuple[str, Any]] = []
    text = ""
    for message in messages:
        if message["role"] == "user":
            try:
                result = agent.run(message["content"])
            except MMAgentError:
                return False
            called += [(event.name, event.args) for event in result.events if isinstance(event, ToolCalled)]
            text = result.text
    right = called == [(call["name"], json.loads(call["arguments"])) for call in wanted]
    return right and text.strip() == messages[-1]["content"]


def accuracy(model: str, data: Path, most: int | None) -> float:
    """The share of the dialogues that were held out which go as they should."""
    lines = (data / "held_out.jsonl").read_text(encoding="utf-8").splitlines()[:most]
    dialogues = [json.loads(line)["messages"] for line in lines]
    return sum(is_right(model, data / "tools.py", messages) for messages in dialogues) / len(dialogues)


def main() -> None:
    """Ask, train, ask again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HERE)
    parser.add_argument("--out", type=Path, default=Path("runs/your-shop"))
    parser.add_argument("--quick", action="store_true", help="two steps and two questions")
    given = parser.parse_args()
    few = {"steps": 2, "tokens_per_step": 512, "check_every": 2, "check_samples": 2} if given.quick else {}
    recipe = load("your-shop", **few)
    mine = {"path": str(given.data / "dialogues.jsonl"), "tools": str(given.data / "tools.py")}
    rows = recipe.data[0].model_copy(update={"options": recipe.data[0].options | mine})
    recipe = recipe.model_copy(update={"data": [rows, *recipe.data[1:]]})
    before = accuracy("nano", given.data, 2 if given.quick else None)
    model = train(recipe, given.out, watch=Told(), workers=0)
    after = accuracy(str(model), given.data, 2 if given.quick else None)
    print(f"right before: {before:.0%}, after: {after:.0%}")
    print(f'ask it with: mmagent run --model {model} --tools {given.data / "tools.py"} "Please renew L-1234"')


if __name__ == "__main__":
    main()
