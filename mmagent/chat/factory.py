"""From a name to a chat model. It knows the kinds of names, and loads no model: that happens at a model's first use."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mmagent import nano
from mmagent.chat.protocol import ChatModel
from mmagent.engine.hub import HUB_ID
from mmagent.errors import ConfigurationError, NotFound
from mmagent.settings import Settings, settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

logger = logging.getLogger(__name__)

PROVIDER = re.compile(r"[a-z][a-z0-9_]+:.+")

KINDS = "nano, a folder with a checkpoint, a hub id (org/name), or provider:model (such as openai:gpt-5)"
"""What a model can be called, for error messages."""


def load_model(name: str | BaseChatModel | None = None) -> ChatModel:
    """The chat model of a name.

    Args:
        name: ``"nano"`` (the model that ships), a folder, a hub id, or a LangChain provider string. ``"auto"``, the
            default, is the model that `Settings.model` names, else the best of the hub's cache and the data folder
            that fits this machine (`mmagent.engine.catalogue.best`), else nano. A LangChain chat model is itself.

    Raises:
        NotFound: There is no model of that name; the message lists what there is.
        ConfigurationError: A provider's package or API key is missing.
        ModelError: This installation lacks the weights that ship.
    """
    if name is not None and not isinstance(name, str):
        from langchain_core.language_models import BaseChatModel

        from mmagent.chat.langchain import LangChainModel

        if not isinstance(name, BaseChatModel):
            raise ConfigurationError(f"a {type(name).__name__} is no model; a model is {KINDS}")
        return LangChainModel(name)
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
    variable = Settings.variable("model")
    if (chosen := settings().model) != "auto":
        logger.info("model: %s, from %s", chosen, variable)
        return chosen
    from mmagent.engine.catalogue import best

    if entry := best():
        logger.info("model: %s, the best on this machine that fits it; %s chooses another", entry.name, variable)
        return entry.name
    logger.info("model: nano, which ships with mmagent; %s chooses another, mmagent pull gets one", variable)
    return "nano"


def _check_cached(hub_id: str) -> None:
    """Refuse now what could not be loaded later: a hub id that is not on this machine, while offline."""
    from mmagent.engine.hub import cached

    if settings().offline and cached(hub_id) is None:
        raise NotFound(
            f"the model {hub_id} is not on this machine and mmagent is offline; get it with mmagent pull {hub_id} "
            f"(or {Settings.variable('offline')}=false), or choose {KINDS}"
        )
