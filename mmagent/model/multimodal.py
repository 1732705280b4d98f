"""The network: vision tower → connector → decoder, as a `PreTrainedModel`. It knows tensors only.

pixel_values [N, 3, H, W] ─ vision_tower ─ connector ─► features [N, T, D]
                                                           │ masked_scatter
input_ids    [B, L]       ─ embeddings ─────────────────► [B, L, D] ─ language_model ─► logits [B, L, V]
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.generation.utils import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from mmagent.model.configuration import MMAgentConfig
from mmagent.model.connectors import build_connector
from mmagent.model.vision import VisionTower


class MMAgentForConditionalGeneration(PreTrainedModel, GenerationMixin):
    """A decoder that sees: picture features take the place of placeholder tokens."""

    config: MMAgentConfig
    config_class = MMAgentConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012 - transformers' own form
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012 - transformers' own form

    def __init__(self, config: MMAgentConfig) -> None:
        super().__init__(config)
        self.vision_tower = VisionTower(config.vision_config)
        self.connector = build_connector(
            config.connector, config.vision_config.hidden_size, config.text_config.hidden_size, config.downsample
        )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()  # type: ignore[no-untyped-call]

    def get_input_embeddings(self) -> torch.nn.Module:
        """The decoder's token embeddings."""
        embeddings: torch.nn.Module = self.language_model.get_input_embeddings()
        return embeddings

    def set_input_embeddings(self, value: torch.nn.Module) -> None:
        """Replace the decoder's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> torch.nn.Module:
        """The decoder's head."""
        head: torch.nn.Module = self.language_model.get_output_embeddings()
        return head

    def set_output_embeddings(self, value: torch.nn.Module) -> None:
        """Replace the decoder's head."""
        self.language_model.set_output_embeddings(value)

    def get_decoder(self) -> torch.nn.Module:
        """The decoder without its head."""
        decoder: torch.nn.Module = self.language_model.get_decoder()
        return decoder

    def get_image_features(self, pixel_values: torch.Tensor, **_: Any) -> BaseModelOutputWithPooling:
        """Encode pictures once; the result can be given to `forward` as ``mm_encoder_outputs={"image": ...}``.

        Args:
            pixel_values: Normalised pixels ``[N, 3, H, W]``.

        Returns:
            ``last_hidden_state`` ``[N, P, D_vision]`` and, as ``pooler_output``, the tokens ``[N, T, D_text]``.
        """
        patches = self.vision_tower(pixel_values.to(self.dtype))  # [N, P, D_vision]
        return BaseModelOutputWithPooling(last_hidden_state=patches, pooler_output=self.connector(patches))

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: dict[str, BaseModelOutputWithPooling] | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """One pass of the network.

        Args:
            input_ids: ``[B, L]``, with ``config.image_token_id`` at each place of a picture token.
            pixel_values: Pictures ``[N, 3, H, W]`` in the order of their placeholders over the whole batch.
            labels: ``[B, L]``; positions of -100 do not count.
            logits_to_keep: Compute logits for that many last positions only; 0 is all.
            mm_encoder_outputs: Features from `get_image_features` in place of ``pixel_values``.

        Returns:
            ``logits`` ``[B, L or logits_to_keep, V]``, ``past_key_values``, and ``loss`` where labels were given.

        Raises:
            ValueError: Placeholders and features differ in number.
        """
        if mm_encoder_outputs is None and pixel_values is not None:
            mm_encoder_outputs = {"image": self.get_image_features(pixel_values)}
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # [B, L, D]
        if mm_encoder_outputs is not None:
            features = mm_encoder_outputs["image"].pooler_output
            assert features is not None  # what get_image_features returns
            inputs_embeds = self._insert(input_ids, inputs_embeds, features)
        result: CausalLMOutputWithPast = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        return result

    def _insert(
        self, input_ids: torch.LongTensor | None, embeddings: torch.Tensor, features: torch.Tensor
    ) -> torch.Tensor:
        if input_ids is None:
            raise ValueError("pictures need input_ids: give the ids with their placeholders, not inputs_embeds")
        mask = input_ids == self.config.image_token_id  # [B, L]
        wanted, given = int(mask.sum()), features.shape[0] * features.shape[1]
        if wanted != given:
            raise ValueError(
                f"the prompt has {wanted} picture tokens but the pictures make {given}; "
                "build prompts with MMAgentProcessor, which counts them"
            )
        return embeddings.masked_scatter(mask.unsqueeze(-1), features.to(embeddings.dtype))
