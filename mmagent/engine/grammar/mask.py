"""From a bit for each token to barred logits, in place. It knows bits and numbers, no grammar and no tokens."""

from __future__ import annotations

import numpy as np
import torch

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # [256, 8]
_BIAS = np.where(_BITS == 1, np.float32(0), np.float32(-np.inf))  # [256, 8]
"""What eight bits add to eight logits. Adding is ten times faster than filling under a mask on a CPU."""


class Bitmask:
    """One row's mask, in buffers that are made once.

    Args:
        width: Tokens ``V``.
    """

    def __init__(self, width: int) -> None:
        words = (width + 31) // 32
        self.bits = torch.zeros(words, dtype=torch.int32, pin_memory=torch.cuda.is_available())
        """``int32 [ceil(V / 32)]`` on the CPU, the lowest bit first: 1 where the token may come."""
        self._width = width
        self._bytes = self.bits.numpy().view(np.uint8)  # [4 * words], the lowest byte of a word first
        self._seen = b""
        self._bias = torch.empty(words * 4, 8)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Set the logits ``[V]`` of barred tokens to -inf, in place where that is possible, and give them back."""
        if logits.is_inference() and not torch.is_inference_mode_enabled():
            logits = logits.clone()
        shared = logits
        if logits.shape[-1] > self._width:
            logits[self._width :] = -torch.inf
            shared = logits[: self._width]
        if logits.device.type == "cpu":
            shared.add_(self._on_cpu()[: len(shared)])
        else:
            shared.masked_fill_(self._barred(logits.device)[: len(shared)], -torch.inf)
        return logits

    def _on_cpu(self) -> torch.Tensor:
        """0 or -inf to add, float32 ``[32 * words]``."""
        bits = self._bytes.tobytes()
        if self._seen != bits:  # within a text it stays the same
            np.take(_BIAS, self._bytes, axis=0, out=self._bias.numpy(), mode="clip")
            self._seen = bits
        return self._bias.view(-1)

    def _barred(self, device: torch.device) -> torch.Tensor:
        bits = self.bits.to(device, non_blocking=True)  # [words]
        places = torch.arange(32, device=device, dtype=torch.int32)  # [32]
        return (((bits[:, None] >> places) & 1) == 0).flatten()  # [32 * words]
