"""llama.cpp through its C functions, a bare loop: no sampler chain, no Python wrapper classes, argmax by numpy."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np

from benchmarks.peers.gguf_file import gguf_file
from benchmarks.peers.system import CONTEXT, Greedy


def versions() -> str:
    """What this runs on."""
    return f"llama-cpp-python {llama_cpp.__version__}"


def open_system(folder: Path, form: str, threads: int) -> LlamaCpp:
    """``q8_0`` or ``bf16``; keys and values are float16, llama.cpp's default."""
    return LlamaCpp(gguf_file(folder, form), threads)


@llama_cpp.llama_log_callback
def _silent(level: int, text: bytes, data: ctypes.c_void_p) -> None:
    pass


class LlamaCpp(Greedy):
    """A `System`."""

    def __init__(self, path: Path, threads: int) -> None:
        llama_cpp.llama_log_set(_silent, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        if not self._model:
            raise RuntimeError(f"llama.cpp cannot load {path.name}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, CONTEXT, 512
        params.n_threads = params.n_threads_batch = threads
        self._context = llama_cpp.llama_init_from_model(self._model, params)
        self._size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._next = 0

    def __del__(self) -> None:
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def prefill(self, ids: Sequence[int]) -> None:
        """See `System`."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        self._next = int(self._forward(ids).argmax())

    def logits(self, ids: Sequence[int]) -> bytes:
        """See `System`."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), False)
        return self._forward(ids).tobytes()

    def _forward(self, ids: Sequence[int]) -> np.ndarray:
        tokens = (llama_cpp.llama_token * len(ids))(*ids)
        if code := llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(tokens, len(ids))):
            raise RuntimeError(f"llama_decode returned {code}")
        return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(self._context, -1), shape=(self._size,))
