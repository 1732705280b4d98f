"""Typed answers: what the model is asked for, and whether it gave it. It knows types; it knows no loop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from mmagent.agent.tools.schema import first_error, schema_of
from mmagent.content import Message
from mmagent.errors import ConfigurationError


class Output:
    """A type that answers must have.

    Args:
        kind: A pydantic model, a dataclass, or any other type that pydantic knows.

    Raises:
        ConfigurationError: The type has no JSON Schema.
    """

    def __init__(self, kind: Any) -> None:
        self.name = getattr(kind, "__name__", str(kind))
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(kind)
            self.schema = schema_of(self._adapter)
            """What the model is told."""
        except PydanticUserError as error:
            raise ConfigurationError(
                f"an answer cannot be a {self.name}; use a pydantic model or a dataclass"
            ) from error

    def read(self, answer: str, messages: Sequence[Message] | None = None) -> Any:
        """The instance that an answer stands for.

        Args:
            answer: JSON.
            messages: The conversation that `Quoted` values must be spans of; None leaves them unchecked.

        Raises:
            ValidationError: pydantic's.
        """
        return self._adapter.validate_json(answer, context=messages)

    def as_json(self, value: Any) -> Any:
        """An instance as JSON."""
        return self._adapter.dump_python(value, mode="json")

    def problem(self, answer: str, messages: Sequence[Message]) -> str | None:
        """What is wrong with an answer, or None."""
        try:
            self.read(answer, messages)
        except ValidationError as error:
            return first_error(error)
        return None
