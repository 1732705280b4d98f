from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mmagent.agent.tools import ToolContext
from mmagent.errors import ToolError
from mmagent.knowledge import Knowledge
from mmagent.tools.search_knowledge import search_knowledge


def test_passages_are_numbered_titled_and_on_one_line(policies: Path, embedder: Any) -> None:
    with Knowledge.of_folder(policies, embedder=embedder) as knowledge:
        context = ToolContext(knowledge=knowledge)
        result = search_knowledge("return window of lamps", context)
        lines = result.content.split("\n")
        assert lines[0] == "[1] Returns > Return window"
        assert lines[1] == (
            "You can return an unused item within **30 days** of delivery. "
            "Lamps and bulbs have 14 days. Keep the receipt."
        )
        assert [line[:3] for line in lines[::2]] == ["[1]", "[2]", "[3]"]
        assert result.data[0]["uri"] == "returns.md" and "\n" in result.data[0]["text"]
        again = search_knowledge("shipping", context)
        numbers = {int(line[1]) for line in again.content.split("\n")[::2]}
        assert len(context.hits) == 4 and 4 in numbers


def test_what_the_model_is_told_of_it() -> None:
    assert search_knowledge.name == "search_knowledge"
    assert search_knowledge.effect == "read"
    assert search_knowledge.description == "Search the documents for passages about the query."
    assert list(search_knowledge.parameters["properties"]) == ["query"]


def test_without_documents_or_hits(tmp_path: Path, embedder: Any) -> None:
    with pytest.raises(ToolError, match="no documents have been given to search in"):
        search_knowledge("x", ToolContext())
    with Knowledge(tmp_path / "store", embedder=embedder) as knowledge:
        result = search_knowledge("x", ToolContext(knowledge=knowledge))
        assert (result.content, result.data) == ("no passage found", [])
