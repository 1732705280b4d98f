"""What a tool is: a typed function, its schema and its effect. It knows no model, no loop and no store."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, ParamSpec, Self, TypeAlias, TypeVar, Unpack, get_args, overload

from typing_extensions import TypedDict

from mmagent.agent.tools.context import ToolContext
from mmagent.agent.tools.files import load_module
from mmagent.agent.tools.gate import Gate
from mmagent.agent.tools.raw_schema import RawSchema
from mmagent.agent.tools.schema import schema_of
from mmagent.agent.tools.signature import (
    arguments_type,
    context_of,
    context_parameter,
    deps_type,
    parameter_types,
    read_docstring,
)
from mmagent.content import Message
from mmagent.errors import ConfigurationError
from mmagent.redact import has_secrets

P = ParamSpec("P")
R = TypeVar("R")
Effect: TypeAlias = Literal["read", "idempotent", "unsafe"]
Kind: TypeAlias = Literal["sync", "async", "generator", "async generator"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


class Options(TypedDict, total=False):
    """What `tool` and `Tool.from_schema` take beside the function."""

    effect: Effect
    """``read`` changes nothing, ``idempotent`` may be repeated, ``unsafe`` (the default) happens at most once."""
    timeout: float | None
    """Seconds it may take; None: the setting ``tool_timeout``."""
    retries: int
    """How often a crash or timeout is tried again; not for ``unsafe`` tools. A `ToolError` is not tried again."""
    concurrency: int | None
    """How many calls of it may run at once in this process; None: any number. One that timed out counts no more."""
    private: bool
    """Whether it reads data that is not for everybody's eyes. Default: no."""
    untrusted: bool
    """Whether somebody else may have written what it returns. Default: yes."""
    sends: bool | None
    """Whether it can carry data to somewhere else; None: unless it is ``read``."""
    isolate: bool
    """Whether it runs in a process of its own, which may crash or hang without harm and is killed at its timeout."""


