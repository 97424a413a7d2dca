# SPDX-License-Identifier: MIT
"""The second reference: tflite-micro, for what tflite-runtime 2.14 does not run."""

from typing import Any

from helpers.need import absent, need_module
from helpers.reference import Reference

from pymlk.compile import read_graph
from pymlk.errors import ModelError

# It plans its own arena inside; what is left of this is not touched.
_ROOM = 64 << 20


class MicroReference:
    """A model on tflite-micro's interpreter; called like `Reference`."""

    title = "tflite-micro"

    def __init__(self, data: bytes) -> None:
        self._np = need_module("numpy")
        try:
            from tflite_micro import runtime
        except ImportError:
            absent("no tflite-micro: pip install tflite-micro")
        graph = read_graph(data)
        try:
            self._micro = runtime.Interpreter.from_bytes(data, arena_size=_ROOM)
        except RuntimeError as error:
            raise ModelError(f"tflite-micro refuses the model: {error}") from error
        self._in = [self._micro.get_input_details(i) for i in range(len(graph.inputs))]
        self._outputs = len(graph.outputs)

    def __call__(self, *inputs: Any) -> list[bytes]:
        """Outputs of one call, as bytes."""
        for number, (value, detail) in enumerate(zip(inputs, self._in, strict=True)):
            raw = value if isinstance(value, bytes) else value.tobytes()
            array = self._np.frombuffer(raw, detail["dtype"]).reshape(detail["shape"])
            self._micro.set_input(array, number)
        try:
            self._micro.invoke()
        except RuntimeError as error:
            raise ModelError(f"tflite-micro failed: {error}") from error
        return [self._micro.get_output(i).tobytes() for i in range(self._outputs)]


def reference_of(data: bytes) -> Reference | MicroReference:
    """tflite-runtime's reference kernels, or tflite-micro where they refuse a model."""
    try:
        return Reference(data)
    except ModelError:
        return MicroReference(data)
