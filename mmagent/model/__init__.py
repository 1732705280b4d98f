"""The network and what feeds it, one file per box, registered with transformers' Auto classes on import."""

from __future__ import annotations

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from mmagent.model.configuration import MMAgentConfig
from mmagent.model.connectors import CONNECTORS, build_connector
from mmagent.model.multimodal import MMAgentForConditionalGeneration
from mmagent.model.processor import MMAgentProcessor
from mmagent.model.stem import StemVisionConfig, StemVisionModel
from mmagent.model.vision import VisionTower

AutoConfig.register("mmagent_vision", StemVisionConfig, exist_ok=True)
AutoModel.register(StemVisionConfig, StemVisionModel, exist_ok=True)
AutoConfig.register("mmagent", MMAgentConfig, exist_ok=True)
AutoModelForImageTextToText.register(MMAgentConfig, MMAgentForConditionalGeneration, exist_ok=True)
AutoProcessor.register(MMAgentConfig, MMAgentProcessor, exist_ok=True)

__all__ = [
    "CONNECTORS",
    "MMAgentConfig",
    "MMAgentForConditionalGeneration",
    "MMAgentProcessor",
    "StemVisionConfig",
    "StemVisionModel",
    "VisionTower",
    "build_connector",
]
