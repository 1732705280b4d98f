"""A real, trained decoder of 260,000 parameters, read from its published files (karpathy/tinyllamas, llama2.c, MIT). It
knows that file format, nothing of who runs the network.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

HEADER = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")


def read_stories(folder: str | Path) -> tuple[Any, list[bytes]]:
    """The network in transformers' form, in float32, and the bytes of each token.

    Args:
        folder: Holds ``stories260K.bin`` and ``tok512.bin``.
    """
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    data = (Path(folder) / "stories260K.bin").read_bytes()
    shape = dict(zip(HEADER, struct.unpack_from("7i", data), strict=True))
    dim, layers, heads, kv_heads = shape["dim"], shape["n_layers"], shape["n_heads"], shape["n_kv_heads"]
    rest = np.frombuffer(data, dtype=np.float32, offset=28)

    def take(*size: int) -> torch.Tensor:
        nonlocal rest
        count = int(np.prod(size))
        taken, rest = rest[:count], rest[count:]
        return torch.from_numpy(taken.copy()).view(*size)

    def turned(weight: torch.Tensor, count: int) -> torch.Tensor:
        """Rows of each head from pairs side by side to halves, as transformers turns them."""
        return weight.view(count, -1, 2, dim).transpose(1, 2).reshape(-1, dim)

    wide, hidden = dim // heads * kv_heads, shape["hidden_dim"]
    parts = {"embed": take(shape["vocab_size"], dim), "norm": take(layers, dim)}
    parts |= {"q": take(layers, dim, dim), "k": take(layers, wide, dim), "v": take(layers, wide, dim)}
    parts |= {"o": take(layers, dim, dim), "mlp_norm": take(layers, dim)}
    parts |= {"gate": take(layers, hidden, dim), "down": take(layers, dim, hidden), "up": take(layers, hidden, dim)}
    state = {"model.embed_tokens.weight": parts["embed"], "model.norm.weight": take(dim)}
    for index in range(layers):
        layer = {
            "input_layernorm": parts["norm"],
            "post_attention_layernorm": parts["mlp_norm"],
            "self_attn.v_proj": parts["v"],
            "self_attn.o_proj": parts["o"],
            "mlp.gate_proj": parts["gate"],
            "mlp.up_proj": parts["up"],
            "mlp.down_proj": parts["down"],
        }
        state |= {f"model.layers.{index}.{name}.weight": values[index] for name, values in layer.items()}
        state[f"model.layers.{index}.self_attn.q_proj.weight"] = turned(parts["q"][index], heads)
        state[f"model.layers.{index}.self_attn.k_proj.weight"] = turned(parts["k"][index], kv_heads)
    config = LlamaConfig(
        vocab_size=shape["vocab_size"], hidden_size=dim, intermediate_size=hidden, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, max_position_embeddings=shape["seq_len"],
        rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    model.load_state_dict(state | {"lm_head.weight": parts["embed"]})
    return model.eval(), _tokens(Path(folder) / "tok512.bin", shape["vocab_size"])


def _tokens(path: Path, count: int) -> list[bytes]:
    data, place, tokens = path.read_bytes(), 4, []
    for _ in range(count):
        (size,) = struct.unpack_from("i", data, place + 4)
        text = data[place + 8 : place + 8 + size]
        place += 8 + size
        byte = text.startswith(b"<0x") and text.endswith(b">")
        tokens.append(bytes([int(text[3:5], 16)]) if byte else text)
    return tokens
