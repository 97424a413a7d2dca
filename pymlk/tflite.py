# SPDX-License-Identifier: MIT
"""The ``tflite`` back end: the same face over tflite-runtime or LiteRT.

Needs the extra ``tflite``. Not for the hot path: it brings numpy, and each call
allocates.
"""

import threading
import warnings
from typing import Any

from .compile.schema import read_graph
from .errors import ModelError

INSTALL = "pip install 'pymlk[tflite]'"


class FallbackNotice(UserWarning):
    """A model runs through tflite because the engine lacks some operators."""


def notice(operators: tuple[str, ...]) -> None:
    """Tell which operators keep a model from the engine."""
    warnings.warn(
        "runs through tflite: the engine does not support " + ", ".join(operators),
        FallbackNotice,
        stacklevel=2,
    )


def _interpreter_module() -> Any:
    """tflite-runtime where it exists (Python < 3.12), else LiteRT."""
    try:
        from tflite_runtime import interpreter

        return interpreter
    except ImportError:
        pass
    try:
        from ai_edge_litert import interpreter

        return interpreter
    except ImportError:
        raise ModelError(
            f"needs tflite-runtime or ai-edge-litert, found neither: {INSTALL}"
        ) from None


def _quant(detail: dict[str, Any]) -> tuple[float, int]:
    scale, zero_point = detail["quantization"]
    return float(scale), int(zero_point)


class Interpreter:
    """One loaded model.

    Parameters
    ----------
    data : bytes
        The ``.tflite`` file.
    reference : bool
        Run the reference kernels (``BUILTIN_REF``), which define exactness,
        instead of the fast ones.

    Raises
    ------
    ModelError
        If neither interpreter is installed, or it refuses the model.

    Thread safety
    -------------
    `invoke` and `reset` are serialised; who writes inputs or reads
    outputs meanwhile sees them half done, so threads should have one each.
    """

    def __init__(self, data: bytes, reference: bool = False) -> None:
        module = _interpreter_module()
        self.title: str = module.__name__
        self._lock = threading.Lock()
        options: dict[str, Any] = {"num_threads": 1}
        if reference:
            options["experimental_op_resolver_type"] = module.OpResolverType.BUILTIN_REF
        try:
            self._interpreter = module.Interpreter(model_content=data, **options)
            self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{module.__name__} refuses the model: {error}") from error
        import numpy as np

        def buffers(details: list[dict[str, Any]]) -> list[Any]:
            return [np.zeros(d["shape"], d["dtype"]) for d in details]

        self._in = self._interpreter.get_input_details()
        self._out = self._interpreter.get_output_details()
        self._in_arrays, self._out_arrays = buffers(self._in), buffers(self._out)
        self.inputs = tuple(memoryview(a) for a in self._in_arrays)
        self.outputs = tuple(memoryview(a) for a in self._out_arrays)
        self.input_quants = tuple(_quant(d) for d in self._in)
        self.output_quants = tuple(_quant(d) for d in self._out)
        self.ops = tuple(op.name for op in read_graph(data).ops)

    def invoke(self) -> None:
        """Run once, from `inputs` to `outputs`."""
        # the interpreter gives up the GIL while it runs
        with self._lock:
            self._invoke()

    def invoke_many(self, source: memoryview, target: memoryview, rows: int) -> None:
        """Run once for each row of bytes."""
        first, last = self.inputs[0].cast("B"), self.outputs[0].cast("B")
        with self._lock:
            for row in range(rows):
                at = row * first.nbytes
                first[:] = source[at : at + first.nbytes]
                self._invoke()
                at = row * last.nbytes
                target[at : at + last.nbytes] = last

    def _invoke(self) -> None:
        for detail, array in zip(self._in, self._in_arrays, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        try:
            self._interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"the interpreter failed: {error}") from error
        for detail, array in zip(self._out, self._out_arrays, strict=True):
            array[...] = self._interpreter.get_tensor(detail["index"])

    def reset(self) -> None:
        """Forget variables, inputs and outputs."""
        with self._lock:
            self._interpreter.reset_all_variables()
            for array in (*self._in_arrays, *self._out_arrays):
                array[...] = 0
