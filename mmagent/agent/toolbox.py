"""Which tools an agent has: the built-in ones that apply, and the user's. It knows names and files; it runs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from mmagent.agent.tools import AnyTool, Tool, load_tools, tool
from mmagent.errors import ConfigurationError
from mmagent.tools import BUILTIN, builtin

ToolLike: TypeAlias = "AnyTool | Callable[..., Any] | str | Path"
"""A tool, a function to make one of, the path of a Python file with tools, or the name of a built-in one."""


def toolbox(given: Iterable[ToolLike] | None, *, builtins: bool, images: bool, knowledge: bool) -> dict[str, AnyTool]:
    """An agent's tools by name, the built-in ones first; one that is given takes the place of a built-in of its name.

    Args:
        given: The user's.
        builtins: Whether built-in tools are wanted.
        images: Whether the model can see; `look` is of no use to one that cannot.
        knowledge: Whether there is something to search.

    Raises:
        ConfigurationError: A tool cannot be used, or two have one name.
        NotFound: There is no file, or no built-in tool, of that name.
    """
    without = {"look": not images, "search_knowledge": not knowledge}
    tools = {name: builtin(name) for name in BUILTIN if builtins and not without.get(name)}
    own: dict[str, AnyTool] = {}
    for one in (made for item in given or () for made in _tools(item)):
        if own.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"two tools are called {one.name}; give one another name: @tool(name=...)")
    return tools | own


def _tools(item: ToolLike) -> list[AnyTool]:
    if isinstance(item, Path) or (isinstance(item, str) and item.endswith(".py")):
        return load_tools(item)
    if isinstance(item, str):
        return [builtin(item)]
    if isinstance(item, Tool):
        return [item]
    if callable(item):
        return [tool(item)]
    raise ConfigurationError(f"{item!r} is no tool; give a function, a tool, the name of a built-in one, or a .py file")
