"""How long a recording says that it is, before anything of it is heard. It decodes nothing and believes no header."""

from __future__ import annotations

import math
from typing import Any

from mmagent.media.sniff import SNIFF_BYTES, sniff
from mmagent.media.sound import DEMUXERS, RATE, Sound


def in_hand(source: Sound) -> Sound:
    """A source that can be read more than once: an open file becomes its bytes.

    Raises:
        MediaError: The file cannot be read.
        LimitError: It is too large.
    """
    from mmagent.media.source import open_file
    from mmagent.settings import settings

    if hasattr(source, "__array__") or not callable(getattr(source, "read", None)):
        return source
    kept: Any = source
    _, file = open_file(kept, settings(), "recording")
    with file:
        return file.read()


def seconds_of(source: Sound, rate: int | None = None) -> float | None:
    """How long a recording is by its header; None where that does not say, or cannot be read.

    Args:
        source: A path, bytes or samples.
        rate: Of samples, in Hz.
    """
    import av

    from mmagent.media.source import open_file
    from mmagent.settings import settings

    given: Any = source
    if hasattr(source, "__array__"):
        return len(given) / (rate or RATE)
    try:
        _, file = open_file(given, settings(), "recording")
        with file:
            form = DEMUXERS[sniff(file.read(SNIFF_BYTES)) or ""]
            file.seek(0)
            with av.open(file, format=form) as opened:
                container: Any = opened
                seconds = float(container.duration or 0) / av.time_base
    except Exception:  # whoever decodes it says what is wrong with it
        return None
    return seconds if math.isfinite(seconds) and seconds > 0 else None
