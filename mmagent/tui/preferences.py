"""What a user likes: colours, keys, what is folded. One small file that people may edit. It knows no widgets."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from mmagent.errors import ConfigurationError
from mmagent.tui.commands import COMMANDS

log = logging.getLogger(__name__)


@dataclass
class Preferences:
    """The contents of ``terminal.json`` in the configuration folder."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 # what pydantic looks for, which is imported for a file only

    theme: str = "textual-dark"
    """A theme of Textual's; ``ansi-dark`` and ``ansi-light`` take the terminal's own colours."""
    keys: dict[str, str] = field(default_factory=dict)
    """Other keys for commands: ``{"record": "f5"}``."""
    expand: Literal["never", "failed", "always"] = "failed"
    """Which tool results are open."""
    pictures: Literal["auto", "graphics", "blocks", "none"] = "auto"
    """How pictures are drawn: by the terminal's graphics (kitty, sixel), by half blocks, or not."""
    aloud: bool = False
    """Whether answers are read aloud."""


def read(folder: Path) -> Preferences:
    """The preferences of a configuration folder; the defaults where there is no file.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    path = folder / "terminal.json"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Preferences()
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); correct or remove it") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text; correct or remove it") from error
    from pydantic import TypeAdapter, ValidationError

    try:
        found = TypeAdapter(Preferences).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"{path}: {place or 'it'}: {first['msg']}; correct or remove it") from error
    known = {one.name for one in COMMANDS}
    if unknown := sorted(set(found.keys) - known):
        raise ConfigurationError(
            f"{path}: there is no command {unknown[0]} to give a key; there are {', '.join(sorted(known))}"
        )
    return found


def write(folder: Path, preferences: Preferences) -> None:
    """Keep them; what is the default is left out. Where that cannot be done, the log says so."""
    path, usual = folder / "terminal.json", asdict(Preferences())
    other = {name: value for name, value in asdict(preferences).items() if value != usual[name]}
    part = path.with_suffix(".part")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(other, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        log.warning("%s cannot be written (%s)", path, error.strerror)
