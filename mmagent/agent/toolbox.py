"""Which tools an agent has: the built-in ones that apply, and the user's. It knows names and files; it runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, TypeAlias

from mmagent.agent.tools import AnyTool, Tool, load_tools, tool
from mmagent.errors import ConfigurationError

ToolLike: TypeAlias = "AnyTool | Callable[..., Any] | str"
"""A tool, a function to make one of, the path of a Python file with tools, or the name of a built-in one."""

BUILTINS = ("read_text", "look", "calculate", "today", "search_knowledge")
"""In the order in which models are told of them."""


def builtin(name: str) -> AnyTool:
    """A built-in tool, by name.

    Raises:
        ConfigurationError: There is none of that name.
    """
    if name not in BUILTINS:
        raise ConfigurationError(
            f"there is no built-in tool {name!r}; there are: {', '.join(BUILTINS)}; a file of tools ends in .py"
        )
    found = getattr(import_module(f"mmagent.tools.{name}"), name)
    assert isinstance(found, Tool)
    return found


def toolbox(given: Iterable[ToolLike] | None, *, builtins: bool, images: bool, knowledge: bool) -> dict[str, AnyTool]:
    """An agent's tools by name, the built-in ones first; one that is given takes the place of a built-in of its name.

    Args:
        given: The user's.
        builtins: Whether built-in tools are wanted.
        images: Whether the model can see; `look` is of no use to one that cannot.
        knowledge: Whether there is something to search.

    Raises:
        ConfigurationError: A tool cannot be used, or two have one name.
        NotFound: There is no file of that name.
    """
    without = {"look": not images, "search_knowledge": not knowledge}
    tools = {name: builtin(name) for name in BUILTINS if builtins and not without.get(name)}
    own: dict[str, AnyTool] = {}
    for one in (made for item in given or () for made in _tools(item)):
        if own.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"two tools are called {one.name}; give one another name: @tool(name=...)")
    return tools | own


def _tools(item: ToolLike) -> list[AnyTool]:
    if isinstance(item, str):
        return load_tools(item) if item.endswith(".py") else [builtin(item)]
    if isinstance(item, Tool):
        return [item]
    if callable(item):
        return [tool(item)]
    raise ConfigurationError(f"{item!r} is no tool; give a function, a tool, the name of a built-in one, or a .py file")