class Tool(Generic[P, R]):
    """A function that a model may call. Made by `tool` or `from_schema`; calling it calls the function."""

    name: str
    """What the model knows it by."""
    description: str
    """The first paragraph of the docstring."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    effect: Effect
    """As in `Options`, and so are the next seven."""
    timeout: float | None
    retries: int
    concurrency: int | None
    private: bool
    untrusted: bool
    sends: bool
    isolate: bool
    kind: Kind
    """How the function is called."""
    context_parameter: str | None
    """Which parameter is the `ToolContext`."""
    deps_type: type | None
    """What the agent's ``deps`` must be an instance of."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        description: str,
        parameters: dict[str, Any],
        validate: Callable[[dict[str, Any], Sequence[Message] | None], Mapping[str, Any]],
        context: inspect.Parameter | None = None,
        deps: type | None = None,
        effect: Effect = "unsafe",
        timeout: float | None = None,
        retries: int = 0,
        concurrency: int | None = None,
        private: bool = False,
        untrusted: bool = True,
        sends: bool | None = None,
        isolate: bool = False,
    ) -> None:
        """Use `tool` or `from_schema` instead."""
        functools.update_wrapper(self, function)
        self.function, self.name, self.description, self.parameters = function, name, description, parameters
        self.kind = _kind(function)
        self.context_parameter, self.deps_type = context.name if context else None, deps
        self.effect, self.timeout, self.retries, self.concurrency = effect, timeout, retries, concurrency
        self.private, self.untrusted, self.isolate = private, untrusted, isolate
        self.sends = effect != "read" if sends is None else sends
        _check_options(self)
        self.gate = Gate(self.concurrency) if self.concurrency else None
        self._validate = validate
        self._context_first = context is not None and context.kind is context.POSITIONAL_ONLY

    @functools.cached_property
    def has_secrets(self) -> bool:
        """Whether an argument is a secret, which is neither kept nor told."""
        return has_secrets(self.parameters)

    @classmethod
    def from_schema(
        cls,
        name: str,
        description: str,
        parameters: Mapping[str, Any],
        function: Callable[..., Any],
        **options: Unpack[Options],
    ) -> Self:
        """A tool whose arguments a JSON Schema describes: one that a server or another library tells of.

        Args:
            name: What the model knows it by.
            description: What the model is told that it does.
            parameters: JSON Schema of an object. Properties that it does not list are refused, unless it allows them.
            function: Takes the arguments by name. A parameter annotated with `ToolContext` is filled in; make it
                positional-only where an argument could have its name.
            options: As `tool`.

        Raises:
            ConfigurationError: The schema is none of an object, or an option is wrong.
        """
        if options.get("isolate"):
            raise ConfigurationError(f"the tool {name} cannot be isolated: decorate a function of a module with @tool")
        schema = RawSchema(parameters, name)
        return cls(
            function,
            name=name,
            description=description,
            parameters=schema.schema,
            validate=schema.validate,
            context=context_of(function),
            **options,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, unchecked."""
        return self.function(*args, **kwargs)

    def call(self, arguments: Mapping[str, Any], context: ToolContext) -> Any:
        """Call the function with arguments as `validate` gives them, and the context where it wants it."""
        function: Callable[..., Any] = self.function
        if self._context_first:
            return function(context, **arguments)
        if self.context_parameter:
            return function(**arguments, **{self.context_parameter: context})
        return function(**arguments)

    def validate(self, args: dict[str, Any], messages: Sequence[Message] | None = None) -> dict[str, Any]:
        """The keyword arguments for the function, from a model's JSON.

        Args:
            args: The JSON.
            messages: The conversation that `Quoted` arguments must be spans of; None leaves them unchecked.

        Raises:
            ValidationError: pydantic's, for arguments that do not follow the schema.
        """
        return dict(self._validate(args, messages))

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, effect={self.effect!r})"


AnyTool: TypeAlias = Tool[..., Any]


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(*, name: str | None = None, **options: Unpack[Options]) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(function: Callable[..., Any] | None = None, /, *, name: str | None = None, **options: Unpack[Options]) -> Any:
    """Turn a typed function into a `Tool`: ``@tool`` or ``@tool(effect="read")``.

    The function may be sync (it runs in a thread), async, or a generator of either kind: what a generator yields is
    shown to the model in order, but for `Progress`, and so is what it returns. The first paragraph of the docstring
    tells the model what it does, its ``Args:`` section what the parameters are.

    Args:
        function: The function; every parameter has a type that JSON can carry, or is a `ToolContext`.
        name: What the model knows it by; None: the function's name.
        options: ``effect``, ``timeout``, ``retries``, ``concurrency``, ``private``, ``untrusted``, ``sends`` and
            ``isolate``, as `Options` has them.

    Raises:
        ConfigurationError: The signature or an option cannot be used; the message names it.
    """

    def make(function: Callable[..., Any]) -> AnyTool:
        chosen = name or str(getattr(function, "__name__", ""))
        _check_name(chosen)
        types = parameter_types(function, chosen)
        given = inspect.signature(function).parameters
        context = context_parameter(types, chosen)
        deps = deps_type(types.pop(context)) if context else None
        description, notes = read_docstring(inspect.getdoc(function) or "")
        arguments = arguments_type(function, chosen, types, notes)
        parameters = schema_of(arguments)
        for key in types:
            if isinstance(given[key].default, str | int | float):
                parameters["properties"][key]["default"] = given[key].default
        return Tool(
            function,
            name=chosen,
            description=description,
            parameters=parameters,
            validate=lambda args, messages: arguments.validate_python(args, context=messages),
            context=given[context] if context else None,
            deps=deps,
            **options,
        )

    return make if function is None else make(function)


def _kind(function: Callable[..., Any]) -> Kind:
    called = getattr(function, "__call__", function)  # noqa: B004  (an object may be called as a coroutine)
    if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(called):
        return "async generator"
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(called):
        return "async"
    return "generator" if inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(called) else "sync"


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"a tool cannot be called {name!r}; give it a name of letters, digits and '_'")


def _check_options(tool: AnyTool) -> None:
    """Refuse options that nobody could mean."""
    _check_name(tool.name)
    the_tool = f"the tool {tool.name}"
    if tool.effect not in get_args(Effect):
        raise ConfigurationError(f"{the_tool} has effect {tool.effect!r}; use one of {', '.join(get_args(Effect))}")
    if tool.timeout is not None and not tool.timeout > 0:
        raise ConfigurationError(f"{the_tool} has a timeout of {tool.timeout:g} s; give it more than 0, or None")
    if tool.retries < 0:
        raise ConfigurationError(f"{the_tool} has {tool.retries} retries; give it 0 or more")
    if tool.retries and tool.effect == "unsafe":
        raise ConfigurationError(f"{the_tool} is unsafe and cannot be tried again; declare its effect, or no retries")
    if tool.concurrency is not None and tool.concurrency < 1:
        raise ConfigurationError(f"{the_tool} has a concurrency of {tool.concurrency}; give it 1 or more, or None")
    if not tool.isolate:
        return
    if tool.context_parameter:
        why = "a ToolContext stays in this process; leave it out, or do not isolate the tool"
        raise ConfigurationError(
            f"the parameter {tool.context_parameter} of the tool {tool.name} cannot be used: {why}"
        )
    place = getattr(tool.function, "__qualname__", "<object>")
    home = sys.modules.get(getattr(tool.function, "__module__", ""))
    if "<" in place or not getattr(home, "__file__", None):
        raise ConfigurationError(f"{the_tool} cannot be isolated: define {place} at the top of a module")


def load_tools(path: str | Path) -> list[AnyTool]:
    """Every `Tool` in a Python file, in the order of the file.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: The file fails to run, or there is no tool in it.
    """
    path = Path(path).resolve()
    module = load_module(path)
    tools = list({id(value): value for value in vars(module).values() if isinstance(value, Tool)}.values())
    if not tools:
        raise ConfigurationError(
            f"there is no tool in {path}; decorate functions with @tool (from mmagent import tool)"
        )
    return tools
