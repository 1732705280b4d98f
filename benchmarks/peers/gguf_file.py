"""A Llama checkpoint as a GGUF file, without a vocabulary. It knows tensor names and layouts, and runs nothing.

Names and the order of the rows of q and k are those of llama.cpp's ``convert_hf_to_gguf.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from safetensors.torch import load_file

LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TYPES = {"bf16": gguf.GGMLQuantizationType.BF16, "q8_0": gguf.GGMLQuantizationType.Q8_0}


def gguf_file(folder: Path, form: str) -> Path:
    """The checkpoint's file in a form of `TYPES`, made where it is not there yet."""
    path = folder / f"{form}.gguf"
    if not path.is_file():
        unfinished = path.with_suffix(".part")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        writer = gguf.GGUFWriter(unfinished, "llama")
        _write_config(writer, config)
        for name, tensor in load_file(folder / "model.safetensors").items():
            _write_tensor(writer, name, tensor.float().numpy(), config, TYPES[form])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        unfinished.rename(path)
    return path


def _write_config(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")


def _write_tensor(
    writer: gguf.GGUFWriter, name: str, values: np.ndarray, config: dict[str, Any], kind: gguf.GGMLQuantizationType
) -> None:
    if name.endswith("q_proj.weight"):
        values = _interleave(values, config["num_attention_heads"])
    elif name.endswith("k_proj.weight"):
        values = _interleave(values, config["num_key_value_heads"])
    if values.ndim == 1:
        writer.add_tensor(_name(name), values)
    else:
        writer.add_tensor(_name(name), gguf.quants.quantize(values, kind), raw_dtype=kind)


def _interleave(values: np.ndarray, heads: int) -> np.ndarray:
    """Rotary pairs side by side, not half a head apart."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()


def _name(name: str) -> str:
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in whole:
        return whole[name]
    _, _, layer, part = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{LAYER[part]}.weight"
