"""The shape of a multimodal network. It knows sizes and names, no weights."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig


class MMAgentConfig(PreTrainedConfig):
    """Configuration of `MMAgentForConditionalGeneration`.

    Args:
        vision_config: Any vision tower that `AutoModel` can build, as a config or its dict.
        text_config: Any decoder that `AutoModelForCausalLM` can build, as a config or its dict.
        connector: Name in `mmagent.model.connectors.CONNECTORS`.
        downsample: Patches per side that the connector folds into one token (2 makes 64 patches 16 tokens).
        image_token_id: Id of the placeholder that the processor puts where picture features go.
    """

    model_type = "mmagent"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}  # noqa: RUF012 - transformers' own form

    def __init__(
        self,
        vision_config: PreTrainedConfig | dict[str, Any] | None = None,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        connector: str = "pixel_shuffle_mlp",
        downsample: int = 2,
        image_token_id: int = 0,
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as_config(vision_config, "siglip_vision_model")
        self.text_config = _as_config(text_config, "llama")
        self.connector = connector
        self.downsample = downsample
        self.image_token_id = image_token_id
        kwargs.setdefault("tie_word_embeddings", bool(getattr(self.text_config, "tie_word_embeddings", False)))
        super().__init__(**kwargs)

    @property
    def image_seq_length(self) -> int:
        """Tokens that one picture takes in the prompt."""
        side = int(self.vision_config.image_size) // int(self.vision_config.patch_size)
        return (side // self.downsample) ** 2


def _as_config(value: PreTrainedConfig | dict[str, Any] | None, model_type: str) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    values = dict(value or {})
    return AutoConfig.for_model(values.pop("model_type", model_type), **values)
