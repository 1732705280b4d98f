"""From mel spectrograms to tokens: Whisper's encoder, frames stacked, an MLP. It knows sound, nothing of text."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmagent.model.configuration import audio_token_count
from mmagent.model.connectors import build_connector


class AudioTower(nn.Module):
    """Whisper's encoder and the connector behind it.

    Args:
        config: A `WhisperConfig`; its decoder is not built.
        text_width: Width of the tokens.
        downsample: Encoder positions that are stacked into one token.
    """

    def __init__(self, config: Any, text_width: int, downsample: int) -> None:
        super().__init__()
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        self.downsample = downsample
        self.encoder = WhisperEncoder(config)
        self.connector = build_connector("mlp", config.d_model * downsample, text_width, 1)

    def encode(self, input_features: torch.Tensor) -> torch.Tensor:  # [N, mels, frames]
        """The encoder's last hidden states ``[N, positions, D_audio]``."""
        hidden: torch.Tensor = self.encoder(input_features).last_hidden_state
        return hidden

    def forward(self, hidden: torch.Tensor, frames: list[int] | None) -> list[torch.Tensor]:  # [N, positions, D_audio]
        """Encoded windows to tokens ``[T_i, D_text]`` each.

        Args:
            hidden: What `encode` made.
            frames: Mel frames of each window that hold sound, the rest being padding; None is all.
        """
        missing = -hidden.shape[1] % self.downsample
        padded = nn.functional.pad(hidden, (0, 0, 0, missing))
        stacked = padded.reshape(len(hidden), -1, hidden.shape[2] * self.downsample)  # [N, T, D_audio * downsample]
        tokens = self.connector(stacked)  # [N, T, D_text]
        counts = [tokens.shape[1]] * len(tokens) if frames is None else self._counts(frames)
        return [window[:count] for window, count in zip(tokens, counts, strict=True)]

    def _counts(self, frames: list[int]) -> list[int]:
        return [audio_token_count(count, self.downsample) for count in frames]
