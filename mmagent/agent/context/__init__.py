"""What the model is shown: the whole conversation while there is room, then less and less of the past."""

from __future__ import annotations

from mmagent.agent.context.compaction import Compaction
from mmagent.agent.context.context import Context

__all__ = ["Compaction", "Context"]
