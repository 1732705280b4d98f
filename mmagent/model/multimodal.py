"""The network: towers → connectors → decoder, as a `PreTrainedModel`. It knows tensors only.

pixel_values   [N, 3, H, W] ─ vision_tower ─ connector ─► features [N, T, D] ─┬─ early: in place of placeholders ─┐
                                                                              └─ else: fusion, beside the text ─┐ │
input_features [A, M, F] ──── audio_tower ──────────────► features [Tᵢ, D] ──── in place of placeholders ───────┼─┤
input_ids      [B, L] ─────── embeddings ───────────────► [B, L, D] ────────────────────────────────────────────┼─┤
                                                                               logits [B, L, V] ◄─ language_model ◄┘
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from mmagent.errors import ConfigurationError
from mmagent.model.audio import AudioTower
from mmagent.model.configuration import MMAgentConfig
from mmagent.model.connectors import GatedCrossAttention, Perceiver, build_connector
from mmagent.model.contrastive import INITIAL_BIAS, ContrastiveHead
from mmagent.model.fusion import LateFusion, build_fusion
from mmagent.model.generation import MediaGenerationMixin
from mmagent.model.vision import VisionTower

EncoderOutputs = dict[str, BaseModelOutputWithPooling]
"""Features by modality, ``image`` and ``audio``: what `get_image_features` and `get_audio_features` return."""


class MMAgentForConditionalGeneration(PreTrainedModel, MediaGenerationMixin):
    """A decoder that sees and hears: features take the place of placeholder tokens, or stand beside the text."""

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
        seen, width = config.vision_config.hidden_size, config.text_config.hidden_size
        self.vision_tower = VisionTower(config.vision_config)
        self.connector = (
            torch.nn.Identity()  # the gated layers read patches
            if config.connector == "gated_cross_attention"
            else build_connector(config.connector, seen, width, config.downsample, config.latents)
        )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.audio_tower, self.contrastive = None, None
        if config.audio_config is not None:
            self.audio_tower = AudioTower(config.audio_config, width, config.audio_downsample)
        if config.projection_dim is not None:
            self.contrastive = ContrastiveHead(seen, width, config.projection_dim, config.contrastive_loss)
        self.fusion = build_fusion(config)
        if self.fusion is not None:
            self.fusion.attach(self.language_model)
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

    def get_audio_features(
        self, input_features: torch.Tensor, input_features_mask: torch.Tensor | None = None, **_: Any
    ) -> BaseModelOutputWithPooling:
        """Encode recordings once; the result can be given to `forward` as ``mm_encoder_outputs={"audio": ...}``.

        Args:
            input_features: Log-mel spectrograms ``[A, mels, frames]``, padded to Whisper's window.
            input_features_mask: ``[A, frames]``, 1 where there is sound; None is everywhere.

        Returns:
            ``last_hidden_state`` ``[A, positions, D_audio]`` and, as ``pooler_output``, a list of ``[T_i, D_text]``.

        Raises:
            ConfigurationError: The network has no audio tower.
        """
        if self.audio_tower is None:
            raise ConfigurationError("this network has no audio tower; transcribe recordings, or set audio_config")
        frames = None if input_features_mask is None else input_features_mask.sum(-1).tolist()
        hidden = self.audio_tower.encode(input_features.to(self.dtype))  # [A, positions, D_audio]
        return BaseModelOutputWithPooling(last_hidden_state=hidden, pooler_output=self.audio_tower(hidden, frames))

    def embed_images(self, pixel_values: torch.Tensor) -> torch.Tensor:  # [N, 3, H, W]
        """Unit vectors ``[N, E]`` of pictures, comparable with those of `embed_texts`.

        Raises:
            ConfigurationError: The network has no contrastive head.
        """
        return self._head().embed_images(self.vision_tower(pixel_values.to(self.dtype)))

    def embed_texts(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        """Unit vectors ``[N, E]`` of texts ``[N, L]``, comparable with those of `embed_images`.

        Raises:
            ConfigurationError: The network has no contrastive head.
        """
        head = self._head()
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hidden = self.get_decoder()(
            input_ids=input_ids, attention_mask=mask, position_ids=positions(mask, input_ids.shape[1]), use_cache=False
        ).last_hidden_state  # [N, L, D]
        return head.embed_texts(hidden, mask)

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.LongTensor | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        mm_encoder_outputs: EncoderOutputs | None = None,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """One pass of the network.

        Args:
            input_ids: ``[B, L]``, with placeholders where pictures and recordings go.
            pixel_values: Pictures ``[N, 3, H, W]`` in the order of their placeholders over the whole batch.
            attention_mask: ``[B, L]`` or, with a cache, ``[B, past + L]``; 0 is padding, on either side.
            position_ids: ``[B, L]``; by default counted by the attention mask.
            past_key_values: What was computed before. With ``fusion`` other than ``early`` it also holds the pictures.
            labels: ``[B, L]``; positions of -100 do not count.
            logits_to_keep: Compute logits for that many last positions only; 0 is all.
            mm_encoder_outputs: Features from `get_image_features` and `get_audio_features` in place of the raw inputs.
            input_features: Recordings, as for `get_audio_features`, in the order of their placeholders.
            input_features_mask: As for `get_audio_features`.

        Returns:
            ``logits`` ``[B, L or logits_to_keep, V]``, ``past_key_values``, and ``loss`` where labels were given.

        Raises:
            ValueError: Placeholders and features differ in number, or features and raw inputs came together.
        """
        encoded = self._encode(mm_encoder_outputs, pixel_values, input_features, input_features_mask)
        masks = {modality: self._places(modality, input_ids, encoded[modality]) for modality in encoded}  # [B, L] each
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)  # [B, L, D]
        for modality in masks if self.fusion is None else masks.keys() - {"image"}:
            inputs_embeds = insert(inputs_embeds, masks[modality], flat(encoded[modality]))  # [B, L, D]
        if position_ids is None and attention_mask is not None and attention_mask.ndim == 2:
            position_ids = positions(attention_mask, inputs_embeds.shape[1])  # [B, L]
        decode = partial(
            self.language_model,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            labels=labels,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )
        if self.fusion is None:
            return decode()  # type: ignore[no-any-return]
        features = encoded["image"].pooler_output if "image" in encoded else None  # [N, T, D]
        return self.fusion(decode, features, masks.get("image"))  # type: ignore[no-any-return]

    def _encode(
        self,
        given: EncoderOutputs | None,
        pixel_values: torch.Tensor | None,
        input_features: torch.Tensor | None,
        input_features_mask: torch.Tensor | None,
    ) -> EncoderOutputs:
        """Features by modality, those that were given and those of raw inputs."""
        encoded = {modality: output for modality, output in (given or {}).items() if output is not None}
        raw = {"image": pixel_values, "audio": input_features}
        if twice := [modality for modality in encoded if raw.get(modality) is not None]:
            raise ValueError(f"{twice[0]} came raw and in mm_encoder_outputs; give one of the two")
        if pixel_values is not None:
            encoded["image"] = self.get_image_features(pixel_values)
        if input_features is not None:
            encoded["audio"] = self.get_audio_features(input_features, input_features_mask)
        return encoded

    def _places(
        self, modality: str, input_ids: torch.Tensor | None, output: BaseModelOutputWithPooling
    ) -> torch.Tensor:
        """Where the placeholders of a modality are, ``[B, L]``; there must be as many as features."""
        one, many, token_id = {
            "image": ("picture", "pictures", self.config.image_token_id),
            "audio": ("audio", "recordings", self.config.audio_token_id),
        }[modality]
        if input_ids is None:
            raise ValueError(f"{many} need input_ids: give the ids with their placeholders, not inputs_embeds")
        mask: torch.Tensor = input_ids == token_id  # type: ignore[assignment]  # [B, L]
        beside = modality == "image" and self.fusion is not None  # one placeholder for all features of a picture
        wanted, given = int(mask.sum()), len(output.pooler_output if beside else flat(output))  # type: ignore[arg-type]
        if wanted != given:
            raise ValueError(
                f"the prompt has {wanted} {one} tokens but the {many} make {given}; "
                "build prompts with MMAgentProcessor, which counts them"
            )
        return mask

    def _head(self) -> ContrastiveHead:
        if self.contrastive is None:
            raise ConfigurationError("this network has no contrastive head; set projection_dim and train it")
        return self.contrastive

    def _init_weights(self, module: torch.nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, Perceiver):
            init.normal_(module.latents, std=0.02)
        elif isinstance(module, GatedCrossAttention):
            init.zeros_(module.attention_gate)
            init.zeros_(module.feed_gate)
        elif isinstance(module, LateFusion):
            init.zeros_(module.gate)
        elif isinstance(module, ContrastiveHead):
            init.constant_(module.logit_scale, module.initial_scale)
            if module.logit_bias is not None:
                init.constant_(module.logit_bias, INITIAL_BIAS)


def flat(output: BaseModelOutputWithPooling) -> torch.Tensor:
    """All features of an encoder's output, one after the other: ``[tokens, D]``."""
    features = output.pooler_output
    if isinstance(features, torch.Tensor):
        return features.flatten(0, -2)
    return torch.cat(features)  # type: ignore[arg-type]


def insert(embeddings: torch.Tensor, mask: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """Embeddings ``[B, L, D]`` with the features ``[tokens, D]`` at the places of the mask ``[B, L]``."""
    return embeddings.masked_scatter(mask.unsqueeze(-1), features.to(embeddings.dtype))


def positions(attention_mask: torch.Tensor, size: int) -> torch.Tensor:
    """Positions ``[B, size]`` of the last ``size`` tokens, padding not counted: a padded row is as the row alone."""
    return (attention_mask.long().cumsum(-1) - 1).clamp(min=0)[:, -size:]
