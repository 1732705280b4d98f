"""Every error that mmagent raises on purpose. It knows nothing of the rest of the package.

    MMAgentError
    ├── InputError            what the user gave cannot be used; change the input and try again
    │   ├── MediaError        a picture, recording, video or document was refused
    │   │   └── LimitError    ... because it is larger than a limit of mmagent.settings
    │   └── NotFound          a file, folder, session, model or prompt of that name is not there
    ├── ConfigurationError    a setting, tool signature or recipe is wrong; fix it and start again
    │   └── MissingExtra      an optional dependency is needed; the message has the install command
    ├── ModelError            the model could not be loaded or could not go on
    │   ├── ModelBusy         too many requests wait for the model; try again later
    │   ├── ContextOverflow   the prompt is longer than the model's context
    │   └── GrammarError      a schema cannot be turned into a grammar
    ├── ToolError             a tool failed; the model is told, the turn goes on
    ├── TurnError             a turn ended without an answer (step, token or time limit)
    └── StoreError            a journal or knowledge store cannot be read or written
        └── StoreLocked       ... because another process is writing to it, or is in a turn of the session

Each message is one line: what happened, why, and what to do next.
"""

from __future__ import annotations


class MMAgentError(Exception):
    """Base of all errors of mmagent; catch it to catch them all."""


class InputError(MMAgentError):
    """What the user gave cannot be used; nothing has entered any history."""


class MediaError(InputError):
    """A picture, recording, video or document was refused."""


class LimitError(MediaError):
    """Something is larger than a limit; the message names limit, value and setting."""


class NotFound(InputError):
    """A file, folder, session, model or prompt of that name does not exist."""


class ConfigurationError(MMAgentError):
    """A setting, a tool's signature or a recipe is wrong."""


class MissingExtra(ConfigurationError):
    """An optional dependency is not installed.

    Args:
        what: What needs it, e.g. ``"the HTTP server"``.
        extra: The extra of mmagent that brings it, e.g. ``"serve"``.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional dependency; install it with: pip install 'mmagent[{extra}]'")
        self.extra = extra


class ModelError(MMAgentError):
    """The model could not be loaded or could not go on."""


class ModelBusy(ModelError):
    """Too many requests wait for the model already; the message says how many and which setting allows more."""


class ContextOverflow(ModelError):
    """The prompt is longer than the model's context."""


class GrammarError(ModelError):
    """A schema cannot be turned into a grammar; the message names the keyword."""


class ToolError(MMAgentError):
    """A tool failed. Raise it in a tool to tell the model, in words, what went wrong."""


class TurnError(MMAgentError):
    """A turn ended without an answer because a limit was reached."""


class StoreError(MMAgentError):
    """A journal or a knowledge store cannot be read or written."""


class StoreLocked(StoreError):
    """Another process is writing to the store, or is in a turn of the session; the message says which."""
