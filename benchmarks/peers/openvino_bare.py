"""OpenVINO: exported by optimum-intel, run in a bare loop over its infer request, argmax by numpy."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import openvino.opset13 as opset

from benchmarks.peers.system import Greedy


def versions() -> str:
    """What this runs on."""
    return f"openvino {openvino.__version__.split('-')[0]}, " + ", ".join(
        f"{name} {version(name)}" for name in ("optimum-intel", "nncf")
    )


def open_system(folder: Path, form: str, threads: int) -> OpenVino:
    """``int8`` (weights only) or ``bf16``; both multiply in bfloat16 where the processor can, OpenVINO's default."""
    return OpenVino(_export(folder, form), form, threads)


def _export(folder: Path, form: str) -> Path:
    path = folder / f"openvino-{form}"
    if not (path / "complete").is_file():
        from optimum.intel import OVModelForCausalLM, OVWeightQuantizationConfig

        quantization = OVWeightQuantizationConfig(bits=8) if form == "int8" else None
        model = OVModelForCausalLM.from_pretrained(
            folder, export=True, compile=False, load_in_8bit=False, quantization_config=quantization
        )
        model.save_pretrained(path)
        (path / "complete").touch()
    return path


def _keep_last_logits(model: openvino.Model) -> None:
    """Leave the other tokens of a prompt out of the output layer, as OpenVINO GenAI does."""
    node = model.output("logits").get_node()
    while node.get_type_name() != "MatMul":
        node = node.input_value(0).get_node()
    last = opset.gather(node.input_value(0), np.array([-1]), np.array(1))
    node.input(0).replace_source_output(last.output(0))
    model.validate_nodes_and_infer_types()


class OpenVino(Greedy):
    """A `System`."""

    def __init__(self, path: Path, form: str, threads: int) -> None:
        core = openvino.Core()
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        model = core.read_model(path / "openvino_model.xml")
        _keep_last_logits(model)
        self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        self._inputs = {port.any_name for port in model.inputs}
        self._length = 0
        self._next = 0

    def prefill(self, ids: Sequence[int]) -> None:
        """See `System`."""
        self._reset()
        self._next = int(self._forward(ids).argmax())

    def logits(self, ids: Sequence[int]) -> bytes:
        """See `System`."""
        self._reset()
        return np.ascontiguousarray(self._forward(ids), np.float32).tobytes()

    def _reset(self) -> None:
        self._request.reset_state()
        self._length = 0

    def _forward(self, ids: Sequence[int]) -> np.ndarray:
        start, self._length = self._length, self._length + len(ids)
        inputs = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, self._length), np.int64),
            "position_ids": np.arange(start, self._length, dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        known = {name: value for name, value in inputs.items() if name in self._inputs}
        logits: np.ndarray = self._request.infer(known, share_inputs=True, share_outputs=True)["logits"]
        return logits[0, -1]
