"""The shape of a multimodal network. It knows sizes, names and token counts, no weights."""

from __future__ import annotations

from typing import Any, Literal

from transformers import AutoConfig
from transformers.configuration_utils import PreTrainedConfig

from mmagent.errors import ConfigurationError

FUSIONS = ("early", "cross_attention", "late")
"""Ways of pictures into the decoder: as tokens, by gated layers between its layers, or as a vector before its head."""

CONTRASTIVE_LOSSES = ("siglip", "clip")
"""Losses of the contrastive head."""

WHISPER_RATE, WHISPER_HOP, WHISPER_STRIDE = 16_000, 160, 2
"""Samples per second, samples per mel frame, and mel frames per encoder position of every Whisper encoder."""


class MMAgentConfig(PreTrainedConfig):
    """Configuration of `MMAgentForConditionalGeneration`.

    Args:
        vision_config: Any vision tower that `AutoModel` can build, as a config or its dict.
        text_config: Any decoder that `AutoModelForCausalLM` can build, as a config or its dict.
        connector: Name in `mmagent.model.connectors.CONNECTORS`.
        downsample: Patches per side that ``pixel_shuffle_mlp`` folds into one token (2 makes 64 patches 16 tokens).
        image_token_id: Id of the placeholder that the processor puts where picture features go.
        latents: Tokens that ``perceiver`` makes of a picture.
        fusion: One of `FUSIONS`. Recordings always enter as tokens.
        cross_attention_every: With ``cross_attention``, a gated layer stands before every so-manieth decoder layer.
        tiles: Most tiles that a picture is cut into; above 1 a downscaled view of the whole follows its tiles.
        audio_config: A `WhisperConfig` or its dict, of which the encoder is used; None is a network without ears.
        audio_token_id: Id of the placeholder of a recording's features.
        audio_downsample: Encoder positions (20 ms each) that are stacked into one audio token.
        projection_dim: Width of the contrastive embeddings; None is a network without contrastive head.
        contrastive_loss: One of `CONTRASTIVE_LOSSES`.

    Raises:
        ConfigurationError: A name or number is none of those that work.
    """

    model_type = "mmagent"
    sub_configs = {  # noqa: RUF012 - transformers' own form
        "vision_config": AutoConfig,
        "text_config": AutoConfig,
        "audio_config": AutoConfig,
    }

    def __init__(
        self,
        vision_config: PreTrainedConfig | dict[str, Any] | None = None,
        text_config: PreTrainedConfig | dict[str, Any] | None = None,
        connector: str = "pixel_shuffle_mlp",
        downsample: int = 2,
        image_token_id: int = 0,
        latents: int = 64,
        fusion: Literal["early", "cross_attention", "late"] = "early",
        cross_attention_every: int = 2,
        tiles: int = 1,
        audio_config: PreTrainedConfig | dict[str, Any] | None = None,
        audio_token_id: int | None = None,
        audio_downsample: int = 8,
        projection_dim: int | None = None,
        contrastive_loss: Literal["siglip", "clip"] = "siglip",
        **kwargs: Any,
    ) -> None:
        self.vision_config = _as_config(vision_config, "siglip_vision_model")
        self.text_config = _as_config(text_config, "llama")
        self.audio_config = None if audio_config is None else _as_config(audio_config, "whisper")
        self.connector = connector
        self.downsample = downsample
        self.image_token_id = image_token_id
        self.latents = latents
        self.fusion = fusion
        self.cross_attention_every = cross_attention_every
        self.tiles = tiles
        self.audio_token_id = audio_token_id
        self.audio_downsample = audio_downsample
        self.projection_dim = projection_dim
        self.contrastive_loss = contrastive_loss
        kwargs.setdefault("tie_word_embeddings", bool(getattr(self.text_config, "tie_word_embeddings", False)))
        self._check()
        super().__init__(**kwargs)

    @property
    def image_tokens(self) -> int:
        """Feature vectors that the connector makes of one picture, or of one tile of it."""
        side = int(self.vision_config.image_size) // int(self.vision_config.patch_size)
        if self.connector == "perceiver":
            return self.latents
        return (side // self.downsample) ** 2 if self.connector == "pixel_shuffle_mlp" else side**2

    @property
    def image_seq_length(self) -> int:
        """Placeholder tokens that one picture, or one tile of it, takes in the prompt."""
        return self.image_tokens if self.fusion == "early" else 1

    def _check(self) -> None:
        for field, known in (("fusion", FUSIONS), ("contrastive_loss", CONTRASTIVE_LOSSES)):
            if getattr(self, field) not in known:
                raise ConfigurationError(
                    f"there is no {field} {getattr(self, field)!r}; use one of: {', '.join(known)}"
                )
        if self.connector == "gated_cross_attention" and self.fusion != "cross_attention":
            raise ConfigurationError(
                "the connector gated_cross_attention makes no tokens; set fusion to cross_attention, or use another"
            )
        if self.audio_config is not None and self.audio_token_id is None:
            raise ConfigurationError(
                "audio_config needs audio_token_id: the id that mmagent.model.tokenizer.add_audio_token gives"
            )
        for field in ("downsample", "latents", "cross_attention_every", "tiles", "audio_downsample"):
            if getattr(self, field) < 1:
                raise ConfigurationError(f"{field} is {getattr(self, field)}; set it to 1 or more")


def audio_token_count(frames: int, downsample: int) -> int:
    """Audio tokens of a recording of ``frames`` mel frames (10 ms each): a started token counts whole."""
    positions = -(-frames // WHISPER_STRIDE)
    return -(-positions // downsample)


def _as_config(value: PreTrainedConfig | dict[str, Any] | None, model_type: str) -> PreTrainedConfig:
    if isinstance(value, PreTrainedConfig):
        return value
    values = dict(value or {})
    return AutoConfig.for_model(values.pop("model_type", model_type), **values)
