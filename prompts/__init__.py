"""Prompt templates: Markdown with Jinja2, each overridable by a file of the same name in the user's folder.

It knows templates and their variables; it knows no model and no agent.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

from mmagent.errors import ConfigurationError, NotFound

__all__ = ["names", "render"]


def names() -> list[str]:
    """The names of the templates that come with the package, sorted."""
    return sorted(file.name.removesuffix(".md") for file in files(__name__).iterdir() if file.name.endswith(".md"))


def render(name: str, folder: Path | None = None, **variables: Any) -> str:
    """A template with its variables filled in, without the line end at its end.

    Args:
        name: Its name, e.g. ``"agent"``.
        folder: Where the user's own templates are; None: ``prompts`` in the user's configuration folder.
        variables: What the template speaks of.

    Raises:
        NotFound: There is no template of that name.
        ConfigurationError: The template is wrong, or speaks of a variable that was not given.
    """
    from jinja2 import StrictUndefined, TemplateError
    from jinja2.sandbox import SandboxedEnvironment

    where, source = _source(name, folder)
    try:
        template = SandboxedEnvironment(undefined=StrictUndefined).from_string(source)
        return template.render(variables).rstrip("\n")
    except TemplateError as error:
        raise ConfigurationError(f"the prompt {where} cannot be used: {error}; correct it") from error


def _source(name: str, folder: Path | None) -> tuple[str, str]:
    if name not in names():
        raise NotFound(f"there is no prompt {name!r}; there are: {', '.join(names())}")
    if folder is None:
        from mmagent.paths import config_dir

        folder = config_dir() / "prompts"
    own = Path(folder) / f"{name}.md"
    try:
        return str(own), own.read_text(encoding="utf-8")
    except FileNotFoundError:
        return name, (files(__name__) / f"{name}.md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the prompt {own} cannot be read: {error}; correct or remove it") from error
