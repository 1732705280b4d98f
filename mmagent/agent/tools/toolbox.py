"""Which tools an agent has, and which of them a model is told of. It knows names and files; it runs nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from mmagent.agent.tools import AnyTool, Tool, load_tools, tool
from mmagent.agent.tools.groups import OPEN_TOOLS, ToolGroup, open_tools, select
from mmagent.errors import ConfigurationError
from mmagent.tools import BUILTIN, builtin

ToolLike: TypeAlias = "AnyTool | ToolGroup | Callable[..., Any] | str | Path | Any"
"""A tool, a group of them, a function to make one of, the path of a Python file with tools, the name of a built-in
one, a LangChain tool, or an object with a method ``mmagent_tools() -> list[Tool]``, such as an MCP server."""


class Toolbox:
    """An agent's tools: the built-in ones first; one that is given takes the place of a built-in of its name.

    Args:
        given: The user's.
        builtins: Whether built-in tools are wanted.
        images: Whether the model can see; `look` is of no use to one that cannot.
        knowledge: Whether there is something to search.
        limit: How many tools a model is told of at most; of more, those that fit the question best. It is
            told of those of opened groups in any case, even beyond the limit. None: of all.
        always: Names of tools that it is told of in any case.

    Raises:
        ConfigurationError: A tool cannot be used, or two tools or groups have one name.
        NotFound: There is no file, or no built-in tool, of that name.
    """

    all: dict[str, AnyTool]
    """Every tool by name, those of groups that nobody has opened included."""
    groups: dict[str, ToolGroup]
    """The lazy groups by name."""

    def __init__(
        self,
        given: Iterable[ToolLike] | None = None,
        *,
        builtins: bool = True,
        images: bool = True,
        knowledge: bool = False,
        limit: int | None = None,
        always: Collection[str] = (),
    ) -> None:
        if limit is not None and limit < 1:
            raise ConfigurationError(f"max_tool_specs is {limit}; give it 1 or more, or None")
        without = {"look": not images, "search_knowledge": not knowledge}
        shipped = {name: builtin(name) for name in BUILTIN if builtins and not without.get(name)}
        self.limit, self._always = limit, {OPEN_TOOLS, *always}
        self.groups = {}
        own: dict[str, AnyTool] = {}
        self._members: dict[str, tuple[str, ...]] = {}
        for item in given or ():
            made = _add(own, item)
            if isinstance(item, ToolGroup) and item.lazy:
                if item.name in self.groups:
                    raise ConfigurationError(f"two tool groups are called {item.name}; give one another name")
                self.groups[item.name], self._members[item.name] = item, tuple(one.name for one in made)
        self.all = shipped | own
        if self.groups:
            if OPEN_TOOLS in self.all:
                raise ConfigurationError(f"a tool is called {OPEN_TOOLS}, which opens the groups; rename it")
            self.all[OPEN_TOOLS] = open_tools(self.groups, self._members)
        self._closed = {name for names in self._members.values() for name in names}
        self._shown: dict[tuple[frozenset[str], str], dict[str, AnyTool]] = {}

    def visible(self, opened: Collection[str] = frozenset(), question: str = "") -> dict[str, AnyTool]:
        """The tools that a model is told of, those of opened groups last.

        The same arguments always give the same tools in the same order.

        Args:
            opened: The names of the groups opened so far.
            question: What the user says in this turn; it chooses where there are more tools than the limit.
        """
        key = (frozenset(opened), question if self.limit else "")
        if key not in self._shown:
            if len(self._shown) > 64:
                self._shown.clear()
            self._shown[key] = self._chosen(*key)
        return self._shown[key]

    def groups_opened(self, args: Mapping[str, Any]) -> tuple[str, ...]:
        """The groups that a call of ``open_tools`` opens, in the order of the agent's groups.

        Args:
            args: The call's arguments.
        """
        wanted = args.get("groups", ())
        return tuple(name for name in self.groups if isinstance(wanted, list | tuple) and name in wanted)

    def _chosen(self, opened: frozenset[str], question: str) -> dict[str, AnyTool]:
        first = [one for name, one in self.all.items() if name not in self._closed]
        last = [self.all[name] for group in self.groups if group in opened for name in self._members[group]]
        tools = list(dict.fromkeys([*first, *last]))
        if self.limit is not None and len(tools) > self.limit:
            always = self._always | {one.name for one in last}
            names = set(select(tools, question, self.limit, always))
            tools = [one for one in tools if one.name in names]
        return {one.name: one for one in tools}


def with_media_tools(tools: Mapping[str, AnyTool], *, recall: bool, words: bool) -> dict[str, AnyTool]:
    """The tools, and last those of which a model is told only while the conversation has a use for them.

    Args:
        tools: By name.
        recall: Add `recall_media`.
        words: Add `transcribe`, unless the user has a tool of that name.
    """
    more: dict[str, AnyTool] = {}
    if recall:
        from mmagent.tools.recall_media import recall_media

        more[recall_media.name] = recall_media
    if words and "transcribe" not in tools:
        from mmagent.tools.transcribe import transcribe

        more[transcribe.name] = transcribe
    return {**tools, **more}


def check_deps(tools: Iterable[AnyTool], deps: Any) -> None:
    """Refuse an agent's ``deps`` that its tools cannot use.

    Raises:
        ConfigurationError: A tool wants a ``ToolContext[X]`` and ``deps`` is no ``X``.
    """
    for one in tools:
        wanted = one.deps_type
        try:
            fits = wanted is None or isinstance(deps, wanted)
        except TypeError:  # a protocol that is not checkable at run time
            continue
        if wanted is not None and not fits:
            found = "None" if deps is None else f"a {type(deps).__name__}"
            needs = f"the tool {one.name} needs deps of type {wanted.__name__}"
            raise ConfigurationError(f"{needs}, and they are {found}; give Agent(deps=...) one")


def _add(own: dict[str, AnyTool], item: ToolLike) -> list[AnyTool]:
    made = _tools(item)
    for one in made:
        if own.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"two tools are called {one.name}; give one another name: @tool(name=...)")
    return made


def _tools(item: ToolLike) -> list[AnyTool]:
    if isinstance(item, ToolGroup):
        return [one for inner in item.tools for one in _tools(inner)]
    if isinstance(item, Path) or (isinstance(item, str) and item.endswith(".py")):
        return load_tools(item)
    if isinstance(item, str):
        return [builtin(item)]
    if isinstance(item, Tool):
        return [item]
    if callable(expand := getattr(item, "mmagent_tools", None)):
        return list(expand())
    langchain = sys.modules.get("langchain_core.tools")  # whoever made a tool with it has imported it
    if langchain is not None and isinstance(item, langchain.BaseTool):
        from mmagent.agent.tools.langchain import as_tool

        return [as_tool(item)]
    if callable(item):
        return [tool(item)]
    raise ConfigurationError(f"{item!r} is no tool; give a function, a tool, the name of a built-in one, or a .py file")
