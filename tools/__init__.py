"""The tools that come with mmagent, by name. Each is a flat file, written as a user would write one; none is loaded
before it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmagent import Tool

__all__ = ["BUILTIN", "builtin", "builtins"]

BUILTIN: dict[str, str] = {
    "read_text": "mmagent.tools.read_text:read_text",
    "look": "mmagent.tools.look:look",
    "calculate": "mmagent.tools.calculate:calculate",
    "today": "mmagent.tools.today:today",
    "search_knowledge": "mmagent.tools.search_knowledge:search_knowledge",
}
"""Where each built-in tool is, ``module:attribute``, in the order in which models are told of them."""


def builtin(name: str) -> Tool[..., Any]:
    """The built-in tool of a name.

    Raises:
        NotFound: There is none of that name; the message lists the names.
    """
    if name not in BUILTIN:
        from mmagent.errors import NotFound

        names = ", ".join(BUILTIN)
        raise NotFound(f"there is no built-in tool {name!r}; there are: {names}; a file of tools ends in .py")
    module, attribute = BUILTIN[name].split(":")
    found: Tool[..., Any] = getattr(import_module(module), attribute)
    return found


def builtins(*names: str) -> list[Tool[..., Any]]:
    """The built-in tools of these names; all of them where no name is given.

    Raises:
        NotFound: There is none of a name; the message lists the names.
    """
    return [builtin(name) for name in names or BUILTIN]
