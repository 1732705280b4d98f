"""Where training data comes from, by name. A source is made once from its options and then draws samples from dice.

To add one: write ``mmagent/train/sources/NAME.py`` with a function that returns a `Draw`, and name it here.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mmagent.errors import ConfigurationError
from mmagent.train.sample import Draw

SOURCES: dict[str, str] = {
    "beyond": "mmagent.train.sources.beyond:beyond",
    "charts": "mmagent.train.sources.charts:charts",
    "clips": "mmagent.train.sources.speech:clips",
    "digits": "mmagent.train.sources.digits:digits",
    "documents": "mmagent.train.sources.documents:documents",
    "drills": "mmagent.train.sources.drills:drills",
    "intents": "mmagent.train.sources.intents:intents",
    "lines": "mmagent.train.sources.lines:lines",
    "nlvr": "mmagent.train.sources.nlvr:nlvr",
    "noises": "mmagent.train.sources.speech:noises",
    "products": "mmagent.train.sources.products:products",
    "rows": "mmagent.train.sources.rows:rows",
    "scenes": "mmagent.train.sources.scenes:scenes",
    "sgd": "mmagent.train.sources.sgd:sgd",
    "shop": "mmagent.train.sources.shop:shop",
    "toolsets": "mmagent.train.sources.toolsets:toolsets",
    "unknown": "mmagent.train.sources.speech:unknown",
    "voices": "mmagent.train.sources.speech:voices",
    "xquad": "mmagent.train.sources.xquad:xquad",
}
"""Name of a source → where the function is that makes it."""


def make_source(name: str, options: dict[str, Any]) -> Draw:
    """A source of samples.

    Raises:
        ConfigurationError: No source of that name, or an option that it does not take so; the message lists what it
            takes.
        NotFound: Its files are not there.
    """
    import inspect

    from pydantic import ValidationError, validate_call

    if name not in SOURCES:
        raise ConfigurationError(f"there is no source {name!r}; choose one of: {', '.join(sorted(SOURCES))}")
    module, function = SOURCES[name].split(":")
    make = getattr(import_module(module), function)
    known = inspect.signature(make).parameters
    if wrong := sorted(options.keys() - known.keys()):
        raise ConfigurationError(f"the source {name} takes no {wrong[0]!r}; it takes: {', '.join(known) or 'nothing'}")
    try:
        draw: Draw = validate_call(make)(**options)
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"the source {name}, option {option}: {first['msg']}") from error
    return draw
