"""What a tool is: a typed function, its schema and its effect. It knows no model, no loop and no store."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeAlias, TypeVar, get_args, overload

from mmagent.agent.schema import schema_of
from mmagent.agent.signature import arguments_type, parameter_types, read_docstring
from mmagent.content import MediaBlock, Message
from mmagent.errors import ConfigurationError, NotFound, ToolError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

    from mmagent.knowledge import Hit, Knowledge
    from mmagent.media import BlobStore

P = ParamSpec("P")
R = TypeVar("R")
Effect: TypeAlias = Literal["read", "idempotent", "unsafe"]
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class ToolResult:
    """What a tool returns when it has more to say than one value."""

    content: Any = None
    """What the model is shown: anything a tool may return, or a list of such things."""
    data: Any = None
    """What is for programs: any JSON value."""


@dataclass(frozen=True)
class ToolContext:
    """The conversation, as a tool sees it. A parameter annotated with it is filled in and never shown to the model."""

    pictures: tuple[MediaBlock, ...] = ()
    """All pictures of the conversation, oldest first."""
    blobs: BlobStore | None = None
    """Where their bytes are."""
    knowledge: Knowledge | None = None
    """What the agent can look things up in."""
    hits: list[Hit] = field(default_factory=list)
    """The passages cited in this turn; number 1 comes first."""

    def open_picture(self, number: int = 0) -> PILImage:
        """A picture's pixels, upright, in RGB.

        Args:
            number: 1 is the first picture of the conversation, 0 the latest.

        Raises:
            ToolError: There is no such picture.
        """
        if not self.pictures or self.blobs is None:
            raise ToolError("there is no picture in this conversation")
        if not 0 <= number <= len(self.pictures):
            raise ToolError(f"there is no picture {number}; the latest is picture {len(self.pictures)}")
        return self.blobs.open_image(self.pictures[number - 1]["file_id"])

    def cite(self, hit: Hit) -> int:
        """The number of a search hit in this turn: 1, 2, ...; the same hit has the same number."""
        if all(known.id != hit.id for known in self.hits):
            self.hits.append(hit)
        return next(number for number, known in enumerate(self.hits, start=1) if known.id == hit.id)


class Tool(Generic[P, R]):
    """A function that a model may call. Made by `tool`; calling it calls the function."""

    name: str
    """What the model knows it by."""
    description: str
    """The first paragraph of the docstring."""
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    effect: Effect
    """``read`` changes nothing, ``idempotent`` may be repeated, ``unsafe`` happens at most once."""
    timeout: float | None
    """Seconds it may take; None: the setting ``tool_timeout``."""

    def __init__(self, function: Callable[P, R], *, name: str, effect: Effect, timeout: float | None) -> None:
        """Use `tool` instead."""
        functools.update_wrapper(self, function)
        self.function, self.name, self.effect, self.timeout = function, name, effect, timeout
        types = parameter_types(function, name)
        self.context_parameter = next((key for key, hint in types.items() if hint is ToolContext), None)
        types.pop(self.context_parameter or "", None)
        self.description, notes = read_docstring(inspect.getdoc(function) or "")
        self._arguments = arguments_type(function, name, types, notes)
        self.parameters = schema_of(self._arguments)
        for key, parameter in inspect.signature(function).parameters.items():
            if key in types and isinstance(parameter.default, str | int | float):
                self.parameters["properties"][key]["default"] = parameter.default

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function itself, unchecked."""
        return self.function(*args, **kwargs)

    def validate(self, args: dict[str, Any], messages: Sequence[Message] | None = None) -> dict[str, Any]:
        """The keyword arguments for the function, from a model's JSON.

        Args:
            args: The JSON.
            messages: The conversation that `Quoted` arguments must be spans of; None leaves them unchecked.

        Raises:
            ValidationError: pydantic's, for arguments that do not follow the schema.
        """
        return dict(self._arguments.validate_python(args, context=messages))

    def __repr__(self) -> str:
        return f"Tool({self.name!r}, effect={self.effect!r})"


AnyTool: TypeAlias = Tool[..., Any]


@overload
def tool(function: Callable[P, R], /) -> Tool[P, R]: ...
@overload
def tool(
    *, effect: Effect = "unsafe", timeout: float | None = None, name: str | None = None
) -> Callable[[Callable[P, R]], Tool[P, R]]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: Effect = "unsafe",
    timeout: float | None = None,
    name: str | None = None,
) -> Any:
    """Turn a typed function, sync or async, into a `Tool`: ``@tool`` or ``@tool(effect="read")``.

    The first paragraph of the docstring tells the model what it does, its ``Args:`` section what the parameters are.

    Args:
        function: The function; every parameter has a type that JSON can carry, or is a `ToolContext`.
        effect: ``read`` changes nothing, ``idempotent`` may be repeated, ``unsafe`` (the default) happens at most once.
        timeout: Seconds it may take; None: the setting ``tool_timeout``.
        name: What the model knows it by; None: the function's name.

    Raises:
        ConfigurationError: The signature cannot be used; the message names the parameter.
    """

    def make(function: Callable[..., Any]) -> AnyTool:
        chosen = name or str(getattr(function, "__name__", ""))
        if not _NAME.fullmatch(chosen):
            raise ConfigurationError(f"a tool cannot be called {chosen!r}; give it a name of letters, digits and '_'")
        if effect not in get_args(Effect):
            raise ConfigurationError(
                f"the tool {chosen} has effect {effect!r}; use one of {', '.join(get_args(Effect))}"
            )
        if timeout is not None and timeout <= 0:
            raise ConfigurationError(f"the tool {chosen} has a timeout of {timeout:g} s; give it more than 0, or None")
        return Tool(function, name=chosen, effect=effect, timeout=timeout)

    return make if function is None else make(function)


def load_tools(path: str | Path) -> list[AnyTool]:
    """Every `Tool` in a Python file, in the order of the file.

    Raises:
        NotFound: There is no such file.
        ConfigurationError: The file fails to run, or there is no tool in it.
    """
    path = Path(path).resolve()
    if not path.is_file():
        raise NotFound(f"there is no file {path}; give the path of a Python file with tools")
    name = f"mmagent_tools_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"{path} is no Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and type hints look it up there
    sys.path.append(str(path.parent))  # so that the file may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ConfigurationError(f"{path}, line {_line(error, path)}: {one_line(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    tools = list({id(value): value for value in vars(module).values() if isinstance(value, Tool)}.values())
    if not tools:
        raise ConfigurationError(
            f"there is no tool in {path}; decorate functions with @tool (from mmagent import tool)"
        )
    return tools


def _line(error: BaseException, path: Path) -> int:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno or 1
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return (lines[-1] if lines else None) or 1


def one_line(error: BaseException) -> str:
    """The kind of an error and the first line of what it says."""
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
