"""The network and what feeds it, one file per box, registered with transformers' Auto classes on import."""

from __future__ import annotations

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from mmagent.model.configuration import MMAgentConfig
from mmagent.model.connectors import CONNECTORS, build_connector
from mmagent.model.multimodal import MMAgentForConditionalGeneration
from mmagent.model.processor import MMAgentProcessor
from mmagent.model.vision import VisionTower

AutoConfig.register("mmagent", MMAgentConfig, exist_ok=True)
AutoModelForImageTextToText.register(MMAgentConfig, MMAgentForConditionalGeneration, exist_ok=True)
AutoProcessor.register(MMAgentConfig, MMAgentProcessor, exist_ok=True)

__all__ = [
    "CONNECTORS",
    "MMAgentConfig",
    "MMAgentForConditionalGeneration",
    "MMAgentProcessor",
    "VisionTower",
    "build_connector",
]
