"""From a name to a chat model. It knows the kinds of names, and loads no model: that happens at a model's first use."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from mmagent import nano
from mmagent.chat.protocol import ChatModel
from mmagent.errors import NotFound
from mmagent.settings import Settings, settings

logger = logging.getLogger(__name__)

PROVIDER = re.compile(r"[a-z][a-z0-9_]+:.+")
HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")

KINDS = "nano, a folder with a checkpoint, a hub id (org/name), or provider:model (such as openai:gpt-5)"
"""What a model can be called, for error messages."""


def load_model(name: str | None = None) -> ChatModel:
    """The chat model of a name.

    Args:
        name: ``"nano"`` (the model that ships), a folder, a hub id, or a LangChain provider string. ``"auto"``, the
            default, is the model that `Settings.model` names, else nano.

    Raises:
        NotFound: There is no model of that name; the message lists what there is.
        ConfigurationError: A provider's package or API key is missing.
        ModelError: This installation lacks the weights that ship.
    """
    name = _chosen() if name is None or name == "auto" else name
    # os.path's expanduser, because Path's raises for an unknown ~user
    folder = nano.folder() if name == "nano" else Path(os.path.expanduser(name))
    if name and folder.is_dir():
        from mmagent.chat.local import LocalModel

        return LocalModel(folder)
    if PROVIDER.fullmatch(name):
        from mmagent.chat.langchain import LangChainModel

        return LangChainModel(name)
    if HUB_ID.fullmatch(name):
        from mmagent.chat.local import LocalModel

        _check_cached(name)
        return LocalModel(name)
    what = f"folder {name}" if folder.is_absolute() or name.startswith((".", "~")) else f"model {name!r}"
    raise NotFound(f"there is no {what}; a model is {KINDS}")


def _chosen() -> str:
    if (chosen := settings().model) != "auto":
        logger.info("model: %s, from %s", chosen, Settings.variable("model"))
        return chosen
    logger.info("model: nano, which ships with mmagent; %s chooses another", Settings.variable("model"))
    return "nano"


def _check_cached(hub_id: str) -> None:
    """Refuse now what could not be loaded later: a hub id that is not on this machine, while offline."""
    from huggingface_hub import try_to_load_from_cache

    if settings().offline and not isinstance(try_to_load_from_cache(hub_id, "config.json"), str):
        raise NotFound(
            f"the model {hub_id} is not on this machine and mmagent is offline; "
            f"set {Settings.variable('offline')}=false to download it, or choose {KINDS}"
        )
