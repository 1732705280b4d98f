from __future__ import annotations

from pathlib import Path

import pytest

from mmagent.agent import Agent
from mmagent.errors import ConfigurationError, NotFound
from mmagent.prompts import names, render
from mmagent.testing import ScriptedModel


def test_the_packaged_prompts_render_without_a_line_end() -> None:
    assert {"agent", "shop"} <= set(names())
    assert render("shop") == render("shop").strip()
    assert render("agent", instructions="Be kind.").splitlines()[-1] == "Be kind."
    assert render("agent", instructions="") == render("agent", instructions="Be kind.").removesuffix("\nBe kind.")


def test_a_file_of_the_user_takes_the_place_of_a_packaged_one(tmp_path: Path) -> None:
    (tmp_path / "agent.md").write_text("Mine: {{ instructions }}\n\n")
    assert render("agent", tmp_path, instructions="x") == "Mine: x"
    assert Agent(ScriptedModel([]), prompts_dir=tmp_path, instructions="x").system.text == "Mine: x"


def test_the_users_own_folder_is_looked_at_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmagent.paths.config_dir", lambda: tmp_path)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "shop.md").write_text("My shop.")
    assert render("shop") == "My shop."


@pytest.mark.parametrize("name", ["agents", "../agent", ""])
def test_a_wrong_name_lists_the_right_ones(name: str) -> None:
    with pytest.raises(NotFound, match="there are: agent, compact, describe, plan, shop"):
        render(name)


@pytest.mark.parametrize(
    "template", ["{{ instructions", "{{ nowhere }}", "{{ ''.__class__.__mro__[1].__subclasses__() }}"]
)
def test_a_template_that_is_wrong_or_wants_out_is_told(tmp_path: Path, template: str) -> None:
    (tmp_path / "agent.md").write_text(template)
    with pytest.raises(ConfigurationError, match=r"agent\.md cannot be used"):
        render("agent", tmp_path, instructions="x")
